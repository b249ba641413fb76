"""Which arms the evidence cannot tell apart, and what then decides: the least PAC-Bayes bound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pacbayes_sft.advise.predict import Evidence, Extra, Rule, Train, Values

LIKE = 0.05  # an arm whose 5 % quantile of (its total - another's) is not above 0 is like it
BOUND = Rule(Train.TIGHT, Extra.SLACK)  # PAC-Bayes-kl + D⁺ + 0.3·TV, as predicted


def alike(totals: Values, arm: int) -> NDArray[np.bool_]:
    """Return which arms are not told to be worse than this one, itself among them.

    Args:
        totals: Shape (draws, arms), the fit first (`Evidence.total`).
        arm: Place of the arm.
    """
    behind = np.quantile(totals[1:] - totals[1:, [arm]], LIKE, axis=0)
    found: NDArray[np.bool_] = behind <= 0
    found[arm] = True
    return found


def leader(evidence: Evidence, totals: Values, n: float, *, bound_breaks_ties: bool) -> int:
    """Return the advised arm: the least total, or of those like it the one with the least bound."""
    least = int(np.argmin(totals[0]))
    if not bound_breaks_ties:
        return least
    bound = evidence.total(BOUND, n)[0]
    return int(np.argmin(np.where(alike(totals, least), bound, np.inf)))
