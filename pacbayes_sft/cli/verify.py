"""``verify``: recompute a certified adapter's certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pacbayes_sft.cli.output import (
    Device,
    Json,
    TrustRemoteCode,
    emit,
    new_table,
    quiet_stdout,
    resolve_device,
)


def verify(
    directory: Annotated[Path, typer.Argument(help="What `bound --emit-adapter` wrote.")],
    train: Annotated[str, typer.Option(help="The training rows.")],
    base: Annotated[
        str | None, typer.Option(help="The base, if it moved since the certificate was made.")
    ] = None,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    json: Json = False,
) -> None:
    """Recompute the certificate of an adapter; exit code 1 if a weight, row or number was changed.

    It needs no test rows, so the shift term and the measured risks are taken as they stand.

    Example: `pacbayes-sft verify runs/certified --train train.jsonl`
    """
    from pacbayes_sft.data.rows import refuse_missing

    refuse_missing(train)

    from pacbayes_sft.certified.verify import verify_adapter

    with quiet_stdout():
        found = verify_adapter(
            directory,
            train,
            base=base,
            device=resolve_device(device),
            trust_remote_code=trust_remote_code,
        )
    table = new_table(
        f"{directory}: {'verified' if found else 'NOT verified'}", "check", "", "found"
    )
    for check in found.checks:
        table.add_row(check.name, "pass" if check.passed else "FAIL", check.remark)
    table.add_row("what it says", "", found.claim)
    emit(found.to_dict(), table, as_json=json, out=None)
    if not found:
        raise typer.Exit(1)
