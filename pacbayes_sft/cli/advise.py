"""The command ``advise``: which difficulty to train on, for every budget."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pacbayes_sft.choices import Loss, Objective
from pacbayes_sft.cli.output import (
    Base,
    BatchSize,
    Delta,
    Device,
    Dtype,
    Json,
    Seed,
    check_delta,
    check_dtype,
    check_folder,
    emit,
    new_table,
    quiet_stdout,
    refuse_input,
    refuse_unused,
    resolve_device,
)
from pacbayes_sft.errors import InputError

if TYPE_CHECKING:
    from pacbayes_sft.advise.prepare import Pilots, Prepared
    from pacbayes_sft.advise.run import Found


def advise(
    context: typer.Context,
    base: Base,
    pool: Annotated[str, typer.Option(help="Rows to choose from, with their difficulty.")],
    test: Annotated[
        str,
        typer.Option(help="A sample of the test distribution; of .jsonl the difficulty suffices."),
    ],
    budgets: Annotated[str, typer.Option(help="Training sizes to advise on: 500,2000,8000.")],
    windows: Annotated[
        str | None, typer.Option(help="LO:HI,... (default: five quantile windows).")
    ] = None,
    column: Annotated[str, typer.Option(help="The difficulty, a number a row.")] = "difficulty",
    pilots: Annotated[
        Path,
        typer.Option(file_okay=False, help="Where pilots are kept; those there are not redone."),
    ] = Path("runs/advise"),
    pilot_sizes: Annotated[str, typer.Option(help="Training sizes of the pilots.")] = "64,256,1024",
    pilot_seeds: Annotated[int, typer.Option(min=1, help="Seeds of each pilot.")] = 1,
    judges: Annotated[
        int, typer.Option(min=1, help="Pool units that judge the pilots, over all levels.")
    ] = 512,
    heldout: Annotated[
        int, typer.Option(min=1, help="Units of each window that judge the pilots on it.")
    ] = 128,
    objectives: Annotated[
        str, typer.Option(help="nll,p0.25,p0.5,p0.75,dft: token weights to choose among too.")
    ] = "nll",
    halving: Annotated[
        bool,
        typer.Option(
            help="Past the smallest size pilot only the better half of the windows: cheaper, and "
            "misses a window that overtakes at larger n."
        ),
    ] = False,
    least_steps: Annotated[int, typer.Option(min=1, help="Least optimiser steps a pilot.")] = 100,
    epochs: Annotated[float, typer.Option(min=0.01, help="Passes of a pilot over its rows.")] = 1.0,
    learning_rate: Annotated[float, typer.Option(min=1e-9, help="Peak learning rate.")] = 2e-3,
    lora_rank: Annotated[int, typer.Option(min=1, help="Rank of the LoRA factors.")] = 8,
    train_side: Annotated[
        str,
        typer.Option(
            help="heldout, kl_bound, bound, empirical, kl or nothing: what stands for the risk on "
            "the window."
        ),
    ] = "heldout",
    shift_side: Annotated[
        str,
        typer.Option(
            help="profile, robust, slack, d_plus, tv or nothing: what carries it to the test."
        ),
    ] = "profile",
    bound_breaks_ties: Annotated[
        bool,
        typer.Option(
            help="Among windows that tie with the least (5 %, each alone), take the least bound."
        ),
    ] = True,
    select: Annotated[
        int | None, typer.Option(min=1, help="Write this many units of the advised window.")
    ] = None,
    select_by: Annotated[
        str, typer.Option(help="window (keeps a later certificate) or hardest (does not).")
    ] = "window",
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="New file for the selected rows.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(file_okay=False, help="Write advice.md and advice.png there.")
    ] = None,
    loss: Annotated[Loss, typer.Option(help="A loss in [0, 1].")] = Loss.EXACT_MATCH,
    delta: Delta = 0.05,
    device: Device = "auto",
    dtype: Dtype = "float32",
    batch_size: BatchSize = 64,
    threads: Annotated[int | None, typer.Option(min=1, help="Torch threads.")] = None,
    seed: Seed = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Shift terms and what would be piloted; no pilot.")
    ] = False,
    json: Json = False,
) -> None:
    """Recommend a difficulty window for every budget, from short pilots and the shift term.

    Example: `pacbayes-sft advise --base strong --pool pool.jsonl --test test.jsonl --budgets
    500,2000,8000 --windows 2:6,4:8,6:10,8:12 --report runs/advice`
    """
    from pacbayes_sft.data.rows import refuse_missing

    refuse_missing(pool, test)

    from pacbayes_sft.advise.advice import out_of_reach
    from pacbayes_sft.advise.predict import Rule, check_sizes
    from pacbayes_sft.advise.prepare import Pilots, fine_tune, prepare
    from pacbayes_sft.advise.report import FILES, write_report
    from pacbayes_sft.advise.run import advise_on
    from pacbayes_sft.advise.select import How, select_rows
    from pacbayes_sft.scan.where import Where

    check_delta(delta)
    if select is None:
        refuse_unused(context, "without --select", "select_by")
    sizes = _numbers(budgets, "--budgets")
    chosen = tuple(windows.split(",")) if windows else ()
    how = Pilots(
        sizes=_numbers(pilot_sizes, "--pilot-sizes"),
        seeds=pilot_seeds,
        objectives=tuple(_word(Objective, o, "--objectives") for o in objectives.split(",")),
        halving=halving,
        fine_tune=fine_tune(
            epochs=epochs,
            least_steps=least_steps,
            learning_rate=learning_rate,
            lora_rank=lora_rank,
        ),
        judges=judges,
        heldout=heldout,
        loss=loss,
        delta=delta,
        seed=seed,
        batch_size=batch_size,
        device=resolve_device(device),
        dtype=check_dtype(dtype, device),
    )
    rule = Rule(*_rule(train_side, shift_side))
    by = _word(How, select_by, "--select-by")
    if select is not None and select not in sizes:
        raise InputError(f"--select {select}: must be one of the --budgets")
    if (select is None) != (out is None):
        raise InputError("--select N and --out FILE go together: how many rows, and where to")
    if out is not None:
        refuse_input(out, pool, test)
        if out.exists():
            raise InputError(f"--out {out}: is there already; nothing was overwritten")
        check_folder(out.parent)
        if report is not None and out.resolve() in {(report / f).resolve() for f in FILES}:
            raise InputError(f"--out {out}: --report {report} writes a file of that name there")
    if report is not None:
        check_folder(report, "--report")
    check_sizes(how.sizes)
    if select is not None and (why := out_of_reach(select, how.sizes)):
        raise InputError(f"--select {select}: {why}")
    if dry_run:
        with quiet_stdout():
            prepared = prepare(base, pool, test, pilots, chosen, column, how, select)
        reasons = {b: why for b in sizes if (why := out_of_reach(b, how.sizes))}
        _show_plan(prepared, how, reasons, json)
        return
    with quiet_stdout():
        found = advise_on(
            base, pool, test, sizes, pilots,
            windows=chosen, column=column, how=how, rule=rule,
            bound_breaks_ties=bound_breaks_ties, where=Where(threads=threads), select=select,
        )  # fmt: skip
        record = found.to_dict()
        if report is not None:
            command = shlex.join(["pacbayes-sft", *sys.argv[1:]])
            write_report(found, report, command)
        said: tuple[str, ...] = () if report is None else (f"wrote {report}",)
        failed: InputError | None = None
        if select is not None and out is not None:
            try:
                best = next((c for c in found.advice.choices if c.budget == select), None)
                if best is None:
                    raise InputError(f"--select {select}: {found.advice.refused[select]}")
                if by is How.HARDEST and found.advice.falls:
                    raise InputError(
                        f"--select-by hardest: high values of {column!r} are the easy rows here"
                    )
                taken = select_rows(found.prepared, best.window, select, out, how=by, seed=seed)
                said = (*taken.says, *said, f"wrote {out}")
                record["selection"] = {
                    "window": best.window,
                    "objective": best.objective,
                    "rows": taken.rows,
                    "says": list(said),
                }
            except InputError as error:  # the advice has been paid for, and is shown first
                failed = error
    _show(found, record, said, json)
    if failed is not None:
        raise failed


def _show(found: Found, record: dict[str, Any], said: tuple[str, ...], json: bool) -> None:
    from estimators.display import rounded_down, rounded_up
    from pacbayes_sft.advise.cost import cost_said
    from pacbayes_sft.advise.halving import halving_said
    from pacbayes_sft.advise.predict import arm_name
    from pacbayes_sft.advise.report import (
        direction_said,
        moves_said,
        not_told_from,
        recipe_said,
        short_said,
        undrawn_said,
        untouched_said,
    )

    title = f"Advice: {found.advice.rule} (estimates)"
    table = new_table(title, "budget n", "train on", "predicted", "90 %", "note")
    for choice in found.advice.choices:
        best = choice.predictions[0]
        alike = not_told_from(choice, found.halved)
        table.add_row(
            f"{choice.budget:,}",
            arm_name(choice.window, choice.objective),
            f"{best.value:.3f}{' vacuous' * (best.value >= 1)}",
            f"{rounded_down(best.lower, 3)} to {rounded_up(best.upper, 3)}",
            f"not told from {alike} (at 5 %, all at once)" if alike else "",
        )
    for budget, why in found.advice.refused.items():
        table.add_row(f"{budget:,}", "no advice", "-", "-", why)
    for sentence in (
        *direction_said(found),
        *short_said(found),
        *moves_said(found.advice, found.halved),
        *untouched_said(found),
        *halving_said(found.halved),
        *undrawn_said(found),
        recipe_said(found),
        f"cost: {cost_said(found.cost)}",
        *said,
    ):
        table.add_row("", "", "", "", sentence)
    emit(record, table, as_json=json, out=None)


def _show_plan(prepared: Prepared, how: Pilots, refused: dict[int, str], json: bool) -> None:
    from estimators.display import rounded_up
    from pacbayes_sft.advise.halving import better_half
    from pacbayes_sft.scan.cells import list_cells

    cells = list_cells(prepared.config)
    if how.halving:  # which windows go on is not known yet, but how many
        some = prepared.windows[: better_half(len(prepared.windows))]
        cells = [c for c in cells if c.size == min(how.sizes) or c.window in some]
    table = new_table("Before any pilot", "window", "TV", "its limit", "label", "D⁺", "label")
    for window, shift in prepared.shifts.items():
        tv, plus = shift.tv, shift.d_plus
        table.add_row(window, f"{tv.value:.3f}", rounded_up(tv.upper, 3), tv.guarantee.value,
                      f"{plus.value:.3f}", plus.guarantee.value)  # fmt: skip
    if prepared.copies:
        copies = (
            f"{len(prepared.copies):,} units have a prompt of the test: no selection takes them"
        )
        table.add_row("pool", *[""] * 4, copies)
    units = sum(c.size for c in cells)
    table.add_row("pilots", *[""] * 4, f"{len(cells)} fine-tunes on {units:,} units in all")
    for budget, why in refused.items():
        table.add_row(f"n = {budget:,}", *[""] * 4, f"no advice would be given: {why}")
    record = {
        "shifts": {w: {"tv": s.tv.to_dict(), "d_plus": s.d_plus.to_dict()}
                   for w, s in prepared.shifts.items()},
        "pilots": len(cells),
        "units": units,
        "refused": refused,
        "copies_of_test": len(prepared.copies),
    }  # fmt: skip
    emit(record, table, as_json=json, out=None)


def _numbers(text: str, flag: str) -> tuple[int, ...]:
    from pacbayes_sft.scan.config import LARGEST

    said = text if len(text) <= 80 else f"{text[:80]}..."
    try:
        found = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise InputError(
            f"{flag} {said}: not whole numbers with commas between, as 500,2000"
        ) from None
    if found[0] < 1:
        raise InputError(f"{flag} {said}: must be at least 1")
    if found[-1] > LARGEST:
        raise InputError(f"{flag} {said}: must be at most {LARGEST:,}")
    return found


def _word(words: Any, text: str, flag: str) -> Any:
    try:
        return words(text)
    except ValueError:
        raise InputError(f"{flag} {text}: must be one of {', '.join(words)}") from None


def _rule(train_side: str, shift_side: str) -> tuple[Any, Any]:
    from pacbayes_sft.advise.predict import Extra, Train

    return _word(Train, train_side, "--train-side"), _word(Extra, shift_side, "--shift-side")
