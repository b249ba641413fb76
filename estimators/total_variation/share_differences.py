"""The permutation p-value of differences of shares, over every column and threshold.

A frozen classifier is judged on half of the rows; this test uses all of them. It looks at rules
"column j is at least t" and at the shares of either side in which they hold: at the one rule that
differs most, the two-sample form of a maximally selected χ² statistic (Miller & Siegmund 1982;
Hothorn & Lausen 2003), and at all marks together, the sum of squares that is sharp where many
differ a little. Relabelling the rows shows how large both become by chance. Good where a small part
of one side is unlike all of the other (some harder problems, a phrase in a few prompts); blind to
what only two columns together can tell, for which there is the classifier.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.total_variation.permutation import relabellings
from estimators.total_variation.samples import Indices, number_groups, take

Labels = NDArray[np.float32]
Numbers = NDArray[np.float64]
FEWEST = 5  # rows on either side of a rule: below, no difference could be seen
THRESHOLDS, RULES = 32, 4096  # at most: of one column, of all columns with thresholds
BLOCK = 256  # rules that are counted at once
MOST_ROWS = 20_000  # a side; of more a random part is looked at
CELLS = 8_000_000  # labels dealt at once, which bounds the memory
GRID = 1e-4  # statistics nearer than this are tied, and a tie counts against us


def share_difference_p_value(
    x: Any,
    is_test: Any,
    *,
    groups: Sequence[Hashable] | None = None,
    permutations: int = 999,
    seed: int = 0,
) -> float:
    """Return the p-value of "both sides have one law" from differences of shares.

    Three statistics are looked at. *How much*: over the columns that are non-zero in more than half
    of the rows, and over up to 32 thresholds each, the largest standardised difference between the
    sides' shares of rows at or above it. *Whether*: over the other columns, the same of the shares
    of rows where the column is not zero, the largest and the sum of squares. The least of the three
    permutation p-values is held against what it is under the same relabellings (Westfall & Young
    1993), so that looking thrice costs what it must and no more. Columns and thresholds are chosen
    without the labels; under one law the labels of the rows are exchangeable, so P(p <= α) <= α at
    every size.

    Args:
        x: Features of both sides: a dense or sparse matrix, shape (m, columns).
        is_test: Whether each row is of the test side; shape (m,).
        groups: Group of each row, at most one row a side each. A group with a row on either side
            is relabelled by swapping the two.
        permutations: B; the p-value is never below 1/(1+B).
        seed: Seed of the relabellings, and of the 20,000 groups of each side that are looked at
            where there are more.

    Raises:
        ValueError: If x is no matrix of finite numbers with one side for each row, a side is empty
            or B < 1.

    >>> x = np.r_[np.zeros(40), np.repeat([0.0, 1.0], [30, 10])].reshape(-1, 1)
    >>> share_difference_p_value(x, np.repeat([False, True], 40)) < 0.01
    True
    """
    from scipy.sparse import csr_matrix

    label = np.asarray(is_test, dtype=bool)
    if hasattr(x, "tocsr"):
        x = csr_matrix(x, copy=True)
        x.eliminate_zeros()  # a zero that happens to be stored is no mark
    else:
        x = np.asarray(x)
    values = x.data if hasattr(x, "tocsr") else x
    if x.ndim != 2 or x.shape[0] != len(label) or not np.isfinite(values).all():
        raise ValueError("a test of shares needs a matrix of finite numbers, one side for each row")
    if label.all() or not label.any() or permutations < 1:
        raise ValueError("a permutation test needs rows on both sides and one permutation or more")
    group = number_groups(groups, len(label))
    kept = _part(label, group, seed)
    x, label, group = take(x, kept), label[kept], group[kept]
    much, whether = list(_thresholds(x)), list(_presence(x))
    if not much and not whether:
        return 1.0
    seen = label[None].astype(np.float32)
    dealt = relabellings(label, group.tolist(), permutations, seed, CELLS)
    found = [
        [_differences(much, part)[0], *_differences(whether, part)] for part in chain([seen], dealt)
    ]
    return _least_p_value(np.hstack(found))


def _part(label: NDArray[np.bool_], group: Indices, seed: int) -> Indices:
    """Indices of what is looked at: of groups with rows on one side, the other, both, so many each.

    Relabelling keeps each of the three kinds, so labels remain exchangeable in what is kept.
    """
    generator = np.random.default_rng([seed, MOST_ROWS])
    sides = [np.unique(group[label == side]) for side in (False, True)]
    both = np.intersect1d(sides[0], sides[1])
    kinds = [np.setdiff1d(side, both) for side in sides] + [both]
    chosen = np.concatenate([generator.permutation(kind)[:MOST_ROWS] for kind in kinds])
    return np.flatnonzero(np.isin(group, chosen))


def _common(x: Any) -> Any:
    """Which columns are non-zero in more than half of the rows: numbers rather than marks."""
    filled = x.getnnz(axis=0) if hasattr(x, "tocsr") else np.count_nonzero(x, axis=0)
    return 2 * filled > x.shape[0]


def _thresholds(x: Any) -> Iterator[NDArray[np.bool_]]:
    """Yield, for columns of numbers, 0/1 columns "at least t"; each (m, about `BLOCK`)."""
    chosen = np.flatnonzero(_common(x))
    each = max(1, min(THRESHOLDS, RULES // max(1, len(chosen))))
    block: list[NDArray[np.bool_]] = []
    for column in chosen:
        found = x[:, [column]]
        values = (found.toarray() if hasattr(found, "tocsr") else found).ravel()
        block.append(_rules(values, each))
        if sum(rules.shape[1] for rules in block) >= BLOCK:
            yield np.hstack(block)
            block = []
    if block and (last := np.hstack(block)).shape[1]:
        yield last


def _rules(values: Any, most: int) -> NDArray[np.bool_]:
    if len(values) < 2 * FEWEST:  # no rule holds, and fails, in that many rows
        return np.zeros((len(values), 0), dtype=bool)
    cuts = np.unique(values)[1:]
    if len(cuts) > most:
        # Evenly over the rows, and the two ends besides: that is where rare rows are.
        inside = np.quantile(values, np.linspace(0, 1, most + 2)[1:-1], method="higher")
        cuts = np.unique(np.r_[inside, np.sort(values)[[FEWEST, -FEWEST]]])
    rules = values[:, None] >= cuts
    count = rules.sum(axis=0)
    kept: NDArray[np.bool_] = rules[:, (count >= FEWEST) & (count <= len(values) - FEWEST)]
    return kept


def _presence(x: Any) -> Iterator[Any]:
    """Yield, for columns of marks, sparse 0/1 columns "not zero"; each (m, rules)."""
    from scipy.sparse import csc_matrix

    marks = csc_matrix(x)[:, np.flatnonzero(~_common(x))]
    marks = marks[:, np.flatnonzero(marks.getnnz(axis=0) >= FEWEST)]
    if marks.shape[1]:
        yield (marks != 0).astype(np.float32)


def _differences(kind: Sequence[Any], labels: Labels) -> tuple[Numbers, Numbers]:
    """Return, for each labelling (b, m), the largest standardised difference and sum of squares."""
    m, ones = labels.shape[1], float(labels[0].sum())
    largest, squares = np.zeros(len(labels)), np.zeros(len(labels))
    for rules in kind:
        share = np.asarray(rules.sum(axis=0), dtype=np.float64).ravel() / m
        spread = np.sqrt(share * (1 - share) * ones * (m - ones) / m)
        if hasattr(rules, "tocsc"):
            held = (rules.T @ labels.T).T
        else:
            held = labels @ rules.astype(np.float32)  # counts below 2**24: exact
        z = (held - ones * share) / spread
        largest = np.maximum(largest, np.abs(z).max(axis=1))
        squares += (z**2).sum(axis=1)
    return largest, squares


def _least_p_value(found: Numbers) -> float:
    """Return the p-value of the least of several p-values; column 0 of (kinds, 1+B) was seen."""
    from scipy.stats import rankdata

    ranks = rankdata(-np.round(found / GRID), method="max", axis=1)
    least = ranks.min(axis=0)
    return float(np.mean(least <= least[0]))
