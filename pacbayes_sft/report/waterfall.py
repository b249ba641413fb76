"""The waterfall of a report: each term starts where the last one ended, the truth stands below."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from estimators.display import rounded_up
from pacbayes_sft.choices import BOUND_NAMES

WIDEST = 2.0  # what lies beyond is cut; its number is printed


@dataclass(frozen=True)
class Step:
    """One bar, in per cent of the width.

    Attributes:
        label: What it is.
        kind: ``term-1`` … ``term-4``, ``sum``, ``measured``: how it is drawn.
        left: Where it begins.
        width: How long it is.
        text: Its number.
        one: Where risk 1 lies, from which on a bound is vacuous.
    """

    label: str
    kind: str
    left: float
    width: float
    text: str
    one: float


def waterfall(record: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return the bars of Proposition 4.1's terms, of the least bound and of the measured risks."""
    found: list[tuple[str, str, float, float]] = []
    reached = 0.0
    labels = ("empirical risk", "+ generalisation √(KL/2n)", "+ extrapolation (shift)", "+ ε")
    for i, (label, value) in enumerate(zip(labels, record["terms"].values(), strict=True), 1):
        value = math.inf if value is None else value
        found.append((label, f"term-{i}", reached, value))
        reached += value
    total, primary = record["bounds"]["proposition_4_1"], record["bound"]["theorem"]
    found.append(("= Proposition 4.1", "sum", 0.0, _or_infinite(total["raw"])))
    if primary != "proposition_4_1":
        least = _or_infinite(record["bounds"][primary]["raw"])
        found.append((f"least bound, {BOUND_NAMES[primary]}", "sum", 0.0, least))
    for key, label in (
        ("test_risk", "measured: Gibbs predictor (covered)"),
        ("test_risk_finetuned", "measured: finished model (not covered)"),
    ):
        risk = record["measured"][key]
        if risk is not None:
            found.append((label, "measured", 0.0, risk["value"]))
    scale = min(WIDEST, max(1.0, *(left + value for _, _, left, value in found)))
    return tuple(_step(*bar, scale) for bar in found)


def _or_infinite(value: float | None) -> float:
    return math.inf if value is None else value


def _step(label: str, kind: str, left: float, value: float, scale: float) -> Step:
    begin, end = min(left, scale), min(left + value, scale)
    limit = kind != "measured"  # terms and bounds are limits, which are rounded up
    text = "∞" if math.isinf(value) else rounded_up(value, 4) if limit else f"{value:.4f}"
    if kind == "sum" and not value < 1:
        text += " vacuous"
    if end < left + value:
        text += " →"
    percent = 100 / scale
    return Step(label, kind, begin * percent, (end - begin) * percent, text, percent)
