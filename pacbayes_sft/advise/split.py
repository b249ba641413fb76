"""The pool, cut by a coin: a side for the pilots, and a side that stays fresh for the selection.

On the pilots' side some rows by level are set apart to judge the pilots. The coin knows nothing of
a row, so the fresh side's rows are draws from the pool's own law, which a level-wise cut would
bend.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from pacbayes_sft.advise.levels import Ladder
from pacbayes_sft.atomic import replacing
from pacbayes_sft.data.rows import Table

LEVEL = "advise_level"


def pilot_side(units: Iterable[str], share: float, seed: int) -> list[str]:
    """Return the units of the pilots' side, drawn at random."""
    every = sorted(units)
    order = np.random.default_rng(seed).permutation(len(every))
    return sorted(every[i] for i in order[: round(share * len(every))])


def split_judges(
    levels: Mapping[str, float], ladder: Ladder, rows: int, seed: int
) -> tuple[list[str], list[str]]:
    """Return (units to train on, units that judge), the judges spread evenly over the levels.

    A level gives no more than a third of its units. By seed and unit names alone: no row's text or
    loss decides.
    """
    by_level: dict[float, list[str]] = {}
    for unit, value in sorted(levels.items()):
        by_level.setdefault(ladder.level(value), []).append(unit)
    generator = np.random.default_rng(seed)
    judges: set[str] = set()
    for level in sorted(by_level):
        here = by_level[level]
        count = min(-(-rows // len(by_level)), len(here) // 3)
        judges |= {here[i] for i in generator.permutation(len(here))[:count]}
    return [u for u in levels if u not in judges], [u for u in levels if u in judges]


def write_units(
    table: Table, units: Iterable[str], ladder: Ladder, column: str, folder: Path, name: str
) -> Path:
    """Write the rows of units with their level beside them; return the file.

    It is named by what it holds, so that nobody's pilots find other rows under the name of theirs.
    """
    wanted = set(units)
    lines = [
        json.dumps(row.as_record(unit) | {LEVEL: ladder.level(float(row.value_of(column)))}) + "\n"
        for unit, row in zip(table.units, table.rows, strict=True)
        if unit in wanted
    ]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()[:12]
    file = folder / f"{name}-{digest}.jsonl"
    if not file.is_file():
        with replacing(file) as partial:
            partial.write_text("".join(lines), encoding="utf-8")
    return file
