"""The classifier two-sample test as one function; the work is done by `ClassifierTwoSample`.

For any rule "this came from the test side", TV >= TPR + TNR - 1, and for the best rule they are
equal. On rows that shaped neither classifier nor threshold both rates are binomial, so their
Clopper-Pearson limits give a lower certificate. No distribution-free upper limit exists.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from estimators.estimate import Estimate
from estimators.total_variation.samples import pool, pool_groups


@dataclass(frozen=True)
class TwoSampleTest:
    """Outcome of `classifier_two_sample`.

    Attributes:
        tv: Lower certificate from the held-out half; its ``value`` is the cross-fitted point
            estimate (never below the certificate).
        held_out: Rows of (train side, test side) behind the certificate.
        detection_floor: z_{1-α/2}/√m, m the harmonic total of the held-out rows: a smaller TV
            looks like noise at level α if it is spread over all rows (see `power`).
        detection_floor_80: The TV from which on a z-test of the best possible rule has 80 % power,
            (z_{1-α/2} + z_{0.8})/√m; this classifier may miss any shift.
        classifier: What was fitted.
        p_value: Permutation p-value of "both sides have one law", see `ClassifierTwoSample`.

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
    from estimators.total_variation.two_sample import ClassifierTwoSample

    sizes = [x.shape[0] if hasattr(x, "shape") else len(x) for x in (train, test)]
    if min(sizes) < 2 * folds:
        raise ValueError(
            f"a two-sample test with {folds} folds needs at least {2 * folds} independent units a "
            f"side, got {sizes}"
        )
    found = ClassifierTwoSample(classifier, delta=delta, folds=folds, random_state=seed).fit(
        pool(train, test),
        np.repeat([0, 1], sizes),
        pool_groups(train_groups, test_groups, *sizes),
    )
    return TwoSampleTest(
        found.tv_,
        found.held_out_,
        found.detection_floor_,
        found.detection_floor_80_,
        repr(classifier).split("(")[0],
        found.p_value_,
    )
