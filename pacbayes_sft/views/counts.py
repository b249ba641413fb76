"""Twelve counts a text: what a shift of difficulty moves most."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIGNS = "+-*=;"
COUNT_NAMES = (
    "characters",
    "words",
    "lines",
    "different words",
    "characters a word",
    "numbers",
    "digits",
    *(f"'{sign}' signs" for sign in SIGNS),
)


def count_features(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return twelve counts a text: lengths, words, lines, digits, numbers, signs; shape (n, 12)."""
    found = np.array([_counts(text) for text in texts], dtype=np.float64)
    return found.reshape(len(texts), len(COUNT_NAMES))


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
        *(text.count(sign) for sign in SIGNS),
    ]
