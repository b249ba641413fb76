"""The classifiers that judge features, each of which weighs the two sides alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from estimators.total_variation.two_sample import boosted_trees
from pacbayes_sft.choices import Features
from pacbayes_sft.views.counts import COUNT_NAMES


class CountsAndWords(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Boosted trees on dense columns and on the words that differ most on the learning rows.

    Counts say *how much* of everything there is, which a shift of difficulty moves; words say
    *which*. Words are chosen by χ² of their presence among the rows that `fit` is given, so a
    certificate on other rows stays one.

    Args:
        dense: Leading columns of X that are always used; the others are word counts.
        words: Word columns that are chosen.
        random_state: Seed of the trees.
    """

    def __init__(
        self, dense: int = len(COUNT_NAMES), words: int = 32, random_state: int = 0
    ) -> None:
        self.dense = dense
        self.words = words
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> CountsAndWords:  # noqa: N803
        """Choose words, grow trees.

        Args:
            X: Sparse rows, dense columns first; shape (n, dense + vocabulary).
            y: Sides.
        """
        from sklearn.feature_selection import chi2

        self.classes_ = np.unique(y)
        presence = X[:, self.dense :].astype(bool).astype(np.float64)
        difference = np.nan_to_num(chi2(presence, y)[0])
        self.chosen_ = np.sort(np.argsort(difference, kind="stable")[-self.words :])
        self.trees_ = boosted_trees(self.random_state).fit(self._columns(X), y)
        return self

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        """Return the probability of each side; shape (n, 2)."""
        check_is_fitted(self)
        return self.trees_.predict_proba(self._columns(X))

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Return the side that is more probable."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _columns(self, x: Any) -> Any:
        words = x[:, self.dense :][:, self.chosen_]
        return np.hstack([x[:, : self.dense].toarray(), words.toarray()])


def classifier_for(features: Features | None, seed: int = 0, dense: int = len(COUNT_NAMES)) -> Any:
    """Return the classifier that suits a set of features; None stands for an embedding.

    Args:
        features: The features.
        seed: Seed of what is random in it.
        dense: Leading columns that are no words.
    """
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if features is Features.DEFAULT:
        return CountsAndWords(dense, random_state=seed)
    if features is Features.COUNTS:
        return boosted_trees(seed)
    regression = LogisticRegression(class_weight="balanced", max_iter=1000, C=10.0)
    if features in (Features.WORDS, Features.CHARACTERS):
        return make_pipeline(TfidfTransformer(sublinear_tf=True), regression)
    return make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000, C=0.1)
    )
