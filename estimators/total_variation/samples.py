"""Two samples as one: pooled rows, which of them are judged, and how groups are dealt into folds.

Groups (units, duplicate clusters) are never divided by a split, and a group that occurs on both
sides stays together. Only one row of a group is judged a side, drawn at random, so that the judged
rows are independent.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def pool(train: Any, test: Any) -> Any:
    """Return the rows of both sides as one: a sparse matrix, an array, or a list of anything."""
    if hasattr(train, "tocsr"):
        from scipy.sparse import vstack

        return vstack([train, test]).tocsr()
    if isinstance(train, np.ndarray) and isinstance(test, np.ndarray):
        return np.concatenate([train, test])
    return [*train, *test]


def take(x: Any, rows: Any) -> Any:
    """Return some of the rows, by index or mask, as what they came in."""
    if hasattr(x, "tocsr") or isinstance(x, np.ndarray):
        return x[rows]
    chosen = np.asarray(rows)
    places = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
    return [x[i] for i in places]


def number_groups(groups: Sequence[Hashable] | None, rows: int) -> Indices:
    """Number the groups of pooled rows; every row is its own if none are given.

    Raises:
        ValueError: If groups and rows differ in number.
    """
    if groups is None:
        return np.arange(rows)
    if len(groups) != rows:
        raise ValueError("groups and examples differ in number")
    places: dict[Hashable, int] = {}
    return np.array([places.setdefault(name, len(places)) for name in groups], dtype=np.int64)


def pool_groups(
    train: Sequence[Hashable] | None, test: Sequence[Hashable] | None, n: int, m: int
) -> list[Hashable] | None:
    """Return the groups of n + m pooled rows; a side without any has each row its own.

    Raises:
        ValueError: If groups and examples differ in number.
    """
    if train is None and test is None:
        return None
    names: list[Hashable] = [*(train if train is not None else [("train", i) for i in range(n)])]
    names += [*(test if test is not None else [("test", i) for i in range(m)])]
    if len(names) != n + m:
        raise ValueError("groups and examples differ in number")
    return names


def one_row_a_group(group: Indices, y: Any, generator: np.random.Generator) -> Indices:
    """Indices of one row, drawn at random, of each group on each side, in order."""
    order = generator.permutation(len(group))
    _, first = np.unique(group[order] * 2 + y[order], return_index=True)
    return np.sort(order[first])


def fold_of(group: Indices, generator: np.random.Generator, folds: int) -> Indices:
    """Deal the groups into folds of equal size, whole."""
    numbers, place = np.unique(group, return_inverse=True)
    dealt: Indices = generator.permutation(len(numbers)) % folds
    return dealt[place]
