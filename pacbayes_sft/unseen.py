"""Which training rows a checkpoint prior never saw: the only ones a bound around it may count.

A unit (a problem, a conversation, a template) counts if the prior saw none of its rows. What is
left is a sample of the train distribution only if whole units were split. Where rows were split one
by one, a unit of k rows is left with a probability that falls with k, and the bound would speak of
a law that favours small units; `unseen_units` refuses that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from pacbayes_sft.checkpoints.record import RECORD_DIR, RunRecord
from pacbayes_sft.data.rows import Table, read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.reading import read_json

ORDER_ON_RECORD = (
    "the run record tells the truth: rows were shuffled by seed, m was fixed in advance, and the "
    "prior checkpoint saw only the first m rows"
)
ORDER_AS_GIVEN = (
    "the run record tells the truth: m was fixed in advance, and the prior checkpoint saw only the "
    "first m rows; rows were read in the order in which they were given, which no seed shuffled "
    "and which says nothing about them"
)
ORDER_DECLARED = (
    "the file given as --prior-train lists every row that shaped the prior, and the split was "
    "fixed in advance and random over whole units"
)
DECLARED = (
    "which rows the prior saw is declared here, not recorded: a Trainer shuffles, so what a "
    "checkpoint saw are not the first rows of the file, and a row that it saw and that is not "
    "listed voids the bound"
)
NO_COINCIDENCES = (
    "the rows that read like one of {file} are the ones that the prior saw; none is a draw of its "
    "own that happens to read alike"
)


@dataclass(frozen=True)
class Split:
    """The training rows, parted by what the prior saw.

    Attributes:
        certified: The rows of units of which it saw none.
        seen: The rows that shaped a checkpoint prior, by index or as listed, whatever they read
            like; None under any other prior.
        warnings: What is odd but not wrong.
        assumptions: What the split rests on.
    """

    certified: Table
    seen: Table | None
    warnings: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


def certified_rows(
    train: Table,
    record: RunRecord | None,
    finetuned: Path,
    prior: str | Path,
    prior_train: str | None = None,
) -> Split:
    """Return the rows that the prior never saw and those that it saw.

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
        return Split(train, None, (warning,) if differs else ())
    kept = finetuned / RECORD_DIR / "prior"
    if prior.resolve() == finetuned.resolve():
        raise InputError(f"{prior}: the fine-tune cannot be its own prior, it saw every row")
    recorded = record is not None and record.prior_rows and prior.resolve() == kept.resolve()
    if prior_train is not None and not recorded:
        listed = read_table(prior_train)
        check_trainer_state(prior, listed)
        return _rows_outside(train, listed)
    if record is None or not recorded:
        why = f" ({record.order_unknown})" if record is not None and record.order_unknown else ""
        raise InputError(
            f"{prior}: which rows this prior saw is not on record{why}, so no row of "
            f"{train.source} may be counted; give --prior-train FILE with the rows it saw"
        )
    check_recorded_prior(train, record, finetuned)
    left, units = unseen_units(train, record), train.units
    keep = sorted(i for i in record.order[record.prior_rows :] if units[i] in left)
    certified = subset(train, keep, "the prior saw a row of every unit")
    seen = subset(train, record.order[: record.prior_rows], "")
    source = ORDER_ON_RECORD if record.shuffled else ORDER_AS_GIVEN
    return Split(certified, seen, _twins(certified, seen), (source,))


def check_trainer_state(prior: Path, listed: Table) -> None:
    """Hold a list of seen rows against what a transformers checkpoint says of its own steps.

    Its ``trainer_state.json`` gives steps, epochs and rows a step and device, so a number of rows
    that it had seen at the least (gradient accumulation and further devices only add to it).

    Raises:
        InputError: If the list is shorter, so it cannot hold all of them.
    """
    file = prior / "trainer_state.json"
    if not file.is_file():
        return
    state = read_json(file)
    told = [state.get(key) for key in ("global_step", "train_batch_size", "epoch")]
    if not all(isinstance(x, int | float) and x > 0 for x in told):
        return
    steps, rows, epoch = (float(x) for x in told if x is not None)
    in_a_pass = int(steps / max(1.0, epoch))
    least = int(in_a_pass * rows - (rows - 1 if epoch >= 1 else 0))  # the last batch may be short
    if len(listed.rows) < least:
        raise InputError(
            f"{listed.source}: lists {len(listed.rows):,} rows, but {file} says {steps:g} steps of "
            f"{rows:g} rows at epoch {epoch:.3g}: the checkpoint had seen at least {least:,}; list "
            "them all, or use --prior base"
        )


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


def _rows_outside(train: Table, listed: Table) -> Split:
    """Part the rows by a list of those that an unrecorded prior saw.

    Every listed row stands for one training row: of several that read alike as many are taken out
    as are listed. Taking out all of them would leave a law without that text.
    """
    wanted = Counter(row.sha256() for row in listed.rows)
    in_unit = Counter((row.sha256(), row.unit) for row in listed.rows)
    taken: set[int] = set()
    for i, row in enumerate(train.rows):  # the same text in the same unit first
        if in_unit[row.sha256(), row.unit] > 0:
            in_unit[row.sha256(), row.unit] -= 1
            wanted[row.sha256()] -= 1
            taken.add(i)
    for i, row in enumerate(train.rows):
        if i not in taken and wanted[row.sha256()] > 0:
            wanted[row.sha256()] -= 1
            taken.add(i)
    units, names = train.units, {row.unit for row in listed.rows if row.unit is not None}
    saw: dict[str, set[bool]] = {}
    for i, unit in enumerate(units):
        saw.setdefault(unit, set()).add(i in taken)
    if any(len(both) == 2 for both in saw.values()) and unequal(units):
        raise InputError(
            f"{listed.source}: holds some rows of a unit of {train.source} and lacks others, and "
            f"units have {_sizes(units)} rows, so the units without any are no sample of the "
            "train distribution; split whole units"
        )
    touched = {unit for unit, both in saw.items() if True in both} | {
        unit for unit, row in zip(units, train.rows, strict=True) if row.unit in names
    }
    keep = [i for i, unit in enumerate(units) if unit not in touched]
    certified = subset(train, keep, f"no row of it is outside {listed.source}")
    none = f"no row of {train.source} is in {listed.source}: make sure it lists what the prior saw"
    assumptions = [ORDER_DECLARED]
    if taken and any(count > 0 for count in wanted.values()):  # the list is not a part of the rows
        assumptions.append(NO_COINCIDENCES.format(file=listed.source))
    warnings = (*(_twins(certified, listed) if touched else (none,)), DECLARED)
    return Split(certified, listed, warnings, tuple(assumptions))


def _twins(certified: Table, seen: Table) -> tuple[str, ...]:
    texts = {row.sha256() for row in seen.rows}
    twins = sum(row.sha256() in texts for row in certified.rows)
    warning = f"{twins} certified rows have the same text as a row that the prior saw"
    return (warning,) if twins else ()


def _sizes(units: Sequence[str]) -> str:
    sizes = sorted(set(Counter(units).values()))
    return f"{sizes[0]} to {sizes[-1]}"
