"""A bound on test risk by importance weights over an attribute, in place of a shift term.

Needs assumption (i) (train and test differ only through the attribute) and a fixed design (the
rows' attributes are given). With q̂ the empirical law of the attribute on m test rows and n_a the
number of certified rows at value a, w_i = q̂(a_i)·n/n_{a_i}, B = max w:

    R_test  <=  q̂(values without a certified row)
              + B·kl⁻¹(mean(w·ℓ)/B, (KL + ln(ξ(n)/δ₁))/n)  +  √(ln(1/δ₂)/2m).

The weighted losses w·ℓ/B lie in [0,1] and are independent given the design, which is all that
PAC-Bayes-kl asks for (Hoeffding 1956). The last term pays for q̂ in place of q; where q is known it
is not needed. Without a common value the bound is q̂(all) = 1 and says nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.bounds import kl_bound
from estimators.concentration import check_delta, is_law
from estimators.estimate import Estimate, weakest
from estimators.total_variation.attribute import ATTRIBUTE_SHIFT

DESIGN = "fixed design: the certified rows are independent given their attribute"


@dataclass(frozen=True)
class ImportanceWeights:
    """Weights of certified rows.

    Attributes:
        weights: Shape (n,): w_i >= 0, mean one where every test value is covered.
        largest: B.
        uncovered: Share of the test law at values without a certified row.
        test_rows: m; None where the test law is known.
    """

    weights: NDArray[np.float64]
    largest: float
    uncovered: float
    test_rows: int | None


def importance_weights(
    train: Sequence[Hashable], test: Sequence[Hashable] | Mapping[Any, float]
) -> ImportanceWeights:
    """Return the weights that turn certified rows into the test law of the attribute.

    Args:
        train: Attribute of each certified unit.
        test: Attribute of each test unit, or its known law.

    Raises:
        ValueError: If a side is empty, or the known law is none.

    >>> importance_weights(["a", "a", "b"], ["a", "b"]).weights.tolist()
    [0.75, 0.75, 1.5]
    """
    if not train or not test:
        raise ValueError("importance weights need at least one unit on each side")
    have, n = Counter(train), len(train)
    if isinstance(test, Mapping):
        law, rows = dict(test), None
        if not is_law(law.values()):
            raise ValueError("a law must be non-negative and sum to 1")
    else:
        law, rows = {a: c / len(test) for a, c in Counter(test).items()}, len(test)
    weights = np.array([law.get(a, 0.0) * n / have[a] for a in train])
    uncovered = sum(share for a, share in law.items() if a not in have)
    return ImportanceWeights(weights, float(weights.max()), float(uncovered), rows)


def importance_weighted_bound(
    weighted_risk: Estimate | float,
    kl: Estimate,
    weights: ImportanceWeights,
    delta: float,
    delta_test: float,
) -> Estimate:
    """Return the bound on the Gibbs risk under the test distribution.

    Args:
        weighted_risk: mean(w·ℓ)/B over the certified units, in [0, 1], with its upper limit where
            draws were used (see `gibbs_risk`).
        kl: KL(Q‖P) in nats.
        weights: Of the certified units.
        delta: δ₁.
        delta_test: δ₂; not spent where the test law is known.

    Raises:
        ValueError: If a number is out of its range.
    """
    check_delta(delta_test)
    inner = kl_bound(weighted_risk, kl, len(weights.weights), delta)
    spent, pays = 0.0, 0.0
    if weights.test_rows is not None:
        spent, pays = delta_test, math.sqrt(math.log(1 / delta_test) / (2 * weights.test_rows))
    value = weights.uncovered + weights.largest * inner.upper + pays
    return Estimate(
        value,
        -math.inf,
        value,
        max(0.0, inner.confidence - spent),
        weakest([inner.guarantee]),
        "importance-weighted PAC-Bayes-kl",
        (*inner.assumptions, ATTRIBUTE_SHIFT, DESIGN),
        "probability",
    )
