"""Shift with the risk profile tested instead of assumed: labelled held-out rows limit it.

Simultaneous Clopper-Pearson limits on the risk at every difficulty turn the assumption that risk
does not fall with it into a measured γ (`robust_shift`), or bound the gap itself where both laws
are known (`slice_limit_shift`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from estimators.concentration import check_delta, clopper_pearson
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

FRESH = "the held-out rows are independent draws given their difficulty, and nothing saw them"


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
    held_out: Mapping[float, tuple[int, int]],
    delta: float = 0.05,
    *,
    fixed_design: bool = False,
) -> RobustShift:
    """Return D⁺ + γ·TV with γ limited by labelled held-out rows instead of assumed.

    Three events share δ. Simultaneous Clopper-Pearson limits [l_j, u_j] on the k difficulties,
    (0, 1) where no row is, give γ <= max_{i<j} (u_i - l_j)₊. The limits on D⁺ and on TV hold
    whatever γ is, so it may be chosen by the rows: D⁺ + γ·TV <= (D̂⁺ + s) + γ̂·(TV̂ + s).

    Args:
        train: As `profile_shift`.
        test: As `profile_shift`.
        held_out: For each difficulty (errors, rows) of the 0-1 loss of the same predictor on rows
            that nothing was fitted on. The difficulties looked at were fixed in advance.
        delta: Probability with which the limit may fail.
        fixed_design: As `profile_shift`.

    Raises:
        ValueError: If counts make no sense, or a law is none.

    >>> law = {1.0: 0.5, 2.0: 0.5}, {1.0: 0.2, 2.0: 0.8}
    >>> rows = {1.0: (100, 1000), 2.0: (500, 1000)}
    >>> round(robust_shift(*law, rows).limit.upper, 3)
    0.3
    """
    check_delta(delta)
    values, p, _ = law_of(train)
    others, q, _ = law_of(test)
    values, p, q = on_common_values(values, p, others, q)
    unknown = sorted(set(held_out) - set(values.tolist()))
    if unknown:
        raise ValueError(f"held-out rows of difficulty {unknown[0]:g}, which neither law knows")
    share = delta / 3
    limits = [_slice(held_out.get(v, (0, 0)), share / len(values)) for v in values.tolist()]
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
    assumptions = (*tv.assumptions, FRESH)
    limit = Estimate(
        min(value, upper),
        0.0,
        upper,
        1 - delta,
        Guarantee.ESTIMATE if untestable else Guarantee.UPPER,
        f"D⁺ + γ·TV with γ <= {gamma:.3f} from held-out rows",
        assumptions,
        "probability",
    )
    on_gamma = Estimate(
        gamma, 0.0, gamma, 1 - share, Guarantee.UPPER, "simultaneous Clopper-Pearson limits",
        (FRESH,), "probability",
    )  # fmt: skip
    return RobustShift(limit, on_gamma, untestable)


def slice_limit_shift(
    train: Mapping[float, float],
    test: Mapping[float, float],
    held_out: Mapping[float, tuple[int, int]],
    delta: float = 0.05,
) -> Estimate:
    """Return max Σ(q_j - p_j) r_j over l <= r <= u, for known laws: the sharpest of its kind.

    The linear programme falls apart into one choice a slice: r_j = u_j where q_j > p_j, else l_j.

    Args:
        train: Law of training.
        test: Law of testing.
        held_out: As `robust_shift`.
        delta: Probability with which a slice's limit may fail.

    Raises:
        ValueError: As `robust_shift`.
    """
    check_delta(delta)
    values, p, _ = law_of(train)
    others, q, _ = law_of(test)
    values, p, q = on_common_values(values, p, others, q)
    total = 0.0
    for value, change in zip(values.tolist(), (q - p).tolist(), strict=True):
        low, high = _slice(held_out.get(value, (0, 0)), delta / len(values))
        total += change * (high if change > 0 else low)
    total = min(1.0, total)
    return Estimate(
        total, -1.0, total, 1 - delta, Guarantee.UPPER,
        "linear programme over simultaneous limits on slices", (ATTRIBUTE_SHIFT, FRESH),
        "probability",
    )  # fmt: skip


def _slice(counts: tuple[int, int], delta: float) -> tuple[float, float]:
    errors, rows = counts
    if rows == 0 and errors == 0:
        return 0.0, 1.0
    found = clopper_pearson(errors, rows, delta)
    return found.lower, found.upper
