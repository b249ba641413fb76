"""The truth beside the bound: measured risks and gaps, each with its own interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from estimators import DiagonalGaussian, Estimate, gibbs_risk
from pacbayes_sft.choices import Space
from pacbayes_sft.data.rows import Table
from pacbayes_sft.gibbs import Evaluator, Rows
from pacbayes_sft.inputs import Inputs
from pacbayes_sft.models import Slots
from pacbayes_sft.risk import risk_estimate

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
        test_risk: Gibbs risk on the test rows, what the bound speaks of.
        train_distribution_risk: Gibbs risk on held-out rows of the train distribution.
        empirical_risk: Gibbs risk on the certified rows.
    """

    test_risk_finetuned: Estimate
    train_risk_finetuned: Estimate
    test_risk: Estimate | None = None
    train_distribution_risk: Estimate | None = None
    empirical_risk: Estimate | None = None

    @property
    def generalization_gap(self) -> float | None:
        """Point value of R_train - R̂_S of the Gibbs predictor, where held-out rows allow."""
        if self.train_distribution_risk is None or self.empirical_risk is None:
            return None
        return self.train_distribution_risk.value - self.empirical_risk.value

    @property
    def extrapolation_gap(self) -> float | None:
        """Point value of R_test - R_train of the Gibbs predictor, where held-out rows allow."""
        if self.train_distribution_risk is None or self.test_risk is None:
            return None
        return self.test_risk.value - self.train_distribution_risk.value


def measure_finished(
    evaluator: Evaluator, inputs: Inputs, rows: Callable[[Table], Rows]
) -> Measured:
    """Measure the finished model; it must be in the evaluator's model unperturbed."""
    on_test = evaluator.finished(rows(inputs.test), "finished model, test rows")
    on_train = evaluator.finished(rows(inputs.certified), "finished model, training rows")
    return Measured(
        risk_estimate(on_test, INTERVAL_DELTA, population=TEST),
        Estimate.exactly(
            float(on_train.mean()),
            method=f"mean loss of {len(on_train)} training units",
            unit="probability",
        ),
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

    def gibbs(table: Table, population: str, purpose: str) -> Estimate:
        draws = evaluator.gibbs(slots, posterior, rows(table), purpose)
        if slots.space is Space.FACTORS:
            return risk_estimate(draws.units, INTERVAL_DELTA, population=population)
        shared = gibbs_risk(draws.losses, INTERVAL_DELTA, draws.weights)
        sampled = f"the rows are independent draws from {population}, and no fitting saw them"
        return replace(shared, assumptions=(*shared.assumptions, sampled))

    return replace(
        finished,
        test_risk=gibbs(inputs.test, TEST, "Gibbs predictor, test rows"),
        train_distribution_risk=(
            gibbs(inputs.heldout, TRAIN, "Gibbs predictor, held-out train rows")
            if inputs.heldout is not None
            else None
        ),
        empirical_risk=empirical_risk,
    )
