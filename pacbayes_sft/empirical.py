"""A frozen posterior on the certified rows: its risk, and its excess over the prior's centre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from estimators import Estimate, Excess, excess_limits, gibbs_risk, split_gibbs_risk, split_pays
from estimators.gaussian import DiagonalGaussian
from pacbayes_sft.choices import Space
from pacbayes_sft.gibbs import Draws, Evaluator, Rows
from pacbayes_sft.models import Slots
from pacbayes_sft.risk import Losses

PILOT_UNITS = 256


@dataclass(frozen=True)
class Empirical:
    """What the draws from Q say of the certified rows, each part with limits of its own.

    Attributes:
        risk: E_Q R̂_S with its upper limit.
        excess: E_Q of what Q errs more and less than the prior's centre, with limits.
    """

    risk: Estimate
    excess: Excess


def empirical_gibbs(
    evaluator: Evaluator,
    slots: Slots,
    posterior: DiagonalGaussian,
    certified: Rows,
    reference: Losses,
    draws: int,
    delta: float,
    excess_delta: float,
) -> Empirical:
    """Return E_Q R̂_S and the excess over the reference, for ``draws`` passes over the rows.

    With two passes or more a pilot decides whether one of them is spent on the posterior's mean,
    for split-kl. The pilot's draws are not used again, so the choice costs no δ. In ``weights``
    space rows share their draws and the plain limit stands. The excess is read off the same draws.

    Args:
        evaluator: The model and the loss.
        slots: Where the tensors live in it.
        posterior: Q, frozen.
        certified: The certified rows.
        reference: Shape (rows,): their losses under the prior's own centre.
        draws: Passes over them.
        delta: Probability with which the limit on the risk may fail.
        excess_delta: The same of the limits on the excess.
    """
    units = len(set(certified.units))
    split = False
    if draws > 1 and slots.space is Space.FACTORS:
        pilot = certified.first_units(PILOT_UNITS)
        tried = evaluator.gibbs(slots, posterior, pilot, "pilot of split-kl")  # leaves Q's mean
        centre = evaluator.finished(pilot, "posterior's mean, pilot")
        split = split_pays(tried.units, centre, units, draws, delta)
    made = draws - 1 if split else draws
    found = evaluator.gibbs(slots, posterior, certified, "empirical risk", made)
    if split:
        centre = evaluator.finished(certified, "posterior's mean, training rows")
        risk = split_gibbs_risk(found.losses.reshape(made, units), centre, delta)
    else:
        risk = gibbs_risk(found.losses, delta, found.weights)
    return Empirical(risk, excess_of(found, reference, excess_delta))


def excess_of(found: Draws, reference: Losses, delta: float) -> Excess:
    """Return the excess of draws over a fixed predictor on the same rows.

    The parts are taken row by row: rows of a unit may have draws of their own, and only one
    row's difference has the law that the theorem speaks of.
    """
    more, less = parts_of(found, reference)
    return excess_limits(more, less, delta, found.weights)


def parts_of(found: Draws, reference: Losses) -> tuple[Losses, Losses]:
    """Return the mean positive and negative part of each draw's difference, shape (m,) each."""
    difference = found.rows - reference
    clipped = (np.clip(sign * difference, 0.0, 1.0) for sign in (1, -1))
    more, less = (found.entries(part) for part in clipped)
    return more, less
