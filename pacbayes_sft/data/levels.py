"""A column of numbers: the value of every row, and of every unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pacbayes_sft.data.rows import Table, is_number
from pacbayes_sft.errors import InputError


def number_in(value: object, where: str, column: str) -> float:
    """Return a value as a finite number.

    Raises:
        InputError: If it is none, naming the place.
    """
    if not is_number(value):
        found = "it has no value there" if value is None else str(value)[:40]
        raise InputError(
            f"{where}: {column!r} is not a number ({found}); name a column that holds one in every "
            "row, or make one with `pacbayes-sft difficulty`"
        )
    return float(value)  # type: ignore[arg-type]


def numbers(table: Table, column: str) -> NDArray[np.float64]:
    """Return a column, shape (rows,).

    Raises:
        InputError: If a row has no number there.
    """
    found = [
        number_in(row.value_of(column), f"{table.source}, row {number}", column)
        for number, row in enumerate(table.rows, start=1)
    ]
    return np.array(found, dtype=float)


def levels_of(table: Table, column: str) -> dict[str, float]:
    """Return the value of each unit, in order of first mention.

    Raises:
        InputError: If a row has no number there, or a unit several.
    """
    levels: dict[str, float] = {}
    for unit, value in zip(table.units, numbers(table, column).tolist(), strict=True):
        if levels.setdefault(unit, value) != value:
            raise InputError(
                f"{table.source}: unit {unit!r} has several values of {column!r}; a unit is in a "
                "window or bucket as a whole, so give it one"
            )
    return levels
