"""The shift term of two data files by one method; `survey` runs what the data allow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from estimators import (
    Estimate,
    Guarantee,
    classifier_two_sample,
    total_variation_attribute,
    total_variation_known,
)
from estimators.total_variation import NON_DECREASING, breakdown_gamma, profile_shift
from estimators.total_variation.attribute import naming
from pacbayes_sft.choices import Features, View
from pacbayes_sft.data.overlap import shared_draws
from pacbayes_sft.data.rows import Table
from pacbayes_sft.errors import InputError
from pacbayes_sft.shift.methods import (
    CLASSIFIER,
    KNOWN,
    NONE,
    TRIVIAL,
    is_monotone,
    laws_are_known,
    laws_of_numbers,
    method_for,
)

FROM_MANY_ROWS = (
    "a unit was drawn as a unit: one with several rows, or with rows in both files, is no frequent "
    "name that independent rows happen to share"
)
UNIT_LAW = "both laws are those of a unit, each counted once however many rows it has, as in a risk"


@dataclass(frozen=True)
class Shift:
    """A shift term and how it was found.

    Attributes:
        tv: The estimate of TV(D_test, D_train) or an upper limit on it.
        view: What of an example was looked at.
        rows: (train, test) units looked at; None where laws were compared.
        reason: Why this method, in a sentence.
        detection_floor: For a two-sample test: (smallest TV, of a shift spread over all rows,
            that is not noise; the one from which on a z-test of the best rule has 80 % power);
            None otherwise.
    """

    tv: Estimate
    view: str
    rows: tuple[int, int] | None
    reason: str
    detection_floor: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object."""
        return {
            "tv": self.tv.to_dict(),
            "view": self.view,
            "rows": self.rows,
            "detection_floor": self.detection_floor[0] if self.detection_floor else None,
            "detection_floor_80": self.detection_floor[1] if self.detection_floor else None,
            "reason": self.reason,
        }


def shift_term(
    train: Table, test: Table, method: str, delta: float, *, view: View = View.FULL, seed: int = 0
) -> Shift:
    """Return the shift term.

    Args:
        train: Training rows.
        test: Test rows.
        method: ``known`` (both files record their law), ``none`` (train and test are declared to
            have one law), ``classifier`` (two-sample test on the text: a lower certificate), the
            name of a column (attribute shift), ``monotone`` or ``monotone:COLUMN`` (D⁺, for risks
            that do not fall with difficulty: an assumption, so an estimate), or ``auto``: known
            laws, else the column ``difficulty``, else the classifier, else (too few rows) the
            trivial TV <= 1.
        delta: Probability with which a limit from samples may fail.
        view: What the classifier looks at.
        seed: Seed of the classifier's splits.

    Raises:
        InputError: If the method asked for is not possible with these files.
    """
    refuse_shared_draws(train, test)
    method = method_for(train, test, method)
    if method == NONE:
        return _declared(train, test)
    if method == KNOWN:
        return _known(train, test)
    if method == TRIVIAL:
        trivial = Estimate(
            1.0, 0.0, 1.0, 1.0, Guarantee.UPPER, "trivial: TV <= 1", (), "probability"
        )
        return Shift(trivial, "none", None, "no law and no common column is known, so only TV <= 1")
    if method == CLASSIFIER:
        found = _classified(train, test, delta, view, seed)
    elif is_monotone(method):
        found = _monotone(train, test, method, delta)
    else:
        found = through_columns(train, test, (method,), delta)
    return despite_shared_rows(found, train, test)


def _known(train: Table, test: Table) -> Shift:
    assert train.metadata and test.metadata
    tv = total_variation_known(train.metadata.law, test.metadata.law)
    column = train.metadata.attribute
    tv = replace(tv, assumptions=(f"train and test differ only in the law of {column!r}",))
    return Shift(tv, column, None, f"both files record the law of {column!r}")


def _monotone(train: Table, test: Table, method: str, delta: float) -> Shift:
    """D⁺, and what it becomes where the risk falls after all."""
    column = method.partition(":")[2]
    if column:
        left, right = (number_per_unit(table, column) for table in (train, test))
        d_plus = of_units(profile_shift(left, right, NON_DECREASING, delta), train, test)
        tv, rows = profile_shift(left, right, delta=delta), (len(left), len(right))
    else:
        assert train.metadata
        column, rows = train.metadata.attribute, None
        p, q = laws_of_numbers(train, test)
        d_plus, tv = profile_shift(p, q, NON_DECREASING), profile_shift(p, q)
    gamma = breakdown_gamma(d_plus.value, tv.value, tv.value)
    which = "" if rows is None else " (point values)"
    at_gamma = f"{d_plus.value:.3g} + γ·{tv.value:.3g}{which}"
    return Shift(
        naming(d_plus, column),
        column,
        rows,
        f"D⁺ over {column!r}, for a risk that does not fall with it; if it falls by up to γ the "
        f"term is {at_gamma}, which is plain TV at γ = {gamma:.3g}",
    )


def number_per_unit(table: Table, column: str) -> list[float]:
    """Return the difficulty of each independent unit.

    Raises:
        InputError: If a unit has several.
    """
    values: dict[str, float] = {}
    for unit, row in zip(table.units, table.rows, strict=True):
        value = float(row.value_of(column))
        if values.setdefault(unit, value) != value:
            raise InputError(
                f"{table.source}: unit {unit!r} has several values of {column!r}; D⁺ needs one a "
                "unit"
            )
    return list(values.values())


def through_columns(train: Table, test: Table, columns: Sequence[str], delta: float) -> Shift:
    """Return the shift through columns: TV of their joint law, since that of each is only less.

    Raises:
        InputError: If a row lacks one of them.
    """
    for column in columns:
        method_for(train, test, column)  # refuses what is no column of both
    on_train, on_test = (one_per_unit(table, columns) for table in (train, test))
    tv = naming(total_variation_attribute(on_train, on_test, delta), *columns)
    named = " and ".join(map(repr, columns))
    return Shift(
        of_units(tv, train, test),
        columns[0] if len(columns) == 1 else named,
        (len(on_train), len(on_test)),
        f"both files have the column{'s' * (len(columns) > 1)} {named}; assumption (i) is yours to "
        "defend",
    )


def of_units(found: Estimate, *tables: Table) -> Estimate:
    """Return the estimate with the law that it speaks of, where that is not the law of a row."""
    if all(len(set(table.units)) == len(table.rows) for table in tables):
        return found
    return replace(found, assumptions=(*found.assumptions, UNIT_LAW))


def despite_shared_rows(shift: Shift, train: Table, test: Table) -> Shift:
    """A limit from two samples needs them independent: say so where they share rows."""
    shared = shared_draws(train, test)
    if not shared:
        return shift
    sentence = (
        f"the {shared} rows that stand in both files, by text or unit, are coincidences of "
        "independent draws, not copies"
    )
    return replace(shift, tv=replace(shift.tv, assumptions=(*shift.tv.assumptions, sentence)))


def _declared(train: Table, test: Table) -> Shift:
    """No shift, because the user says so; refused where the record says otherwise."""
    if laws_are_known(train, test):
        assert train.metadata and test.metadata
        recorded = total_variation_known(train.metadata.law, test.metadata.law).value
        if recorded > 0:
            raise InputError(
                f"{train.source}, {test.source}: declared to have one law, but their recorded laws "
                f"are {recorded:.3g} apart; use --shift known"
            )
    zero = Estimate(
        0.0,
        0.0,
        0.0,
        1.0,
        Guarantee.UPPER,
        "declared, not measured",
        ("train and test rows come from one and the same law",),
        "probability",
    )
    return Shift(zero, "none", None, "you declared that nothing shifts")


def _classified(train: Table, test: Table, delta: float, view: View, seed: int) -> Shift:
    """The two-sample test: groups are units, and rows of one text stand together."""
    from pacbayes_sft.views import featurise

    looked = featurise(train.rows, test.rows, view, Features.DEFAULT, seed=seed)
    try:
        result = classifier_two_sample(
            looked.train,
            looked.test,
            looked.classifier,
            delta,
            train_groups=groups_of(train, "train"),
            test_groups=groups_of(test, "test"),
            seed=seed,
        )
    except ValueError as error:
        raise InputError(f"{train.source}, {test.source}: {error}") from None
    assumes = (*result.tv.assumptions, *conditions_of_units(train, test))
    return Shift(
        replace(result.tv, assumptions=assumes),
        f"text of the {view.value} row" if view is View.FULL else f"text of the {view.value}",
        result.held_out,
        "a classifier tells the two sides apart at least this well; that bounds TV from below, and "
        "no distribution-free upper limit on the TV of text exists",
        (result.detection_floor, result.detection_floor_80),
    )


def groups_of(table: Table, side: str) -> list[str]:
    """Return the group of each row: its unit where one is named, else itself.

    Rows that merely read alike stay apart: independent draws may coincide, and dropping such
    coincidences would change the law.
    """
    return [
        f"unit {row.unit}" if row.unit is not None else f"{side} row {i}"
        for i, row in enumerate(table.rows)
    ]


def conditions_of_units(train: Table, test: Table) -> tuple[str, ...]:
    """Return what a two-sample test that judges one row a unit rests on, where that is not all.

    Independent rows may share a frequent name (a template's); then the law of the distinct names
    of n rows depends on n, and files of unequal size differ without any shift.
    """
    units = [set(table.units) for table in (train, test)]
    named = [{row.unit for row in table.rows if row.unit is not None} for table in (train, test)]
    several = any(len(u) < len(t.rows) for u, t in zip(units, (train, test), strict=True))
    return (FROM_MANY_ROWS,) if several or named[0] & named[1] else ()


def one_per_unit(table: Table, columns: Sequence[str]) -> list[Any]:
    """Return the attributes of each independent unit: a tuple of its rows' values."""
    values: dict[str, list[Any]] = {}
    for unit, row in zip(table.units, table.rows, strict=True):
        values.setdefault(unit, []).append(tuple(_plain(row.value_of(c)) for c in columns))
    return [tuple(sorted(v, key=str)) for v in values.values()]


def _plain(value: Any) -> int | float | str:
    return value if isinstance(value, int | float | str) else json.dumps(value, sort_keys=True)


def refuse_shared_draws(train: Table, test: Table) -> None:
    """Refuse two generated files that are prefixes of one another.

    Raises:
        InputError: If seed, law and generator are the same.
    """
    a, b = train.metadata, test.metadata
    if a and b and (a.generator, a.seed, a.law) == (b.generator, b.seed, b.law):
        raise InputError(
            f"{train.source}, {test.source}: generated with one seed and one law, so the rows are "
            "the same; draw one of them again with another --seed"
        )
