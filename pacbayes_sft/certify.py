"""The hall: every term of Proposition 4.1 for a finished fine-tune, and the bound they give.

E_{θ~Q}[R_test(θ)]  <=  E_{θ~Q}[R̂_S(θ)]  +  √(KL(Q‖P)/2n)  +  TV(D_test, D_train)  +  ε
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from estimators import (
    Estimate,
    Excess,
    Guarantee,
    Ledger,
    Proposition41,
    catoni_grid,
    kl_bound,
    kl_divergence,
    lambda_bound,
    mcallester,
    proposition_4_1,
    quadratic,
    recursive_bound,
    with_shift,
)
from pacbayes_sft.baselines import Baseline, baselines, prior_centre
from pacbayes_sft.charges import Leaves, open_ledger
from pacbayes_sft.checkpoints.adapter_files import is_adapter
from pacbayes_sft.choices import Loss, Space, Theorem
from pacbayes_sft.data.encode import encode
from pacbayes_sft.data.rows import Table
from pacbayes_sft.empirical import empirical_gibbs
from pacbayes_sft.gibbs import Evaluator, Rows
from pacbayes_sft.inputs import Inputs, load_inputs
from pacbayes_sft.measure import Measured, measure_finished, with_gibbs
from pacbayes_sft.models import context_length, load_model, load_tokenizer
from pacbayes_sft.noise import APART
from pacbayes_sft.options import Options
from pacbayes_sft.posteriors import Fitted, Workbench, fit_posterior
from pacbayes_sft.prior_shape import prior_shape
from pacbayes_sft.profile import RiskProfile, check_levels, risk_profile
from pacbayes_sft.shift import Shift, shift_term
from pacbayes_sft.slots import Slots, find_slots, set_ties

THEOREMS: dict[str, Callable[[Estimate, Estimate, int, float], Estimate]] = {
    "mcallester": mcallester,
    "kl": kl_bound,
    "quadratic": quadratic,
    "lambda": lambda_bound,
    "catoni": catoni_grid,
}


@dataclass(frozen=True)
class Certificate:
    """All terms of a bound, the bounds, and the truth beside them.

    Attributes:
        inputs: Checkpoints, rows and hashes behind it.
        options: How it was computed.
        fitted: Posterior and prior, and why these.
        empirical_risk: Gibbs risk on the certified units, with its Monte-Carlo limit.
        excess: What Q errs more and less there than the prior's centre; None where a sample of the
            units was looked at.
        reference: Held-out limit on the risk of the prior's centre, at its leaf of the ledger.
        kl: KL(Q‖P).
        shift: The shift term.
        terms: The terms of Proposition 4.1.
        bounds: By theorem: the bound on the test and on the train distribution.
        profile: The Gibbs losses by difficulty, where they were asked for.
        draws_a_unit: Draws behind each unit's share of the empirical risk.
        leaves: The δ that each leaf of the ledger received.
        measured: The truth, as far as the rows show it.
        baselines: What could be quoted instead, each a claim of its own at 1 - δ, or an estimate
            where the shift term is one.
        ledger: Which event may fail, with which probability.
    """

    inputs: Inputs
    options: Options
    fitted: Fitted
    empirical_risk: Estimate
    excess: Excess | None
    reference: Estimate | None
    kl: Estimate
    shift: Shift
    terms: Proposition41
    bounds: dict[str, tuple[Estimate, Estimate]]
    leaves: Leaves
    measured: Measured
    baselines: dict[str, Baseline]
    ledger: Ledger
    draws_a_unit: int = 1
    profile: RiskProfile | None = None

    @property
    def primary(self) -> str:
        """The theorem with the least bound on the train distribution; all are in the ledger."""
        return min(self.bounds, key=lambda name: self.bounds[name][1].upper)

    @property
    def bound(self) -> Estimate:
        """The primary bound, carried to the test distribution."""
        return self.bounds[self.primary][0]

    def _repr_html_(self) -> str:
        """What a notebook shows: the sentence and the tables."""
        from pacbayes_sft.report.html import notebook

        return notebook(self)


def bound(
    base: str,
    finetuned: Path,
    train: str,
    test: str,
    options: Options | None = None,
    *,
    train_heldout: str | None = None,
    labelled: str | None = None,
    finished: Measured | None = None,
) -> Certificate:
    """Compute every term of the bound for a finished fine-tune.

    Args:
        base: Path or hub id of the base, or the name of a shipped one.
        finetuned: The fine-tune: a PEFT adapter directory or a full checkpoint.
        train: The rows it was trained on.
        test: Rows of the test distribution.
        options: See `Options`.
        train_heldout: Rows of the train distribution that nothing was fitted on. They only
            measure the gaps, and join the labelled rows of a profile.
        labelled: Labelled rows that nothing was fitted on, for the profile of
            `Options.profile`; the test rows may not be among them.
        finished: What is known of the finished model's risks already; None measures them.

    Raises:
        InputError: If an input cannot be used; the message names it and the mend.
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

    # the data pair gives the shift term
    shift = shift_term(inputs.train, inputs.test, options.shift, leaves.shift, seed=options.seed)

    # the weights give a Gaussian pair, and that its KL
    evaluator, slots, rows = _prepare(inputs, options)
    certified = rows(inputs.certified)
    finished = finished or measure_finished(evaluator, inputs, rows, certified, options.units)
    seen = rows(inputs.seen_by_prior) if inputs.seen_by_prior else None
    shape = prior_shape(options.prior_shape, inputs, evaluator, slots, seen)
    every = options.units is None
    centre = None
    if every or options.baselines:
        centre = prior_centre(evaluator, slots, inputs, certified)
    bench = Workbench(
        evaluator, slots, inputs.pair, certified, inputs.n, leaves, centre, options.draws, shape,
        f"{inputs.base_sha256} {inputs.finetuned_sha256} {options.dtype}",
    )  # fmt: skip
    fitted = fit_posterior(options.posterior, bench, options.prior_scales, options.refinement)
    legal = (*inputs.pair.assumptions, *shape.assumptions, named_in_advance(options))
    kl = _kl(fitted, legal)

    # model, posterior and rows give the risk; the posterior is frozen, its draws are fresh
    posterior = fitted.posterior
    empirical = empirical_gibbs(
        evaluator,
        slots,
        posterior,
        certified,
        centre.rows if centre and every else None,
        options.draws,
        leaves.monte_carlo,
        leaves.excess,
        options.units,
    )
    empirical_risk = empirical.risk
    if options.dtype != "float32" and slots.space is Space.FACTORS:
        assumed = (*empirical_risk.assumptions, APART.format(dtype=options.dtype))
        empirical_risk = replace(empirical_risk, assumptions=assumed)

    # risk, KL, n, shift and δ give the bounds
    terms = proposition_4_1(empirical_risk, kl, inputs.n, shift.tv, leaves.theorem)
    bounds = {"proposition_4_1": (terms.bound, terms.train_bound)}
    for name, theorem in THEOREMS.items():
        on_train = theorem(empirical_risk, kl, inputs.n, leaves.of(name))
        bounds[name] = (with_shift(on_train, shift.tv), on_train)
    reference = None
    if centre and empirical.excess:
        reference = centre.limit(leaves.reference)
        on_train = recursive_bound(reference, empirical.excess, kl, inputs.n, leaves.recursive)
        bounds["recursive"] = (with_shift(on_train, shift.tv), on_train)
    bounds = {
        name: (_at_ledger(test, ledger), _at_ledger(train, ledger))
        for name, (test, train) in bounds.items()
    }

    # what it says, and what could be said instead
    others: dict[str, Baseline] = {}
    if centre and options.baselines:
        on_test = finished.test_losses_finetuned
        others = baselines(
            evaluator, slots, inputs, certified, centre, shift.tv, on_test, options.delta
        )
    measured = with_gibbs(finished, evaluator, slots, posterior, inputs, rows, empirical_risk)
    profile = None
    if options.profile is not None:
        profile = risk_profile(
            options.profile, inputs, empirical, evaluator, slots, posterior, rows
        )
    return Certificate(
        inputs,
        options,
        fitted,
        empirical_risk,
        empirical.excess,
        reference,
        kl,
        shift,
        terms,
        bounds,
        leaves,
        measured,
        others,
        ledger,
        empirical.draws,
        profile,
    )


def _prepare(inputs: Inputs, options: Options) -> tuple[Evaluator, Slots, Callable[[Table], Rows]]:
    """Load the model with the finished weights in it, and a function that encodes a table."""
    tokenizer = load_tokenizer(inputs.base, trust_remote_code=options.trust_remote_code)
    factors = inputs.pair.space is Space.FACTORS
    as_adapter = factors or not is_adapter(inputs.finetuned)
    model = load_model(
        inputs.base,
        inputs.finetuned if as_adapter else None,
        device=options.device,
        dtype=options.dtype,
        trust_remote_code=options.trust_remote_code,
    )
    if not factors:
        set_ties(model, inputs.pair.untied, inputs.pair.tied)
    slots = find_slots(model, inputs.pair.space, list(inputs.pair.posterior))
    if not as_adapter:  # a LoRA in weights space: its factors multiplied out
        slots.put(inputs.pair.posterior)
    limit = options.max_length or context_length(model)

    def rows(table: Table) -> Rows:
        encoded = encode(table, tokenizer, limit, need_answers=options.loss is Loss.ANSWER)
        return Rows(encoded, table.units)

    evaluator = Evaluator(model, options.loss, tokenizer, options.batch_size, options.seed)
    return evaluator, slots, rows


def _at_ledger(theorem: Estimate, ledger: Ledger) -> Estimate:
    """State a bound at the confidence of the whole ledger.

    A theorem knows the δ of its own leaf alone; the scale was chosen after seeing the data, so
    every scale's event must hold. What is only an estimate claims nothing: confidence 0.
    """
    if theorem.delta > ledger.spent * (1 + 1e-9):
        raise AssertionError(f"{theorem.method} spent {theorem.delta}, the ledger {ledger.spent}")
    claimed = theorem.guarantee is Guarantee.UPPER
    return replace(theorem, confidence=1 - ledger.spent if claimed else 0.0)


def _kl(fitted: Fitted, assumptions: tuple[str, ...]) -> Estimate:
    """KL(Q‖P); it stands on the assumptions of its prior."""
    kl = kl_divergence(fitted.posterior, fitted.prior)
    return replace(kl, assumptions=(*kl.assumptions, *assumptions))


def named_in_advance(options: Options) -> str:
    """Return what the charges of the ledger take to have been chosen before the rows were seen."""
    # where a sample of the units is looked at, shares are the same whatever the theorem
    named = options.theorem is not Theorem.AUTO and options.units is None
    also = f" and that {options.theorem} gets most of δ" if named else ""
    return f"the prior's shape and its grid of scales{also} were fixed before the rows were seen"
