"""One step of successive halving: past the smallest size, only the better windows are piloted.

The algorithm is Karnin, Koren and Somekh's (2013); Jamieson and Talwalkar (2016) brought it to
training runs. Of W windows at k sizes it saves ⌊W/2⌋·(k - 1) of the W·k pilots, fewer where windows
tie, and misses a window that would have overtaken at larger n.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pacbayes_sft.advise.pilots import Pilot
from pacbayes_sft.advise.predict import place, reweighted, seen_part
from pacbayes_sft.advise.ties import ROUNDING

FEWEST = 2  # windows that are always left to choose between


@dataclass(frozen=True)
class Halved:
    """Which windows were piloted further.

    Attributes:
        size: The pilots' smallest size, which decided.
        kept: The windows that were piloted further, easiest first.
        dropped: Of every other window, its risk under the test law at that size (a point value).
        worst_kept: The largest such risk among the kept.
    """

    size: int
    kept: tuple[str, ...]
    dropped: Mapping[str, float]
    worst_kept: float


def better_half(windows: int) -> int:
    """Return how many of so many windows are kept where none are equal.

    >>> [better_half(w) for w in (1, 2, 3, 4, 5, 6)]
    [1, 2, 2, 2, 3, 3]
    """
    return min(windows, max(FEWEST, -(-windows // 2)))


def halve(pilots: Sequence[Pilot], test_law: Mapping[float, float]) -> Halved:
    """Keep the half of the windows (rounded up, at least two) with the least risk on the test law.

    The risk is the pilots' own by level, re-weighted: no labelled test row is needed. A window
    counts with its best objective; one as good as the last that is kept is kept too.

    Args:
        pilots: At least those of the smallest size, of every window; larger ones are not looked at.
        test_law: Law of the difficulty levels under the test.

    Raises:
        InputError: If the pilots' levels see too little of the test law.
    """
    size = min(p.size for p in pilots)
    smallest = [p for p in pilots if p.size == size]
    law, _ = seen_part([p.profile for p in smallest], test_law)
    by_arm: dict[tuple[str, str], list[float]] = {}
    for p in smallest:
        by_arm.setdefault(p.arm, []).append(reweighted(p.profile, law).value)
    risks: dict[str, float] = {}
    for (window, _), found in by_arm.items():
        risks[window] = min(risks.get(window, np.inf), float(np.mean(found)))
    ordered = sorted(risks.values())
    last = ordered[better_half(len(ordered)) - 1] + ROUNDING
    windows = sorted(risks, key=place)
    return Halved(
        size,
        tuple(w for w in windows if risks[w] <= last),
        {w: risks[w] for w in windows if risks[w] > last},
        max(risk for risk in ordered if risk <= last),
    )


def halving_said(halved: Halved | None) -> list[str]:
    """Say which windows nothing further is known of."""
    if halved is None or not halved.dropped:
        return []
    risks = ", ".join(f"{window} {risk:.3f}" for window, risk in halved.dropped.items())
    return [
        f"--halving: on the pilots of n = {halved.size} alone {risks} had the highest risk under "
        f"the test law (kept: up to {halved.worst_kept:.3f}) and were piloted no further, so a "
        "window that overtakes at larger n is missed; nothing else here speaks of them, and what "
        "is told apart at 5 % is so among the kept, as if other pilots had chosen them"
    ]
