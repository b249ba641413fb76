"""The few inequalities that all else rests on: binary kl and its inverse, Maurer's moment, limits.

Everything here is a plain function of floats; the functions that return floats are mathematics,
not estimates. Limits on an unknown mean come back as `Estimate`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from estimators.estimate import Estimate, Guarantee

_SERIES_BELOW = 0.05  # relative gap under which a ln(a/b) + b - a is summed as a series
_SAFETY = 1e-12  # relative error allowed to the floating-point kl when a root is bracketed


def binary_kl(q: float, p: float) -> float:
    """Return kl(q‖p) = q ln(q/p) + (1-q) ln((1-q)/(1-p)) in nats; infinite where p excludes q.

    Written as the sum of two non-negative terms a ln(a/b) + b - a, so that nothing cancels when
    p is near q.

    Raises:
        ValueError: If either argument lies outside [0, 1].

    >>> binary_kl(0.0, 0.5) == math.log(2)
    True
    """
    _check_probability(q=q, p=p)
    if (p == 0 and q > 0) or (p == 1 and q < 1):
        return math.inf
    return _poisson_kl(q, p, p - q) + _poisson_kl(1 - q, 1 - p, q - p)


def kl_inverse_upper(q: float, budget: float) -> float:
    """Return the largest p with kl(q‖p) <= budget, never below the true root.

    The root is bracketed to neighbouring floats and the outer end is returned, with the
    floating-point error of the kl itself allowed for.

    Args:
        q: Empirical mean, in [0, 1].
        budget: Right-hand side in nats, >= 0; infinity gives 1.

    Raises:
        ValueError: If q is no probability or the budget is negative or NaN.

    >>> round(kl_inverse_upper(0.31, 0.01), 4), kl_inverse_upper(0.31, math.inf)
    (0.3776, 1.0)
    """
    _check_probability(q=q)
    _check_budget(budget)
    if q == 1 or budget == math.inf:
        return 1.0
    if q == 0:
        return min(1.0, math.nextafter(-math.expm1(-budget * (1 + _SAFETY)), 2.0))
    inside, outside = q, 1.0
    while True:
        middle = 0.5 * (inside + outside)
        if middle in (inside, outside):
            return outside
        if binary_kl(q, middle) * (1 - _SAFETY) > budget:
            outside = middle
        else:
            inside = middle


def kl_inverse_lower(q: float, budget: float) -> float:
    """Return the smallest p with kl(q‖p) <= budget, never above the true root.

    Raises:
        ValueError: As `kl_inverse_upper`.

    >>> round(kl_inverse_lower(0.31, 0.01), 4), kl_inverse_lower(0.0, 0.01)
    (0.2474, 0.0)
    """
    _check_probability(q=q)
    _check_budget(budget)
    if q == 0 or budget == math.inf:
        return 0.0
    if q == 1:
        return math.nextafter(math.exp(-budget * (1 + _SAFETY)), 0.0) if budget < 700 else 0.0
    outside, inside = 0.0, q
    while True:
        middle = 0.5 * (inside + outside)
        if middle in (inside, outside):
            return outside
        if binary_kl(q, middle) * (1 - _SAFETY) > budget:
            outside = middle
        else:
            inside = middle


def log_maurer_moment(n: int) -> float:
    """Return ln ξ(n), ξ(n) = Σ_k C(n,k) (k/n)^k (1-k/n)^(n-k) (Maurer 2004), rounded upwards.

    ξ(n) bounds E exp(n·kl(mean of n draws in [0,1] ‖ true mean)) and is at most 2√n for all
    n >= 1. It is summed in closed form: ξ(n) = n! eⁿ n⁻ⁿ Q(n+1, n) with Q the regularised upper
    incomplete gamma function.

    Raises:
        ValueError: If n < 1.

    >>> round(math.exp(log_maurer_moment(1)), 9)
    2.0
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if n < 64:
        k = np.arange(n + 1)
        terms = special.xlogy(k, k / n) + special.xlogy(n - k, 1 - k / n)
        binomials = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
        exact = float(special.logsumexp(terms + binomials))
    else:  # Robbins: n! <= sqrt(2πn) (n/e)^n e^(1/12n)
        stirling = 0.5 * math.log(2 * math.pi * n) + 1 / (12 * n)
        exact = stirling + math.log(float(special.gammaincc(n + 1.0, float(n))))
    return exact * (1 + 1e-12)


def clopper_pearson(successes: int, trials: int, delta: float) -> Estimate:
    """Return a success probability with its two-sided Clopper-Pearson interval at 1 - delta.

    Each side holds at delta/2, both together at delta.

    Raises:
        ValueError: If the counts or delta make no sense.

    >>> none_wrong = clopper_pearson(0, 50, delta=0.05)
    >>> none_wrong.value, round(none_wrong.upper, 4)
    (0.0, 0.0711)
    """
    whole = successes == int(successes) and trials == int(trials)
    if not whole or trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"need 0 <= successes <= trials >= 1, got {successes} of {trials}")
    check_delta(delta)
    low = (
        0.0
        if successes == 0
        else float(stats.beta.ppf(delta / 2, successes, trials - successes + 1))
    )
    high = (
        1.0
        if successes == trials
        else float(stats.beta.isf(delta / 2, successes + 1, trials - successes))
    )
    value = successes / trials
    return Estimate(
        value,
        min(low, value),
        max(high, value),
        1 - delta,
        Guarantee.UPPER,
        "Clopper-Pearson interval",
        ("the trials are independent with one success probability",),
        "probability",
    )


def kl_interval(mean: float, trials: int, delta: float) -> Estimate:
    """Return the mean of independent [0,1] variables with its two-sided kl-Chernoff interval.

    Holds for the average of the true means when these differ (Hoeffding 1956).

    Raises:
        ValueError: If mean, trials or delta make no sense.

    >>> shares = kl_interval(0.2, 100, delta=0.05)
    >>> round(shares.lower, 4), round(shares.upper, 4)
    (0.1072, 0.3216)
    """
    if trials < 1:
        raise ValueError(f"need at least one trial, got {trials}")
    check_delta(delta)
    budget = math.log(2 / delta) / trials
    return Estimate(
        mean,
        kl_inverse_lower(mean, budget),
        kl_inverse_upper(mean, budget),
        1 - delta,
        Guarantee.UPPER,
        "kl-Chernoff interval",
        ("the values are independent and lie in [0, 1]",),
        "probability",
    )


def check_losses(losses: ArrayLike) -> NDArray[np.float64]:
    """Return losses as a float64 vector; raise ``ValueError`` unless all lie in [0, 1]."""
    x = np.asarray(losses, dtype=np.float64)
    if x.ndim != 1 or x.size == 0:
        raise ValueError(f"losses must be a non-empty vector, got shape {x.shape}")
    if not (np.isfinite(x).all() and x.min() >= 0 and x.max() <= 1):
        raise ValueError("a loss lies outside [0, 1]")
    return x


def is_law(probabilities: Iterable[float]) -> bool:
    """Return whether numbers are probabilities of one law: none negative, none NaN, of sum 1."""
    every = list(probabilities)
    return bool(every) and all(p >= 0 for p in every) and abs(math.fsum(every) - 1) <= 1e-9


def check_delta(delta: float) -> None:
    """Raise ``ValueError`` unless 0 < delta < 1."""
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")


def _poisson_kl(a: float, b: float, gap: float) -> float:
    """A ln(a/b) + gap >= 0, gap = b - a (given exactly), by a series where a and b are close."""
    if a == 0:
        return gap
    x = gap / a
    if abs(x) >= _SERIES_BELOW:
        ratio = a / b
        log = math.log(ratio) if ratio < math.inf else math.log(a) - math.log(b)
        return a * log + gap
    return a * math.fsum((-1) ** k * x**k / k for k in range(18, 1, -1))


def _check_probability(**named: float) -> None:
    for name, p in named.items():
        if not 0 <= p <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {p}")


def _check_budget(budget: float) -> None:
    if not budget >= 0:
        raise ValueError(f"the kl budget must be >= 0 nats, got {budget}")
