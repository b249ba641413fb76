"""Attribute shift for a class of risk profiles: what a predictor may err on decides the cost.

Let r(d) be the predictor's risk at difficulty d, and let train and test differ only through d
(assumption (i)). For any class C of functions into [0,1] that was fixed in advance and holds r,

    R_test - R_train = E_q r - E_p r  <=  sup_{f in C} (E_q f - E_p f) =: D_C(q, p).

* all profiles: D_C is the total variation of the law of d;
* non-decreasing ones (assumption (ii)): D⁺ = sup_t (F_p(t) - F_q(t))₊, the one-sided Kolmogorov
  distance, zero when training is stochastically harder than the test;
* γ-slack, r(d') - r(d) <= γ for d' <= d: D⁺ + γ·TV, since r̄(d) = sup_{d' <= d} r(d') is
  non-decreasing and r - r̄ lies in [-γ, 0];
* Lipschitz, |r(d) - r(d')| <= L|d - d'|: a linear programme over the sorted values.

From samples, the plug-in value is biased upwards (a sup of unbiased gaps) and changes by at most
1/m when one of m values does, so McDiarmid adds √(½ ln(1/δ)(1/m_train + 1/m_test)), for any class.
Under a *fixed design* the law of training is the empirical one itself and its 1/m_train drops out.

A class other than all profiles is an assumption about the predictor. A number that rests on it is
an `estimate`, unless the assumption was tested on labelled held-out rows: `robust_shift`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from estimators.concentration import check_delta, is_law
from estimators.estimate import Estimate, Guarantee
from estimators.total_variation.attribute import ATTRIBUTE_SHIFT, SAMPLES

Law = Mapping[float, float] | Iterable[float]
MONOTONE = "assumption (ii): the predictor's risk does not fall with difficulty; not tested here"
FIXED_DESIGN = "fixed design: the bound speaks of the training rows' own difficulties"


@dataclass(frozen=True)
class Profiles:
    """A class of risk profiles.

    Attributes:
        slack: γ in [0, 1]: how far the risk may fall as difficulty rises; 1 allows every profile.
        lipschitz: L: how far it may change per unit of difficulty; None sets no limit.

    Raises:
        ValueError: If a number is out of its range, or both are limited.
    """

    slack: float = 1.0
    lipschitz: float | None = None

    def __post_init__(self) -> None:
        """Refuse classes that mean nothing."""
        if not 0 <= self.slack <= 1:
            raise ValueError(f"the slack γ must lie in [0, 1], got {self.slack}")
        if self.lipschitz is not None and not 0 <= self.lipschitz < math.inf:
            raise ValueError(f"L must be finite and >= 0, got {self.lipschitz}")
        if self.lipschitz is not None and self.slack < 1:
            raise ValueError("give a slack or a Lipschitz constant, not both")


ALL = Profiles()
NON_DECREASING = Profiles(slack=0.0)


def profile_shift(
    train: Law,
    test: Law,
    profiles: Profiles = ALL,
    delta: float = 0.05,
    *,
    fixed_design: bool = False,
) -> Estimate:
    """Return D_C(test, train), an upper limit on R_test - R_train for every risk profile in C.

    Args:
        train: The law of difficulty in training as {value: probability}, or the difficulty of each
            independent training unit.
        test: The same of testing.
        profiles: The class C, fixed without these samples.
        delta: Probability with which a limit from samples may fail; unused where both laws are
            known.
        fixed_design: Whether R_train means the average over the very rows of ``train``.

    Returns:
        ``exact`` for all profiles of known laws, ``upper`` for all profiles of samples, and an
        ``estimate`` for any other class; its ``upper`` holds under the class's assumption.

    Raises:
        ValueError: If a law or a sample is none, or a value is not a number.

    >>> uniform = lambda a, b: {float(k): 1 / (b - a + 1) for k in range(a, b + 1)}
    >>> profile_shift(uniform(6, 10), uniform(7, 11)).value
    0.2
    >>> profile_shift(uniform(8, 12), uniform(6, 12), NON_DECREASING).value
    0.0
    """
    check_delta(delta)
    values, p, m_train = law_of(train)
    others, q, m_test = law_of(test)
    values, p, q = on_common_values(values, p, others, q)
    gap = _largest_gap(values, p, q, profiles)
    sampled = (0.0 if m_train is None or fixed_design else 1 / m_train) + (
        0.0 if m_test is None else 1 / m_test
    )
    slack = math.sqrt(0.5 * math.log(1 / delta) * sampled)
    assumptions = [ATTRIBUTE_SHIFT]
    if m_train is not None or m_test is not None:
        assumptions.append(SAMPLES)
    if fixed_design:
        assumptions.append(FIXED_DESIGN)
    if profiles != ALL:
        assumptions.append(_said(profiles))
    method = f"shift over {_named(profiles)}" + (", plug-in + McDiarmid" if sampled else "")
    if profiles == ALL and not sampled:
        return Estimate.exactly(
            gap, method=method, assumptions=tuple(assumptions), unit="probability"
        )
    return Estimate(
        gap,
        0.0,
        min(1.0, gap + slack),
        1 - delta if sampled else 1.0,
        Guarantee.UPPER if profiles == ALL else Guarantee.ESTIMATE,
        method,
        tuple(assumptions),
        "probability",
    )


def breakdown_gamma(d_plus: float, tv: float, allowed: float) -> float:
    """Return the largest γ at which D⁺ + γ·TV stays within what a conclusion allows.

    0 where even γ = 0 breaks it, 1 where nothing does. A description of an assumption, no estimate.

    Raises:
        ValueError: If a number is no probability.

    >>> breakdown_gamma(0.25, 0.5, 0.5)
    0.5
    """
    for name, x in (("D⁺", d_plus), ("TV", tv)):
        if not 0 <= x <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {x}")
    if allowed < d_plus:
        return 0.0
    return 1.0 if tv == 0 else min(1.0, (allowed - d_plus) / tv)


def law_of(law: Law) -> tuple[NDArray[np.float64], NDArray[np.float64], int | None]:
    """Return sorted values, their probabilities, and the sample's size (None for a known law)."""
    size = None
    if isinstance(law, Mapping):
        weights = {float(k): float(w) for k, w in law.items()}
        if not is_law(weights.values()):
            raise ValueError("a law must be non-negative and sum to 1")
    else:
        counts = Counter(float(v) for v in law)
        size = counts.total()
        if not size:
            raise ValueError("a shift needs at least one unit on each side")
        weights = {v: c / size for v, c in counts.items()}
    if not all(map(math.isfinite, weights)):
        raise ValueError("a difficulty is not a finite number")
    values = np.array(sorted(weights))
    return values, np.array([weights[v] for v in values.tolist()]), size


def on_common_values(
    values: NDArray[np.float64],
    p: NDArray[np.float64],
    others: NDArray[np.float64],
    q: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the values of both laws, sorted, and both laws' probabilities of them."""
    every = np.union1d(values, others)
    wide_p, wide_q = np.zeros(len(every)), np.zeros(len(every))
    wide_p[np.searchsorted(every, values)] = p
    wide_q[np.searchsorted(every, others)] = q
    return every, wide_p, wide_q


def _largest_gap(
    values: NDArray[np.float64],
    p: NDArray[np.float64],
    q: NDArray[np.float64],
    profiles: Profiles,
) -> float:
    """Return sup over the class of Σ(q - p) f."""
    if profiles.lipschitz is not None:
        steps = np.diff(values) * profiles.lipschitz
        change = np.diff(np.eye(len(values)), axis=0)
        largest = float(np.abs(q - p).max())
        if largest == 0:
            return 0.0
        found = linprog(
            (p - q) / largest,  # else the solver's tolerance swallows a small gap
            A_ub=np.vstack([change, -change]),
            b_ub=np.concatenate([steps, steps]),
            bounds=(0, 1),
        )
        return float(min(1.0, max(0.0, -found.fun * largest)))
    total = 0.5 * float(np.abs(q - p).sum())
    ahead = np.cumsum(p - q)  # F_train - F_test
    d_plus = max(0.0, float(ahead.max()))
    d_plus = 0.0 if d_plus < 1e-12 else d_plus
    return min(1.0, total, d_plus + profiles.slack * total)


def _named(profiles: Profiles) -> str:
    if profiles.lipschitz is not None:
        return f"profiles with Lipschitz constant {profiles.lipschitz:g}"
    if profiles == ALL:
        return "all profiles (TV of the difficulty)"
    if profiles.slack == 0:
        return "non-decreasing profiles (D⁺)"
    return f"profiles with slack γ = {profiles.slack:g} (D⁺ + γ·TV)"


def _said(profiles: Profiles) -> str:
    if profiles == NON_DECREASING:
        return MONOTONE
    return f"the predictor's risk belongs to the {_named(profiles)}; not tested here"
