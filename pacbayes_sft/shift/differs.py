"""What differs? Which words, counts and attributes carry the shift, before asking how much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pacbayes_sft.choices import View
from pacbayes_sft.data.rows import Table, is_number
from pacbayes_sft.views.counts import COUNT_NAMES, count_features
from pacbayes_sft.views.text import text_of

SHOWN = 12
ROWS = 20_000  # a side, at most, that words are counted on
VOCABULARY = 20_000


@dataclass(frozen=True)
class Carrier:
    """One property and how far it alone tells the sides apart.

    Attributes:
        name: The word, count or column.
        kind: ``word``, ``count`` or ``attribute``.
        train: Share of rows with the word, else the mean; None for names.
        test: The same of the test side.
        gap: Of a word the difference of shares; of a number the largest difference of the two
            distribution functions; of names the TV of their laws. Plug-in values of all rows, the
            largest of many: a description, no certificate.
        largest: Of names the one whose share differs most, and its shares.
    """

    name: str
    kind: str
    train: float | None
    test: float | None
    gap: float
    largest: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object."""
        return {
            "name": self.name, "kind": self.kind, "train": self.train, "test": self.test,
            "gap": self.gap, "largest": self.largest,
        }  # fmt: skip


def differs(
    train: Table, test: Table, columns: Sequence[str], *, view: View = View.FULL
) -> list[Carrier]:
    """Return what tells the sides apart, of each kind the largest gaps first."""
    texts = [[text_of(r, view) for r in t.rows[:ROWS]] for t in (train, test)]
    counts = [count_features(side) for side in texts]
    numbers = [
        _number(name, "count", counts[0][:, k], counts[1][:, k])
        for k, name in enumerate(COUNT_NAMES)
    ]
    attributes = [_attribute(train, test, column) for column in columns]
    found = [_words(*texts), numbers, attributes]
    return [c for kind in found for c in sorted(kind, key=lambda c: -abs(c.gap))[:SHOWN]]


def _words(left: list[str], right: list[str]) -> list[Carrier]:
    from sklearn.feature_extraction.text import CountVectorizer

    reader = CountVectorizer(
        token_pattern=r"\w+|[^\w\s]", binary=True, max_features=VOCABULARY, lowercase=True
    )
    try:
        present = reader.fit_transform([*left, *right])
    except ValueError:  # no word in any row
        return []
    a = np.asarray(present[: len(left)].mean(axis=0)).ravel()
    b = np.asarray(present[len(left) :].mean(axis=0)).ravel()
    names = reader.get_feature_names_out()
    order = np.argsort(-np.abs(b - a), kind="stable")[:SHOWN]
    return [
        Carrier(str(names[i]), "word", float(a[i]), float(b[i]), float(b[i] - a[i])) for i in order
    ]


def _attribute(train: Table, test: Table, column: str) -> Carrier:
    left, right = ([row.value_of(column) for row in t.rows] for t in (train, test))
    if all(is_number(v) for v in (*left, *right)):
        return _number(column, "attribute", np.array(left, float), np.array(right, float))
    from estimators import total_variation_attribute

    gap = total_variation_attribute(map(repr, left), map(repr, right), 0.5).value
    shares = [Counter(map(str, side)) for side in (left, right)]
    a, b = (
        {name: k / len(side) for name, k in of.items()}
        for of, side in zip(shares, (left, right), strict=True)
    )
    most = max({*a, *b}, key=lambda name: (abs(b.get(name, 0.0) - a.get(name, 0.0)), name))
    largest = f"{most!r} {a.get(most, 0.0):.3g} → {b.get(most, 0.0):.3g}"
    return Carrier(column, "attribute", None, None, gap, largest)


def _number(name: str, kind: str, left: Any, right: Any) -> Carrier:
    every = np.unique(np.r_[left, right])
    below = [np.searchsorted(np.sort(v), every, side="right") / len(v) for v in (left, right)]
    ahead = below[0] - below[1]  # positive where the test is larger
    gap = float(ahead[np.argmax(np.abs(ahead))])
    return Carrier(name, kind, float(left.mean()), float(right.mean()), gap)
