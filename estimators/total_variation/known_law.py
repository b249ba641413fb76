"""Total variation between two known laws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from estimators.concentration import is_law
from estimators.estimate import Estimate

Value = TypeVar("Value")


def total_variation_known(train: Mapping[Value, float], test: Mapping[Value, float]) -> Estimate:
    """Return TV = ½Σ|p - q| of two laws on a countable set, exact.

    When the law of a whole example given this value is the same on both sides, this is the TV of
    the examples too.

    Args:
        train: Probability of each value in training.
        test: Probability of each value in testing.

    Raises:
        ValueError: If either is not a probability law.

    >>> uniform = lambda a, b: {k: 1 / (b - a + 1) for k in range(a, b + 1)}
    >>> total_variation_known(uniform(1, 8), uniform(5, 12)).value
    0.5
    """
    for name, law in (("train", train), ("test", test)):
        if not is_law(law.values()):
            raise ValueError(f"the {name} law must be non-negative and sum to 1")
    distance = sum(abs(train.get(k, 0.0) - test.get(k, 0.0)) for k in {*train, *test}) / 2
    return Estimate.exactly(
        min(1.0, distance),
        method="total variation of known laws",
        assumptions=("train and test differ only in the law of this value",),
        unit="probability",
    )
