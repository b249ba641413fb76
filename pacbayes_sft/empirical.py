"""A frozen posterior on the certified rows: its risk, and its excess over the prior's centre."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from estimators import Estimate, Excess, excess_limits, gibbs_risk, split_gibbs_risk, split_pays
from estimators.gaussian import DiagonalGaussian
from pacbayes_sft.choices import Space
from pacbayes_sft.gibbs import Draws, Evaluator, Rows
from pacbayes_sft.risk import Losses
from pacbayes_sft.slots import Slots

PILOT_UNITS = 256
SAMPLED = "the units looked at are a random sample, without replacement, of the certified ones"


@dataclass(frozen=True)
class Empirical:
    """What the draws from Q say of the certified rows, each part with limits of its own.

    Attributes:
        risk: E_Q R̂_S with its upper limit.
        by_unit: Each unit looked at: its mean loss over its draws.
        draws: Draws a unit behind that.
        excess: E_Q of what Q errs more and less than the prior's centre, with limits; None where
            that was not measured on the same rows.
    """

    risk: Estimate
    by_unit: Mapping[str, float] = field(repr=False, compare=False)
    draws: int
    excess: Excess | None = None


def empirical_gibbs(
    evaluator: Evaluator,
    slots: Slots,
    posterior: DiagonalGaussian,
    certified: Rows,
    reference: Losses | None,
    draws: int,
    delta: float,
    excess_delta: float,
    units: int | None = None,
) -> Empirical:
    """Return E_Q R̂_S and the excess over the reference, for ``draws`` passes over the rows.

    With two passes or more a pilot decides whether one of them is spent on the posterior's mean,
    for split-kl. The pilot's draws are not used again, so the choice costs no δ. In ``weights``
    space rows share their draws and the plain limit stands. The excess is read off the same draws.

    With ``units`` only so many certified units are looked at, a random sample; several draws of a
    unit then count as one. The limit stands: for independent X_i in [0,1] with means r_i and a
    uniform subset A of size m, E exp(t·Σ_A X_i) <= E Π_A (1 - r_i + r_i eᵗ) <= (1 - r̄ + r̄ eᵗ)ᵐ, the
    last step by Maclaurin's inequality for symmetric means (for the means of disjoint blocks of A
    by their negative association), which is all that a Chernoff limit asks for.

    Args:
        evaluator: The model and the loss.
        slots: Where the tensors live in it.
        posterior: Q, frozen.
        certified: The certified rows.
        reference: Shape (rows,): their losses under the prior's own centre; None leaves the excess
            out.
        draws: Passes over them.
        delta: Probability with which the limit on the risk may fail.
        excess_delta: The same of the limits on the excess.
        units: Certified units to look at; None: all. Excludes a reference.
    """
    whole = len(set(certified.units))
    certified = certified.sample(units, evaluator.seed)
    count = len(set(certified.units))
    split = False
    # a part of the units has a mean of its own, on which split-kl's deterministic half stands
    if draws > 1 and slots.space is Space.FACTORS and count == whole:
        pilot = certified.first_units(PILOT_UNITS)
        tried = evaluator.gibbs(slots, posterior, pilot, "pilot of split-kl")  # leaves Q's mean
        centre = evaluator.finished(pilot, "posterior's mean, pilot")
        split = split_pays(tried.units, centre, count, draws, delta)
    made = draws - 1 if split else draws
    found = evaluator.gibbs(slots, posterior, certified, "empirical risk", made)
    if split:
        centre = evaluator.finished(certified, "posterior's mean, training rows")
        risk = split_gibbs_risk(found.losses.reshape(made, count), centre, delta)
    elif count == whole:
        risk = gibbs_risk(found.losses, delta, found.weights)
    else:
        over_passes = found.losses.reshape(made, -1).mean(axis=0)
        risk = gibbs_risk(over_passes, delta, found.weights.reshape(made, -1).sum(axis=0))
        method = f"{risk.method}, on {count} of {whole} units"
        risk = replace(risk, method=method, assumptions=(*risk.assumptions, SAMPLED))
    by_unit = dict(zip(dict.fromkeys(certified.units), found.units.tolist(), strict=True))
    excess = None if reference is None else excess_of(found, reference, excess_delta)
    return Empirical(risk, by_unit, made, excess)


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
