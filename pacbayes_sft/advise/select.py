"""The advised rows as a file, and what selecting them does to a certificate made from them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from pacbayes_sft.advise.prepare import Prepared
from pacbayes_sft.atomic import replacing
from pacbayes_sft.data.metadata import Metadata, sidecar
from pacbayes_sft.difficulty.hardness import ACROSS_ROWS
from pacbayes_sft.errors import InputError
from pacbayes_sft.reading import sha256_of
from pacbayes_sft.scan.windows import edges


class How(StrEnum):
    """How rows are taken.

    Attributes:
        WINDOW: At random among those whose difficulty lies in the window.
        HARDEST: The hardest of the window first: a ranking.
    """

    WINDOW = "window"
    HARDEST = "hardest"


@dataclass(frozen=True)
class Selection:
    """What was selected.

    Attributes:
        units: Names of the units, in file order.
        rows: How many rows they have.
        reused: How many of the units the pilots may have seen.
        says: What that does to a later certificate.
    """

    units: tuple[str, ...]
    rows: int
    reused: int
    says: tuple[str, ...]


def select_rows(
    prepared: Prepared,
    window: str,
    count: int,
    out: Path,
    *,
    how: How = How.WINDOW,
    seed: int = 0,
) -> Selection:
    """Write ``count`` units of a window to ``out``, those of the fresh side first.

    Where the pool's law is on record, so is that of the rows taken at random from a window that was
    fixed without them. Units with a prompt of the test are not taken; where there are such, what is
    left no longer has the law on record.

    Args:
        prepared: The pool and its levels.
        window: ``LO:HI``.
        count: Units.
        out: A JSON-lines file.
        how: See `How`.
        seed: Seed of the draw.

    Raises:
        InputError: If the window holds too few units.
    """
    low, high = edges(window)
    inside = prepared.units_in(window)
    copies = sum(low <= prepared.levels[unit] <= high for unit in prepared.copies)
    if len(inside) < count:
        raise InputError(
            f"--select {count}: window {window}, which is advised, holds {len(inside)} units of "
            f"{prepared.table.source}; select fewer, or take a larger pool"
        )
    order = [inside[i] for i in np.random.default_rng(seed).permutation(len(inside))]
    if how is How.HARDEST:
        order.sort(key=lambda unit: -prepared.levels[unit])
    else:
        order.sort(key=lambda unit: unit in prepared.pilot_side)  # stable: fresh ones first
    chosen = order[:count]
    wanted, rows = set(chosen), 0
    with replacing(out) as partial, partial.open("w", encoding="utf-8") as lines:
        for unit, row in zip(prepared.table.units, prepared.table.rows, strict=True):
            if unit in wanted:
                lines.write(json.dumps(row.as_record(unit)) + "\n")
                rows += 1
    reused = len(wanted & prepared.pilot_side)
    known = prepared.table.metadata
    # quantile windows are cut from the pilots' side, so they are fixed without the fresh one
    edges_of_selected = prepared.windows_of_sample and reused > 0
    fixed = how is How.WINDOW and not edges_of_selected and not copies
    if known is not None and known.attribute == prepared.column and fixed:
        _record_law(known, low, high, rows, out)
    says = what_it_does(
        how,
        count,
        reused,
        len(prepared.windows),
        arms=len(prepared.windows) * len(prepared.config.objectives),
        laws_known=prepared.laws_known,
        edges_of_selected=edges_of_selected,
        across=prepared.column in ACROSS_ROWS,
    )
    if copies:
        says += (
            f"{copies} units of the window have a prompt of the test and were left out, or what "
            "was trained on them would be judged on its own rows; so the law spoken of is the "
            "pool's within the window without these, which is not on record",
        )
    return Selection(tuple(u for u in prepared.levels if u in wanted), rows, reused, says)


def what_it_does(
    how: How,
    count: int,
    reused: int,
    windows: int,
    *,
    arms: int,
    laws_known: bool,
    edges_of_selected: bool,
    across: bool = False,
) -> tuple[str, ...]:
    """Say what a selection does to a certificate on the selected rows.

    Args:
        how: How rows were taken.
        count: Units.
        reused: How many of them the pilots may have seen.
        windows: Among how many windows the choice was made.
        arms: K, among how many pairs of window and objective.
        laws_known: Whether pool and test both record their law. Otherwise the test sample that
            chose the window is the one that a later shift limit counts.
        edges_of_selected: Whether the windows' edges are quantiles of rows some of which were
            selected.
        across: Whether the difficulty of a row depends on the other rows of its file.
    """
    if how is How.HARDEST:
        return (
            f"top-{count} ranking: whether a row is in depends on the other rows, so the selected "
            "rows are not independent draws from any law; a bound on them is no certificate "
            "(select by window instead)",
        )
    first = (
        "threshold selection: given the window, the selected rows are independent draws from "
        "the pool's law within it, if the difficulty was computed from each row alone; a later "
        "certificate holds for that law"
    )
    if across:
        first = (
            "threshold selection by a difficulty that is computed across the rows of a file: "
            "whether a row is in depends on the others, so the selected rows are not independent "
            "draws from any law, and a later certificate is an estimate"
        )
    elif edges_of_selected:
        first = (
            "threshold selection between quantiles: the window's edges are values of the pool's "
            "own rows, and some of those were selected, so these are not quite independent draws "
            "from any law, and a later certificate is an estimate; select fewer rows, or give "
            "--windows fixed without the pool's rows"
        )
    if reused:
        return (
            first,
            f"{reused} of the selected units are of the side that the pilots, which chose among "
            f"{arms} arms (window and objective), may have seen: charge {_nats(arms)} (δ/{arms}) "
            "to the whole certificate, its shift term included, or select fewer rows or from a "
            "larger pool",
        )
    if laws_known:
        return (
            first,
            "no pilot saw a selected row, and the shift term of two recorded laws counts no "
            "sample, so the choice of the window costs nothing",
        )
    # a shift limit knows the window alone, so it is one event a window whatever the objective
    return (
        first,
        "no pilot saw a selected row, so the choice of the window costs the bound on the train "
        f"distribution nothing; but the test rows helped to choose among {windows} windows, so a "
        "shift limit taken from the same rows (`bound --shift COLUMN`) pays for "
        f"{windows}: give its leaf δ_shift/{windows} ({_nats(windows)}), or take it from other "
        "test rows",
    )


def _nats(choices: int) -> str:
    return f"ln {choices} = {np.log(choices):.2f} nats"


def _record_law(pool: Metadata, low: float, high: float, rows: int, out: Path) -> None:
    inside = {k: w for k, w in pool.law.items() if low <= float(k) <= high}
    mass = sum(inside.values())
    law = {k: w / mass for k, w in inside.items()}
    found = pool.model_copy(update={"law": law, "rows": rows, "data_sha256": sha256_of(out)})
    with replacing(sidecar(out)) as partial:
        partial.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
