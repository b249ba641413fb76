"""THTB (arXiv 2510.13892, "the harder the better") on columns that are there, proxied or not.

Its pipeline: quality filter (reward model, best 20 %) → intrinsic hardness ½(Bloom score +
interdisciplinary complexity), hardest 50 % → extrinsic hardness ½(IREI + silhouette), hardest 50 %.
IREI is ½(length of prompt and completion + completion's length over the prompt's), each scaled to
[0, 1] over the pool, in characters; the silhouette is that of three k-means clusters of TF-IDF
vectors (100 features, cosine distance), scaled from [-1, 1] to [0, 1]. These two are computed here.
Reward, Bloom score and interdisciplinary complexity need judge models: they come as columns, or
the stage is skipped, or a stand-in is used that the caller names (the difficulty, for intrinsic
hardness). What was done is said beside the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pacbayes_sft.advise.selectors.simple import Rows
from pacbayes_sft.data.rows import Table
from pacbayes_sft.errors import InputError

QUALITY, HARDER, CLUSTERS, FEATURES = 0.2, 0.5, 3, 100
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """Where the scores of judge models come from.

    Attributes:
        reward: Column of the reward; None skips the quality filter.
        intrinsic: Columns whose scaled mean is the intrinsic hardness.
        proxy: Whether they stand in for Bloom score and interdisciplinary complexity.
    """

    reward: str | None = None
    intrinsic: Sequence[str] = ("difficulty",)
    proxy: bool = True


def thtb(table: Table, count: int, columns: Columns | None = None) -> tuple[Rows, tuple[str, ...]]:
    """Return the hardest rows by THTB, and what was proxied or skipped.

    Each stage keeps its share of the rows, but never fewer than asked for; of the last stage's
    rows the hardest are taken: a ranking.

    Raises:
        InputError: If a column lacks a number, or the pool has fewer rows than asked for.
    """
    columns = columns or Columns()
    if count > len(table.rows):
        raise InputError(f"{count} rows asked of a pool of {len(table.rows)}")
    kept, said = np.arange(len(table.rows)), []
    if columns.reward is None:
        said.append("quality filter skipped: no reward column")
    else:
        kept = _best(kept, _column(table, columns.reward), QUALITY, count)
    intrinsic = np.mean([_scaled(_column(table, c)) for c in columns.intrinsic], axis=0)
    if columns.proxy:
        names = ", ".join(columns.intrinsic)
        said.append(f"intrinsic hardness proxied by {names}: no Bloom or interdisciplinary score")
    kept = _best(kept, intrinsic, HARDER, count)
    extrinsic = (irei(table) + silhouettes(table)) / 2
    kept = _best(kept, extrinsic, HARDER, count)
    order = kept[np.argsort(-(intrinsic + extrinsic)[kept], kind="stable")]
    return order[:count], tuple(said)


def irei(table: Table) -> Values:
    """Return ½(scaled total length + scaled completion-to-prompt ratio), in [0, 1]."""
    prompt = np.array([len(row.prompt) for row in table.rows], dtype=float)
    completion = np.array([len(row.completion) for row in table.rows], dtype=float)
    ratio = np.divide(completion, prompt, out=np.zeros_like(prompt), where=prompt > 0)
    return (_scaled(prompt + completion) + _scaled(ratio)) / 2


def silhouettes(table: Table, seed: int = 42) -> Values:
    """Return each row's silhouette among k-means clusters of its TF-IDF vector, in [0, 1].

    ½ for all where clusters cannot be told or have a single row.
    """
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics import silhouette_samples

    texts = [f"{row.prompt} {row.completion}".lower() for row in table.rows]
    try:
        vectors = TfidfVectorizer(max_features=FEATURES).fit_transform(texts)
    except ValueError:  # no word at all
        return np.full(len(texts), 0.5)
    if len(texts) <= CLUSTERS:
        return np.full(len(texts), 0.5)
    labels = KMeans(CLUSTERS, random_state=seed, n_init="auto").fit_predict(vectors)
    counts = np.bincount(labels)
    if len(counts) < 2 or counts[counts > 0].min() < 2:
        return np.full(len(texts), 0.5)
    return (np.asarray(silhouette_samples(vectors, labels, metric="cosine")) + 1) / 2


def _best(kept: Rows, score: Values, share: float, count: int) -> Rows:
    order = kept[np.argsort(-score[kept], kind="stable")]
    return order[: max(count, round(share * len(kept)))]


def _scaled(values: Values) -> Values:
    span = values.max() - values.min()
    return np.full_like(values, 0.5) if span == 0 else (values - values.min()) / span


def _column(table: Table, name: str) -> Values:
    found = [row.value_of(name) for row in table.rows]
    for number, value in enumerate(found, start=1):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{table.source}, row {number}: {name!r} is not a number")
    return np.array(found, dtype=float)
