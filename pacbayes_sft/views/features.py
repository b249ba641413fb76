"""Features of texts and attributes that no row shapes but its own.

Words and characters are hashed, not looked up in a vocabulary made from all rows: a held-out row
then has no part in what the classifier sees, and memory does not grow with the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pacbayes_sft.choices import Features, View
from pacbayes_sft.data.rows import Row, is_number
from pacbayes_sft.errors import InputError
from pacbayes_sft.views.classifiers import classifier_for
from pacbayes_sft.views.counts import COUNT_NAMES, count_features
from pacbayes_sft.views.text import attributes_of, text_of

Embed = Callable[[list[str]], Any]  # texts -> array (n, width)
BUCKETS = 2**16  # of the hashed words
NAMED = {
    Features.DEFAULT: "twelve counts and the words that differ most",
    Features.COUNTS: "twelve counts",
    Features.WORDS: "TF-IDF of words and pairs of words",
    Features.CHARACTERS: "TF-IDF of runs of 2-4 characters",
    Features.HIDDEN: "mean-pooled hidden states of the base",
}


@dataclass(frozen=True)
class Featured:
    """Rows of one view as features, and who judges them.

    Attributes:
        name: The view and the features in words.
        train: Shape (n, columns), sparse or not.
        test: Shape (m, columns).
        classifier: Unfitted.
    """

    name: str
    train: Any
    test: Any
    classifier: Any


def featurise(
    train: Sequence[Row],
    test: Sequence[Row],
    view: View,
    features: Features | Embed,
    *,
    columns: Sequence[str] = (),
    hidden: Embed | None = None,
    seed: int = 0,
) -> Featured:
    """Return the rows of both sides under one view.

    Args:
        train: Rows of the train side.
        test: Rows of the test side.
        view: What of a row is looked at.
        features: As what, or a function from texts to vectors (any sentence-embedding model's).
        columns: For the attributes: which.
        hidden: For hidden states: the function from texts to vectors, see `views.hidden`.
        seed: Seed of the classifier.

    Raises:
        InputError: If what the view needs is not there, or an embedding is no matrix.
    """
    sides = [*train], [*test]
    if view is View.ATTRIBUTES:
        if not columns:
            raise InputError(
                "no attribute to look at: no column but text and names has a value in every row of "
                "both files"
            )
        both, dense = attribute_features([*train, *test], columns)
        n, m = (both[: len(train)], both[len(train) :])
        name = f"attributes ({', '.join(columns)})"
        return Featured(name, n, m, classifier_for(Features.DEFAULT, seed, dense))
    part = "full row" if view is View.FULL else view.value
    texts = [[text_of(row, view) for row in rows] for rows in sides]
    if callable(features) and not isinstance(features, Features):
        name = f"{getattr(features, '__name__', 'embedding')} of the text of the {part}"
        n, m = (_embedded(features, side) for side in texts)
        return Featured(name, n, m, classifier_for(None, seed))
    name = f"text of the {part} ({NAMED[features]})"
    if features is Features.HIDDEN:
        if hidden is None:
            raise InputError("hidden states need --base, the model whose states they are")
        n, m = (_embedded(hidden, side) for side in texts)
        return Featured(name, n, m, classifier_for(None, seed))
    made = {
        Features.DEFAULT: default_features,
        Features.COUNTS: count_features,
        Features.WORDS: hashed_words,
        Features.CHARACTERS: hashed_characters,
    }[features]
    n, m = (made(side) for side in texts)
    return Featured(name, n, m, classifier_for(features, seed))


def default_features(texts: Sequence[str]) -> Any:
    """Return twelve counts, then hashed words and pairs of words; sparse (n, 12 + buckets)."""
    from scipy.sparse import csr_matrix, hstack

    return hstack([csr_matrix(count_features(texts)), hashed_words(texts)]).tocsr()


def hashed_words(texts: Sequence[str], buckets: int = BUCKETS) -> Any:
    """Return counts of hashed words, signs and pairs of them; sparse (n, buckets)."""
    return word_hasher(buckets).transform(texts)


def word_hasher(buckets: int = BUCKETS) -> Any:
    """Return what `hashed_words` hashes with."""
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), n_features=buckets, norm=None,
        alternate_sign=False,
    )  # fmt: skip


def hashed_characters(texts: Sequence[str]) -> Any:
    """Return counts of hashed runs of two to four characters within words; sparse."""
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        analyzer="char_wb", ngram_range=(2, 4), n_features=BUCKETS, norm=None, alternate_sign=False
    ).transform(texts)


def attribute_features(rows: Sequence[Row], columns: Sequence[str]) -> tuple[Any, int]:
    """Return numbers as columns and names hashed, sparse, and how many columns are numbers.

    A column is one of numbers if every row has one there.
    """
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction import FeatureHasher

    values = [attributes_of(row, columns) for row in rows]
    numeric = [c for c in columns if all(is_number(v[c]) for v in values)]
    names = [[f"{c}={v[c]}" for c in columns if c not in numeric] for v in values]
    hashed = FeatureHasher(2**12, input_type="string", alternate_sign=False).transform(names)
    dense = np.array([[float(v[c]) for c in numeric] for v in values]).reshape(len(rows), -1)
    return hstack([csr_matrix(dense), hashed]).tocsr(), len(numeric)


def _embedded(embed: Embed, texts: list[str]) -> Any:
    found = np.asarray(embed(texts), dtype=np.float64)
    if found.ndim != 2 or len(found) != len(texts) or not np.isfinite(found).all():
        raise InputError(
            f"an embedding must give one finite vector a text, got shape {found.shape} for "
            f"{len(texts)} texts"
        )
    return found


__all__ = ["COUNT_NAMES", "Embed", "Featured", "featurise"]
