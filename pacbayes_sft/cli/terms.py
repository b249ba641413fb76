"""Terms of the bound alone: ``kl`` and ``risk``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pacbayes_sft.choices import By, Loss, Space
from pacbayes_sft.cli.output import (
    Base,
    BatchSize,
    Delta,
    Device,
    Dtype,
    Json,
    MaxLength,
    Out,
    TrustRemoteCode,
    check_delta,
    check_dtype,
    check_picture,
    claim,
    emit,
    interval,
    new_table,
    quiet_stdout,
    refuse_input,
    refuse_unused,
    resolve_device,
    terminal,
)
from pacbayes_sft.errors import InputError

# Beyond these its square leaves a float's range, or the KL does.
LEAST_SIGMA, LARGEST_SIGMA = 1e-100, 1e100
# Options that speak of an evaluation here.
MEASURING = ("loss", "device", "dtype", "batch_size", "max_length", "trust_remote_code")

if TYPE_CHECKING:
    from pacbayes_sft.movement import Breakdown


def kl(
    base: Base,
    finetuned: Annotated[Path, typer.Option(help="PEFT adapter directory or full checkpoint.")],
    sigma: Annotated[float, typer.Option(help="Standard deviation of prior and posterior.")],
    space: Annotated[Space, typer.Option(help="Where the noise lives.")] = Space.WEIGHTS,
    posterior: Annotated[str, typer.Option(help="Family of the posterior: isotropic.")] = (
        "isotropic"
    ),
    merged: Annotated[
        Path | None,
        typer.Option(help="A merge of the adapter: measure how far rounding moved it."),
    ] = None,
    by: Annotated[
        By | None, typer.Option(help="Also say where it moved, by tensor, layer or module.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Draw where it moved: layer by module.")
    ] = None,
    json: Json = False,
    out: Out = None,
) -> None:
    """KL(Q‖P) of a fine-tune from its base, streamed from the files, without a forward pass.

    Example: `pacbayes-sft kl --base strong --finetuned runs/ft --sigma 0.05 --by layer --picture
    moved.png`
    """
    check_picture(picture)
    refuse_input(out, base, finetuned, merged)
    refuse_input(picture, base, finetuned, merged, option="--picture")
    if 0 < sigma < LEAST_SIGMA or LARGEST_SIGMA < sigma < math.inf:
        raise InputError(
            f"--sigma {sigma:g}: a scale of weights lies between {LEAST_SIGMA:g} and "
            f"{LARGEST_SIGMA:g}"
        )
    from pacbayes_sft.terms import kl_term

    wanted = by is not None or picture is not None
    result = kl_term(
        base,
        finetuned,
        sigma=sigma,
        space=space,
        posterior=posterior,
        merged=merged,
        breakdown=wanted,
    )
    table = new_table(f"KL of {finetuned}", "quantity", "value", "what it promises")
    table.add_row("KL(Q‖P), nats", f"{result.kl.value:,.6g}", claim(result.kl))
    table.add_row("‖μ_Q − μ_P‖²", f"{result.squared_distance:,.6g}", "exact")
    table.add_row("Gaussian entries", f"{result.parameters:,}", f"in {space.value} space")
    table.add_row("base weights", "", result.base_precision)
    if drift := result.merged:
        words = f"{drift.relative:.3g} of ‖ΔW‖; of the changed tensors' entries "
        words += f"{drift.moved / drift.entries:.1%} moved, {drift.lost / drift.entries:.1%} lost"
        table.add_row("merged − (base + ΔW)", f"{drift.distance:.4g}", words)
    for note in result.notes:
        table.add_row("note", "", note)
    for sentence in result.warnings:
        table.add_row("warning", "", sentence)
    if picture is not None and result.breakdown is not None:
        from pacbayes_sft.heatmap import plot_movement

        plot_movement(result.breakdown, picture, name=finetuned.name)
        table.add_row("picture", "", str(picture))
    emit(result.to_dict(by), table, as_json=json, out=out)
    if by is not None and result.breakdown is not None and not json:
        terminal().print(movement_table(result.breakdown, by))


def movement_table(breakdown: Breakdown, by: By) -> Table:
    """Return where a fine-tune moved as a table."""
    table = new_table(
        f"Where it moved, by {by.value}", "part", "‖Δ‖²", "share", "KL, nats", "‖ΔW‖ / ‖W₀‖"
    )
    for row in breakdown.records(by):
        relative = row["relative_change"]
        table.add_row(
            row["name"],
            f"{row['squared_distance']:.4g}",
            f"{row['share']:.1%}",
            f"{row['kl_nats']:,.4g}",
            "unknown" if relative is None else f"{relative:.3g}",
        )
    return table


def risk(
    context: typer.Context,
    base: Annotated[
        str | None, typer.Option(help="Base: path, hub id, or a shipped one: strong, weak.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Rows to measure on.")] = None,
    finetuned: Annotated[Path | None, typer.Option(help="Fine-tune; the base if left out.")] = None,
    loss: Annotated[Loss, typer.Option(help="A loss in [0, 1].")] = Loss.EXACT_MATCH,
    slice_by: Annotated[str | None, typer.Option(help="Column to slice by.")] = None,
    samples: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="lm-evaluation-harness's samples_*.jsonl instead of a model."
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(dir_okay=False, help="The base's log, joined on doc_hash.")
    ] = None,
    filter: Annotated[str | None, typer.Option(help="Which filter of the log.")] = None,
    metric: Annotated[str | None, typer.Option(help="Which metric of the log.")] = None,
    delta: Delta = 0.05,
    device: Device = "auto",
    dtype: Dtype = "float32",
    batch_size: BatchSize = 64,
    max_length: MaxLength = None,
    trust_remote_code: TrustRemoteCode = False,
    json: Json = False,
    out: Out = None,
) -> None:
    """Measured risk on rows, with its interval; each slice at its own 1 − δ.

    Example: `pacbayes-sft risk --base strong --test test.jsonl --slice-by difficulty`, or
    `pacbayes-sft risk --samples samples_hendrycks_math500_DATE.jsonl --slice-by level`
    """
    from pacbayes_sft.data.rows import refuse_missing

    refuse_missing(test)
    refuse_input(out, base, test, finetuned, samples, against)

    from pacbayes_sft.terms import risk_term

    check_delta(delta)
    if samples is not None:
        if base or test or finetuned:
            raise InputError("--samples: a finished evaluation; leave --base, --test, --finetuned")
        refuse_unused(context, "with --samples, where the risk was measured before", *MEASURING)
        logged_risk(samples, against, filter, metric, slice_by, delta, as_json=json, out=out)
        return
    if base is None or test is None:
        raise InputError("risk: give --base and --test, or --samples of a finished evaluation")
    if against or filter or metric:
        raise InputError("--against, --filter and --metric choose within a log; give --samples")
    with quiet_stdout():
        result = risk_term(
            base,
            test,
            finetuned,
            loss=loss,
            slice_by=slice_by,
            delta=delta,
            device=resolve_device(device),
            dtype=check_dtype(dtype, device),
            batch_size=batch_size,
            max_length=max_length,
            trust_remote_code=trust_remote_code,
        )
    table = new_table(f"Risk ({loss.value})", "slice", "risk", "what it promises")
    table.add_row("all", interval(result.risk), claim(result.risk))
    for label, estimate in result.slices.items():
        table.add_row(f"{slice_by} = {label}", interval(estimate), claim(estimate))
    table.add_row("weights", "", result.base_precision)
    for sentence in result.warnings:
        table.add_row("warning", "", sentence)
    emit(result.to_dict(), table, as_json=json, out=out)


def logged_risk(
    samples: Path,
    against: Path | None,
    filter: str | None,
    metric: str | None,
    slice_by: str | None,
    delta: float,
    *,
    as_json: bool,
    out: Path | None,
) -> None:
    """Print the risk that lm-evaluation-harness's log holds, and its change over another log's."""
    from pacbayes_sft.data.harness import change, read_samples

    log = read_samples(samples, filter=filter, metric=metric)
    whole, slices = log.risk(delta), log.slices(slice_by, delta) if slice_by else {}
    record = log.to_dict(whole, slices)
    table = new_table(f"Risk (1 − {log.metric}, filter {log.filter})", "slice", "risk", "promise")
    table.add_row("all", interval(whole), claim(whole))
    for label, estimate in slices.items():
        table.add_row(f"{slice_by} = {label}", interval(estimate), claim(estimate))
    if against is not None:
        before = read_samples(against, filter=filter, metric=log.metric)
        moved = change(log, before, delta)
        record |= {"against": before.risk(delta).to_dict(), "change": moved.to_dict()}
        table.add_row("change over the other log", interval(moved), claim(moved))
    table.add_row("documents", f"{record['documents']:,}", "distinct doc_hash")
    emit(record, table, as_json=as_json, out=out)
