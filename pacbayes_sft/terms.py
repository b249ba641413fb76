"""Single terms of the bound as one Python call each (the shift term is `shift.shift_term`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from estimators import Estimate, kl_isotropic
from pacbayes_sft.checkpoints.adapter_files import is_adapter
from pacbayes_sft.checkpoints.files import open_checkpoint
from pacbayes_sft.checkpoints.finetune import (
    A_CENTRED_ON_ZERO,
    check_evaluable,
    initial_was_kept,
    squared_distance,
    weight_changes,
)
from pacbayes_sft.checkpoints.merged import MergeDrift, merge_drift
from pacbayes_sft.checkpoints.precision import base_precision, stored_precision
from pacbayes_sft.choices import By, Loss, Space
from pacbayes_sft.data.encode import encode
from pacbayes_sft.data.overlap import repeats_said
from pacbayes_sft.data.rows import read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.hub import base_warnings, check_made_for, checkpoint_directory
from pacbayes_sft.losses import scorer
from pacbayes_sft.models import (
    context_length,
    load_model,
    load_tokenizer,
    local_directory,
    resolve_base,
    vocabulary_size,
)
from pacbayes_sft.movement import Breakdown, break_down
from pacbayes_sft.risk import (
    Losses,
    by_length,
    risk_estimate,
    row_losses,
    slice_means,
    slice_risks,
    standard_error,
    unit_means,
)

DISTANCE_METHOD = {
    Space.WEIGHTS: "‖s·BA‖² where that is all, else fine-tune minus base tensor by tensor",
    Space.FACTORS: "‖A−A₀‖²+‖B‖², or the balanced gauge around 0 where A₀ was not kept",
}


@dataclass(frozen=True)
class KlTerm:
    """KL of a fine-tune from its base.

    Attributes:
        kl: In nats.
        squared_distance: ‖μ_Q - μ_P‖².
        parameters: Number of Gaussian entries.
        space: Where they live.
        sigma: Scale of prior and posterior.
        base_precision: What the base's weights are, in words.
        notes: What was decided on the way: tied tensors, new rows.
        merged: How far a merged checkpoint lies from base plus adapter, if one was given.
        breakdown: Where it comes from, if that was asked for.
        warnings: What is odd but not wrong: another base than the adapter names.
    """

    kl: Estimate
    squared_distance: float
    parameters: int
    space: Space
    sigma: float
    base_precision: str = ""
    notes: tuple[str, ...] = ()
    merged: MergeDrift | None = None
    breakdown: Breakdown | None = None
    warnings: tuple[str, ...] = ()

    def to_dict(self, by: By | None = None) -> dict[str, Any]:
        """Return a JSON-ready object, with the parts of the breakdown if ``by`` names some."""
        parts = {}
        if by is not None and self.breakdown is not None:
            parts = {by.value: self.breakdown.records(by)}
        return {
            "kl": self.kl.to_dict(),
            "squared_distance": self.squared_distance,
            "squared_distance_method": DISTANCE_METHOD[self.space],
            "parameters": self.parameters,
            "space": self.space.value,
            "sigma": self.sigma,
            "posterior": "isotropic",
            "base_precision": self.base_precision,
            "notes": list(self.notes),
            "merged": self.merged.to_dict() if self.merged else None,
            "warnings": list(self.warnings),
            "by": parts,
        }


def kl_term(
    base: str,
    finetuned: Path,
    *,
    sigma: float,
    space: Space = Space.WEIGHTS,
    posterior: str = "isotropic",
    merged: Path | None = None,
    breakdown: bool = False,
) -> KlTerm:
    """Return the KL of a finished fine-tune, streamed from its files.

    Args:
        base: Path or hub id of the base, or the name of a shipped one.
        finetuned: Directory or hub id of the fine-tune: an adapter or a full checkpoint.
        sigma: Standard deviation of prior and posterior.
        space: Where the noise lives.
        posterior: Family of the posterior.
        merged: A checkpoint that the adapter was merged into, to measure what rounding moved.
        breakdown: Whether to say where it moved; this reads the norms of the base's weights too.

    Raises:
        InputError: If the checkpoints cannot be used, or sigma is not positive.
    """
    if posterior != "isotropic":
        raise InputError(f"--posterior {posterior}: only isotropic can be had from the files alone")
    if not 0 < sigma < float("inf"):
        raise InputError(f"--sigma must be positive and finite, got {sigma}")
    base = resolve_base(base)
    files, directory = open_checkpoint(local_directory(base)), checkpoint_directory(finetuned)
    check_made_for(directory, files)
    space, notes = Space(space), list[str]()
    parts = break_down(files, directory, space, sigma) if breakdown else None
    if space is Space.WEIGHTS:
        changes = weight_changes(files, directory)
        notes += changes.notes
        parameters = changes.parameters
        distance = parts.squared_distance if parts else changes.squared_distance()
    elif parts is not None:
        distance, parameters = parts.squared_distance, parts.parameters
    else:
        distance, parameters = squared_distance(files, directory, space)
    drift = None
    if merged is not None:
        if not is_adapter(directory):
            raise InputError(
                f"--merged {merged}: needs --finetuned to be the adapter it was made of"
            )
        drift = merge_drift(files, directory, checkpoint_directory(merged))
    kl = kl_isotropic(distance, parameters, sigma, sigma)
    if space is Space.FACTORS and not initial_was_kept(directory):
        kl = replace(kl, assumptions=(A_CENTRED_ON_ZERO,))
    return KlTerm(
        kl,
        distance,
        parameters,
        space,
        sigma,
        stored_precision(files.directory),
        tuple(notes),
        drift,
        parts,
        base_warnings(directory, base),
    )


@dataclass(frozen=True)
class RiskTerm:
    """Measured risk.

    Attributes:
        risk: Over all rows.
        slices: By value of the slicing column.
        base_precision: What the weights that ran are, in words: the base's, or a full fine-tune's.
        losses: Shape (units,): the mean loss of each unit, in order of first mention.
        trust_remote_code: Whether code beside the base's weights was allowed to run.
        warnings: What is odd but not wrong: another base than the adapter names, rows that
            repeat the text of others.
        standard_errors: The standard error of each slice's risk, which its limits do not tell where
            losses are not 0 or 1 (`risk.standard_error`).
    """

    risk: Estimate
    slices: dict[str, Estimate]
    base_precision: str
    losses: Losses = field(repr=False, compare=False)
    trust_remote_code: bool = False
    warnings: tuple[str, ...] = ()
    standard_errors: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object."""
        return {
            "risk": self.risk.to_dict(),
            "slices": {label: e.to_dict() for label, e in self.slices.items()},
            "base_precision": self.base_precision,
            "trust_remote_code": self.trust_remote_code,
            "predictor": "finished",
            "target": "the law of the rows given",
            "warnings": list(self.warnings),
        }


def risk_term(
    base: str,
    test: str,
    finetuned: Path | None = None,
    *,
    loss: Loss = Loss.EXACT_MATCH,
    slice_by: str | None = None,
    delta: float = 0.05,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int = 64,
    max_length: int | None = None,
    trust_remote_code: bool = False,
) -> RiskTerm:
    """Measure the risk of a model, or of a fine-tune of it, on rows.

    Raises:
        InputError: If an input cannot be used.
    """
    if batch_size < 1:
        raise InputError(f"--batch-size must be at least 1, got {batch_size}")
    base = resolve_base(base)
    table = read_table(test)
    if finetuned is not None:
        finetuned = checkpoint_directory(finetuned)
        base_files = open_checkpoint(local_directory(base))
        check_made_for(finetuned, base_files)
        check_evaluable(base_files, finetuned)
    if slice_by is not None and not table.has(slice_by):
        raise InputError(f"{test}: not every row has a value in the column {slice_by!r}")
    tokenizer = load_tokenizer(base, trust_remote_code=trust_remote_code)
    model = load_model(
        base, finetuned, device=device, dtype=dtype, trust_remote_code=trust_remote_code
    )
    limit = max_length or context_length(model)
    rows = encode(table, tokenizer, limit, need_answers=loss is Loss.ANSWER)
    known = vocabulary_size(model)
    if (most := max(max(row.ids) for row in rows)) >= known:
        raise InputError(
            f"{finetuned or base}: its vocabulary ends at {known}, and the tokenizer of {base} "
            f"makes token {most} of {test}; give the base whose tokenizer it was trained with"
        )
    score = scorer(loss, tokenizer)
    losses = row_losses(model, rows, score, blocks=by_length(rows, batch_size))
    population = f"the law of {table.source}"
    ran = base if finetuned is None or is_adapter(finetuned) else str(finetuned)
    precision = base_precision(local_directory(ran))
    named = base_warnings(finetuned, base) if finetuned is not None else ()
    odd = (*named, *repeats_said(table))
    means = unit_means(losses, table.units)
    whole = risk_estimate(means, delta, population=population)
    if slice_by is None:
        return RiskTerm(whole, {}, precision, means, trust_remote_code, odd)
    labels = [row.value_of(slice_by) for row in table.rows]
    slices = slice_risks(losses, table.units, labels, delta, population=population)
    of_slices = slice_means(losses, table.units, labels)
    errors = {name: standard_error(found) for name, found in of_slices.items()}
    return RiskTerm(whole, slices, precision, means, trust_remote_code, odd, errors)
