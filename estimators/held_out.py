"""What a user would do without any theory: limit a fixed predictor's risk by unseen rows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from estimators.concentration import check_delta, check_losses, kl_inverse_upper
from estimators.estimate import Estimate, Guarantee

UNSEEN = "the predictor was fixed before these independent units were seen"


def held_out_bound(losses: ArrayLike, delta: float) -> Estimate:
    """Return a one-sided upper limit on the risk of a fixed predictor from unseen units.

    The binomial tail inverted (Clopper & Pearson 1934; Langford 2005, Theorem 3.3) if every loss
    is 0 or 1, else Chernoff's kl⁻¹(mean, ln(1/δ)/n).

    Args:
        losses: Shape (n,): the loss in [0, 1] of each independent unit.
        delta: Probability with which the limit may fail.

    Raises:
        ValueError: If there are no losses or one lies outside [0, 1].

    >>> round(held_out_bound([0.0] * 59, 0.05).upper, 4)
    0.0495
    """
    check_delta(delta)
    x = check_losses(losses)
    n, mean = x.size, float(x.mean())
    if np.isin(x, (0.0, 1.0)).all():
        errors = int(x.sum())
        upper = 1.0 if errors == n else float(stats.beta.isf(delta, errors + 1, n - errors))
        method = f"binomial tail inversion on {n} unseen units"
    else:
        upper = kl_inverse_upper(mean, math.log(1 / delta) / n)
        method = f"kl-Chernoff limit on {n} unseen units"
    return Estimate(
        mean,
        -math.inf,
        max(upper, mean),
        1 - delta,
        Guarantee.UPPER,
        method,
        (UNSEEN,),
        "probability",
    )
