"""Shift with the risk profile tested instead of assumed: labelled held-out rows limit it.

Simultaneous limits on the risk at every difficulty turn the assumption that risk does not fall
with it into a measured γ (`robust_shift`), or bound the gap itself where both laws are known
(`slice_limit_shift`). They are Clopper-Pearson's where each loss is 0 or 1, and kl-Chernoff's where
it is a mean (a unit of several rows).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from estimators.concentration import check_delta, clopper_pearson, kl_interval
from estimators.display import rounded_up
from estimators.estimate import Estimate, Guarantee
from estimators.total_variation.attribute import ATTRIBUTE_SHIFT
from estimators.total_variation.risk_profiles import (
    ALL,
    NON_DECREASING,
    Law,
    law_of,
    on_common_values,
    profile_shift,
)

HeldOut = Mapping[float, tuple[float, int]]
THESE = (
    "the difficulties were fixed in advance, and none but those in the two samples has any "
    "probability (of one in neither sample no limit on the risk is in γ)"
)
FRESH = (
    "the held-out rows are, given their difficulty, independent draws of the law that train and "
    "test rows of that difficulty have, and nothing saw them"
)


@dataclass(frozen=True)
class RobustShift:
    """Outcome of `robust_shift`.

    Attributes:
        limit: On R_test - R_train; ``upper`` only where every test bucket is covered.
        gamma: Upper limit on γ.
        untestable: Test difficulties without a labelled held-out row.
    """

    limit: Estimate
    gamma: Estimate
    untestable: tuple[float, ...]


def robust_shift(
    train: Law,
    test: Law,
    held_out: HeldOut,
    delta: float = 0.05,
    *,
    fixed_design: bool = False,
    binary: bool = True,
) -> RobustShift:
    """Return D⁺ + γ·TV with γ limited by labelled held-out rows instead of assumed.

    Three events share δ. Simultaneous limits [l_j, u_j] on the k difficulties, (0, 1) where no row
    is, give γ <= max_{i<j} (u_i - l_j)₊. The limits on D⁺ and on TV hold whatever γ is, so it may
    be chosen by the rows: D⁺ + γ·TV <= (D̂⁺ + s) + γ̂·(TV̂ + s).

    Args:
        train: As `profile_shift`.
        test: As `profile_shift`.
        held_out: For each difficulty (sum of losses, units) of the same predictor on units that
            nothing was fitted on. The difficulties looked at were fixed in advance; where a law
            is a sample, they are those of the two samples, and `THESE` is assumed.
        delta: Probability with which the limit may fail.
        fixed_design: As `profile_shift`.
        binary: Whether each unit's loss is 0 or 1; else it may be anything between, as the mean
            over a unit's rows is.

    Raises:
        ValueError: If counts make no sense, or a law is none.

    >>> law = {1.0: 0.5, 2.0: 0.5}, {1.0: 0.2, 2.0: 0.8}
    >>> rows = {1.0: (100, 1000), 2.0: (500, 1000)}
    >>> round(robust_shift(*law, rows).limit.upper, 3)
    0.3
    """
    check_delta(delta)
    values, p, m_train = law_of(train)
    others, q, m_test = law_of(test)
    values, p, q = on_common_values(values, p, others, q)
    unknown = sorted(set(held_out) - set(values.tolist()))
    if unknown:
        raise ValueError(f"held-out rows of difficulty {unknown[0]:g}, which neither law knows")
    share = delta / 3
    limits = [_slice(held_out.get(v, (0, 0)), share / len(values), binary) for v in values.tolist()]
    gamma, highest = 0.0, 0.0
    for low, high in limits:  # in the order of difficulty: the worst earlier u against each l
        gamma = max(gamma, highest - low)
        highest = max(highest, high)
    untestable = tuple(
        float(v) for v, weight in zip(values, q, strict=True) if weight > 0 and not
        sum(held_out.get(float(v), (0, 0)))
    )  # fmt: skip
    d_plus = profile_shift(train, test, NON_DECREASING, share, fixed_design=fixed_design)
    tv = profile_shift(train, test, ALL, share, fixed_design=fixed_design)
    value = min(1.0, d_plus.value + gamma * tv.value)
    # γ = 1 allows every profile, so plain TV holds too
    upper = min(tv.upper, d_plus.upper + gamma * tv.upper)
    these = () if m_train is None and m_test is None else (THESE,)
    assumptions = (*tv.assumptions, FRESH, *these)
    limit = Estimate(
        min(value, upper),
        0.0,
        upper,
        1 - delta,
        Guarantee.ESTIMATE if untestable else Guarantee.UPPER,
        f"D⁺ + γ·TV with γ <= {rounded_up(gamma, 3)} from held-out rows",
        assumptions,
        "probability",
    )
    on_gamma = Estimate(
        gamma, 0.0, gamma, 1 - share, Guarantee.UPPER,
        f"simultaneous {'Clopper-Pearson' if binary else 'kl-Chernoff'} limits",
        (FRESH, *these), "probability",
    )  # fmt: skip
    return RobustShift(limit, on_gamma, untestable)


def slice_limit_shift(
    train: Mapping[float, float],
    test: Mapping[float, float],
    held_out: HeldOut,
    delta: float = 0.05,
    *,
    binary: bool = True,
) -> Estimate:
    """Return max Σ(q_j - p_j) r_j over l <= r <= u, for known laws: the sharpest of its kind.

    The linear programme falls apart into one choice a slice: r_j = u_j where q_j > p_j, else l_j.
    It limits R_test - R_train itself, so it is negative where the test is surely the easier.

    Args:
        train: Law of training.
        test: Law of testing.
        held_out: As `robust_shift`.
        delta: Probability with which a slice's limit may fail.
        binary: As `robust_shift`.

    Raises:
        ValueError: As `robust_shift`.
    """
    check_delta(delta)
    values, p, _ = law_of(train)
    others, q, _ = law_of(test)
    values, p, q = on_common_values(values, p, others, q)
    total = 0.0
    for value, change in zip(values.tolist(), (q - p).tolist(), strict=True):
        low, high = _slice(held_out.get(value, (0, 0)), delta / len(values), binary)
        total += change * (high if change > 0 else low)
    total = max(-1.0, min(1.0, total))
    return Estimate(
        total, -1.0, total, 1 - delta, Guarantee.UPPER,
        "linear programme over simultaneous limits on slices", (ATTRIBUTE_SHIFT, FRESH),
        "probability",
    )  # fmt: skip


def _slice(counts: tuple[float, int], delta: float, binary: bool) -> tuple[float, float]:
    errors, rows = counts
    if rows == 0 and errors == 0:
        return 0.0, 1.0
    if rows < 1 or not 0 <= errors <= rows * (1 + 1e-12):
        raise ValueError(f"need 0 <= errors <= rows >= 1, got {errors} of {rows}")
    if not binary:
        found = kl_interval(min(1.0, errors / rows), rows, delta)
    elif errors == int(errors):
        found = clopper_pearson(int(errors), rows, delta)
    else:
        raise ValueError(f"{errors} is no number of errors; say binary=False of means over rows")
    return found.lower, found.upper
