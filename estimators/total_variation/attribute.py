"""Attribute shift: total variation through an observed attribute a(x), with an upper limit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import replace

from estimators.concentration import check_delta
from estimators.estimate import Estimate, Guarantee

ONLY_THROUGH = "assumption (i): train and test differ only through the attribute"
ATTRIBUTE_SHIFT = f"{ONLY_THROUGH} (the law of an example given its attribute is the same)"
SAMPLES = (
    "the attributes are independent draws, within each side and between the two, and no model that "
    "saw S made them"
)


def naming(found: Estimate, *names: str) -> Estimate:
    """Return the estimate with the attributes that it means named in its assumption."""
    named = " and ".join(map(repr, names))
    said = (
        a.replace(ONLY_THROUGH, f"{ONLY_THROUGH} {named}") if a == ATTRIBUTE_SHIFT else a
        for a in found.assumptions
    )
    return replace(found, assumptions=tuple(said))


def rests_on_attribute(found: Estimate) -> bool:
    """Return whether an estimate assumes that nothing but an attribute shifts."""
    return any(a.startswith(ONLY_THROUGH) for a in found.assumptions)


def total_variation_attribute(
    train: Iterable[Hashable], test: Iterable[Hashable], delta: float
) -> Estimate:
    """Return the TV of the attribute's law with a one-sided upper limit.

    TV = sup over functions f into [0,1] of E_test f - E_train f. The plug-in value is biased
    upwards (a sup of unbiased gaps) and changes by at most 1/m when one of m values changes, so
    McDiarmid gives, with probability >= 1-δ, TV <= plug-in + √(½ ln(1/δ)(1/m_train + 1/m_test)),
    whatever the number of values.

    Args:
        train: Attribute of each independent training unit.
        test: Attribute of each independent test unit.
        delta: Probability with which the limit may fail.

    Raises:
        ValueError: If either side is empty or delta is no confidence.

    >>> total_variation_attribute([1, 2], [2, 3], 0.05).value
    0.5
    """
    check_delta(delta)
    left, right = Counter(train), Counter(test)
    m_train, m_test = left.total(), right.total()
    if not m_train or not m_test:
        raise ValueError("an attribute shift needs at least one row on each side")
    plug_in = sum(abs(left[k] / m_train - right[k] / m_test) for k in {*left, *right}) / 2
    slack = math.sqrt(0.5 * math.log(1 / delta) * (1 / m_train + 1 / m_test))
    return Estimate(
        min(1.0, plug_in),
        0.0,
        min(1.0, plug_in + slack),
        1 - delta,
        Guarantee.UPPER,
        "total variation of an attribute, plug-in + McDiarmid",
        (ATTRIBUTE_SHIFT, SAMPLES),
        "probability",
    )
