"""The paper's Table 1 beside what a scan of its recipe measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

COLUMNS = {"0:0": "easy", "1:1": "medium", "2:2": "hard"}
PAPER = {  # arXiv 2605.12906, Table 1: Qwen2.5-Math-1.5B, accuracy in per cent
    "openr1-math500": (61.1, 68.3, 61.7),
    "openmath-math500": (71.7, 70.1, 69.0),
    "openscience-mmlu": (53.4, 53.0, 41.2),
}


def table_1(records: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """Return accuracy in per cent by data set and third, the paper's and as measured.

    Args:
        records: Records of `run_scan` by recipe; the largest training size of each is shown, mean
            over seeds.

    Returns:
        Rows ``(recipe, "paper" | "measured, n = …")``, columns easy, medium, hard; NaN where a
        cell was not measured.
    """
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for recipe, found in records.items():
        if recipe in PAPER:
            rows[recipe, "paper"] = dict(zip(COLUMNS.values(), PAPER[recipe], strict=True))
        cells = [record for record in found if "cell" in record]
        if not cells:
            continue
        n = max(record["cell"]["size"] for record in cells)
        mine = {}
        for window, third in COLUMNS.items():
            risks = [
                record["measured"]["test_risk"]["value"]
                for record in cells
                if record["cell"]["size"] == n and record["cell"]["window"] == window
            ]
            mine[third] = 100 * (1 - sum(risks) / len(risks)) if risks else float("nan")
        rows[recipe, f"measured, n = {n:,}"] = mine
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS.values()))
