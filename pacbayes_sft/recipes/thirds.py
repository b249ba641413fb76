"""Easy, medium, hard: thirds of the units by their mean difficulty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def cut_into_thirds(
    pool: Sequence[dict[str, Any]], test: Sequence[dict[str, Any]], own: bool
) -> None:
    """Give every row its ``third``: 0 easy, 1 medium, 2 hard, by the mean difficulty of its unit.

    Args:
        pool: Rows of the pool; their units' thirds make the edges.
        test: Test rows.
        own: Whether the test is cut at its own thirds: solutions of another kind have other
            lengths.
    """
    edges = _edges(_levels(pool))
    _mark(pool, _levels(pool), edges)
    levels = _levels(test) if own else {**_levels(test), **_levels(pool)}
    _mark(test, levels, _edges(_levels(test)) if own else edges)


def _levels(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    of_unit: dict[str, list[float]] = {}
    for row in rows:
        of_unit.setdefault(row["unit"], []).append(row["difficulty"])
    return {unit: float(np.mean(values)) for unit, values in of_unit.items()}


def _edges(levels: dict[str, float]) -> list[float]:
    cuts = np.quantile(list(levels.values()), [1 / 3, 2 / 3], method="inverted_cdf")
    return [float(cut) for cut in cuts]


def _mark(rows: Sequence[dict[str, Any]], levels: dict[str, float], edges: list[float]) -> None:
    for row in rows:
        row["third"] = int(np.searchsorted(edges, levels[row["unit"]], side="left"))
