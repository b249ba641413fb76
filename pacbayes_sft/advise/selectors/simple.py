"""Rules that need a difficulty at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pacbayes_sft.errors import InputError
from pacbayes_sft.scan.windows import edges

Rows = NDArray[np.int64]


def at_random(pool: int, count: int, seed: int) -> Rows:
    """Return ``count`` rows of the pool, uniformly.

    Raises:
        InputError: If the pool is smaller.
    """
    if count > pool:
        raise InputError(f"{count} rows asked of a pool of {pool}")
    return np.random.default_rng(seed).permutation(pool)[:count]


def all_windows(levels: Sequence[float], windows: Sequence[str], count: int, seed: int) -> Rows:
    """Return an equal share of rows from every window, none twice.

    Raises:
        InputError: If a window has too few rows left.
    """
    values, generator = np.asarray(levels, dtype=float), np.random.default_rng(seed)
    taken: list[int] = []
    for k, window in enumerate(windows):
        share = count * (k + 1) // len(windows) - count * k // len(windows)
        taken += _from_window(values, window, share, set(taken), generator)
    return np.array(taken)


def curriculum(levels: Sequence[float], path: Mapping[int, str], count: int, seed: int) -> Rows:
    """Return rows in the order of an easy-to-hard curriculum along d*(n).

    Up to each size the rows come from the window that is best at that size: a budget of n replays
    the advice of every smaller budget first. Read in order; a trainer that shuffles keeps the
    composition alone.

    Args:
        levels: Difficulty of every row of the pool.
        path: By size the best window, as `advise` finds it on its path.
        count: The budget.
        seed: Seed of the draw.

    Raises:
        InputError: If the path is empty, or a window has too few rows left.
    """
    if not path:
        raise InputError("a curriculum needs the best window of at least one size")
    values, generator = np.asarray(levels, dtype=float), np.random.default_rng(seed)
    taken: list[int] = []
    sizes = sorted(path)
    for k, size in enumerate(sizes):
        end = count if k + 1 == len(sizes) else min(size, count)
        if end > len(taken):
            share = end - len(taken)
            taken += _from_window(values, path[size], share, set(taken), generator)
    return np.array(taken)


def _from_window(
    values: NDArray[np.float64],
    window: str,
    count: int,
    taken: set[int],
    generator: np.random.Generator,
) -> list[int]:
    low, high = edges(window)
    inside = [int(i) for i in np.flatnonzero((values >= low) & (values <= high)) if i not in taken]
    if len(inside) < count:
        raise InputError(f"window {window}: {len(inside)} rows are left, {count} are asked for")
    return [inside[i] for i in generator.permutation(len(inside))[:count]]
