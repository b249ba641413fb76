"""Which arms are told apart, and between which of those that are near the bound decides.

These are two things. A *tie* is what the decision rule calls so: an arm whose 5 % quantile of (its
total - the least one's) is not above 0, each arm looked at alone. That rule was written down before
most of the map was measured (docs/advice.md) and is no test: the least arm is the least of the very
fit that the draws lie around, and several arms are looked at. What is *said* to be told apart comes
from a simultaneous comparison, which allows for both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pacbayes_sft.advise.predict import Evidence, Extra, Rule, Train, Values

LIKE = 0.05  # an arm whose 5 % quantile of (its total - the least one's) is not above 0 ties
ROUNDING = 1e-12  # sums of the same terms in another order are equal
LEVEL = 0.05  # at most so often is any of several equal arms told to be worse than another
BOUND = Rule(Train.TIGHT, Extra.SLACK)  # PAC-Bayes-kl + D⁺ + 0.3·TV, as predicted


def first_least(values: Values) -> int:
    """Return the place of the least value; of those equal up to rounding, the first.

    Arms stand in order of difficulty, so an exact tie goes to the easiest.
    """
    return int(np.flatnonzero(values <= np.min(values) + ROUNDING)[0])


def alike(totals: Values, arm: int) -> NDArray[np.bool_]:
    """Return which arms are not told to be worse than this one, itself among them.

    An arm is told to be worse if it lies behind by more standard deviations of the difference than
    any two of the arms differ by in 95 % of the draws, each arm moved to its fit: so differences
    look where all arms are equal. All pairs count (Tukey's range), so that ``arm`` may be the
    one that the same fit made the least.

    Args:
        totals: Shape (draws, arms), the fit first (`Evidence.total`).
        arm: Place of the arm.
    """
    noise = totals[1:] - totals[0]
    apart = noise[:, :, None] - noise[:, None, :]  # (draws, arms, arms)
    spread = np.sqrt(np.mean(apart**2, axis=0))
    farthest = np.max(apart / np.where(spread > 0, spread, np.inf), axis=(1, 2))
    limit = np.quantile(farthest, 1 - LEVEL, method="higher")
    found: NDArray[np.bool_] = totals[0] - totals[0, arm] <= limit * spread[:, arm]
    return found


def tied(totals: Values) -> NDArray[np.bool_]:
    """Return which arms tie with the least one by the rule, itself among them.

    Args:
        totals: As for `alike`.
    """
    first = first_least(totals[0])
    behind = np.quantile(totals[1:] - totals[1:, [first]], LIKE, axis=0)
    found: NDArray[np.bool_] = behind <= 0
    found[first] = True
    return found


def leader(evidence: Evidence, totals: Values, n: float, *, bound_breaks_ties: bool) -> int:
    """Return the advised arm: the least total, or of those tied with it the one of least bound."""
    if not bound_breaks_ties:
        return first_least(totals[0])
    bound = evidence.total(BOUND, n)[0]
    return first_least(np.where(tied(totals), bound, np.inf))
