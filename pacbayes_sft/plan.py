"""``bound --dry-run``: what certificate a fine-tune can get, before anything is computed.

Reads weights' files, records, rows and laws; loads no model and runs no forward pass.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

from estimators import (
    Estimate,
    Excess,
    Guarantee,
    Ledger,
    held_out_bound,
    recursive_bound,
    total_variation_attribute,
    with_shift,
)
from estimators.display import rounded_up
from estimators.monte_carlo import FROZEN
from estimators.total_variation import assumptions as two_sample
from pacbayes_sft.certify import THEOREMS, named_in_advance
from pacbayes_sft.charges import Leaves, open_ledger
from pacbayes_sft.checkpoints.adapter_files import is_adapter
from pacbayes_sft.checkpoints.files import open_checkpoint
from pacbayes_sft.choices import Loss, Space
from pacbayes_sft.cost import (
    matrix_weights,
    operations,
    operations_a_second,
    rows_through_model,
)
from pacbayes_sft.data.encode import encode
from pacbayes_sft.empirical import SAMPLED
from pacbayes_sft.inputs import Inputs, load_inputs
from pacbayes_sft.models import load_config, load_tokenizer, local_directory
from pacbayes_sft.noise import APART
from pacbayes_sft.options import Options
from pacbayes_sft.parts import Part, missing_parts, possible_priors, possible_shifts
from pacbayes_sft.prior_shape import what_shape_assumes
from pacbayes_sft.profile import check_levels
from pacbayes_sft.shift import (
    CLASSIFIER,
    FEWEST_UNITS,
    KNOWN,
    NONE,
    TRIVIAL,
    auto_warnings,
    conditions_of_units,
    is_monotone,
    method_for,
    shift_term,
)


@dataclass(frozen=True)
class Plan:
    """What a call of `certify.bound` with the same arguments would do.

    Attributes:
        inputs: Checkpoints and rows, checked.
        options: As asked.
        least: The primary bound on the test risk as `certify.bound` would assemble it, with what it
            assumes and the label it would carry, from the least conceivable terms: no errors, KL
            0, no shift beyond what is known or what sampling adds. A number about n and the
            shift, not about the model.
        floor: The same on the train distribution.
        shift_method: How the shift term would be found.
        priors: The priors that are possible.
        shifts: The shift terms that are possible, sharpest label first.
        missing: What is not there, and what it would give.
        ledger: The δ's as they would be spent.
        rows_evaluated: Rows through the model forwards.
        rows_refined: Rows through the model forwards and backwards.
        operations: Floating-point operations in their matrix products, an estimate.
        seconds: What these take here at the rate of one large matrix product: usually too little.
    """

    inputs: Inputs
    options: Options
    least: Estimate
    floor: float
    shift_method: str
    priors: tuple[Part, ...]
    shifts: tuple[Part, ...]
    missing: tuple[str, ...]
    ledger: Ledger
    rows_evaluated: int
    rows_refined: int
    operations: float
    seconds: float

    @property
    def guarantee(self) -> Guarantee:
        """The label that the bound on the test risk would carry."""
        return self.least.guarantee

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd, and whether anything can be certified on the test distribution at all."""
        inputs = self.inputs
        found = (
            *inputs.warnings,
            *auto_warnings(inputs.train, inputs.test, self.options.shift),
        )
        if self.least.upper < 1:
            return found
        return (
            *found,
            f"vacuous in advance: even without errors and with KL 0 the bound on the test risk "
            f"would be {rounded_up(self.least.upper, 3)} ({rounded_up(self.floor, 3)} on the "
            "train distribution, the rest is shift)",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object."""
        pair = self.inputs.pair

        def parts(these: tuple[Part, ...]) -> list[dict[str, Any]]:
            return [{"name": p.name, "available": p.available, "remark": p.remark} for p in these]

        return {
            "dry_run": True,
            "n": self.inputs.n,
            "n_train": len(set(self.inputs.train.units)),
            "space": pair.space.value,
            "parameters": pair.parameters,
            "squared_distance": pair.squared_distance,
            "prior": pair.prior_source,
            "loss": self.options.loss.value,
            "posterior": self.options.posterior.value,
            "shift": self.shift_method,
            "guarantee": self.guarantee.value,
            "least_conceivable_bound": {
                "value": self.least.upper,
                "method": self.least.method,
                "train_value": self.floor,
                "note": "with no errors, KL 0 and the least shift: what n and the shift allow",
            },
            "priors": parts(self.priors),
            "shifts": parts(self.shifts),
            "missing": list(self.missing),
            "assumptions": list(self.least.assumptions),
            "warnings": list(self.warnings),
            "base_precision": self.inputs.base_precision,
            "trust_remote_code": self.options.trust_remote_code,
            "delta": self.options.delta,
            "delta_ledger": self.ledger.rows(),
            "cost": {
                "rows_evaluated": self.rows_evaluated,
                "rows_refined": self.rows_refined,
                "passes_over_the_certified_rows": round(
                    self.rows_evaluated / len(self.inputs.certified.rows), 2
                ),
                "matrix_operations": self.operations,
                "seconds_at_product_rate": round(self.seconds, 1),
                "note": "an estimate without attention, padding and noise; small models take "
                "several times as long",
            },
        }


def plan(
    base: str,
    finetuned: Path,
    train: str,
    test: str,
    options: Options | None = None,
    *,
    train_heldout: str | None = None,
    labelled: str | None = None,
) -> Plan:
    """Return what `certify.bound` would do with these arguments, and at what cost.

    Args:
        base: Path or hub id of the base, or the name of a shipped one.
        finetuned: The fine-tune.
        train: The rows it was trained on.
        test: Rows of the test distribution.
        options: As for the bound.
        train_heldout: Further rows of the train distribution.
        labelled: Labelled rows for the profile of `Options.profile`.

    Raises:
        InputError: Where the bound itself would refuse its inputs.
    """
    options = options or Options()
    inputs = load_inputs(
        base,
        Path(finetuned),
        train,
        test,
        prior=options.prior,
        prior_train=options.prior_train,
        space=options.space,
        heldout=train_heldout,
        labelled=labelled,
    )
    if options.profile is not None:
        check_levels(inputs, options.profile)
    ledger, leaves = open_ledger(inputs, options)
    method = method_for(inputs.train, inputs.test, options.shift)
    shift = _least_shift(inputs, options, method, leaves.shift)
    tokens = _tokens_a_row(inputs, options)
    on_train = _least_bound(inputs, leaves, options)
    evaluated, refined = rows_through_model(inputs, options)
    weights = matrix_weights(open_checkpoint(local_directory(inputs.base)).shape_of)
    all_trained = inputs.pair.space is Space.WEIGHTS
    work = operations(weights, tokens, evaluated, refined, all_trained=all_trained)
    return Plan(
        inputs,
        options,
        with_shift(on_train, shift),
        on_train.upper,
        method,
        possible_priors(inputs),
        possible_shifts(inputs),
        tuple(missing_parts(inputs, method)),
        ledger,
        evaluated,
        refined,
        work,
        work / operations_a_second(options.device, options.dtype),
    )


def _least_bound(inputs: Inputs, leaves: Leaves, options: Options) -> Estimate:
    """The least bound on the train distribution for a model without errors and without a KL."""
    confidence = 1 - leaves.monte_carlo
    every, assumes = options.units is None, [FROZEN]
    if not every:
        assumes.append(SAMPLED)
    if options.dtype != "float32" and inputs.pair.space is Space.FACTORS:
        assumes.append(APART.format(dtype=options.dtype))
    risk = Estimate(0.0, 0.0, 0.0, confidence, Guarantee.UPPER, "no errors", tuple(assumes))
    shape = what_shape_assumes(options.prior_shape, seen=inputs.seen_by_prior is not None)
    legal = (*inputs.pair.assumptions, *shape, named_in_advance(options))
    kl = Estimate.exactly(0.0, method="no KL", assumptions=legal)
    bounds = [theorem(risk, kl, inputs.n, leaves.of(name)) for name, theorem in THEOREMS.items()]
    if every:
        reference = held_out_bound([0.0] * inputs.n, leaves.reference)
        limit = replace(risk, confidence=1 - leaves.excess)
        alike = Excess(limit, Estimate.exactly(0, method="alike"))
        bounds.append(recursive_bound(reference, alike, kl, inputs.n, leaves.recursive))
    return min(bounds, key=lambda bound: bound.upper)


def _least_shift(inputs: Inputs, options: Options, method: str, delta: float) -> Estimate:
    """The shift term where it is known, else the least that its method could return.

    Of a limit from samples only what sampling adds is kept: a look at its value before choosing
    a method would be a choice that no ledger pays for.
    """
    train, test = inputs.train, inputs.test
    units = min(len(set(train.units)), len(set(test.units)))
    if method == CLASSIFIER and units >= FEWEST_UNITS:
        conditions = conditions_of_units(train, test)
        assumes = (two_sample.FROZEN, two_sample.INDEPENDENT, *conditions)
        return Estimate(0.0, 0.0, 1.0, 1 - delta, Guarantee.LOWER, "two-sample test", assumes)
    found = shift_term(train, test, options.shift, delta, seed=options.seed)
    if method in (KNOWN, NONE, TRIVIAL, CLASSIFIER) or found.rows is None:
        return found.tv
    if is_monotone(method):
        return replace(found.tv, value=0.0, upper=found.tv.upper - found.tv.value)
    on_train, on_test = found.rows
    blank = total_variation_attribute([0] * on_train, [0] * on_test, delta)
    return replace(blank, assumptions=found.tv.assumptions)


def _tokens_a_row(inputs: Inputs, options: Options) -> float:
    """Return the mean tokens of a certified row.

    Every row is tokenised, as the bound does: too long or untemplated ones are refused now.
    """
    trusted = options.trust_remote_code
    tokenizer = load_tokenizer(inputs.base, trust_remote_code=trusted)
    finetuned = None if is_adapter(inputs.finetuned) else inputs.finetuned
    config = load_config(inputs.base, finetuned, trust_remote_code=trusted)
    limit = options.max_length or getattr(config, "max_position_embeddings", None)
    certified, *_ = (
        encode(table, tokenizer, limit, need_answers=options.loss is Loss.ANSWER)
        for table in (inputs.certified, inputs.test, inputs.heldout)
        if table is not None
    )
    return fmean(len(row.ids) for row in certified)


class _Callable(ModuleType):
    """A module that is called as its one function.

    The package offers `plan` under this module's own name; whichever of the two an import puts
    there, ``pacbayes_sft.plan(...)`` works.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Plan:
        return plan(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
