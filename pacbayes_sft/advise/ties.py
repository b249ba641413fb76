"""Which arms the evidence cannot tell apart, and what then decides: the least PAC-Bayes bound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pacbayes_sft.advise.predict import Evidence, Extra, Rule, Train, Values

LIKE = 0.05  # an arm whose 5 % quantile of (its total - the best's) is not above 0 is like it
BOUND = Rule(Train.TIGHT, Extra.SLACK)  # PAC-Bayes-kl + D⁺ + 0.3·TV, as predicted


def alike(totals: Values) -> NDArray[np.bool_]:
    """Return which arms cannot be told from the one with the least total, itself among them.

    Args:
        totals: Shape (draws, arms), the fit first (`Evidence.total`).
    """
    best = int(np.argmin(totals[0]))
    behind = np.quantile(totals[1:] - totals[1:, [best]], LIKE, axis=0)
    found: NDArray[np.bool_] = behind <= 0
    found[best] = True
    return found


def leader(evidence: Evidence, totals: Values, n: float, *, bound_breaks_ties: bool) -> int:
    """Return the advised arm: the least total, or of those like it the one with the least bound."""
    if not bound_breaks_ties:
        return int(np.argmin(totals[0]))
    bound = evidence.total(BOUND, n)[0]
    return int(np.argmin(np.where(alike(totals), bound, np.inf)))
