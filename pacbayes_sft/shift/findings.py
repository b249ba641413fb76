"""What is found out about one pair of files, one function a method; `survey` puts them together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import Estimate, labelled_mixture
from estimators.total_variation.two_sample import ClassifierTwoSample
from pacbayes_sft.data.rows import Table
from pacbayes_sft.errors import InputError
from pacbayes_sft.shift.term import (
    FROM_MANY_ROWS,
    Shift,
    despite_shared_rows,
    of_units,
    shift_term,
    through_columns,
)
from pacbayes_sft.views import Featured

Scores = NDArray[np.float64]
COPIES = "rows that read alike are copies of one draw, made independently of the rest"
UNSEEN_BY_BASE = "the base whose hidden states are features had learnt the rows of neither file"
CONDITIONS = (COPIES, FROM_MANY_ROWS, UNSEEN_BY_BASE)  # without one, a lower limit refutes nothing


@dataclass(frozen=True)
class Finding:
    """One number about one view.

    Attributes:
        view: What was looked at.
        method: How, in a few words.
        tv: The number and its promise, at its share of δ.
        plug_in: The calibrated plug-in, an estimate, of a two-sample test.
        rows: (train, test) units behind the limit; None where laws were compared.
        detection_floor: Smallest TV, of a shift spread over all rows, that is not noise, and the
            one from which on a z-test of the best possible rule has 80 % power.
        certificate_floor: About the TV from which on the certificate of that rule is above 0 with
            80 % power.
        p_value: Permutation p-value of "one law".
        scores: Held-out scores of (train side, test side) for pictures.
        rates: (TNR, TPR) of the frozen rule there.
    """

    view: str
    method: str
    tv: Estimate
    plug_in: Estimate | None = None
    rows: tuple[int, int] | None = None
    detection_floor: tuple[float, float] | None = None
    certificate_floor: float | None = None
    p_value: float | None = None
    scores: tuple[Scores, Scores] | None = field(default=None, repr=False)
    rates: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object, without the scores."""
        return {
            "view": self.view,
            "method": self.method,
            "tv": self.tv.to_dict(),
            "plug_in": self.plug_in.to_dict() if self.plug_in else None,
            "rows": self.rows,
            "detection_floor": self.detection_floor[0] if self.detection_floor else None,
            "detection_floor_80": self.detection_floor[1] if self.detection_floor else None,
            "certificate_floor_80": self.certificate_floor,
            "p_value": self.p_value,
        }


def by_method(train: Table, test: Table, method: str, delta: float) -> Finding:
    """Return what `shift_term` finds through laws or a column."""
    found: Shift = shift_term(train, test, method, delta)
    said = "known laws" if found.rows is None else f"column {found.view!r}"
    return Finding(found.view, said, found.tv, rows=found.rows)


def by_columns(train: Table, test: Table, columns: Sequence[str], delta: float) -> Finding:
    """Return the limit through several columns together: TV of their joint law.

    Raises:
        InputError: If a row lacks one of them.
    """
    found = despite_shared_rows(through_columns(train, test, columns, delta), train, test)
    said = f"column {found.view!r}" if len(columns) == 1 else f"columns {found.view}, together"
    return Finding(found.view, said, found.tv, rows=found.rows)


def by_classifier(
    make: Callable[[], Featured],
    delta: float,
    groups: Sequence[Hashable],
    *,
    assumes: Sequence[str] = (),
    prequential: bool = False,
    seed: int = 0,
    where: str = "",
) -> Finding:
    """Return what a classifier tells apart on one view.

    Args:
        make: Makes the features; called once.
        delta: Share of δ.
        groups: Of the rows of both sides.
        assumes: What the numbers rest on beside independent units: `COPIES` where groups join rows
            that merely read alike, since one row of a cluster stands for it.
        prequential: Whether to bet too.
        seed: Seed of the splits.
        where: The files, for a complaint.

    Raises:
        InputError: If there are too few rows.
    """
    from estimators.total_variation.samples import pool

    looked = make()
    sides = np.repeat([0, 1], [looked.train.shape[0], looked.test.shape[0]])
    test = ClassifierTwoSample(
        looked.classifier, delta=delta, prequential=prequential, random_state=seed
    )
    try:
        test.fit(pool(looked.train, looked.test), sides, groups)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    of = test.held_out_sides_
    tv, plug_in = (
        replace(e, assumptions=(*e.assumptions, *assumes)) for e in (test.tv_, test.plug_in_)
    )
    return Finding(
        looked.name,
        "classifier two-sample test" + (" and betting" if prequential else ""),
        tv,
        plug_in,
        test.held_out_,
        (test.detection_floor_, test.detection_floor_80_),
        test.certificate_floor_80_,
        test.p_value_,
        (test.held_out_scores_[of == 0], test.held_out_scores_[of == 1]),
        test.held_out_rates_,
    )


def by_mixture(test: Table, column: str, delta: float) -> Finding:
    """Return the limit on the share of test rows whose ``column`` says that they are foreign.

    Raises:
        InputError: If the column is not true or false (or 0 or 1) in every row.
    """
    marks = [row.value_of(column) for row in test.rows]
    if not all(isinstance(m, bool) or m in (0, 1) for m in marks):
        raise InputError(
            f"{test.source}: not every row has true or false in the column {column!r}, which "
            "--foreign reads where a row comes from off"
        )
    units: dict[str, bool] = {}
    for unit, mark in zip(test.units, marks, strict=True):
        units[unit] = units.get(unit, False) or bool(mark)
    found = of_units(labelled_mixture(sum(units.values()), len(units), delta), test)
    return Finding(
        f"rows that {column!r} marks as foreign", "labelled mixture", found, rows=(0, len(units))
    )
