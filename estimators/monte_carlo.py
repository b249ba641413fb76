"""The Gibbs risk by Monte Carlo, with the confidence that the number of draws pays for."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from estimators.concentration import (
    check_delta,
    check_losses,
    kl_inverse_lower,
    kl_inverse_upper,
)
from estimators.estimate import Estimate, Guarantee

FROZEN = "the draws are independent of each other and were made after the posterior was frozen"


def gibbs_risk(losses: ArrayLike, delta: float, weights: ArrayLike | None = None) -> Estimate:
    """Return an upper limit on E_Q R̂_S from the losses of independent draws.

    With equal weights it is kl⁻¹(mean, ln(1/δ)/m) for m independent variables in [0,1], whose
    expectations may differ (Hoeffding 1956). Unequal weights w (the last batch is smaller) are
    brought to that case by the variables w_i x_i / max w, which lie in [0,1] too: with
    c = m·max w the limit is c·kl⁻¹(Σ w_i x_i / c, ln(1/δ)/m).

    Args:
        losses: Shape (m,): one loss in [0,1] per independent draw. A draw shared by several rows
            is one entry, the mean of their losses.
        delta: Probability with which the limit may fail.
        weights: Shape (m,): share of R̂_S that each entry stands for; sums to one. Equal if None.

    Raises:
        ValueError: If there are no losses, one lies outside [0,1], or the weights are no shares.

    >>> round(gibbs_risk([0.0] * 100, 0.05).upper, 4)
    0.0295
    """
    check_delta(delta)
    x = check_losses(losses)
    m = x.size
    w = np.full(m, 1 / m) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != x.shape or not (w.min() >= 0 and abs(float(w.sum()) - 1) <= 1e-9):
        raise ValueError("weights must be non-negative, one a loss, and sum to 1")
    mean = min(1.0, float(w @ x))
    spread = max(1.0, m * float(w.max()))
    upper = spread * kl_inverse_upper(mean / spread, math.log(1 / delta) / m)
    return Estimate(
        mean,
        -math.inf,
        min(1.0, max(upper, mean)),
        1 - delta,
        Guarantee.UPPER,
        f"Monte Carlo, {m} independent draws, kl-Chernoff limit",
        (FROZEN,),
        "probability",
    )


def split_gibbs_risk(losses: ArrayLike, centre: ArrayLike, delta: float) -> Estimate:
    """Return an upper limit on E_Q R̂_S from draws and one deterministic pass at Q's mean.

    The difference D = ℓ(θ, z) - ℓ(μ, z) of each draw lies in [-1, 1]; its positive and negative
    parts lie in [0, 1] and each has a kl-Chernoff limit at δ/2 (split-kl, Wu & Seldin 2022):

        E_Q R̂_S  <=  R̂_S(μ) + kl⁻¹(mean D₊, ln(2/δ)/m) - kl₋⁻¹(mean D₋, ln(2/δ)/m).

    Narrower than `gibbs_risk` where draws seldom change a loss: the width is that of the rare
    changes, not of the risk. See `split_pays`.

    Args:
        losses: Shape (r, units): r independent draws for every unit.
        centre: Shape (units,): losses at the posterior's mean, deterministic.
        delta: Probability with which the limit may fail.

    Raises:
        ValueError: If shapes do not fit or a loss lies outside [0, 1].

    >>> centre = [0.0, 1.0] * 500
    >>> split_gibbs_risk([centre], centre, 0.05).upper < gibbs_risk(centre, 0.05).upper
    True
    """
    check_delta(delta)
    mean = check_losses(centre)
    x = np.asarray(losses, dtype=np.float64)
    if x.ndim != 2 or x.shape[1:] != mean.shape:
        raise ValueError(f"losses must have shape (draws, {mean.size}), got {x.shape}")
    difference = check_losses(x.ravel()).reshape(x.shape) - mean
    more, less = _parts(difference)
    budget = math.log(2 / delta) / x.size
    value = float(x.mean())
    upper = float(mean.mean()) + kl_inverse_upper(more, budget) - kl_inverse_lower(less, budget)
    return Estimate(
        value,
        -math.inf,
        min(1.0, max(upper, value)),
        1 - delta,
        Guarantee.UPPER,
        f"Monte Carlo, {x.size} independent draws against the pass at the mean, split-kl limit",
        (FROZEN,),
        "probability",
    )


def split_pays(pilot: ArrayLike, centre: ArrayLike, units: int, draws: int, delta: float) -> bool:
    """Whether split-kl promises a lower limit than plain draws, at an equal number of passes.

    One deterministic pass and ``draws`` - 1 draws a unit are held against ``draws`` draws. To be
    decided on draws of a pilot, never on those that will be certified: then it costs no δ.

    Args:
        pilot: Shape (k,): losses under one draw each.
        centre: Shape (k,): losses of the same units at the mean.
        units: Units of the certified sample.
        draws: Draws a unit.
        delta: Probability with which the limit may fail.

    >>> centre = [0.0, 1.0] * 50
    >>> split_pays(pilot=centre, centre=centre, units=1000, draws=8, delta=0.05)
    True
    """
    if draws < 2:
        return False
    x, mean = check_losses(pilot), check_losses(centre)
    more, less = _parts(x - mean)
    plain = kl_inverse_upper(float(x.mean()), math.log(1 / delta) / (units * draws))
    budget = math.log(2 / delta) / (units * (draws - 1))
    split = kl_inverse_upper(more, budget) - kl_inverse_lower(less, budget)
    return float(mean.mean()) + split < plain


def _parts(difference: np.ndarray) -> tuple[float, float]:
    """Return the means of the positive and of the negative part."""
    more = float(np.maximum(difference, 0).mean())
    return more, max(0.0, more - float(difference.mean()))
