"""Everything a bound is computed from, checked against each other before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pacbayes_sft.checkpoints.adapter_files import is_adapter
from pacbayes_sft.checkpoints.files import TensorFiles, open_checkpoint
from pacbayes_sft.checkpoints.finetune import Pair, factor_pair, weight_pair
from pacbayes_sft.checkpoints.lora import check_base, read_adapter
from pacbayes_sft.checkpoints.precision import base_precision
from pacbayes_sft.checkpoints.record import RunRecord, read_record
from pacbayes_sft.choices import Space
from pacbayes_sft.data.overlap import overlap_warnings
from pacbayes_sft.data.rows import Table, read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.hub import base_warnings, check_made_for, checkpoint_directory
from pacbayes_sft.models import local_directory, resolve_base
from pacbayes_sft.shift import refuse_shared_draws
from pacbayes_sft.unseen import certified_rows


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
        seen_by_prior: The rows that shaped a checkpoint prior; None under any other.
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
    seen_by_prior: Table | None = None

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
    check_made_for(finetuned, base_files)
    pair = _pair(base_files, finetuned, prior, space)
    split = certified_rows(tables[0], record, finetuned, prior, prior_train)
    if isinstance(prior, Path) and prior_train is not None and pair.squared_distance == 0:
        raise InputError(
            f"{prior}: holds the very weights of {finetuned}, so as its prior it saw all that the "
            "fine-tune saw; give a checkpoint from before the certified rows"
        )
    for other in filter(None, (tables[1], held, marked)):
        refuse_shared_draws(tables[0], other)
    for other in filter(None, (held, marked)):
        refuse_shared_draws(tables[1], other)
    overlap = overlap_warnings(tables[0], tables[1], held, marked)
    warnings = (*split.warnings, *overlap, *base_warnings(finetuned, base), *pair.notes)
    pair = replace(pair, assumptions=(*pair.assumptions, *split.assumptions))
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
        split.certified,
        tables[1],
        held,
        warnings,
        marked,
        split.seen,
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
