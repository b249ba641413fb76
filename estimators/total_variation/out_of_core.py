"""`StreamedTwoSample`: the held-out two-sample test in memory that does not grow with the rows.

A coin parts the rows before anything is looked at. In a first pass one linear classifier learns by
`partial_fit` from each half; in a second pass each judges the other half. What is kept are weights
and counts. The certificate is that of the first classifier on the second half, just as in memory:
the coin makes learning and judging rows independent, in whatever order the file has them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from estimators.concentration import check_delta
from estimators.estimate import Estimate
from estimators.total_variation.power import detection_floors
from estimators.total_variation.two_sample import (
    held_out_certificate,
    lower_estimate,
    scores_of,
)

BINS = 200  # of the histogram of scores


class StreamedTwoSample(BaseEstimator):  # type: ignore[misc]
    """Bound TV from below by a classifier, chunk by chunk.

    Call `partial_fit` on every chunk, then `partial_judge` on every chunk, each chunk with the
    same coins as before; then read the results.

    Args:
        classifier: Any scikit-learn classifier with ``partial_fit``; logistic regression by
            stochastic gradients if None.
        delta: Probability with which the lower certificate may fail.

    Attributes:
        tv_: Lower certificate; its ``value`` is the mean gap of the two classifiers, each on the
            half that it did not learn from.
        held_out_: Rows of either side behind the certificate.
        detection_floor_: As `ClassifierTwoSample`.
        detection_floor_80_: As `ClassifierTwoSample`.
        histogram_: Judged rows by side and bin of score, shape (2, bins); scores in [0, 1].

    >>> from numpy.random import default_rng
    >>> coin = default_rng(0).random(400) < 0.5
    >>> x, y = np.repeat([[0.0], [1.0]], 200, axis=0), np.repeat([0, 1], 200)
    >>> test = StreamedTwoSample().partial_fit(x, y, coin).partial_judge(x, y, coin)
    >>> test.tv_.value
    1.0
    """

    def __init__(self, classifier: Any = None, *, delta: float = 0.05) -> None:
        self.classifier = classifier
        self.delta = delta

    def partial_fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        coin: Any,
        sample_weight: Any = None,
    ) -> StreamedTwoSample:
        """Teach: rows with coin 0 the first classifier, those with coin 1 the second.

        Args:
            X: A chunk of rows.
            y: Their sides, 0 or 1.
            coin: The half of each, thrown independently of the rows; shape (rows,).
            sample_weight: Weights that make the two sides weigh alike over the whole.
        """
        check_delta(self.delta)
        if not hasattr(self, "learners_"):
            self.learners_ = [self._classifier(), self._classifier()]
            self.taught_ = np.zeros((2, 2), dtype=np.int64)
        y, coin = np.asarray(y), np.asarray(coin, dtype=np.int64)
        for half, learner in enumerate(self.learners_):
            mine = coin == half
            if mine.any():
                weight = None if sample_weight is None else np.asarray(sample_weight)[mine]
                learner.partial_fit(X[mine], y[mine], classes=[0, 1], sample_weight=weight)
                self.taught_[half] += np.bincount(y[mine], minlength=2)
        return self

    def partial_judge(self, X: Any, y: Any, coin: Any) -> StreamedTwoSample:  # noqa: N803
        """Judge: rows with coin 1 by the first classifier, those with coin 0 by the second.

        Raises:
            ValueError: If nothing was taught, or a half was taught one side only.
        """
        if not hasattr(self, "learners_") or self.taught_.min() == 0:
            raise ValueError("teach rows of both sides and both halves before any is judged")
        if not hasattr(self, "right_"):
            self.right_ = np.zeros((2, 2), dtype=np.int64)  # judging classifier, side
            self.judged_ = np.zeros((2, 2), dtype=np.int64)
            self.histogram_ = np.zeros((2, BINS), dtype=np.int64)
        y, coin = np.asarray(y), np.asarray(coin, dtype=np.int64)
        for half, learner in enumerate(self.learners_):
            mine = coin != half
            if not mine.any():
                continue
            scores, sides = scores_of(learner, X[mine]), y[mine]
            right = (scores > 0.5) == (sides == 1)
            self.judged_[half] += np.bincount(sides, minlength=2)
            self.right_[half] += np.bincount(sides[right], minlength=2)
            bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
            for side in (0, 1):
                self.histogram_[side] += np.bincount(bins[sides == side], minlength=BINS)
        return self

    @property
    def held_out_(self) -> tuple[int, int]:
        """Rows of either side that the first classifier judged."""
        return int(self.judged_[0, 0]), int(self.judged_[0, 1])

    @property
    def certificate_(self) -> Estimate:
        """The first classifier's lower certificate.

        Raises:
            ValueError: If a side was not judged.
        """
        if self.judged_.min() == 0:
            raise ValueError("one side has no held-out row; give more rows")
        right = int(self.right_[0, 0]), int(self.right_[0, 1])
        return held_out_certificate(right, self.held_out_, self.delta)

    @property
    def tv_(self) -> Estimate:
        """The certificate, with the mean of both classifiers' gaps as its value."""
        found = self.certificate_
        gaps: NDArray[np.float64] = (self.right_ / self.judged_).sum(axis=1) - 1
        return lower_estimate(
            float(gaps.mean()), found.lower, self.delta, found.method, found.assumptions
        )

    @property
    def detection_floor_(self) -> float:
        """A smaller TV looks like noise at level δ if it is spread over all rows."""
        return detection_floors(self.held_out_, self.delta)[0]

    @property
    def detection_floor_80_(self) -> float:
        """The TV from which on a z-test of the best possible rule has 80 % power."""
        return detection_floors(self.held_out_, self.delta)[1]

    def _classifier(self) -> Any:
        if self.classifier is not None:
            return clone(self.classifier)
        from sklearn.linear_model import SGDClassifier

        return SGDClassifier(loss="log_loss", alpha=1e-6, average=True, random_state=0)
