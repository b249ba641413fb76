"""Everything a bound is computed from, checked against each other before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pacbayes_sft.checkpoints.adapter_files import is_adapter
from pacbayes_sft.checkpoints.files import TensorFiles, open_checkpoint
from pacbayes_sft.checkpoints.finetune import Pair, factor_pair, weight_pair
from pacbayes_sft.checkpoints.lora import check_base, read_adapter
from pacbayes_sft.checkpoints.precision import base_precision
from pacbayes_sft.checkpoints.record import (
    RECORD_DIR,
    RunRecord,
    check_recorded_base,
    read_record,
)
from pacbayes_sft.choices import Space
from pacbayes_sft.data.overlap import overlap_warnings
from pacbayes_sft.data.rows import Table, read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.hub import base_warnings, checkpoint_directory
from pacbayes_sft.models import local_directory, resolve_base
from pacbayes_sft.shift import refuse_shared_draws

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
    "random and fixed in advance"
)


@dataclass(frozen=True)
class Inputs:
    """Checkpoints and rows that fit together.

    Attributes:
        base: Path or hub id of the base.
        base_sha256: Hash of its weight files as they were read.
        base_precision: What its weights are, in words (de-quantised, quantised, as stored).
        finetuned: Directory of the fine-tune.
        finetuned_sha256: Hash of its weight files as they were read.
        record: What the run kept of itself, if it was kept.
        prior: ``base``, ``initial``, or the directory of the checkpoint that the prior is.
        pair: Means of posterior and prior.
        train: All training rows.
        certified: The rows behind the empirical risk: all, or those the prior never saw.
        test: Rows of the test distribution.
        heldout: Further rows of the train distribution, only to measure.
        labelled: Labelled rows for shift terms that depend on the predictor.
        warnings: What is odd but not wrong.
    """

    base: str
    base_sha256: str
    base_precision: str
    finetuned: Path
    finetuned_sha256: str
    record: RunRecord | None
    prior: str | Path
    pair: Pair
    train: Table
    certified: Table
    test: Table
    heldout: Table | None
    warnings: tuple[str, ...] = ()
    labelled: Table | None = None

    @property
    def seen_by_prior(self) -> Table | None:
        """The training rows that a checkpoint prior may have seen: none reads like a certified one.

        None under the base prior, or where no such row is left.
        """
        if not isinstance(self.prior, Path):
            return None
        held = {row.sha256() for row in self.certified.rows}
        keep = [i for i, row in enumerate(self.train.rows) if row.sha256() not in held]
        return _subset(self.train, keep, "") if keep else None

    @property
    def n(self) -> int:
        """Independent units behind the empirical risk."""
        return len(set(self.certified.units))


def load_inputs(
    base: str,
    finetuned: Path,
    train: str,
    test: str,
    *,
    prior: str | Path = "base",
    prior_train: str | None = None,
    space: Space | None = None,
    heldout: str | None = None,
    labelled: str | None = None,
) -> Inputs:
    """Read and cross-check all inputs.

    Raises:
        InputError: Naming what is missing, broken or does not fit, and the mend.
    """
    base, finetuned = resolve_base(base), checkpoint_directory(finetuned)
    prior = checkpoint_directory(prior) if isinstance(prior, Path) else prior
    tables = [read_table(train), read_table(test)]
    held = read_table(heldout) if heldout else None
    marked = read_table(labelled) if labelled else None
    base_files = open_checkpoint(local_directory(base))
    record = read_record(finetuned)
    base_sha256 = base_files.sha256()
    check_recorded_base(finetuned, base_files)
    pair = _pair(base_files, finetuned, prior, space)
    certified, warnings, assumption = _certified_rows(
        tables[0], record, finetuned, prior, prior_train
    )
    for other in filter(None, (tables[1], held, marked)):
        refuse_shared_draws(tables[0], other)
    for other in filter(None, (held, marked)):
        refuse_shared_draws(tables[1], other)
    warnings += overlap_warnings(tables[0], tables[1], held, marked)
    warnings += [*base_warnings(finetuned, base), *pair.notes]
    if assumption:
        pair = replace(pair, assumptions=(*pair.assumptions, assumption))
    return Inputs(
        base,
        base_sha256,
        base_precision(base_files.directory),
        finetuned,
        open_checkpoint(finetuned).sha256(),
        record,
        prior,
        pair,
        tables[0],
        certified,
        tables[1],
        held,
        tuple(warnings),
        marked,
    )


def _pair(base: TensorFiles, finetuned: Path, prior: str | Path, space: Space | None) -> Pair:
    adapter = is_adapter(finetuned)
    if space is None:
        space = Space.FACTORS if adapter else Space.WEIGHTS
    if space is Space.FACTORS and not adapter:
        raise InputError(f"{finetuned}: a full checkpoint has no factors; use --space weights")
    if space is Space.WEIGHTS:
        return weight_pair(base, finetuned, prior)
    opened = read_adapter(finetuned)
    check_base(opened, base)
    return factor_pair(opened, prior)


def _certified_rows(
    train: Table,
    record: RunRecord | None,
    finetuned: Path,
    prior: str | Path,
    prior_train: str | None,
) -> tuple[Table, list[str], str | None]:
    """Return the rows the prior never saw, warnings, and the assumption that rests on."""
    differs = record is not None and record.train_sha256 != train.sha256
    if not isinstance(prior, Path):
        warning = f"{train.source} is not the file that the run record names as training data"
        return train, [warning] if differs else [], None
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
    units, first = train.units, record.order[: record.prior_rows]
    touched = {units[i] for i in first}  # a unit that was seen in part was seen
    keep = sorted(i for i in record.order[record.prior_rows :] if units[i] not in touched)
    seen = {train.rows[i].sha256() for i in first}
    twins = sum(train.rows[i].sha256() in seen for i in keep)
    warning = f"{twins} certified rows have the same text as a row that the prior saw"
    certified = _subset(train, keep, "the prior saw a row of every unit")
    source = ORDER_ON_RECORD if record.shuffled else ORDER_OF_THE_FILE
    return certified, [warning] if twins else [], source


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


def _rows_outside(train: Table, seen: Table) -> tuple[Table, list[str], str]:
    """The rows that share neither text nor unit with what an unrecorded prior saw."""
    texts = {row.sha256() for row in seen.rows}
    names = {row.unit for row in seen.rows if row.unit is not None}
    touched = {
        unit
        for unit, row in zip(train.units, train.rows, strict=True)
        if row.sha256() in texts or row.unit in names
    }
    keep = [i for i, unit in enumerate(train.units) if unit not in touched]
    warning = f"no row of {train.source} is in {seen.source}: make sure it lists what the prior saw"
    certified = _subset(train, keep, f"no row of it is outside {seen.source}")
    return certified, [] if touched else [warning], ORDER_DECLARED


def _subset(table: Table, keep: Sequence[int], why_empty: str) -> Table:
    if not keep:
        raise InputError(f"{table.source}: nothing is left to certify on, {why_empty}")
    units = table.units
    rows = [replace(table.rows[i], unit=units[i]) for i in keep]
    return replace(table, rows=rows)
