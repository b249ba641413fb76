"""THTB (arXiv 2510.13892, "the harder the better") on columns that are there, proxied or not.

Its pipeline: quality filter (reward model, best 20 %) → intrinsic hardness ½(Bloom score +
interdisciplinary complexity), hardest 50 % → extrinsic hardness ½(IREI + silhouette), hardest 50 %.
The extrinsic part is computed from the text (`pacbayes_sft.difficulty.hardness`).
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
from pacbayes_sft.data.levels import numbers
from pacbayes_sft.data.rows import Table
from pacbayes_sft.difficulty.hardness import extrinsic, scaled
from pacbayes_sft.errors import InputError

QUALITY, HARDER = 0.2, 0.5
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
        kept = _best(kept, numbers(table, columns.reward), QUALITY, count)
    intrinsic = np.mean([scaled(numbers(table, c)) for c in columns.intrinsic], axis=0)
    if columns.proxy:
        names = ", ".join(columns.intrinsic)
        said.append(f"intrinsic hardness proxied by {names}: no Bloom or interdisciplinary score")
    kept = _best(kept, intrinsic, HARDER, count)
    harder = extrinsic(table)
    kept = _best(kept, harder, HARDER, count)
    order = kept[np.argsort(-(intrinsic + harder)[kept], kind="stable")]
    return order[:count], tuple(said)


def _best(kept: Rows, score: Values, share: float, count: int) -> Rows:
    order = kept[np.argsort(-score[kept], kind="stable")]
    return order[: max(count, round(share * len(kept)))]
