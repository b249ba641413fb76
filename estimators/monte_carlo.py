"""The Gibbs risk by Monte Carlo, with the confidence that the number of draws pays for."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from estimators.concentration import check_delta, check_losses, kl_inverse_upper
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
    if w.shape != x.shape or w.min() < 0 or abs(float(w.sum()) - 1) > 1e-9:
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
