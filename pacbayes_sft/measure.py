"""The truth beside the bound: measured risks and gaps, each with its own interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from estimators import DiagonalGaussian, Estimate, Guarantee, gibbs_risk
from pacbayes_sft.choices import Space
from pacbayes_sft.data.rows import Table
from pacbayes_sft.empirical import SAMPLED
from pacbayes_sft.gibbs import Draws, Evaluator, Rows
from pacbayes_sft.inputs import Inputs
from pacbayes_sft.risk import Losses, risk_estimate
from pacbayes_sft.slots import Slots

INTERVAL_DELTA = 0.05
TEST = "the test distribution"
TRAIN = "the train distribution"


@dataclass(frozen=True)
class Measured:
    """Measured risks; the intervals stand at 95 % each, outside the ledger of the bound.

    Attributes:
        test_risk_finetuned: Risk of the finished model on the test rows. No PAC-Bayes bound here
            covers it: those speak of the Gibbs predictor.
        train_risk_finetuned: Risk of the finished model on the rows behind the bound (they are
            training rows: an optimistic number by construction).
        test_losses_finetuned: Shape (test units,): the losses behind the first.
        test_risk: Gibbs risk on the test rows, what the bound speaks of.
        train_distribution_risk: Gibbs risk on held-out rows of the train distribution.
        empirical_risk: Gibbs risk on the certified rows.
        agreement: Share of test units on which one draw has the finished model's loss.
    """

    test_risk_finetuned: Estimate
    train_risk_finetuned: Estimate
    test_losses_finetuned: Losses = field(repr=False, compare=False)
    test_risk: Estimate | None = None
    train_distribution_risk: Estimate | None = None
    empirical_risk: Estimate | None = None
    agreement: Estimate | None = None

    @property
    def generalization_gap(self) -> Estimate | None:
        """R_train - R̂_S of the Gibbs predictor, where held-out rows allow: a point value."""
        return _difference(self.train_distribution_risk, self.empirical_risk)

    @property
    def extrapolation_gap(self) -> Estimate | None:
        """R_test - R_train of the Gibbs predictor, where held-out rows allow: a point value."""
        return _difference(self.test_risk, self.train_distribution_risk)


def _difference(more: Estimate | None, less: Estimate | None) -> Estimate | None:
    if more is None or less is None:
        return None
    return Estimate(
        more.value - less.value,
        -math.inf,
        math.inf,
        0.0,
        Guarantee.ESTIMATE,
        "difference of two measured risks",
        unit="probability",
    )


def measure_finished(
    evaluator: Evaluator,
    inputs: Inputs,
    rows: Callable[[Table], Rows],
    certified: Rows,
    units: int | None = None,
) -> Measured:
    """Measure the finished model; it must be in the evaluator's model unperturbed.

    Args:
        evaluator: The model and the loss.
        inputs: Checkpoints and rows.
        rows: Encodes a table.
        certified: The certified rows, encoded.
        units: How many of their units are looked at, a random sample; None: all.
    """
    on_test = evaluator.finished(rows(inputs.test), "finished model, test rows")
    sample = certified.sample(units, evaluator.seed)
    on_train = evaluator.finished(sample, "finished model, training rows")
    if len(on_train) < inputs.n:
        train_risk = risk_estimate(on_train, INTERVAL_DELTA, population="the certified units")
        train_risk = replace(train_risk, assumptions=(SAMPLED,))
    else:
        train_risk = Estimate.exactly(
            float(on_train.mean()),
            method=f"mean loss of {len(on_train)} training units",
            unit="probability",
        )
    return Measured(
        risk_estimate(on_test, INTERVAL_DELTA, population=TEST),
        train_risk,
        test_losses_finetuned=on_test,
    )


def with_gibbs(
    finished: Measured,
    evaluator: Evaluator,
    slots: Slots,
    posterior: DiagonalGaussian,
    inputs: Inputs,
    rows: Callable[[Table], Rows],
    empirical_risk: Estimate,
) -> Measured:
    """Add the risks of the Gibbs predictor, the one that the bounds speak of."""

    def gibbs(table: Table, purpose: str) -> Draws:
        return evaluator.gibbs(slots, posterior, rows(table), purpose)

    def estimate(draws: Draws, population: str) -> Estimate:
        if slots.space is Space.FACTORS:
            return risk_estimate(draws.units, INTERVAL_DELTA, population=population)
        shared = gibbs_risk(draws.losses, INTERVAL_DELTA / 2, draws.weights)
        right = gibbs_risk(1 - draws.losses, INTERVAL_DELTA / 2, draws.weights)
        shared = replace(shared, lower=1 - right.upper, confidence=1 - INTERVAL_DELTA)
        sampled = f"the rows are independent draws from {population}, and no fitting saw them"
        return replace(shared, assumptions=(*shared.assumptions, sampled))

    on_test = gibbs(inputs.test, "Gibbs predictor, test rows")
    on_train = None
    if inputs.heldout is not None:
        draws = gibbs(inputs.heldout, "Gibbs predictor, held-out train rows")
        on_train = estimate(draws, TRAIN)
    return replace(
        finished,
        test_risk=estimate(on_test, TEST),
        train_distribution_risk=on_train,
        empirical_risk=empirical_risk,
        agreement=_agreement(finished, on_test),
    )


def _agreement(finished: Measured, drawn: Draws) -> Estimate:
    same = np.isclose(finished.test_losses_finetuned, drawn.units, atol=1e-6)
    return Estimate.exactly(
        float(same.mean()),
        method=f"share of {same.size} test units with equal loss, one draw each",
        unit="probability",
    )
