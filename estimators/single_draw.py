"""Disintegrated bounds: for ONE draw from the posterior, that can be saved and deployed.

For θ ~ Q_S drawn once, after Q_S is frozen and by a generator that fitted nothing, with
probability >= 1-δ over S and θ:

    kl(R̂_S(θ)‖R(θ)) <= max(0, ln(dQ_S/dP)(θ) + ln(ξ(n)/δ)) / n

(Rivasplata et al. 2020; Viallard et al. 2023; ξ by Maurer 2004). No Monte Carlo enters. Unlike the
Gibbs bounds it is **not** uniform: not over draws, and not over posteriors chosen after the draw.
Whoever draws K times and keeps the best must share δ among the K (`draw_delta`): the best of
10,000 uncharged draws violates a 5 % bound most of the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from estimators.bounds import LOSS, UNITS
from estimators.concentration import check_delta, kl_inverse_upper, log_maurer_moment
from estimators.estimate import Estimate, Guarantee
from estimators.gaussian import DiagonalGaussian, NamedTensors

ONE_DRAW = (
    "the predictor is one draw from the posterior, made after it was frozen by a generator that "
    "fitted nothing, and it was not chosen among draws that are not paid for"
)


def disintegrated(empirical_risk: float, log_ratio: float, n: int, delta: float) -> Estimate:
    """Bound the risk of one draw θ: kl(R̂(θ)‖R(θ)) <= max(0, ln(dQ/dP)(θ) + ln(ξ(n)/δ))/n.

    Rivasplata et al. 2020, Theorem 1; Viallard et al. 2023.

    Args:
        empirical_risk: R̂_S(θ), of the draw itself as it is deployed, in [0, 1].
        log_ratio: ln(dQ/dP)(θ) in nats at the draw as it was drawn, unrounded.
        n: Independent units behind the risk.
        delta: Probability of failure for this draw: see `draw_delta`.

    Raises:
        ValueError: If an argument is out of its range.

    >>> round(disintegrated(0.1, -50.0, 100, 0.05).upper, 6)
    0.1
    """
    check_delta(delta)
    if n < 1 or not 0 <= empirical_risk <= 1 or math.isnan(log_ratio):
        raise ValueError(
            f"need n >= 1, a risk in [0, 1] and a log ratio, got {n}, {empirical_risk}, {log_ratio}"
        )
    budget = max(0.0, log_ratio + log_maurer_moment(n) - math.log(delta)) / n
    value = max(empirical_risk, kl_inverse_upper(empirical_risk, budget))
    return Estimate(
        value,
        -math.inf,
        value,
        1 - delta,
        Guarantee.UPPER,
        "disintegrated PAC-Bayes-kl (Rivasplata et al. 2020)",
        (LOSS, UNITS, ONE_DRAW),
        "probability",
    )


def draw_delta(delta: float, *, k: int = 1, declared: int | None = None) -> float:
    """Return the δ of one draw.

    Args:
        delta: What all draws together may spend.
        k: Which draw this is, counted from 1.
        declared: Number of draws declared in advance: each gets delta/declared. None: nothing was
            declared, the k-th gets 6δ/(π²k²), which sums to δ over all k.

    Raises:
        ValueError: If k is below 1, or beyond what was declared.

    >>> round(draw_delta(0.05), 4), draw_delta(0.05, k=2, declared=5)
    (0.0304, 0.01)
    """
    check_delta(delta)
    if k < 1 or (declared is not None and k > declared):
        raise ValueError(f"draw {k} of {declared if declared is not None else 'any number'}")
    return delta / declared if declared is not None else 6 * delta / (math.pi**2 * k**2)


def log_density_ratio(
    theta: NamedTensors, posterior: DiagonalGaussian, priors: Sequence[DiagonalGaussian]
) -> float:
    """Return ln q(θ) - ln((1/K)Σ_k p_k(θ)) in nats, in float64.

    With one prior it is ln(dQ/dP)(θ), whose mean under Q is the KL. With several, P is their equal
    mixture: a grid of prior scales costs at most ln K, and less where they agree.

    Args:
        theta: The draw, unrounded.
        posterior: Q.
        priors: The components of P.

    Raises:
        ValueError: If names differ or no prior is given.
    """
    if not priors:
        raise ValueError("a density ratio needs a prior")
    of_prior = torch.tensor([_log_density(theta, p) for p in priors], dtype=torch.float64)
    mixture = float(torch.logsumexp(of_prior, 0)) - math.log(len(priors))
    return _log_density(theta, posterior) - mixture


def _log_density(theta: NamedTensors, gaussian: DiagonalGaussian) -> float:
    if theta.keys() != gaussian.mean.keys():
        raise ValueError("the draw and the Gaussian name different tensors")
    total = 0.0
    for name, mean in gaussian.mean.items():
        scale = torch.as_tensor(gaussian.scale[name], dtype=torch.float64)
        standard = (theta[name].double() - mean.double()) / scale
        entry = -0.5 * standard.square() - scale.log() - 0.5 * math.log(2 * math.pi)
        total += float(entry.expand(mean.shape).sum())
    return total
