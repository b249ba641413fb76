"""The rows of a cell: drawn from a generator, or taken from a pool by difficulty."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pacbayes_sft.atomic import replacing
from pacbayes_sft.data.levels import levels_of
from pacbayes_sft.data.rows import read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.igsm import OpLaw
from pacbayes_sft.igsm.files import write_problems
from pacbayes_sft.reading import sha256_of
from pacbayes_sft.scan.config import Cell, Files, Igsm, Windows
from pacbayes_sft.scan.windows import edges

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
        self.level = levels_of(self.table, data.column)
        # refused now, not after a fine-tune
        levels_of(self.test, data.column)
        if data.labelled is not None:
            levels_of(read_table(data.labelled), data.column)
        self.units: dict[str, list[int]] = {}
        for i, unit in enumerate(self.table.units):
            self.units.setdefault(unit, []).append(i)

    def hashes(self) -> dict[str, str]:
        """Return the hashes of the files."""
        found = {"pool": self.table.sha256, "test": self.test.sha256}
        if self.data.labelled is not None:
            found["labelled"] = read_table(self.data.labelled).sha256
        return found

    def windows(self, rule: Windows) -> tuple[str, ...]:
        """Cut the pool by a rule."""
        return cut(self.level.values(), rule)

    def refuse_small(self, window: str, size: int) -> None:
        """Refuse a window that has too few units to train on beside those held out.

        Raises:
            InputError: If so.
        """
        low, high = edges(window)
        inside = sum(low <= level <= high for level in self.level.values())
        if inside - self.data.heldout_rows < size:
            raise InputError(
                f"{self.data.pool}: window {window} holds {inside} units, "
                f"{self.data.heldout_rows} held out, so {size} to train on are not there"
            )

    def write(self, cell: Cell, train: Path, heldout: Path) -> None:
        """Write n units of the window, and those that no cell of this window trains on.

        Raises:
            InputError: If the window holds too few units.
        """
        self.refuse_small(cell.window, cell.size)
        low, high = edges(cell.window)
        inside = [unit for unit, level in self.level.items() if low <= level <= high]
        # which units are held out depends on the pool alone: windows and seeds agree on it
        fixed = np.random.default_rng(0).permutation(sorted(self.level))
        rank = {unit: i for i, unit in enumerate(fixed)}
        inside.sort(key=lambda unit: rank[unit])
        kept, free = inside[: self.data.heldout_rows], inside[self.data.heldout_rows :]
        stream = np.random.default_rng([cell.seed, zlib.crc32(cell.window.encode())])
        chosen = [free[i] for i in stream.permutation(len(free))[: cell.size]]
        for file, units in ((train, chosen), (heldout, kept)):
            rows = [(unit, self.table.rows[i]) for unit in units for i in self.units[unit]]
            with replacing(file) as partial:
                text = "".join(json.dumps(row.as_record(unit)) + "\n" for unit, row in rows)
                partial.write_text(text, encoding="utf-8")


def cut(levels: Iterable[float], rule: Windows) -> tuple[str, ...]:
    """Cut difficulties into windows; the outermost edges are the least and the largest."""
    ordered = np.array(sorted(levels))
    width = 1 / (rule.count - (rule.count - 1) * rule.overlap)
    found = []
    for k in range(rule.count):
        start = k * width * (1 - rule.overlap)
        ends = np.clip([start, start + width], 0, 1)
        if rule.by == "quantile":
            low, high = np.quantile(ordered, ends, method="inverted_cdf")
        else:
            low, high = ordered[0] + ends * (ordered[-1] - ordered[0])
        if k == rule.count - 1:  # rounding must not leave the hardest unit out
            high = ordered[-1]
        found.append(f"{_edge(low)}:{_edge(high)}")
    return tuple(dict.fromkeys(found))


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
