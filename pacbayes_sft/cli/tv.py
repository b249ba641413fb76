"""The command ``tv``: the shift term alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pacbayes_sft.choices import Duplicates, Features, View
from pacbayes_sft.cli.output import (
    BatchSize,
    Delta,
    Device,
    Json,
    Seed,
    check_delta,
    claim,
    emit,
    interval,
    new_table,
    quiet_stdout,
    refuse_input,
    refuse_unused,
    resolve_device,
)
from pacbayes_sft.errors import InputError

if TYPE_CHECKING:
    from estimators import Estimate
    from pacbayes_sft.shift.streamed import Streamed
    from pacbayes_sft.shift.survey import Survey

SHOWN = 6  # rows of "what differs" on the terminal
P_VALUE = (
    'p-value of "both sides have one law": permutation test, all views paid for, exact if units '
    "are independent"
)


def tv(
    context: typer.Context,
    train: Annotated[str, typer.Option(help="Training rows.")],
    test: Annotated[str, typer.Option(help="Test rows.")],
    attribute: Annotated[
        list[str] | None,
        typer.Option(help="Column through which alone train and test differ (assumption i)."),
    ] = None,
    view: Annotated[
        list[View] | None,
        typer.Option(help="View for a two-sample test; may be given again."),
    ] = None,
    features: Annotated[
        list[Features] | None,
        typer.Option(help="What a text is seen as; may be given again."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Column of the view 'attributes' (default: all that both files have)."),
    ] = None,
    foreign: Annotated[
        str | None,
        typer.Option(help="True/false column of the test rows: not from the train distribution."),
    ] = None,
    duplicates: Annotated[
        Duplicates, typer.Option(help="Rows that read alike: count, group them in splits, or off.")
    ] = Duplicates.COUNT,
    prequential: Annotated[
        bool, typer.Option("--prequential", help="Bet on all rows too; about twice the time.")
    ] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Out of core: read files in chunks, keep no row.")
    ] = False,
    base: Annotated[str | None, typer.Option(help="Model of --features hidden.")] = None,
    cache: Annotated[
        Path | None, typer.Option(file_okay=False, help="Keep hidden states in this folder.")
    ] = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    delta: Delta = 0.05,
    seed: Seed = 0,
    json: Json = False,
    out: Annotated[
        Path | None,
        typer.Option(help="FILE.json for the JSON, else a folder for JSON, page and pictures."),
    ] = None,
) -> None:
    """The shift term TV(D_test, D_train): the sharpest interval that the data allow, and why.

    Exact for recorded laws, an upper limit through a column, a lower certificate and an estimate
    through classifiers on the text; what differs, which rows read alike, what gives a side away.

    Example: `pacbayes-sft tv --train train.jsonl --test test.jsonl --out shift`
    """
    from pacbayes_sft.data.rows import read_table, refuse_missing

    refuse_missing(train, test)
    check_delta(delta)
    refuse_input(out, train, test)
    if attribute and view:
        raise InputError("--attribute and --view are two methods; give one of them")
    if not stream and Features.HIDDEN not in (features or []):
        unused = ("base", "cache", "device", "batch_size")
        refuse_unused(context, "without --features hidden", *unused)
    folder = out if out is not None and out.suffix != ".json" else None
    if attribute and folder is None and not stream:
        refuse_unused(
            context, "with --attribute, which reads no text", "features", "prequential", "base"
        )
    file = out if folder is None else folder / "tv.json"
    if stream:
        given = attribute or foreign or features or column or folder or prequential
        if given or duplicates is not Duplicates.COUNT or len(view or []) > 1:
            raise InputError(
                "--stream runs one two-sample test on texts; give at most one --view and "
                "--out FILE.json beside it"
            )
        refuse_unused(context, "under --stream", "base", "cache", "device", "batch_size")
        from pacbayes_sft.shift.streamed import stream_two_sample

        looked = (view or [View.FULL])[0]
        found = stream_two_sample(train, test, delta, view=looked, seed=seed)
        emit(found.to_dict(), _streamed_table(found), as_json=json, out=file)
        return
    if folder is not None:
        from pacbayes_sft.report.shift import make_folder

        make_folder(folder)
    with quiet_stdout():
        from pacbayes_sft.shift.asked import Asked
        from pacbayes_sft.shift.survey import survey

        asked = Asked(
            views=tuple(view) if view else () if attribute else None,
            features=tuple(features or [Features.DEFAULT]),
            attributes=tuple(attribute) if attribute else () if view else None,
            columns=tuple(column) if column else None,
            foreign=foreign,
            duplicates=duplicates,
            prequential=prequential,
            texts_too=folder is not None or bool(features) or prequential,
            base=base,
            cache=cache,
            device=resolve_device(device) if base else "cpu",
            batch_size=batch_size,
            seed=seed,
        )
        result = survey(read_table(train), read_table(test), delta, asked)
        if folder is not None:
            from pacbayes_sft.report.shift import write_shift_report

            write_shift_report(result, folder)
    emit(result.to_dict(), _table(result, folder or file), as_json=json, out=file)


def _table(found: Survey, written: Path | None) -> Table:
    from pacbayes_sft.report.shift import power_words, shift_sentence

    table = new_table("Shift term", "quantity", "value", "what it promises")
    table.add_row("in words", "", shift_sentence(found))
    table.add_row(f"TV on {found.view}", interval(found.best.tv), _promise(found.best.tv))
    if len(found.findings) > 1:
        for finding in found.findings:
            table.add_row(f"  {finding.view}", interval(finding.tv), claim(finding.tv))
    if found.leading.detection_floor and (floor := found.floor):
        table.add_row("detection floor", f"{floor[0]:.4f}", power_words(*floor[1:]))
    if found.p_value is not None:
        said = "; and if ".join((P_VALUE, *found.p_value_assumes))
        table.add_row("one law?", f"p = {found.p_value:.3g}", said)
    carriers = sorted((c for c in found.carriers if c.gap), key=lambda c: -abs(c.gap))
    for carrier in carriers[:SHOWN]:
        shares = f"{carrier.train:.3g} → {carrier.test:.3g}" if carrier.train is not None else ""
        names = f"names, most {carrier.largest}"
        what = "share of rows" if carrier.kind == "word" else "mean" if shares else names
        name = f"differs: {carrier.kind} {carrier.name!r}"
        table.add_row(name, shares, f"{what}; gap {carrier.gap:+.3f}")
    for sentence in found.best.tv.assumptions:
        table.add_row("assumes", "", sentence)
    for sentence in found.best.reasons:
        table.add_row("why", "", sentence)
    for sentence in found.disjoint:
        table.add_row("overlap", "", sentence)
    for sentence in found.warnings:
        table.add_row("warning", "", sentence)
    if written is not None:
        table.add_row("wrote", "", str(written))
    return table


def _promise(tv: Estimate) -> str:
    """Both limits where both say something."""
    from estimators.display import confidence, rounded_down

    if tv.guarantee != "upper" or tv.lower <= 0:
        return claim(tv)
    lower = f"≥ {rounded_down(tv.lower)}"
    if tv.upper >= 1:
        return (
            f"lower: {lower} at {confidence(tv.confidence)}; nothing below 1 limits it from above"
        )
    return f"{claim(tv)}, and {lower}"


def _streamed_table(found: Streamed) -> Table:
    from estimators.total_variation.power import certificate_floor
    from pacbayes_sft.report.shift import power_words

    table = new_table("Shift term, out of core", "quantity", "value", "what it promises")
    table.add_row(f"TV on {found.view}", interval(found.tv), claim(found.tv))
    floor, possible = found.detection_floor
    certified = certificate_floor(found.held_out, found.tv.delta)
    table.add_row("detection floor", f"{floor:.4f}", power_words(possible, certified))
    for sentence in found.tv.assumptions:
        table.add_row("assumes", "", sentence)
    return table
