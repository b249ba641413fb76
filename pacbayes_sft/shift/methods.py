"""Which way to a shift term two files allow, settled before anything is computed."""

from __future__ import annotations

from pacbayes_sft.data.rows import Table, is_number
from pacbayes_sft.errors import InputError

AUTO = "auto"
NONE = "none"
KNOWN = "known"
CLASSIFIER = "classifier"
TRIVIAL = "trivial"
MONOTONE = "monotone"
RESERVED = (AUTO, NONE, KNOWN, CLASSIFIER, TRIVIAL, MONOTONE)
NEED_LABELLED = {"robust", "slices"}
NEED_FACTORS = {"robust", "slices", "importance"}
TERMS = ("tv", "d_plus", "robust", "slices", "importance")
FEWEST_UNITS = 20  # a side, below which no classifier is tried


def laws_are_known(train: Table, test: Table, column: str | None = None) -> bool:
    """Return whether both files record the law of one attribute under one generator.

    Args:
        train: The training rows.
        test: The test rows.
        column: The attribute that it has to be; None: any.
    """
    a, b = train.metadata, test.metadata
    if not (a and b and a.generator == b.generator and a.attribute == b.attribute):
        return False
    return column is None or a.attribute == column


def laws_of_numbers(train: Table, test: Table) -> tuple[dict[float, float], dict[float, float]]:
    """Return the recorded laws of both files, their values as numbers.

    Raises:
        InputError: If a law is not on record, or one of names.
    """
    found = []
    for table in (train, test):
        law = table.metadata.law_of_numbers if table.metadata else None
        if law is None:
            raise InputError(
                f"{table.source}: the law on record beside it is one of names, not of numbers, "
                "which have no order; use --shift known"
            )
        found.append(law)
    return found[0], found[1]


def method_for(train: Table, test: Table, asked: str) -> str:
    """Return the method that ``asked`` comes to: a reserved word or the name of a column.

    Raises:
        InputError: If the method asked for is not possible with these files.
    """
    if asked == KNOWN and not laws_are_known(train, test):
        raise InputError(
            f"{train.source}, {test.source}: no matching record of their laws lies beside them "
            "(FILE.meta.json, untouched since the file was written); use --shift auto"
        )
    if asked == AUTO:
        if laws_are_known(train, test):
            return KNOWN
        column = "difficulty" if train.has("difficulty") and test.has("difficulty") else None
        return column or (CLASSIFIER if enough_units(train, test) else TRIVIAL)
    if asked == MONOTONE and laws_are_known(train, test):
        laws_of_numbers(train, test)
        return asked
    if is_monotone(asked):
        column = asked.partition(":")[2] or "difficulty"
        for table in (train, test):
            if not all(is_number(row.value_of(column)) for row in table.rows):
                raise InputError(
                    f"{table.source}: not every row has a number in the column {column!r}, which "
                    "--shift monotone orders rows by"
                )
        return f"{MONOTONE}:{column}"
    if asked not in RESERVED:
        for table in (train, test):
            if not table.has(asked):
                raise InputError(
                    f"{table.source}: not every row has a value in the column {asked!r}"
                )
    return asked


def is_monotone(method: str) -> bool:
    """Return whether a method is D⁺, of a recorded law or of a column."""
    return method == MONOTONE or method.startswith(f"{MONOTONE}:")


def auto_warnings(train: Table, test: Table, asked: str) -> list[str]:
    """Say it where ``auto`` took a column: then the tool made an assumption, not the user."""
    method = method_for(train, test, asked) if asked == AUTO else asked
    if asked != AUTO or method in RESERVED:
        return []
    return [
        f"--shift auto assumed for you that train and test differ only through {method!r}: "
        "`pacbayes-sft tv` refutes that where prompts or full texts differ by more than the "
        f"column allows; --shift {method} says that you defend it"
    ]


def spends_delta(method: str) -> bool:
    """Return whether the shift term of a method is a limit from samples."""
    return method not in (NONE, KNOWN, TRIVIAL, MONOTONE)


def enough_units(train: Table, test: Table) -> bool:
    """Return whether both sides have the units that a classifier needs."""
    return min(len(set(train.units)), len(set(test.units))) >= FEWEST_UNITS


def check_shift(name: str) -> float | None:
    """Return the γ of ``slack:γ``, None for the other shift terms.

    Raises:
        ValueError: If there is no such term.
    """
    if name in TERMS:
        return None
    kind, _, number = name.partition(":")
    try:
        gamma = float(number)
    except ValueError:
        gamma = -1.0
    if kind != "slack" or not 0 <= gamma <= 1:
        raise ValueError(f"{name!r} is none of {', '.join(TERMS)}, slack:γ with γ in [0, 1]")
    return gamma
