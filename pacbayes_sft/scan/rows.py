"""The rows of a cell: drawn from a generator, or taken from a pool by difficulty."""

from __future__ import annotations

import functools
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pacbayes_sft.atomic import replacing
from pacbayes_sft.data.rows import Table, read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.igsm import OpLaw
from pacbayes_sft.igsm.files import write_problems
from pacbayes_sft.reading import sha256_of
from pacbayes_sft.scan.config import Files, Igsm, Windows, edges

if TYPE_CHECKING:
    from pacbayes_sft.scan.cells import Cell

TEST_SEED, HELDOUT_SEED, TRAIN_SEED, LABELLED_SEED = (k * 10**6 for k in range(1, 5))


@dataclass(frozen=True)
class Sources:
    """Files of one cell.

    Attributes:
        train: The n training units.
        test: The test rows, the same for all cells.
        heldout: Rows of the window that nothing was fitted on.
        column: Their difficulty.
        labelled: Labelled rows for shift terms that know the predictor; None: none.
    """

    train: Path
    test: str
    heldout: Path
    column: str
    labelled: str | None = None


def write_rows(data: Igsm | Files, cell: Cell, folder: Path) -> Sources:
    """Write the rows of a cell into ``folder``.

    Raises:
        InputError: If the pool has too few units in the window.
    """
    train, heldout = folder / "train.jsonl", folder / "heldout.jsonl"
    if isinstance(data, Files):
        open_pool(data).write(cell, train, heldout)
        return Sources(train, data.test, heldout, data.column, data.labelled)
    try:
        low, high = (int(edge) for edge in cell.window.split(":"))
        window, law = OpLaw.uniform(low, high), OpLaw.parse(data.test)
    except ValueError as error:
        raise InputError(f"windows or data.test: {error}") from None
    test, labelled = folder / "test.jsonl", folder / "labelled.jsonl"
    for file, of, size, seed in (
        (train, window, cell.size, TRAIN_SEED + cell.seed),
        (heldout, window, data.heldout_rows, HELDOUT_SEED + cell.seed),
        (test, law, data.test_rows, TEST_SEED),
        (labelled, law, data.labelled_rows, LABELLED_SEED + cell.seed),
    ):
        if size:
            write_problems(file, of, size=size, seed=seed, abstract=data.abstract)
    marked = str(labelled) if data.labelled_rows else None
    return Sources(train, str(test), heldout, "difficulty", marked)


class Pool:
    """Rows from files, cut by a column into windows; a unit is in or out as a whole."""

    def __init__(self, data: Files) -> None:
        """Read the files.

        Raises:
            InputError: If a row lacks a number in the column, or a unit has several.
        """
        self.data = data
        self.table, self.test = read_table(data.pool), read_table(data.test)
        for table in (self.table, self.test):
            _check_numbers(table, data.column)
        self.units: dict[str, list[int]] = {}
        for i, unit in enumerate(self.table.units):
            self.units.setdefault(unit, []).append(i)
        self.level: dict[str, float] = {}
        for unit, rows in self.units.items():
            levels = {float(self.table.rows[i].value_of(data.column)) for i in rows}
            if len(levels) > 1:
                raise InputError(
                    f"{data.pool}: unit {unit!r} has several values of {data.column!r}; no window "
                    "may cut a unit, so give it one"
                )
            self.level[unit] = levels.pop()

    def hashes(self) -> dict[str, str]:
        """Return the hashes of the files."""
        found = {"pool": self.table.sha256, "test": self.test.sha256}
        if self.data.labelled is not None:
            found["labelled"] = read_table(self.data.labelled).sha256
        return found

    def windows(self, rule: Windows) -> tuple[str, ...]:
        """Cut the pool by a rule; the edges are values of the column."""
        levels = np.array(sorted(self.level.values()))
        step = 1 / (rule.count - (rule.count - 1) * rule.overlap)
        width = step
        found = []
        for k in range(rule.count):
            start = k * width * (1 - rule.overlap)
            ends = np.clip([start, start + width], 0, 1)
            if rule.by == "quantile":
                low, high = np.quantile(levels, ends, method="inverted_cdf")
            else:
                low, high = levels[0] + ends * (levels[-1] - levels[0])
            found.append(f"{_edge(low)}:{_edge(high)}")
        return tuple(dict.fromkeys(found))

    def write(self, cell: Cell, train: Path, heldout: Path) -> None:
        """Write n units of the window, and those that no cell of this window trains on.

        Raises:
            InputError: If the window holds too few units.
        """
        low, high = edges(cell.window)
        inside = [unit for unit, level in self.level.items() if low <= level <= high]
        # which units are held out depends on the pool alone: windows and seeds agree on it
        fixed = np.random.default_rng(0).permutation(sorted(self.level))
        rank = {unit: i for i, unit in enumerate(fixed)}
        inside.sort(key=lambda unit: rank[unit])
        kept, free = inside[: self.data.heldout_rows], inside[self.data.heldout_rows :]
        if len(free) < cell.size:
            raise InputError(
                f"{self.data.pool}: window {cell.window} holds {len(inside)} units, "
                f"{self.data.heldout_rows} held out, so {cell.size} to train on are not there"
            )
        stream = np.random.default_rng([cell.seed, zlib.crc32(cell.window.encode())])
        chosen = [free[i] for i in stream.permutation(len(free))[: cell.size]]
        for file, units in ((train, chosen), (heldout, kept)):
            rows = [(unit, self.table.rows[i]) for unit in units for i in self.units[unit]]
            with replacing(file) as partial:
                text = "".join(json.dumps(row.as_record(unit)) + "\n" for unit, row in rows)
                partial.write_text(text, encoding="utf-8")


def _edge(value: float) -> str:
    """Write an edge so that it reads back as itself; else the outermost units fall outside."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def open_pool(data: Files) -> Pool:
    """Read a pool once a process, and again where one of its files has changed."""
    files = [Path(source) for source in (data.pool, data.test, data.labelled) if source]
    return _read_pool(data, tuple(sha256_of(file) for file in files if file.is_file()))


@functools.lru_cache(maxsize=4)
def _read_pool(data: Files, _: tuple[str, ...]) -> Pool:
    return Pool(data)


def _check_numbers(table: Table, column: str) -> None:
    for number, row in enumerate(table.rows, start=1):
        value = row.value_of(column)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{table.source}, row {number}: {column!r} is not a number")
