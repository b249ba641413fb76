"""What a two-sample test can see of a shift that is spread over all rows.

Figures of the best rule, with error rates near one half, where its noise is largest. A shift that
sits in few rows (a mark that one side in twenty has and the other never) is seen far below them. A
classifier finds what it has learnt to see, so no number of rows promises that it finds a shift.
"""

from __future__ import annotations

import math

from scipy import stats

from estimators.concentration import check_delta


def detection_floors(counts: tuple[int, int], delta: float) -> tuple[float, float]:
    """Return from which TV on a spread shift passes a z-test, and where that has 80 % power.

    Both are those of a z-test with the best rule that there is, at error rates near ½. Where they
    would pass 1, no TV there is can be told from noise, and 1 is returned.

    Args:
        counts: Held-out rows of either side.
        delta: Level of the test.
    """
    total = 4 / (1 / counts[0] + 1 / counts[1])
    z = float(stats.norm.isf(delta / 2))
    floors = z / math.sqrt(total), (z + float(stats.norm.ppf(0.8))) / math.sqrt(total)
    return min(1.0, floors[0]), min(1.0, floors[1])


def certificate_floor(counts: tuple[int, int], delta: float) -> float:
    """Return about the TV from which on a held-out certificate is above 0 with 80 % power.

    Of the best rule for a shift spread over all rows, with equal rates p = (1 + TV)/2, by the
    normal law: each of the two rates pays for its own limit, z_{1-δ/2}·√(p(1-p)/m), while a z-test
    pays for the deviation of their sum, and Clopper-Pearson's limits lie 1/m or so beyond the
    normal ones. Hence about 1.3 times what
    `detection_floors` says at δ = 0.05. Below 1 always; with few rows it is too low.

    Args:
        counts: Held-out rows of either side.
        delta: Shared by the limits on the two rates.

    Raises:
        ValueError: If delta is no confidence.

    >>> floor = certificate_floor((500, 500), 0.05)
    >>> round(floor, 3), round(detection_floors((500, 500), 0.05)[1], 3)
    (0.117, 0.089)
    """
    check_delta(delta)
    z, power = float(stats.norm.isf(delta / 2)), float(stats.norm.ppf(0.8))
    inverse = sum(1 / m for m in counts)
    limits = z * sum(1 / math.sqrt(m) for m in counts) + power * math.sqrt(inverse)
    half = limits / 2 + inverse  # TV = √(1 - TV²)·half, since √(p(1-p)) = √(1 - TV²)/2
    return half / math.sqrt(1 + half**2)
