"""Recompute a certified adapter's certificate from its files: trust the files, not the numbers.

What this shows: the files, the rows and the numbers belong together, and the formulas were applied
as stated. What it cannot show: that the prior did not see the rows, that the draws were counted,
or anything else that stands among the assumptions; nor does it measure the shift or the test risk
again, which needs the test rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pacbayes_sft.certified.card import certificate_sentence
from pacbayes_sft.certified.checks import (
    Check,
    check_hashes,
    check_numbers,
    check_units,
    check_weights,
    check_words,
)
from pacbayes_sft.certified.deployed import deployed_losses
from pacbayes_sft.certified.files import (
    CARD,
    CERTIFICATE,
    DRAW,
    POSTERIOR,
    PRIOR,
    UNITS,
    hashes_of,
    read_gaussian,
    read_tensors,
)
from pacbayes_sft.certified.record import VERSION
from pacbayes_sft.certified.rows import Unit, find_rows, read_units, rows_sha256
from pacbayes_sft.checkpoints.files import ADAPTER, open_checkpoint
from pacbayes_sft.choices import Loss
from pacbayes_sft.data.rows import Table, read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import AUTOCAST, local_directory, resolve_base
from pacbayes_sft.options import Options
from pacbayes_sft.reading import read_json

RISK = "risk, evaluated again"
FLIPS = 0.001  # share of the units whose loss may differ on another machine (at least one unit)
SAME_LOSS = {Loss.SMOOTHED_NLL: 1e-3}  # the others are counts: any difference is a flip


@dataclass(frozen=True)
class Verification:
    """All checks of one certified adapter; truthy when every one passed.

    Attributes:
        checks: The checks, in the order in which they were made.
        flips: Units whose loss differs from the recorded one; None where none was evaluated.
        claim: What the certificate says, in one sentence.
    """

    checks: tuple[Check, ...]
    flips: int | None
    claim: str

    def __bool__(self) -> bool:
        """Return whether all passed."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object."""
        return {
            "verified": bool(self),
            "flips": self.flips,
            "claim": self.claim,
            "checks": [
                {"name": c.name, "passed": c.passed, "remark": c.remark} for c in self.checks
            ],
        }


def verify_adapter(
    directory: Path,
    train: str,
    *,
    base: str | None = None,
    device: str = "cpu",
    trust_remote_code: bool = False,
) -> Verification:
    """Recompute the certificate of a certified adapter.

    Weights, rows and formulas are compared exactly. Another machine rounds logits otherwise, so
    the recorded loss may differ on at most max(1, 0.1 % of the units); on the same machine no
    difference is expected. A ``smoothed_nll`` within 1e-3 of the recorded one does not differ.

    Args:
        directory: What `emit_adapter` wrote.
        train: The training rows, in any order; further rows do not matter.
        base: The base; None: where the certificate says it lies.
        device: Device to evaluate on.
        trust_remote_code: Whether code that lies beside the base's weights may run.

    Raises:
        InputError: If a file is missing or unreadable, or the certificate makes no sense.
    """
    directory = Path(directory)
    file = directory / CERTIFICATE
    record = read_json(file)
    if record.get("version") != VERSION:
        raise InputError(
            f"{file}: format {record.get('version')!r}, this version reads {VERSION}; emit the "
            "adapter again"
        )
    table, units = read_table(train), read_units(directory / UNITS)
    hashes = hashes_of(directory)
    tensors = read_tensors(directory / DRAW), read_tensors(directory / ADAPTER)
    gaussians = read_gaussian(directory / POSTERIOR), read_gaussian(directory / PRIOR)
    try:
        source = resolve_base(base or record["sources"]["base"])
        hashes["base"] = open_checkpoint(local_directory(source)).sha256()
        rows, found = find_rows(table, units)
        hashes["rows"] = rows_sha256(rows) if rows else "not found"
        checks = [
            *check_hashes(record, hashes),
            *check_weights(record, hashes, tensors, gaussians),
            Check("certified rows", rows is not None, found),
            check_units(record, units),
            *check_numbers(record, tensors[0], gaussians),
            check_words(record, directory / CARD),
        ]
        how = _evaluation(record, device, trust_remote_code=trust_remote_code)
        claim = certificate_sentence(record).replace("**", "")  # of Markdown
    except InputError:
        raise
    except (LookupError, ArithmeticError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file}: not a certificate ({error!r}); copy it again") from None
    try:
        risk, flips = _check_risk(directory, rows, units, source, how)
    except InputError as error:
        if all(check.passed for check in checks):
            raise
        risk, flips = Check(RISK, False, f"not evaluated: {error}"), None
    return Verification((*checks, risk), flips, claim)


def _evaluation(record: dict[str, Any], device: str, *, trust_remote_code: bool) -> Options:
    """How the recorded losses were evaluated."""
    told = record["evaluation"]
    for name, allowed in (("batch_size", ()), ("max_length", (None,))):
        value = told[name]
        if value not in allowed and not (type(value) is int and value >= 1):
            raise ValueError(f"evaluation.{name} is {value!r}")
    if (
        not isinstance(getattr(torch, told["dtype"], None), torch.dtype)
        and told["dtype"] != AUTOCAST
    ):
        raise ValueError(f"evaluation.dtype is {told['dtype']!r}")
    return Options(
        loss=record["loss"],
        device=device,
        dtype=told["dtype"],
        batch_size=told["batch_size"],
        max_length=told["max_length"],
        trust_remote_code=trust_remote_code,
    )


def _check_risk(
    directory: Path, rows: Table | None, units: list[Unit], base: str, how: Options
) -> tuple[Check, int | None]:
    if rows is None:
        return Check(RISK, False, "not evaluated: certified rows are missing"), None
    (losses,) = deployed_losses(base, directory, [rows], how)
    same = SAME_LOSS.get(how.loss, 1e-6)
    recorded = np.array([unit.loss for unit in units])
    flips = int((np.abs(losses - recorded) > same).sum())
    allowed = max(1, int(FLIPS * len(units)))
    remark = f"{float(losses.mean()):.6f}; {flips} of {len(units):,} units differ, {allowed} may"
    return Check(RISK, flips <= allowed, remark), flips
