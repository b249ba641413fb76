"""Two files that hold the same rows: nothing can differ, and nothing was tested."""

from __future__ import annotations

import json
from collections.abc import Sequence

from estimators import Estimate, Guarantee, Sharpest
from estimators.total_variation.power import certificate_floor, detection_floors
from pacbayes_sft.data.rows import Table
from pacbayes_sft.shift.findings import Finding
from pacbayes_sft.shift.methods import laws_are_known

AS_RECORDED = "the rows of both files were drawn from the law on record"


def same_rows(train: Table, test: Table, columns: Sequence[str] = ()) -> bool:
    """Return whether both files hold the same rows, in whatever order.

    Args:
        train: One file.
        test: The other.
        columns: What has to agree beside the texts.
    """
    if train.sha256 == test.sha256 and train.sha256:
        return True

    def whole(table: Table) -> list[str]:
        rows = ([row.sha256(), *map(row.value_of, columns)] for row in table.rows)
        return sorted(json.dumps(row, sort_keys=True) for row in rows)

    return whole(train) == whole(test)


def laws_differ(train: Table, test: Table) -> bool:
    """Return whether both files record their law, and not the same one."""
    a, b = train.metadata, test.metadata
    return laws_are_known(train, test) and bool(a and b and a.law != b.law)


def nothing_differs(train: Table, test: Table, delta: float) -> tuple[list[Finding], Sharpest]:
    """Both files hold the same rows: nothing can differ, and nothing was tested."""
    units = len(set(train.units)), len(set(test.units))
    floors = detection_floors(units, delta)
    tv = Estimate(
        0.0, 0.0, 1.0, 0.0, Guarantee.ESTIMATE, "the two files hold the same rows", (),
        "probability",
    )  # fmt: skip
    if laws_are_known(train, test):
        tv = Estimate.exactly(
            0.0,
            method="the same rows, with one recorded law",
            assumptions=(AS_RECORDED,),
            unit="probability",
        )
    certified = certificate_floor(units, delta)
    finding = Finding("full row", "compared row by row", tv, None, units, floors, certified)
    reasons = (
        "the two files hold the same rows, so nothing differs: TV = 0 on them. One sample is no "
        "evidence about two laws; with two samples of this size a TV below "
        f"{floors[0]:.3g}, spread over all rows, would look like noise to a classifier",
    )
    return [finding], Sharpest(tv, None, None, None, reasons)
