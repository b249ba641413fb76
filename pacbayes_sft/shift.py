"""The shift term of two data files: the sharpest label that what is known of them allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from estimators import Estimate, Guarantee, total_variation_attribute, total_variation_known
from pacbayes_sft.data.rows import Table
from pacbayes_sft.errors import InputError

AUTO = "auto"
NONE = "none"
KNOWN = "known"


@dataclass(frozen=True)
class Shift:
    """A shift term and how it was found.

    Attributes:
        tv: The estimate of TV(D_test, D_train) or an upper limit on it.
        view: What of an example was looked at.
        rows: (train, test) units looked at; None where laws were compared.
        reason: Why this method, in a sentence.
    """

    tv: Estimate
    view: str
    rows: tuple[int, int] | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object."""
        return {
            "tv": self.tv.to_dict(),
            "view": self.view,
            "rows": self.rows,
            "detection_floor": None,
            "reason": self.reason,
        }


def laws_are_known(train: Table, test: Table) -> bool:
    """Return whether both files record the law of one attribute under one generator."""
    a, b = train.metadata, test.metadata
    return bool(a and b and a.generator == b.generator and a.attribute == b.attribute)


def needs_delta(train: Table, test: Table, method: str) -> bool:
    """Return whether the shift term will be an upper limit from samples, which spends δ."""
    if method == AUTO:
        return not laws_are_known(train, test) and _common_attribute(train, test) is not None
    return method not in (NONE, KNOWN)


def shift_term(train: Table, test: Table, method: str, delta: float) -> Shift:
    """Return the shift term.

    Args:
        train: Training rows.
        test: Test rows.
        method: ``known`` (both files record their law), ``none`` (train and test are declared to
            have one law), the name of a column (attribute shift), or ``auto``: known laws, else
            the column ``difficulty``, else the trivial TV <= 1.
        delta: Probability with which an upper limit from samples may fail.

    Raises:
        InputError: If the method asked for is not possible with these files.
    """
    _refuse_shared_draws(train, test)
    if method == NONE:
        same = Estimate.exactly(
            0.0,
            method="declared, not measured",
            assumptions=("train and test rows come from one and the same law",),
            unit="probability",
        )
        return Shift(same, "none", None, "you declared that nothing shifts")
    if method in (AUTO, KNOWN) and laws_are_known(train, test):
        assert train.metadata and test.metadata
        tv = total_variation_known(train.metadata.law, test.metadata.law)
        column = train.metadata.attribute
        return Shift(tv, column, None, f"both files record the law of {column!r}")
    if method == KNOWN:
        raise InputError(
            f"{train.source}, {test.source}: no matching record of their laws lies beside them "
            "(FILE.meta.json, untouched since the file was written); use --shift auto"
        )
    attribute = _common_attribute(train, test) if method == AUTO else method
    if attribute is None:
        trivial = Estimate(
            1.0, 0.0, 1.0, 1.0, Guarantee.UPPER, "trivial: TV <= 1", (), "probability"
        )
        return Shift(trivial, "none", None, "no law and no common column is known, so only TV <= 1")
    for table in (train, test):
        if not table.has(attribute):
            raise InputError(
                f"{table.source}: not every row has a value in the column {attribute!r}"
            )
    on_train, on_test = (_one_per_unit(table, attribute) for table in (train, test))
    tv = total_variation_attribute(on_train, on_test, delta)
    return Shift(
        tv,
        attribute,
        (len(on_train), len(on_test)),
        f"both files have the column {attribute!r}; assumption (i) is yours to defend",
    )


def _common_attribute(train: Table, test: Table) -> str | None:
    return "difficulty" if train.has("difficulty") and test.has("difficulty") else None


def _one_per_unit(table: Table, column: str) -> list[Any]:
    """The attribute of each independent unit: a tuple of its rows' values."""
    values: dict[str, list[Any]] = {}
    for unit, row in zip(table.units, table.rows, strict=True):
        values.setdefault(unit, []).append(row.value_of(column))
    return [tuple(sorted(map(str, v))) for v in values.values()]


def _refuse_shared_draws(train: Table, test: Table) -> None:
    a, b = train.metadata, test.metadata
    if a and b and (a.generator, a.seed, a.law) == (b.generator, b.seed, b.law):
        raise InputError(
            f"{train.source}, {test.source}: generated with one seed and one law, so the rows are "
            "the same; draw one of them again with another --seed"
        )
