"""Files that do not overlap: TV is near 1 there, and no bound can rank such a pair.

Thirds by length of the chain of thought compared on the full text, templates split by hash: some
property of a row says which file it is from. A classifier that prints 0.2 there has missed it.

What the rows show is no law: twenty rows a side may leave a gap between laws that overlap. For the
largest of m independent draws, P(P(X > max) > ε) <= (1 - ε)^m, whatever the law. So where the
largest of one side lies below the least of the other, TV >= 1 - ε_train - ε_test at
ε = 1 - α^(1/m), and every end of every property that was looked at gets its share α of δ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from estimators.display import confidence, rounded_down
from pacbayes_sft.choices import View
from pacbayes_sft.data.rows import Table, is_number
from pacbayes_sft.shift.findings import Finding
from pacbayes_sft.views.counts import COUNT_NAMES, count_features
from pacbayes_sft.views.text import text_of

FEWEST = 20  # rows a side, below which a gap between ranges is no news
NEARLY = 0.9  # a certificate from which on little is left to rank


@dataclass(frozen=True)
class Disjoint:
    """One property by which the two sides do not overlap.

    Attributes:
        view: The view it is part of.
        by: The property.
        sentence: What does not overlap.
        named_only: Whether only names differ, which say nothing of the text by themselves.
    """

    view: str
    by: str
    sentence: str
    named_only: bool = False


def disjoint_by(
    train: Table, test: Table, columns: Sequence[str], delta: float = 0.05
) -> list[Disjoint]:
    """Return the properties whose values do not overlap, those of the prompt first.

    Args:
        train: Training rows.
        test: Test rows.
        columns: The columns to look at.
        delta: Probability with which any of the lower limits on TV may fail: a claim of its own.
    """
    if min(len(train.rows), len(test.rows)) < FEWEST:
        return []
    looked_at = len(columns) + 2 * len(COUNT_NAMES)
    at_least = _least_shift(len(set(train.units)), len(set(test.units)), looked_at, delta)
    found = [d for column in columns if (d := _by_column(train, test, column, at_least))]
    for view in (View.PROMPT, View.FULL):
        counts = [count_features([text_of(r, view) for r in t.rows]) for t in (train, test)]
        for k, name in enumerate(COUNT_NAMES):
            gap = _gap(counts[0][:, k].tolist(), counts[1][:, k].tolist())
            if gap:
                what = f"{name} of the {_said(view)}: {gap}{at_least}"
                found.append(Disjoint(_said(view), name, what))
    units = [set(t.units) for t in (train, test)]
    shared_work = [len(u) <= len(t.rows) / 2 for u, t in zip(units, (train, test), strict=True)]
    named = all(row.unit is not None for t in (train, test) for row in t.rows)
    if named and all(shared_work) and not units[0] & units[1]:
        found.append(
            Disjoint(
                "unit",
                "unit",
                "no unit (problem, template) has rows in both files; names are no text, so that "
                "says something of TV only if a row tells which unit it is from, as one of a "
                "template does",
                named_only=True,
            )
        )
    return found


def said_disjoint(disjoint: Sequence[Disjoint], findings: Sequence[Finding]) -> list[str]:
    """Return the sentences for the report: what does not overlap, and what can rank instead."""
    high = [f for f in findings if f.tv.lower >= NEARLY]
    if not disjoint and not high:
        return []
    said = [f"no overlap in these rows: {d.sentence}" for d in disjoint[:3]]
    said += [
        f"{f.view}: TV >= {rounded_down(f.tv.lower, 3)}, the laws hardly overlap"
        for f in high
        if all(d.named_only for d in disjoint)
    ]
    if not high and all(d.named_only for d in disjoint):
        return said
    taken = {f.view for f in high} | {d.by for d in disjoint}
    parts = {d.view for d in disjoint}
    left = [
        f"{f.view} (TV about {f.tv.value:.2g})"
        for f in findings
        if f.view not in taken and f.tv.value < NEARLY and not any(p in f.view for p in parts)
    ]
    looked_at = {
        part for f in findings for part in (View.PROMPT.value, _said(View.FULL)) if part in f.view
    }
    others = [f"--view {v.value}" for v in (View.PROMPT, View.FULL) if _said(v) not in looked_at]
    try_these = " or ".join([*others, "--view attributes --column COLUMN", "--attribute COLUMN"])
    where = "; ".join(left) or f"none of those looked at (try {try_these})"
    said.append(
        "a shift term at or near 1 makes every bound vacuous, so it cannot rank such pairs; views "
        f"on which it can: {where}"
    )
    return said


def _least_shift(train: int, test: int, looked_at: int, delta: float) -> str:
    """What a gap between the ranges of so many units certifies, with every end paid for."""
    share = delta / (4 * looked_at)  # two sides, either of which may be the higher one
    least = 1 - sum(1 - share ** (1 / units) for units in (train, test))
    if least <= 0:
        return ""
    return (
        f" (TV >= {rounded_down(least, 3)} at {confidence(1 - delta)}, {looked_at} properties paid "
        "for, if units are independent; a claim beside the others)"
    )


def _by_column(train: Table, test: Table, column: str, at_least: str) -> Disjoint | None:
    left, right = ([row.value_of(column) for row in t.rows] for t in (train, test))
    if all(is_number(v) for v in (*left, *right)):
        gap = _gap(left, right)
        return Disjoint(column, column, f"column {column!r}: {gap}{at_least}") if gap else None
    a, b = {repr(v) for v in left}, {repr(v) for v in right}
    if a & b or len(a) > len(left) / 2 or len(b) > len(right) / 2:
        return None
    return Disjoint(column, column, f"column {column!r}: no value occurs in both files")


def _gap(left: Sequence[Any], right: Sequence[Any]) -> str | None:
    if any(isinstance(v, float) and isnan(v) for v in (*left, *right)):  # min and max skip it
        return None
    if max(left) < min(right):
        return f"at most {max(left):g} in training, at least {min(right):g} in the test"
    if max(right) < min(left):
        return f"at least {min(left):g} in training, at most {max(right):g} in the test"
    return None


def _said(view: View) -> str:
    return "full row" if view is View.FULL else view.value
