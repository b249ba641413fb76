"""What gives a row's side away without any shift: columns that name it, numbers that run on.

A classifier finds such a mark, and then the TV that it certifies is one of bookkeeping. A column
that names the side is left out of every view and said; a mark within the text can only be said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pacbayes_sft.data.rows import Table, is_number
from pacbayes_sft.views.counts import COUNT_NAMES, count_features
from pacbayes_sft.views.text import common_columns

FEWEST = 20  # rows a side from which on a pattern is no accident
STEADY = 0.98  # rank correlation with a row's place from which on a file is sorted


@dataclass(frozen=True)
class Leak:
    """Something that marks the side of a row.

    Attributes:
        where: A column, or ``text``.
        column: Whether it is a column, which is then left out of the views.
        sentence: What was found and what follows.
    """

    where: str
    column: bool
    sentence: str


def leaks(train: Table, test: Table) -> list[Leak]:
    """Return what marks the side of rows, or breaks the order that rows were drawn in."""
    if min(len(train.rows), len(test.rows)) < FEWEST:
        return []
    found = [
        leak for column in common_columns(train, test) if (leak := _column(train, test, column))
    ]
    for number, table in ((0, train), (1, test)):
        found += _order(table, ("train", "test")[number])
    found += _running_numbers(train, test)
    return found


def _column(train: Table, test: Table, column: str) -> Leak | None:
    """A column with one value a side, or with one of its own for nearly every row."""
    left, right = ([_plain(row.value_of(column)) for row in t.rows] for t in (train, test))
    a, b = set(left), set(right)
    if len(a) == len(b) == 1 and a != b:
        return Leak(
            column, True,
            f"column {column!r} is {min(a)!r} in every training row and {min(b)!r} in every test "
            "row: it names the side, so it is left out",
        )  # fmt: skip
    many = len(a) > 0.9 * len(left) and len(b) > 0.9 * len(right)
    if many and not a & b and not all(_decimal(v) for v in (*left, *right)):
        return Leak(
            column, True,
            f"column {column!r} has a value of its own in nearly every row, as an id has; it is "
            "left out",
        )  # fmt: skip
    places = [[row.value_of(column) for row in t.rows] for t in (train, test)]
    if all(is_number(v) for side in places for v in side) and all(map(_runs_on, places)):
        return Leak(
            column, True,
            f"column {column!r} runs on with the rows of both files, as a line number does; it is "
            "left out",
        )  # fmt: skip
    return None


def _order(table: Table, side: str) -> list[Leak]:
    """A file that is sorted by a count of its text, or by its difficulty."""
    from scipy.stats import spearmanr

    place = np.arange(len(table.rows))
    columns = count_features([row.prompt + row.completion for row in table.rows])
    named = dict(zip(COUNT_NAMES, columns.T, strict=True))
    if table.has("difficulty"):
        named = {"difficulty": np.array([row.difficulty for row in table.rows]), **named}
    for name, values in named.items():
        if len(np.unique(values)) < 3:
            continue
        rho, steps = float(spearmanr(place, values).statistic), np.diff(values)
        if abs(rho) > STEADY or (steps >= 0).all() or (steps <= 0).all():
            return [
                Leak(
                    f"order of the {side} file", False,
                    f"{table.source}: the rows are sorted by {name} (rank correlation with their "
                    f"place {rho:+.3f}). Rows are taken for independent draws in any order; the "
                    "first rows of a sorted file are no sample of it",
                )
            ]  # fmt: skip
    return []


def _running_numbers(train: Table, test: Table) -> list[Leak]:
    """A number within the prompt that counts the rows, or ids that stand in the text."""
    found = []
    for at, which in ((0, "first"), (-1, "last")):
        sides = [_numbers(table, at) for table in (train, test)]
        if all(side is not None and _runs_on(side) for side in sides):
            found.append(
                Leak(
                    "text", False,
                    f"the {which} number of the prompts runs on with the rows of both files, as a "
                    "line number does: a classifier can tell the sides apart by it; take it out of "
                    "the text",
                )
            )  # fmt: skip
            break
    for table in (train, test):
        named = [row for row in table.rows if row.id and len(row.id) > 3]
        inside = sum(str(row.id) in row.prompt for row in named)
        if named and inside > 0.9 * len(table.rows):
            found.append(
                Leak(
                    "text", False,
                    f"{table.source}: the prompts contain their own ids; where ids differ between "
                    "the files a classifier reads the side off them; take them out of the text",
                )
            )  # fmt: skip
            break
    return found


def _numbers(table: Table, at: int) -> list[float] | None:
    values = []
    for row in table.rows:
        numbers = re.findall(r"\d+", row.prompt)
        if not numbers or len(numbers[at]) > 15:
            return None
        values.append(float(numbers[at]))
    return values


def _runs_on(values: Sequence[float]) -> bool:
    steps = np.diff(np.asarray(values, dtype=np.float64))
    return len(steps) >= FEWEST - 1 and bool((steps > 0).all() or (steps < 0).all())


def _plain(value: Any) -> str:
    return repr(value)


def _decimal(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False
