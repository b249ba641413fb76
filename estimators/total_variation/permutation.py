"""Relabelling: the permutation p-value of a frozen score, exact at every size and of any score."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

CELLS = 1_000_000  # labels dealt at once, which bounds the memory
STREAM = 1  # apart from the stream of the same seed that split the rows


def permutation_p_value(
    scores: ArrayLike,
    is_test: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    permutations: int = 999,
    seed: int = 0,
) -> float:
    """Return (1+b)/(1+B), b of B relabellings scoring the test side at least as high.

    If both sides have one law, the labels of the judged rows are exchangeable, so the labelling
    that was seen is one of 1+B equally likely ones and P(p <= α) <= α. Without the two ones p
    could be 0, which no test at a finite B may claim (Phipson & Smyth 2010). The scores must come
    from a rule that was frozen before these rows were looked at: relabelling scores that were
    fitted on the rows, or cross-fitted and pooled, proves nothing.

    Args:
        scores: Score of each judged row, higher where it looks like the test side; shape (m,).
        is_test: Whether each row is of the test side; shape (m,).
        groups: Group of each row, at most one row a side each. A group with a row on either side
            is relabelled by swapping the two.
        permutations: B; the p-value is never below 1/(1+B).
        seed: Seed of the relabellings.

    Raises:
        ValueError: If the shapes differ, a score is not finite, a side is empty or B < 1.

    >>> permutation_p_value([0.0, 0.1, 0.8, 0.9], [False, False, True, True]) < 0.25
    True
    """
    s, label = np.asarray(scores, dtype=np.float64), np.asarray(is_test, dtype=bool)
    if s.ndim != 1 or s.shape != label.shape or not np.isfinite(s).all():
        raise ValueError("a permutation test needs one finite score and one side for each row")
    if label.all() or not label.any() or permutations < 1:
        raise ValueError("a permutation test needs rows on both sides and one permutation or more")
    # The counts are fixed, so the sum over the test side orders labellings as the means' gap does.
    seen = float(s[label].sum())
    bar = seen - 1e-9 * (1 + abs(seen))  # a tie counts against us, whatever the rounding
    dealt = relabellings(label, groups, permutations, seed, CELLS)
    high = sum(int((part @ s >= bar).sum()) for part in dealt)
    return (1 + high) / (1 + permutations)


def relabellings(
    label: NDArray[np.bool_],
    groups: Sequence[Hashable] | None,
    permutations: int,
    seed: int,
    cells: int,
) -> Iterator[NDArray[np.float32]]:
    """Yield random relabellings in parts of at most ``cells`` labels, each (count, m) of 0 and 1.

    Args:
        label: Whether each row is of the test side; shape (m,).
        groups: Group of each row, at most one row a side each: one with a row on either side has
            the two swapped, or not.
        permutations: How many in all.
        seed: Their seed.
        cells: Labels a part.

    Raises:
        ValueError: If a group has several rows on one side.
    """
    paired = _pairs(groups, label) if groups is not None else np.empty((0, 2), dtype=np.int64)
    loose = np.setdiff1d(np.arange(len(label)), paired)
    generator = np.random.default_rng([seed, STREAM])
    at_once = max(1, cells // len(label))
    for begin in range(0, permutations, at_once):
        count = min(at_once, permutations - begin)
        dealt = generator.permuted(np.tile(label[loose], (count, 1)), axis=1)
        if not len(paired):
            yield dealt.astype(np.float32)
            continue
        part = np.zeros((count, len(label)), dtype=np.float32)
        part[:, loose] = dealt
        swap = generator.integers(0, 2, (count, len(paired)))
        part[np.arange(count)[:, None], paired[np.arange(len(paired)), swap]] = 1.0
        yield part


def _pairs(groups: Sequence[Hashable], label: np.ndarray) -> np.ndarray:
    """Indices (pairs, 2) of the (train, test) row of each group that has both."""
    if len(groups) != len(label):
        raise ValueError("groups and scores differ in number")
    place: tuple[dict[Hashable, int], dict[Hashable, int]] = ({}, {})
    for i, name in enumerate(groups):
        side = place[int(label[i])]
        if side.setdefault(name, i) != i:
            raise ValueError(f"the group {name!r} has several rows on one side; judge one of them")
    both = [[i, place[1][name]] for name, i in place[0].items() if name in place[1]]
    return np.array(both, dtype=np.int64).reshape(-1, 2)
