"""THTB's hardness of a row (arXiv 2510.13892), after its public code at commit 2eb4016.

* *Extrinsic* (EHS): the mean of IREI (length of prompt + completion, and their ratio, each scaled
  to [0, 1] over the file) and of the silhouette of the prompt in a TF-IDF clustering, moved from
  [-1, 1] to [0, 1]. It needs text alone, so it is computed here. Both parts are relative to the
  file: a row's value changes with its neighbours, and it looks across rows (see `ACROSS`).
* *Intrinsic* (IHS): the mean of a Bloom score and of the distance between the disciplines that a
  prompt touches. Both come from a language model's judgement of every row, which nothing here can
  make: it is read from the columns that THTB's code writes, or not had.
* ``bloom_proxy`` is *a proxy, not THTB's*: the highest level of Bloom's taxonomy whose verbs
  occur in the prompt. It needs no judge, and it is only as good as a list of words.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pacbayes_sft.data.levels import numbers
from pacbayes_sft.data.rows import Table
from pacbayes_sft.errors import InputError

Values = NDArray[np.float64]

ACROSS = (
    "looks across the rows of the file: windows cut by it are independent only given the file's "
    "other rows"
)
ACROSS_ROWS = frozenset({"thtb_extrinsic"})  # metrics of which that is true
CLUSTERS, FEATURES, SEED = 3, 100, 42  # THTB's
INTRINSIC = ("normalized_bloom_score", "bge_ICS")  # the columns of its IC/ihs.py
BLOOM = (  # the taxonomy's six levels, from remembering to creating
    "define identify label list name recall recite recognize state",
    "classify describe discuss explain interpret paraphrase summarize translate",
    "apply calculate compute demonstrate evaluate find simplify solve use",
    "analyze compare contrast differentiate distinguish examine infer organize",
    "argue assess critique defend judge justify prove refute verify",
    "compose construct create design devise formulate invent plan produce write",
)


def extrinsic(table: Table) -> Values:
    """Return THTB's extrinsic hardness score of every row, shape (rows,), in [0, 1].

    The clustering's seed is THTB's. Its segmentation of Chinese is left out: other scripts are
    split at white space, so their silhouettes differ from THTB's.
    """
    return (irei(table) + (silhouettes([row.prompt for row in table.rows]) + 1) / 2) / 2


def irei(table: Table) -> Values:
    """Return the instruction-response expansion index, shape (rows,), in [0, 1].

    As the code has it (both summands scaled to [0, 1], averaged; 1/2 where all rows are alike);
    the paper's formula leaves the ratio unscaled. Lengths are characters.
    """
    prompt = np.array([float(len(row.prompt)) for row in table.rows])
    completion = np.array([float(len(row.completion)) for row in table.rows])
    ratio = np.divide(completion, prompt, out=np.zeros_like(prompt), where=prompt > 0)
    return (scaled(prompt + completion) + scaled(ratio)) / 2


def silhouettes(texts: list[str]) -> Values:
    """Return every text's silhouette among k-means clusters of TF-IDF vectors, in [-1, 1].

    0 where there are no clusters to speak of: fewer than two, or one with a single text.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics import silhouette_samples

    if len(texts) <= CLUSTERS:
        return np.zeros(len(texts))
    try:
        vectors = TfidfVectorizer(max_features=FEATURES).fit_transform(map(_words, texts))
    except ValueError:  # no text holds a word
        return np.zeros(len(texts))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct texts than clusters
        labels = KMeans(CLUSTERS, random_state=SEED, n_init="auto").fit_predict(vectors)
    _, counts = np.unique(labels, return_counts=True)
    if len(counts) < 2 or counts.min() < 2:
        return np.zeros(len(texts))
    found: Values = silhouette_samples(vectors, labels, metric="cosine")
    return found


def intrinsic(table: Table) -> Values:
    """Return THTB's intrinsic hardness score from its columns, shape (rows,).

    Either ``IHS`` itself or the two columns it is the mean of.

    Raises:
        InputError: If a row has neither.
    """
    if table.has("IHS"):
        return numbers(table, "IHS")
    if not all(table.has(column) for column in INTRINSIC):
        raise InputError(
            f"--metric thtb_intrinsic: {table.source} holds neither 'IHS' nor "
            f"{' and '.join(map(repr, INTRINSIC))} in every row; a language model's judgement "
            "makes them (THTB's code), or take --metric bloom_proxy, a stand-in"
        )
    return np.mean([numbers(table, column) for column in INTRINSIC], axis=0)


def bloom_proxy(table: Table) -> Values:
    """Return the highest level of Bloom's taxonomy named in each prompt, shape (rows,), in 0..6.

    A proxy of THTB's Bloom score, which a language model gives.
    """
    level = {verb: k for k, verbs in enumerate(BLOOM, start=1) for verb in verbs.split()}
    words = ([level.get(w, 0) for w in re.findall("[a-z]+", r.prompt.lower())] for r in table.rows)
    return np.array([float(max(found, default=0)) for found in words])


METRICS: dict[str, tuple[Callable[[Table], Values], str]] = {
    "thtb_extrinsic": (extrinsic, f"THTB's extrinsic hardness (EHS), computed here; {ACROSS}"),
    "thtb_intrinsic": (intrinsic, "THTB's intrinsic hardness (IHS), from the file's columns"),
    "bloom_proxy": (
        bloom_proxy,
        "a proxy of THTB's Bloom score: the highest level whose verbs the prompt holds, no judge",
    ),
}


def scaled(values: Values) -> Values:
    """Return the values moved to [0, 1] over the file; 1/2 where all are alike."""
    low, high = float(values.min()), float(values.max())
    return np.full_like(values, 0.5) if high == low else (values - low) / (high - low)


def _words(text: str) -> str:
    ascii_share = sum(ord(c) < 128 for c in text) / max(1, len(text))
    return re.sub(r"[^\w\s]|\d", " ", text.lower()) if ascii_share > 0.8 else text
