"""Recursive PAC-Bayes, one step: limit a fixed predictor's risk, and only the *excess* over it.

    R(Q)  =  R(h₀) + E_{θ~Q}[R(θ) - R(h₀)]

h₀ is the prior's own centre (the base, or a checkpoint), so the certified units are held-out units
for it and a binomial limit on R(h₀) costs no KL. The excess D = ℓ(θ, z) - ℓ(h₀, z) lies in [-1, 1]
and is mostly 0 where Q and h₀ agree: its variance, not that of the loss, multiplies the KL
(Wu, Zhang, Chérief-Abdellatif & Seldin 2024, with γ = 1 and T = 2).

The excess is limited by betting (Waudby-Smith & Ramdas 2023; Jang et al. 2023). For a bet x in
(0, 1) and any θ with d(θ) = R(θ) - R(h₀), E_S Π_i (1 - x D_i) <= (1 - x d(θ))ⁿ. A mixture of bets
with weights w fixed in advance, Markov, the change of measure and Jensen (-ln(1 - x d) is convex,
log-sum-exp of convex functions is) give: with probability >= 1-δ, for all Q at once,

    ln Σ_j w_j exp( n[ E_Q mean ln(1 - x_j D)  -  ln(1 - x_j d(Q)) ] )  <=  KL(Q‖P) + ln(1/δ),

an upper limit on d(Q) = E_Q d(θ). ln(1 - xD) is concave on [-1, 0] and on [0, 1], so the first term
is at least E_Q D̂₊·ln(1-x) + E_Q D̂₋·ln(1+x), with equality for losses of 0 and 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from estimators.bounds import LOSS, UNITS, as_estimate, bound_estimate
from estimators.concentration import check_delta
from estimators.estimate import Estimate, Guarantee
from estimators.monte_carlo import gibbs_risk

REFERENCE = "the reference predictor was fixed before the n units were seen"
SAFETY = 1e-12  # relative error allowed to the sums in floating point
LARGEST_BET = 0.9


@dataclass(frozen=True)
class Excess:
    """E_Q of the positive and of the negative part of ℓ(θ, z) - ℓ(h₀, z), averaged over units.

    Attributes:
        more: E_Q D̂₊, with an upper limit.
        less: E_Q D̂₋, with a lower limit.

    >>> round(Excess.exactly(more=0.03, less=0.01).value, 3)
    0.02
    """

    more: Estimate
    less: Estimate

    @property
    def value(self) -> float:
        """Point value of E_Q R̂_S - R̂_S(h₀)."""
        return self.more.value - self.less.value

    @property
    def delta(self) -> float:
        """The probability with which either limit may fail."""
        return self.more.delta + self.less.delta

    @classmethod
    def exactly(cls, more: float, less: float) -> Excess:
        """Return an excess that is known, of a deterministic pass."""
        parts = [Estimate.exactly(part, method="deterministic pass") for part in (more, less)]
        return cls(*parts)


def excess_limits(
    more: ArrayLike, less: ArrayLike, delta: float, weights: ArrayLike | None = None
) -> Excess:
    """Return limits on E_Q D̂₊ and E_Q D̂₋ from independent draws, each at δ/2.

    Where a draw served several rows its entry is the mean of the parts of their differences. Parts
    are taken row by row, before any average over the rows of a unit: that errs on the safe side.

    Args:
        more: Shape (m,): the positive part of each draw's difference, in [0, 1].
        less: Shape (m,): the negative part, in [0, 1].
        delta: Probability with which either limit may fail.
        weights: Shape (m,): share of R̂_S that each entry stands for. Equal if None.

    Raises:
        ValueError: As `estimators.gibbs_risk`.

    >>> found = excess_limits([0.0] * 100, [0.0] * 100, 0.05)
    >>> round(found.more.upper, 4), found.less.lower
    (0.0362, 0.0)
    """
    check_delta(delta)
    upper = gibbs_risk(more, delta / 2, weights)
    mirrored = gibbs_risk(1 - np.asarray(less, dtype=np.float64), delta / 2, weights)
    value = 1 - mirrored.value
    lower = Estimate(
        value,
        min(value, 1 - mirrored.upper),
        math.inf,
        mirrored.confidence,
        Guarantee.LOWER,
        mirrored.method,
        mirrored.assumptions,
        mirrored.unit,
    )
    return Excess(upper, lower)


def recursive_bound(
    reference: float | Estimate, excess: Excess, kl: float | Estimate, n: int, delta: float
) -> Estimate:
    """Recursive PAC-Bayes, one step: R(Q) <= limit on R(h₀) + limit on E_Q[R(θ) - R(h₀)].

    Args:
        reference: R(h₀), as its upper limit if it was estimated.
        excess: How much more and how much less Q errs than h₀ on the same n units.
        kl: KL(Q‖P) in nats; h₀ need not have to do with P, but is best its centre.
        n: Independent units behind the excess.
        delta: Probability of failure of the excess's event.

    Raises:
        ValueError: If an argument is out of its range.

    >>> close = Excess.exactly(more=0.004, less=0.004)
    >>> round(recursive_bound(0.25, close, 0.5, 4096, 0.05).upper, 3)
    0.255
    """
    known = as_estimate(reference, "a risk given as a number")
    complexity = as_estimate(kl, "a KL given as a number")
    risk, nats = known.as_upper()[0], complexity.as_upper()[0]
    if not 0 <= risk <= 1:
        raise ValueError(f"the reference's risk must lie in [0, 1], got {risk}")
    if not nats >= 0:
        raise ValueError(f"KL must be >= 0 nats, got {nats}")
    found = excess_upper(excess, nats, n, delta)
    parts = [known, complexity, *_as_inputs(excess)]
    return bound_estimate(
        max(0.0, risk + found),
        "recursive PAC-Bayes over the prior's centre, one step (Wu et al. 2024)",
        delta,
        parts,
        (LOSS, UNITS, REFERENCE),
    )


def excess_upper(excess: Excess, complexity: float, n: int, delta: float) -> float:
    """Return the limit on d(Q) = E_Q[R(θ) - R(h₀)], never below the true root.

    Args:
        excess: Its limits enter, each on its own side.
        complexity: KL(Q‖P) in nats; for one draw θ ~ Q ln(dQ/dP)(θ), which may be negative.
        n: Independent units.
        delta: Probability of failure.

    Raises:
        ValueError: If an argument is out of its range.
    """
    check_delta(delta)
    if n < 1:
        raise ValueError(f"a bound needs n >= 1 units, got {n}")
    more, less = excess.more.as_upper()[0], _lower(excess.less)
    if not (0 <= more <= 1 and 0 <= less <= 1):
        raise ValueError(f"the parts of an excess lie in [0, 1], got {more} and {less}")
    budget = max(0.0, complexity - math.log(delta)) * (1 + SAFETY)
    x = [float(bet) for bet in bets(n)]
    growth = [more * math.log1p(-bet) + less * math.log1p(bet) for bet in x]

    def spent(d: float) -> float:
        terms = [n * (g - math.log1p(-bet * d)) for g, bet in zip(growth, x, strict=True)]
        largest = max(terms)
        return largest + math.log(math.fsum(math.exp(t - largest) for t in terms) / len(x))

    inside, outside = -1.0, 1.0
    if spent(outside) <= budget:
        return 1.0
    while True:
        middle = 0.5 * (inside + outside)
        if middle in (inside, outside):
            return max(outside, more - less)
        if spent(middle) > budget:
            outside = middle
        else:
            inside = middle


def bets(n: int) -> np.ndarray:
    """Return the bets, equal weights each: 0.9, 0.45, ... down to about 3/√n.

    The best bet is √(2(KL + ln(1/δ))/(n·E D²)), never below √(5.99/n) where δ <= 0.05.
    """
    down_to = 3 / math.sqrt(n)
    halvings = max(0, math.floor(math.log2(LARGEST_BET / down_to))) if down_to < 1 else 0
    return LARGEST_BET * 0.5 ** np.arange(halvings + 1)


def _lower(less: Estimate) -> float:
    """What may stand where a lower limit is asked for."""
    sound = less.guarantee in (Guarantee.EXACT, Guarantee.LOWER)
    return less.lower if sound else less.value


def _as_inputs(excess: Excess) -> list[Estimate]:
    """The parts as inputs of a bound: the lower limit of what is subtracted is on its own side."""
    sound = excess.less.guarantee in (Guarantee.EXACT, Guarantee.LOWER)
    label = Guarantee.UPPER if sound else Guarantee.ESTIMATE
    less = Estimate(
        -excess.less.value,
        -math.inf,
        -_lower(excess.less),
        excess.less.confidence,
        label,
        excess.less.method,
        excess.less.assumptions,
    )
    return [excess.more, less]
