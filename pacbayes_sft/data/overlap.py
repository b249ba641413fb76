"""Rows that two files share, or that one file repeats: how many, which, and what that costs."""

from __future__ import annotations

from pacbayes_sft.data.rows import Row, Table

SHOWN = 3
WIDTH = 60


def shared_rows(left: Table, right: Table) -> list[tuple[int, int]]:
    """Return (row of left, row of right), counted from 1, of every row of right found in left."""
    first: dict[str, int] = {}
    for number, row in enumerate(left.rows, start=1):
        first.setdefault(row.sha256(), number)
    places = ((first.get(row.sha256()), k) for k, row in enumerate(right.rows, start=1))
    return [(place, number) for place, number in places if place is not None]


def repeated_rows(table: Table) -> list[tuple[int, int]]:
    """Return (first, later) rows, counted from 1, of equal text that are not of one unit."""
    first: dict[str, int] = {}
    found, units = [], table.units
    for number, (row, unit) in enumerate(zip(table.rows, units, strict=True), start=1):
        place = first.setdefault(row.sha256(), number)
        if place != number and units[place - 1] != unit:
            found.append((place, number))
    return found


def shared_draws(first: Table, second: Table) -> int:
    """Return how many rows of ``second`` share text or named unit with ``first``."""
    texts = {row.sha256() for row in first.rows}
    names = {row.unit for row in first.rows if row.unit is not None}
    return sum(row.sha256() in texts or row.unit in names for row in second.rows)


def drawn_apart(first: Table, second: Table) -> bool:
    """Return whether both files record different seeds of one generator.

    What such files share are coincidences of independent draws; to leave them out would change the
    law.
    """
    a, b = first.metadata, second.metadata
    return bool(a and b and a.generator == b.generator and a.seed != b.seed)


def counted_before(first: Table, second: Table) -> int:
    """Return the same as `shared_draws`, but 0 where the files were `drawn_apart`."""
    return 0 if drawn_apart(first, second) else shared_draws(first, second)


def overlap_warnings(
    train: Table, test: Table, held: Table | None, labelled: Table | None = None
) -> list[str]:
    """Say which rows stand in two files, or twice in one, and what follows."""
    warnings = []
    if pairs := shared_rows(train, test):
        warnings.append(
            f"{len(pairs)} of {len(test.rows)} rows of {test.source} stand in {train.source} too "
            f"({_examples(pairs, test)}): the bound on the train distribution stands, it speaks of "
            "the training units alone; a shift term from known laws stands; one from samples holds "
            "only if these are coincidences of independent draws, not copies; the measured test "
            "risks are optimistic"
        )
    for other in (test, held, labelled):
        k = 0 if other is None else shared_draws(train, other) - len(shared_rows(train, other))
        if other is not None and k:
            warnings.append(
                f"{k} rows of {other.source} name a unit of {train.source}, in other words than "
                "it: if that makes them paraphrases of trained rows, and is no template that "
                "independent rows share, nothing measured on them is of rows that training did "
                "not see, and a shift term from these samples does not hold"
            )
    for other in (train, test):
        if held is not None and (pairs := shared_rows(other, held)):
            warnings.append(
                f"{len(pairs)} rows of {held.source} stand in both it and {other.source} "
                f"({_examples(pairs, held)}): the measured gaps are optimistic; no bound uses "
                "them, but shift terms that know the predictor do, and need rows that nothing saw"
            )
    if labelled is not None and (pairs := shared_rows(train, labelled)):
        warnings.append(
            f"{len(pairs)} rows of {labelled.source} stand in both it and {train.source} "
            f"({_examples(pairs, labelled)}): if these are copies rather than coincidences of "
            "independent draws, the robust form and the limits on slices do not hold"
        )
    if held is not None and labelled is not None and (k := counted_before(labelled, held)):
        warnings.append(
            f"{k} rows of {held.source} stand in {labelled.source} too, by text or unit: no trial "
            f"counts twice, so shift terms that know the predictor take {labelled.source} alone"
        )
    if pairs := repeated_rows(train):
        warnings.append(
            f"{len(pairs)} rows of {train.source} repeat the text of another without sharing its "
            f"'unit' ({_examples(pairs, train)}): if they are copies rather than coincidences of "
            "independent draws, they are no units of their own, n is too large and no bound here "
            "holds; give copies one 'unit'"
        )
    for other in (test, held, labelled):
        warnings += repeats_said(other) if other is not None else []
    return warnings


def repeats_said(table: Table) -> list[str]:
    """Say which rows repeat the text of another unit, of a file that is measured on."""
    pairs = repeated_rows(table)
    if not pairs:
        return []
    return [
        f"{len(pairs)} rows of {table.source} repeat the text of another without sharing its "
        f"'unit' ({_examples(pairs, table)}): if they are copies rather than coincidences of "
        "independent draws, limits that count its rows are too narrow (measured risks, the "
        "held-out bound, shift terms from samples); a bound on the train distribution counts none "
        "of them; give copies one 'unit'"
    ]


def _examples(pairs: list[tuple[int, int]], table: Table) -> str:
    shown = [f"row {b} = row {a}: {_brief(table.rows[b - 1])}" for a, b in pairs[:SHOWN]]
    return "; ".join(shown) + ("; ..." if len(pairs) > SHOWN else "")


def _brief(row: Row) -> str:
    text = " ".join((row.prompt + row.completion).split())
    return repr(text if len(text) <= WIDTH else text[:WIDTH] + "…")
