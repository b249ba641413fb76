"""What a user could quote instead of the PAC-Bayes bound, computed beside it.

* ``held_out``: a binomial limit on the finished model from the test rows.
* ``prior_centre``: the same for the prior's own centre (the base, or the half-data checkpoint) on
  the certified rows, which it never saw. A bound that is no better certifies nothing of what the
  fine-tune learnt.
* ``compression``: the fine-tune quantised and written down in few nats, after SubLoRA (Lotfi et
  al. 2024), with a universal prior.

Each is a claim of its own at 1 - δ on the test distribution, what the shift term spends included,
outside the ledger of the bound; beside a shift that is only an estimate it claims nothing. Whoever
quotes the best of them pays for the choice: `best_of` says at which confidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from estimators import (
    Estimate,
    Guarantee,
    compression_bound,
    held_out_bound,
    quantise,
    with_shift,
)
from pacbayes_sft.gibbs import Evaluator, Rows
from pacbayes_sft.inputs import Inputs
from pacbayes_sft.risk import Losses, unit_means
from pacbayes_sft.slots import Slots

LEVELS = (3, 5, 9, 17)
PILOT_UNITS = 64


@dataclass(frozen=True)
class Baseline:
    """One limit on the risk under the test distribution, and of which predictor.

    Attributes:
        predictor: ``finished``, ``base`` or ``checkpoint`` (the prior's centre), ``quantised``.
        on_test: The limit on the risk under the test distribution.
        on_train: The same without the shift term; None where only test rows were used.
        note: What it needs or what it cost.
    """

    predictor: str
    on_test: Estimate
    on_train: Estimate | None
    note: str


@dataclass(frozen=True)
class PriorCentre:
    """The prior's own centre, for which the certified rows are held-out rows.

    Attributes:
        predictor: ``base`` or ``checkpoint``.
        rows: Shape (rows,): its loss on every certified row.
        units: Shape (units,): the mean of each unit's.
        assumptions: What must be true for the rows to be held out.
    """

    predictor: str
    rows: Losses
    units: Losses
    assumptions: tuple[str, ...]

    def limit(self, delta: float) -> Estimate:
        """Return the binomial (or Chernoff) limit on its risk at 1 - delta."""
        found = held_out_bound(self.units, delta)
        return replace(found, assumptions=(*found.assumptions, *self.assumptions))


def prior_centre(
    evaluator: Evaluator, slots: Slots, inputs: Inputs, certified: Rows
) -> PriorCentre:
    """Measure the prior's own centre; the model holds the finished weights before and after."""
    predictor = "checkpoint" if isinstance(inputs.prior, Path) else "base"
    slots.put(inputs.pair.prior)
    rows = evaluator.row_by_row(certified, f"the prior's centre ({predictor}), certified rows")
    slots.put(inputs.pair.posterior)
    units = unit_means(rows, certified.units)
    return PriorCentre(predictor, rows, units, inputs.pair.assumptions)


def baselines(
    evaluator: Evaluator,
    slots: Slots,
    inputs: Inputs,
    certified: Rows,
    centre: PriorCentre,
    shift: Estimate,
    test_losses: Losses,
    delta: float,
) -> dict[str, Baseline]:
    """Return every baseline that the inputs allow, each at 1 - delta on the test distribution.

    Args:
        evaluator: The model and the loss; its weights are the finished ones before and after.
        slots: Where the tensors live in it.
        inputs: Checkpoints and rows.
        certified: The certified rows, encoded.
        centre: The prior's own centre, measured on them.
        shift: The shift term.
        test_losses: Shape (test units,): losses of the finished model.
        delta: Probability of failure of each.
    """
    promised = shift.guarantee in (Guarantee.EXACT, Guarantee.UPPER)
    on_train = delta - shift.delta if promised else delta
    found = {
        "held_out": Baseline(
            "finished",
            held_out_bound(test_losses, delta),
            None,
            f"needs {len(test_losses):,} labelled test units, which the bound does not",
        )
    }
    limit = centre.limit(on_train)
    found["prior_centre"] = Baseline(
        centre.predictor,
        _carried(limit, shift),
        limit,
        f"the {centre.predictor} itself, of which the certified rows are held-out rows: risk "
        f"{limit.value:.3f} on them",
    )
    found["compression"] = _compression(evaluator, slots, inputs, certified, shift, on_train)
    slots.put(inputs.pair.posterior)
    return found


def best_of(claims: Mapping[str, Estimate]) -> tuple[str, Estimate]:
    """Return the least of several limits, at the confidence that all that claim hold together.

    One that claims nothing (an estimate) has no event that could fail; if it is the least, the
    choice claims nothing either.

    Raises:
        ValueError: If there are none.
    """
    if not claims:
        raise ValueError("nothing to choose from")
    name = min(claims, key=lambda k: claims[k].upper)
    spent = sum(claim.delta for claim in claims.values() if claim.confidence > 0)
    method = f"best of {len(claims)} limits: {claims[name].method}"
    confidence = max(0.0, 1 - spent) if claims[name].confidence > 0 else 0.0
    return name, replace(claims[name], confidence=confidence, method=method)


def _carried(limit: Estimate, shift: Estimate) -> Estimate:
    """Carry a limit to the test distribution; what is then only an estimate claims nothing."""
    carried = with_shift(limit, shift)
    claims = carried.guarantee is Guarantee.UPPER
    return carried if claims else replace(carried, confidence=0.0)


def _compression(
    evaluator: Evaluator,
    slots: Slots,
    inputs: Inputs,
    certified: Rows,
    shift: Estimate,
    delta: float,
) -> Baseline:
    """Quantise with the coarsest levels that a pilot bears, and bound what comes out."""
    pair = inputs.pair
    change = {name: t - pair.prior[name] for name, t in pair.posterior.items()}
    pilot = certified.first_units(PILOT_UNITS)

    def put(levels: int) -> float:
        symbols, nats = quantise(change, levels)
        slots.put({name: pair.prior[name] + q for name, q in symbols.items()})
        return nats + math.log(len(LEVELS))  # which of the levels: chosen after seeing the rows

    def promise(levels: int) -> float:
        nats = put(levels)
        risk = float(evaluator.finished(pilot, f"quantised to {levels} levels, pilot").mean())
        return risk + math.sqrt(nats / (2 * inputs.n))

    levels = min(LEVELS, key=promise)
    nats = put(levels)
    risk = float(evaluator.finished(certified, "quantised fine-tune, training rows").mean())
    limit = compression_bound(risk, nats, inputs.n, delta)
    # the code writes the change from the prior's centre, so it stands on what that stands on
    limit = replace(limit, assumptions=(*limit.assumptions, *pair.assumptions))
    return Baseline(
        "quantised",
        _carried(limit, shift),
        limit,
        f"{levels} levels, {nats / math.log(2) / 8 / 1024:,.0f} KiB, empirical risk {risk:.3f}",
    )
