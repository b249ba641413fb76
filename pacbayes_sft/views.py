"""Views of a row as text, and the classifiers that look at them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pacbayes_sft.choices import View
from pacbayes_sft.data.rows import Row


def text_of(row: Row, view: View) -> str:
    """Return the text of a row under a view."""
    return row.prompt if view is View.PROMPT else row.prompt + row.completion


def count_features(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return twelve counts a text: lengths, words, lines, digits, numbers, signs; shape (n, 12)."""
    return np.array([_counts(text) for text in texts])


def text_classifier(seed: int = 0) -> Any:
    """Return the default classifier: TF-IDF words and counts, each judged, the two averaged.

    A logistic regression on TF-IDF sees *which* words differ, boosted trees on counts *how much*
    of everything there is; their mean probability is thresholded at one half with classes
    weighted equally.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    words = make_pipeline(
        TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), max_features=50_000),
        LogisticRegression(class_weight="balanced", max_iter=1000),
    )
    counts = make_pipeline(
        FunctionTransformer(count_features),
        HistGradientBoostingClassifier(
            class_weight="balanced", max_iter=100, random_state=seed, early_stopping=False
        ),
    )
    return VotingClassifier([("words", words), ("counts", counts)], voting="soft")


def _counts(text: str) -> list[float]:
    words = text.split()
    numbers = re.findall(r"\d+", text)
    return [
        len(text),
        len(words),
        text.count("\n"),
        len(set(words)),
        sum(map(len, words)) / max(1, len(words)),
        len(numbers),
        sum(map(len, numbers)),
        *(text.count(sign) for sign in "+-*=;"),
    ]
