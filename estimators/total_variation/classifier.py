"""The classifier two-sample test: what a classifier can tell apart bounds TV from below.

For any rule "this came from the test side", TV >= TPR + TNR - 1, and for the best rule they are
equal. On rows that shaped neither classifier nor threshold both rates are binomial, so their
Clopper-Pearson limits give a lower certificate. No distribution-free upper limit exists.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from estimators.concentration import check_delta, clopper_pearson
from estimators.estimate import Estimate, Guarantee
from estimators.total_variation.permutation import permutation_p_value

FROZEN = "classifier, features and threshold were frozen before the held-out rows were looked at"
INDEPENDENT = "the units on each side are independent draws from its law"


@dataclass(frozen=True)
class TwoSampleTest:
    """Outcome of `classifier_two_sample`.

    Attributes:
        tv: Lower certificate from the held-out half; its ``value`` is the cross-fitted point
            estimate (never below the certificate).
        held_out: Rows of (train side, test side) behind the certificate.
        detection_floor: z_{1-α/2}/√m, m the harmonic total of the held-out rows: a smaller TV
            looks like noise at level α.
        detection_floor_80: The TV that is found with 80 % power, (z_{1-α/2} + z_{0.8})/√m.
        classifier: What was fitted.
        p_value: Permutation p-value of "both sides have one law", from the held-out half.

    >>> from sklearn.tree import DecisionTreeClassifier
    >>> stump = DecisionTreeClassifier(max_depth=1)
    >>> found = classifier_two_sample([[0.0]] * 60, [[1.0]] * 60, stump, delta=0.05)
    >>> isinstance(found, TwoSampleTest), found.held_out, round(found.detection_floor, 2)
    (True, (29, 31), 0.25)
    """

    tv: Estimate
    held_out: tuple[int, int]
    detection_floor: float
    detection_floor_80: float
    classifier: str
    p_value: float


def classifier_two_sample(
    train: Sequence[Any],
    test: Sequence[Any],
    classifier: Any,
    delta: float,
    *,
    train_groups: Sequence[Hashable] | None = None,
    test_groups: Sequence[Hashable] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> TwoSampleTest:
    """Bound TV(test, train) from below by a classifier, and estimate it by cross-fitting.

    Groups (units, duplicate clusters) are split whole, and a group that occurs on both sides
    stays together. Only one row of a group is judged, drawn by seed, so that the judged rows are
    independent. The point estimate is TPR + TNR - 1 of scores cross-fitted over all rows; pooled
    folds are not independent, so it carries no promise of its own.

    Args:
        train: Examples of the train side: texts, or rows of a feature matrix.
        test: Examples of the test side.
        classifier: Any scikit-learn classifier or pipeline; it is cloned, never fitted itself.
        delta: Probability with which the lower certificate may fail.
        train_groups: Group of each train example; each its own if None.
        test_groups: Group of each test example.
        folds: Folds of the point estimate.
        seed: Seed of the splits.

    Raises:
        ValueError: If a side has fewer than ``2·folds`` groups.

    >>> from sklearn.tree import DecisionTreeClassifier
    >>> stump = DecisionTreeClassifier(max_depth=1)
    >>> found = classifier_two_sample([[0.0]] * 60, [[1.0]] * 60, stump, delta=0.05)
    >>> found.tv.value, round(found.tv.lower, 2), str(found.tv.guarantee)
    (1.0, 0.77, 'lower')
    """
    from sklearn.base import clone

    check_delta(delta)
    generator = np.random.default_rng(seed)
    x, y, group = judged_rows(train, test, train_groups, test_groups, generator)
    if min(np.bincount(y, minlength=2)) < 2 * folds:
        raise ValueError(
            f"a two-sample test with {folds} folds needs at least {2 * folds} independent units a "
            f"side, got {np.bincount(y, minlength=2).tolist()}"
        )
    half = _fold_of(group, generator, 2)
    fitted = clone(classifier).fit(x[half == 0].tolist(), y[half == 0])
    judged = x[half == 1].tolist()
    says_test = fitted.predict(judged) == 1
    truth = y[half == 1]
    counts = int((truth == 0).sum()), int((truth == 1).sum())
    if min(counts) == 0:
        raise ValueError("one side has no held-out row; give more rows")
    p_value = permutation_p_value(
        _scores(fitted, judged), truth == 1, groups=group[half == 1].tolist(), seed=seed
    )
    specificity = clopper_pearson(int((~says_test[truth == 0]).sum()), counts[0], delta)
    sensitivity = clopper_pearson(int(says_test[truth == 1].sum()), counts[1], delta)
    lower = max(0.0, specificity.lower + sensitivity.lower - 1)
    point = _cross_fitted(x, y, _fold_of(group, generator, folds), folds, classifier)
    total = 4 / (1 / counts[0] + 1 / counts[1])
    z = float(stats.norm.ppf(1 - delta / 2))
    tv = Estimate(
        min(1.0, max(point, lower)), lower, 1.0, 1 - delta, Guarantee.LOWER,
        "classifier two-sample test, held-out Clopper-Pearson", (FROZEN, INDEPENDENT),
        "probability",
    )  # fmt: skip
    return TwoSampleTest(
        tv,
        counts,
        z / math.sqrt(total),
        (z + float(stats.norm.ppf(0.8))) / math.sqrt(total),
        repr(classifier).split("(")[0],
        p_value,
    )


def _scores(fitted: Any, x: list[Any]) -> Any:
    """What orders the rows: the probability of the test side, or the best that there is."""
    if hasattr(fitted, "predict_proba"):
        return fitted.predict_proba(x)[:, 1]
    rule = fitted.decision_function if hasattr(fitted, "decision_function") else fitted.predict
    return rule(x)


def _cross_fitted(x: Any, y: Any, fold: Any, folds: int, classifier: Any) -> float:
    from sklearn.base import clone

    right = np.zeros(len(y), dtype=bool)
    for k in range(folds):
        inside, outside = fold != k, fold == k
        if outside.any():
            fitted = clone(classifier).fit(x[inside].tolist(), y[inside])
            right[outside] = fitted.predict(x[outside].tolist()) == y[outside]
    return max(0.0, float(right[y == 0].mean() + right[y == 1].mean() - 1))


def judged_rows(
    train: Sequence[Any],
    test: Sequence[Any],
    train_groups: Sequence[Hashable] | None,
    test_groups: Sequence[Hashable] | None,
    generator: np.random.Generator,
) -> tuple[Any, Any, Any]:
    """Return examples, sides (0 train, 1 test) and group numbers of one row a group and side.

    Raises:
        ValueError: If groups and examples differ in number.
    """
    x = np.empty(len(train) + len(test), dtype=object)
    x[:] = [*train, *test]
    y = np.repeat([0, 1], [len(train), len(test)])
    group = _group_numbers(train_groups, test_groups, len(train), len(test))
    kept = _one_row_a_group(group, y, generator)
    return x[kept], y[kept], group[kept]


def _group_numbers(
    train: Sequence[Hashable] | None, test: Sequence[Hashable] | None, n: int, m: int
) -> Any:
    """Number the groups; one that is named on both sides gets one number."""
    names = [*(train if train is not None else [("train", i) for i in range(n)])]
    names += [*(test if test is not None else [("test", i) for i in range(m)])]
    if len(names) != n + m:
        raise ValueError("groups and examples differ in number")
    places: dict[Hashable, int] = {}
    return np.array([places.setdefault(name, len(places)) for name in names])


def _one_row_a_group(group: Any, y: Any, generator: np.random.Generator) -> Any:
    """Indices of one row, drawn at random, of each group on each side, in order."""
    order = generator.permutation(len(group))
    _, first = np.unique(group[order] * 2 + y[order], return_index=True)
    return np.sort(order[first])


def _fold_of(group: Any, generator: np.random.Generator, folds: int) -> Any:
    """Deal the groups into folds of equal size, whole."""
    numbers, place = np.unique(group, return_inverse=True)
    dealt = generator.permutation(len(numbers)) % folds
    return dealt[place]
