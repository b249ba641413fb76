"""The empirical risk of a frozen posterior, with the narrower of two Monte-Carlo limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from estimators import DiagonalGaussian, Estimate, gibbs_risk, split_gibbs_risk, split_pays
from pacbayes_sft.choices import Space
from pacbayes_sft.gibbs import Draws, Evaluator, Rows
from pacbayes_sft.models import Slots

PILOT_UNITS = 256
SAMPLED = "the units looked at are a random sample, without replacement, of the certified ones"


@dataclass(frozen=True)
class EmpiricalRisk:
    """The empirical Gibbs risk and what it was taken from.

    Attributes:
        risk: E_Q R̂_S with its Monte-Carlo limit.
        by_unit: Each unit looked at: its mean loss over its draws.
        draws: Draws a unit behind that.
    """

    risk: Estimate
    by_unit: Mapping[str, float] = field(repr=False, compare=False)
    draws: int


def empirical_gibbs_risk(
    evaluator: Evaluator,
    slots: Slots,
    posterior: DiagonalGaussian,
    certified: Rows,
    draws: int,
    delta: float,
    units: int | None = None,
) -> EmpiricalRisk:
    """Return E_Q R̂_S with its upper limit, for ``draws`` passes over the certified rows.

    With ``units`` only so many certified units are looked at, a random sample. The limits stand
    as they are: for independent X_i in [0,1] with means r_i and a uniform subset A of size m,
    E exp(t·Σ_A X_i) <= E Π_A (1 - r_i + r_i eᵗ) <= (1 - r̄ + r̄ eᵗ)ᵐ, the last step by Maclaurin's
    inequality for symmetric means, which is all that a Chernoff limit asks for.

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
        units: Certified units to look at; None: all.
    """
    whole = len(set(certified.units))
    certified = certified.sample(units, evaluator.seed)
    count = len(set(certified.units))
    found = _of_all(evaluator, slots, posterior, certified, draws, delta)
    if count == whole:
        return found
    risk = found.risk
    risk = replace(
        risk,
        method=f"{risk.method}, on {count} of {whole} units",
        assumptions=(*risk.assumptions, SAMPLED),
    )
    return replace(found, risk=risk)


def _of_all(
    evaluator: Evaluator,
    slots: Slots,
    posterior: DiagonalGaussian,
    certified: Rows,
    draws: int,
    delta: float,
) -> EmpiricalRisk:
    units = len(set(certified.units))
    if draws > 1 and slots.space is Space.FACTORS:
        pilot = certified.first_units(PILOT_UNITS)
        tried = evaluator.gibbs(slots, posterior, pilot, "pilot of split-kl")  # leaves Q's mean
        centre = evaluator.finished(pilot, "posterior's mean, pilot")
        if split_pays(tried.units, centre, units, draws, delta):
            found = evaluator.gibbs(slots, posterior, certified, "empirical risk", draws - 1)
            centre = evaluator.finished(certified, "posterior's mean, training rows")
            risk = split_gibbs_risk(found.losses.reshape(draws - 1, units), centre, delta)
            return EmpiricalRisk(risk, _by_unit(certified, found), draws - 1)
    found = evaluator.gibbs(slots, posterior, certified, "empirical risk", draws)
    risk = gibbs_risk(found.losses, delta, found.weights)
    return EmpiricalRisk(risk, _by_unit(certified, found), draws)


def _by_unit(rows: Rows, draws: Draws) -> dict[str, float]:
    return dict(zip(dict.fromkeys(rows.units), draws.units.tolist(), strict=True))
