"""The empirical risk of a frozen posterior, with the narrower of two Monte-Carlo limits."""

from __future__ import annotations

from estimators import DiagonalGaussian, Estimate, gibbs_risk, split_gibbs_risk, split_pays
from pacbayes_sft.choices import Space
from pacbayes_sft.gibbs import Evaluator, Rows
from pacbayes_sft.models import Slots

PILOT_UNITS = 256


def empirical_gibbs_risk(
    evaluator: Evaluator,
    slots: Slots,
    posterior: DiagonalGaussian,
    certified: Rows,
    draws: int,
    delta: float,
) -> Estimate:
    """Return E_Q R̂_S with its upper limit, for ``draws`` passes over the certified rows.

    With two passes or more a pilot decides whether one of them is spent on the posterior's mean,
    for split-kl. The pilot's draws are not used again, so the choice costs no δ. In ``weights``
    space rows share their draws and the plain limit stands.

    Args:
        evaluator: The model and the loss.
        slots: Where the tensors live in it.
        posterior: Q, frozen.
        certified: The certified rows.
        draws: Passes over them.
        delta: Probability with which the limit may fail.
    """
    units = len(set(certified.units))
    if draws > 1 and slots.space is Space.FACTORS:
        pilot = certified.first_units(PILOT_UNITS)
        tried = evaluator.gibbs(slots, posterior, pilot, "pilot of split-kl")  # leaves Q's mean
        centre = evaluator.finished(pilot, "posterior's mean, pilot")
        if split_pays(tried.units, centre, units, draws, delta):
            found = evaluator.gibbs(slots, posterior, certified, "empirical risk", draws - 1)
            centre = evaluator.finished(certified, "posterior's mean, training rows")
            return split_gibbs_risk(found.losses.reshape(draws - 1, units), centre, delta)
    found = evaluator.gibbs(slots, posterior, certified, "empirical risk", draws)
    return gibbs_risk(found.losses, delta, found.weights)
