"""The difficulty of pool and test as levels: few enough to measure a risk on each.

A column with many values is cut into buckets. No window cuts one, and the edges come from the
pilots' side of the pool and the windows alone, not from the fresh side, the test rows or any row's
loss. Edges that are values of rows were not fixed without them: a limit that counts the same rows
is then an `estimate` (`merges`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from estimators.total_variation.risk_profiles import Law
from pacbayes_sft.data.levels import levels_of, number_in
from pacbayes_sft.data.metadata import Metadata, read_metadata
from pacbayes_sft.data.rows import json_records, read_table, take_attributes
from pacbayes_sft.errors import InputError
from pacbayes_sft.reading import sha256_of
from pacbayes_sft.scan.windows import edges

MOST_LEVELS = 16


@dataclass(frozen=True)
class Ladder:
    """Buckets of a difficulty.

    Attributes:
        ends: Upper ends of all buckets but the last, ascending; a bucket holds its upper end.
        values: By bucket: a value of the pilots' side within it, None where that has none.
    """

    ends: tuple[float, ...]
    values: tuple[float | None, ...]

    def level(self, x: float) -> float:
        """Return the level of a difficulty; the difficulty itself where the pool has no bucket."""
        found = self.values[int(np.searchsorted(self.ends, x, side="left"))]
        return x if found is None else found

    def merges(self, values: Iterable[float]) -> bool:
        """Whether a value is not its own level: the pool's sample then decided what is told apart.

        Where every value is its own level, laws of levels are laws of the difficulty itself.
        """
        return any(self.level(x) != x for x in values)


def build_ladder(pool: Sequence[float], windows: Sequence[str], most: int = MOST_LEVELS) -> Ladder:
    """Cut the pool's difficulties into buckets that no window cuts.

    Args:
        pool: Difficulty of every unit of the pilots' side.
        windows: ``LO:HI``, both included.
        most: With no more distinct values than this, each is its own level; otherwise the windows'
            edges are joined by the pool's quantiles at 1/8, 2/8, ...
    """
    values = np.unique(np.array(pool, dtype=float))
    cuts = {float(values[-1]), float(np.nextafter(values[0], -np.inf))}
    for window in windows:
        low, high = edges(window)
        cuts |= {float(np.nextafter(low, -np.inf)), high}
    if len(values) <= most:
        cuts |= set(values.tolist())
    else:
        quantiles = np.quantile(pool, np.arange(1, 8) / 8, method="inverted_cdf")
        cuts |= set(quantiles.tolist())
    ends = tuple(sorted(cuts))
    sorted_pool = np.sort(np.array(pool, dtype=float))
    places = np.searchsorted(ends, sorted_pool, side="left")
    inside = [sorted_pool[places == i] for i in range(len(ends) + 1)]
    return Ladder(ends, tuple(float(x[(len(x) - 1) // 2]) if len(x) else None for x in inside))


def read_test_levels(source: str, column: str) -> tuple[list[float], Metadata | None]:
    """Return the difficulty of every test unit, and the file's record of its law.

    A JSON-lines file needs the column alone: no completion, no prompt.

    Raises:
        InputError: If a row lacks a number in the column or holds it twice, or a unit has several.
    """
    path, units = Path(source), dict[tuple[bool, str], float]()
    if path.suffix != ".jsonl" or not path.is_file():
        table = read_table(source)
        return list(levels_of(table, column).values()), table.metadata
    for line, record in json_records(path):
        where = f"{path}, {line}"
        if not isinstance(record, dict):
            raise InputError(f"{where}: a JSON {type(record).__name__}, not an object")
        attributes = take_attributes(record, where)
        value = number_in((record | attributes).get(column), where, column)
        unit = record.get("unit")
        named = unit is not None  # a row without a name is a unit of its own, whatever others say
        if units.setdefault((named, str(unit) if named else line), value) != value:
            raise InputError(f"{where}: unit {unit!r} has several values of {column!r}")
    if not units:
        raise InputError(f"{path}: holds no rows")
    return list(units.values()), read_metadata(path, sha256_of(path))


def law_in_levels(
    ladder: Ladder, values: Sequence[float], metadata: Metadata | None, column: str
) -> Law:
    """Return the known law of the levels where the file records it, else every unit's level."""
    if metadata is None or metadata.attribute != column:
        return [ladder.level(value) for value in values]
    law: dict[float, float] = {}
    for value, weight in metadata.law.items():
        try:
            level = ladder.level(float(value))
        except ValueError:
            raise InputError(
                f"the record of the law of {column!r} beside the rows names {value!r}, not a number"
            ) from None
        law[level] = law.get(level, 0.0) + weight
    return law
