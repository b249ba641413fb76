"""Which training rows a checkpoint prior never saw: the only ones a bound around it may count.

A unit (a problem, a conversation, a template) counts if the prior saw none of its rows. What is
left is a sample of the train distribution only if whole units were split. Where rows were split one
by one, a unit of k rows is left with a probability that falls with k, and the bound would speak of
a law that favours small units; `unseen_units` refuses that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from pacbayes_sft.checkpoints.record import RECORD_DIR, RunRecord
from pacbayes_sft.data.rows import Table, read_table
from pacbayes_sft.errors import InputError

ORDER_ON_RECORD = (
    "the run record tells the truth: rows were shuffled by seed, m was fixed in advance, and the "
    "prior checkpoint saw only the first m rows"
)
ORDER_OF_THE_FILE = (
    "the run record tells the truth: m was fixed in advance, and the prior checkpoint saw only the "
    "first m rows; rows were read in the order of the file, which says nothing about them"
)
ORDER_DECLARED = (
    "the file given as --prior-train lists every row that shaped the prior, and the split was "
    "fixed in advance and random over whole units"
)
SEEN_TEXTS_LEFT_OUT = (
    "the train distribution is meant without the texts that the prior saw: {rows} further rows "
    "that read like one of them were left out"
)


def certified_rows(
    train: Table,
    record: RunRecord | None,
    finetuned: Path,
    prior: str | Path,
    prior_train: str | None = None,
) -> tuple[Table, list[str], list[str]]:
    """Return the rows that the prior never saw, warnings, and the assumptions this rests on.

    Args:
        train: All training rows.
        record: The run record of the fine-tune, if there is one.
        finetuned: Directory of the fine-tune.
        prior: ``base``, ``initial``, or the directory of the checkpoint that the prior is.
        prior_train: File of the rows that an unrecorded checkpoint saw.

    Raises:
        InputError: If nobody can say which rows the prior saw, none is left, or what is left is no
            sample of the train distribution.
    """
    differs = record is not None and record.train_sha256 != train.sha256
    if not isinstance(prior, Path):
        warning = f"{train.source} is not the file that the run record names as training data"
        return train, [warning] if differs else [], []
    kept = finetuned / RECORD_DIR / "prior"
    if prior.resolve() == finetuned.resolve():
        raise InputError(f"{prior}: the fine-tune cannot be its own prior, it saw every row")
    recorded = record is not None and record.prior_rows and prior.resolve() == kept.resolve()
    if prior_train is not None and not recorded:
        return _rows_outside(train, read_table(prior_train))
    if record is None or not recorded:
        why = f" ({record.order_unknown})" if record is not None and record.order_unknown else ""
        raise InputError(
            f"{prior}: which rows this prior saw is not on record{why}, so no row of "
            f"{train.source} may be counted; give --prior-train FILE with the rows it saw"
        )
    check_recorded_prior(train, record, finetuned)
    left, units = unseen_units(train, record), train.units
    keep = sorted(i for i in record.order[record.prior_rows :] if units[i] in left)
    seen = {train.rows[i].sha256() for i in record.order[: record.prior_rows]}
    twins = sum(train.rows[i].sha256() in seen for i in keep)
    warning = f"{twins} certified rows have the same text as a row that the prior saw"
    certified = subset(train, keep, "the prior saw a row of every unit")
    source = ORDER_ON_RECORD if record.shuffled else ORDER_OF_THE_FILE
    return certified, [warning] if twins else [], [source]


def check_recorded_prior(train: Table, record: RunRecord, finetuned: Path) -> None:
    """Refuse a recorded prior checkpoint that is no legal prior for these training rows.

    Raises:
        InputError: If the rows are not those of the record, or m was chosen after seeing them.
    """
    if record.train_sha256 != train.sha256:
        raise InputError(
            f"{train.source}: not the file that {finetuned} was trained on, so the recorded order "
            "does not say which rows the prior saw"
        )
    if not record.prior_fixed_in_advance:
        raise InputError(f"{finetuned}: the record says that m was not fixed in advance")


def unseen_units(train: Table, record: RunRecord) -> set[str]:
    """Return the units of which the recorded prior saw no row.

    Raises:
        InputError: If rows were not split by whole units and the units differ in size.
    """
    units = train.units
    order = [units[i] for i in record.order]
    if splits_units(order) and unequal(order):
        raise InputError(
            f"{train.source}: rows were not read unit by unit and units have {_sizes(order)} rows, "
            "so the units that the prior never saw are mostly the small ones and no sample of the "
            "train distribution; train on whole units (`pacbayes-sft sft` does) or use --prior base"
        )
    return set(order) - set(order[: record.prior_rows])


def splits_units(order: Sequence[str]) -> bool:
    """Whether the rows of some unit do not follow each other in this order."""
    return sum(a != b for a, b in pairwise(order)) + 1 > len(set(order))


def unequal(units: Sequence[str]) -> bool:
    """Whether some unit has more rows than another."""
    return len(set(Counter(units).values())) > 1


def subset(table: Table, keep: Sequence[int], why_empty: str) -> Table:
    """Return some rows of a table, each under the unit it had there.

    Raises:
        InputError: If there are none.
    """
    if not keep:
        raise InputError(f"{table.source}: nothing is left to certify on, {why_empty}")
    units = table.units
    rows = [replace(table.rows[i], unit=units[i]) for i in keep]
    return replace(table, rows=rows)


def _rows_outside(train: Table, seen: Table) -> tuple[Table, list[str], list[str]]:
    """The rows that share neither text nor unit with what an unrecorded prior saw."""
    texts = Counter(row.sha256() for row in seen.rows)
    names = {row.unit for row in seen.rows if row.unit is not None}
    listed = {(row.sha256(), row.unit if names else None) for row in seen.rows}
    touched, found = set(), Counter[str]()
    listed_of: dict[str, set[bool]] = {}
    for unit, row in zip(train.units, train.rows, strict=True):
        text = row.sha256()
        found[text] += 1
        listed_of.setdefault(unit, set()).add((text, row.unit if names else None) in listed)
        if text in texts or row.unit in names:
            touched.add(unit)
    if any(len(both) == 2 for both in listed_of.values()) and unequal(train.units):
        raise InputError(
            f"{seen.source}: holds some rows of a unit of {train.source} and lacks others, and "
            f"units have {_sizes(train.units)} rows, so the units without any are no sample of the "
            "train distribution; split whole units"
        )
    keep = [i for i, unit in enumerate(train.units) if unit not in touched]
    warning = f"no row of {train.source} is in {seen.source}: make sure it lists what the prior saw"
    certified = subset(train, keep, f"no row of it is outside {seen.source}")
    further = sum(max(0, found[text] - count) for text, count in texts.items())
    assumptions = [ORDER_DECLARED]
    if further:
        assumptions.append(SEEN_TEXTS_LEFT_OUT.format(rows=further))
    return certified, [] if touched else [warning], assumptions


def _sizes(units: Sequence[str]) -> str:
    sizes = sorted(set(Counter(units).values()))
    return f"{sizes[0]} to {sizes[-1]}"
