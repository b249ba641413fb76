"""Total variation of an observed labelled mixture."""

from __future__ import annotations

from scipy import stats

from estimators.concentration import check_delta
from estimators.estimate import Estimate, Guarantee

MIXTURE = (
    "the test law is (1-λ)·train + λ·other, and whoever labelled the rows knew which came from "
    "where"
)
DRAWS = "the labelled test rows are independent draws"


def labelled_mixture(foreign: int, rows: int, delta: float) -> Estimate:
    """Return an upper limit on TV(D_test, D_train) <= λ from labelled test rows.

    For D_test = (1-λ)D_train + λD', TV(D_test, D_train) = λ·TV(D', D_train) <= λ, and the number of
    rows from D' is binomial, so Clopper-Pearson's one-sided limit on λ is one on TV.

    Args:
        foreign: Test rows from D'.
        rows: Test rows, independent.
        delta: Probability with which the limit may fail.

    Raises:
        ValueError: If the counts make no sense.

    >>> round(labelled_mixture(0, 100, 0.05).upper, 4)
    0.0295
    """
    check_delta(delta)
    if not 0 <= foreign <= rows or rows < 1:
        raise ValueError(f"need 0 <= foreign <= rows >= 1, got {foreign} of {rows}")
    upper = 1.0 if foreign == rows else float(stats.beta.isf(delta, foreign + 1, rows - foreign))
    return Estimate(
        foreign / rows,
        0.0,
        max(upper, foreign / rows),
        1 - delta,
        Guarantee.UPPER,
        "labelled mixture, Clopper-Pearson limit on its share",
        (MIXTURE, DRAWS),
        "probability",
    )
