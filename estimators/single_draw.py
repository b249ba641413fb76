"""The disintegrated bound: a certificate for one saved draw θ ~ Q instead of the Gibbs predictor.

    with probability >= 1-δ over S **and** θ ~ Q_S:
    kl(R̂_S(θ)‖R(θ))  <=  max(0, ln(dQ/dP)(θ) + ln(ξ(n)/δ)) / n

Markov's inequality applied to E_S E_{θ~Q} [(dP/dQ)(θ) exp(n·kl(R̂_S(θ)‖R(θ)))] <= ξ(n), the
right-hand side by Fubini and Maurer's moment under P. Nothing is sampled to find R̂_S(θ): it is
one deterministic pass, so there is no Monte-Carlo term.
"""

from __future__ import annotations

import math

from estimators.bounds import LOSS, UNITS, as_estimate, bound_estimate
from estimators.concentration import check_delta, kl_inverse_upper, log_maurer_moment
from estimators.estimate import Estimate

ONE_DRAW = (
    "the bound holds for one draw: neither uniformly over draws nor over posteriors; "
    "every further draw, re-run or seed pays through `draw_delta`"
)
FRESH = (
    "the posterior was frozen before the draw, and the draw's generator was used nowhere in fitting"
)
UNROUNDED = "the density ratio was taken at the draw itself, before any rounding or cast"


def disintegrated(
    empirical_risk: float | Estimate, log_ratio: float | Estimate, n: int, delta: float
) -> Estimate:
    """Bound the risk of ONE draw θ ~ Q: kl(R̂_S(θ)‖R(θ)) <= max(0, ln(dQ/dP)(θ) + ln(ξ(n)/δ))/n.

    Rivasplata et al. 2020, Theorem 1 (with f = n·kl and Maurer's ξ(n)); Viallard et al. 2024.

    It is **not** uniform over draws or over Q. Pass ``delta`` through `draw_delta`: δ/K for each
    of K draws declared in advance, 6δ/(π²k²) for the k-th of an undeclared number. The smallest of
    many draws at the whole δ violates its level most of the time.

    Args:
        empirical_risk: R̂_S(θ) in [0, 1], of the deployed (rounded) draw r(θ) where one is deployed.
        log_ratio: ln(dQ/dP)(θ) in nats at the **unrounded** θ (`log_density_ratio`); may be
            negative. With a grid of priors, `log_density_ratio_mixture`.
        n: Independent units behind R̂_S.
        delta: Probability of failure of this draw's event.

    Raises:
        ValueError: If an argument is out of its range; minus infinity is no log ratio of a draw
            from Q.

    >>> round(disintegrated(0.1, 2.0, 1000, 0.05).upper, 4)
    0.1441
    """
    check_delta(delta)
    if n < 1:
        raise ValueError(f"a bound needs n >= 1 units, got {n}")
    risk = as_estimate(empirical_risk, "a risk given as a number")
    ratio = as_estimate(log_ratio, "a log density ratio given as a number")
    r, _ = risk.as_upper()
    c, _ = ratio.as_upper()
    if not 0 <= r <= 1:
        raise ValueError(f"the empirical risk must lie in [0, 1], got {r}")
    if not c > -math.inf:
        raise ValueError(f"the log density ratio must be a number of nats, got {c}")
    budget = max(0.0, c + log_maurer_moment(n) - math.log(delta)) / n
    return bound_estimate(
        kl_inverse_upper(r, budget),
        "disintegrated PAC-Bayes-kl, one draw (Rivasplata et al. 2020)",
        delta,
        [risk, ratio],
        (LOSS, UNITS, FRESH, ONE_DRAW, UNROUNDED),
    )


def draw_delta(delta: float, *, declared: int = 1, k: int | None = None) -> float:
    """Return the δ that one draw may spend, so that all draws together spend at most ``delta``.

    Either the number of draws was declared before the first one (δ/K each; re-runs and seeds
    count), or it was not, and the k-th spends 6δ/(π²k²), which sums to δ over all k.

    Args:
        delta: What all draws may spend together.
        declared: K, the number of draws declared in advance.
        k: The number of this draw, from 1, where none was declared. The counter must be stored.

    Raises:
        ValueError: If delta is no probability, a count is below 1, or both ways are asked for.

    >>> draw_delta(0.05, declared=5)
    0.01
    >>> round(draw_delta(0.05, k=1), 4)
    0.0304
    """
    check_delta(delta)
    if k is not None and declared != 1:
        raise ValueError("draws are either declared in advance or counted as they come, not both")
    number = declared if k is None else k
    if number < 1 or number != int(number):
        raise ValueError(f"draws are counted from 1, got {number}")
    return delta / declared if k is None else 6 * delta / (math.pi * k) ** 2
