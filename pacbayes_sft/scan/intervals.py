"""Intervals of what a map shows: over its seeds and, where a slice's limits are known, its rows.

A claim may speak of several numbers at once ("every slice", "both ends"). The least of several
noisy means lies below the least of what they estimate, so it is not averaged over seeds: each mean
gets limits at 1/k of the error (Bonferroni), and the least of the limits holds for the least.

Student's t leans on a normal law over seeds, at three seeds altogether: no distribution-free 95 %
interval exists below six. At two its quantile is 12.7, and there is no verdict. Of many contrasts
of three seeds some spread little by chance, and just these would be decided; so where the cells
of a contrast spread over seeds like others of their size, an interval is no narrower than their
pooled spread makes it (`Spread`). Seeds that lie within one step of the statistic show that step,
not the spread of the seeds: the interval then reaches a step to both sides at least, or has no ends
where the step is unknown, and the verdict is "undecided".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from scipy.stats import t as student

CONFIDENCE = 0.95
UNDECIDED = "undecided"
FEWEST_SEEDS = 3
NUMBERS = ("value", "lower", "upper")
GIVEN_ROWS = "seeds, given these test rows"
SEEDS = "seeds"
SEEDS_AND_ROWS = "seeds and test rows"


@dataclass(frozen=True)
class Observation:
    """One claim held against a map.

    Attributes:
        claim: What the paper says.
        measured: What was taken the mean of, in words.
        value: Its mean over seeds, or the least of several; positive speaks for the claim.
        lower: Lower end of the 95 % interval.
        upper: Upper end.
        seeds: How many seeds entered.
        over: What the interval counts as random.
        tied: Whether seeds agree within a step of the statistic: their spread is then unknown.
    """

    claim: str
    measured: str
    value: float
    lower: float
    upper: float
    seeds: int
    over: str = GIVEN_ROWS
    tied: bool = False

    @property
    def appears(self) -> str:
        """``yes``, ``no`` or ``undecided``."""
        if self.tied or self.seeds < FEWEST_SEEDS:
            return UNDECIDED
        if self.lower > 0:
            return "yes"
        return "no" if self.upper < 0 else UNDECIDED

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object; a number that is not finite is null."""
        plain = asdict(self)
        ends = {k: v if math.isfinite(v) else None for k, v in plain.items() if k in NUMBERS}
        return plain | ends | {"appears": self.appears}


@dataclass(frozen=True)
class Spread:
    """How far one number spreads over seeds, told from more cells than its own.

    Attributes:
        deviation: Standard deviation over seeds.
        freedom: Degrees of freedom behind it.
    """

    deviation: float
    freedom: int


def spread_of_contrast(table: pd.DataFrame, squared_weights: float) -> Spread | None:
    """Return how far a weighted sum of columns spreads over seeds, from what all columns do.

    Columns are taken to spread alike and to be drawn apart within a seed.

    Args:
        table: Seeds × windows: the number itself, or a window's own contrast over sizes or
            objectives, whose cells share rows.
        squared_weights: Sum of the squared weights of the columns that enter the sum.

    Returns:
        None without two seeds, or where nothing spreads.

    >>> spread_of_contrast(pd.DataFrame({"2:6": [0.0, 2.0], "4:8": [1.0, 3.0]}), 2.0)
    Spread(deviation=2.0, freedom=2)
    """
    numbers = table.to_numpy(float)
    freedom = (len(numbers) - 1) * table.shape[1]
    if freedom < 1:
        return None
    variance = squared_weights * float(((numbers - numbers.mean(axis=0)) ** 2).sum()) / freedom
    return Spread(math.sqrt(variance), freedom) if variance > 0 else None


def over_seeds(
    claim: str,
    measured: str,
    values: Iterable[float],
    *,
    resolution: float = 0.0,
    spread: Spread | None = None,
    over: str = GIVEN_ROWS,
) -> Observation:
    """Return the mean of one value a seed, with its interval.

    Args:
        claim: What the paper says.
        measured: What ``values`` are.
        values: One a seed; those that are not finite are left out.
        resolution: Step of the statistic: the interval reaches at least so far to both sides, and
            seeds that lie nearer to each other are tied. At 0 the step is unknown, and seeds that
            agree to the last digit have no interval.
        spread: What more cells tell of the values' spread over seeds: the interval is no narrower
            than with it.
        over: What the interval counts as random.

    >>> over_seeds("c", "m", [0.1, 0.2, 0.3]).appears
    'undecided'
    >>> over_seeds("c", "m", [6.0, 6.0, 6.0], resolution=2).to_dict()["lower"]
    4.0
    """
    return least_over_seeds(
        claim, measured, [list(values)], resolution=resolution, spreads=[spread], over=over
    )


def least_over_seeds(
    claim: str,
    measured: str,
    parts: Sequence[ArrayLike],
    *,
    resolution: float = 0.0,
    spreads: Sequence[Spread | None] = (),
    over: str = GIVEN_ROWS,
) -> Observation:
    """Return the least of several means over seeds, with simultaneous limits.

    Args:
        claim: What the paper says: that all means are positive.
        measured: What ``parts`` are.
        parts: By mean: one value a seed, in the same order of seeds.
        resolution: See `over_seeds`.
        spreads: By mean, see there.
        over: What the interval counts as random.
    """
    x = np.array([np.asarray(part, dtype=float) for part in parts])
    x = x[:, np.isfinite(x).all(axis=0)]
    if not x.size:
        return Observation(claim, measured, math.nan, -math.inf, math.inf, 0, over)
    half, tied = _half_widths(x, _tail(len(x)), resolution)
    for part, spread in enumerate(spreads):
        if spread is not None:
            error = spread.deviation / math.sqrt(x.shape[1])
            pooled = student.ppf(1 - _tail(len(x)), spread.freedom) * error
            half[part] = max(half[part], float(pooled))
    return _least(claim, measured, x.mean(axis=1), half, half, x.shape[1], over, bool(tied.any()))


def least_change(claim: str, measured: str, slices: pd.DataFrame, sign: int = 1) -> Observation:
    """Return the least change of risk over the base among slices, counting rows and seeds.

    A slice's mean risk over seeds and the base's own risk are two proportions on the same rows.
    Their limits and the half-width over seeds are squared and added (Newcombe 1998, method 10, as
    Zou & Donner 2008 extend it), as if the two proportions were independent: rows that are hard for
    one are hard for the other, so that is conservative. The rows' part does not shrink with the
    number of seeds, which share them. The recorded 95 % limits are carried to the level of one of
    several slices by the ratio of normal quantiles. Where the seeds agree on a slice (a risk of 1
    in each, say) nothing is known of their spread there, and the claim is undecided.

    Args:
        claim: What the paper says: that the risk of all slices rises (``sign`` 1) or falls (-1).
        measured: In words.
        slices: Rows of `slices_frame` of one size, window, base and objective.
        sign: Which direction counts as positive.
    """
    groups = [group.sort_values("seed") for _, group in slices.groupby("slice")]
    tail = _tail(len(groups))
    scale = float(norm.ppf(1 - tail) / norm.ppf(0.5 + CONFIDENCE / 2))
    values, below, above = (np.empty(len(groups)) for _ in range(3))
    agree = False
    for j, mine in enumerate(groups):
        step = 1 / float(mine["rows"].iloc[0])
        half, tied = _half_widths(mine["change"].to_numpy(float)[None], tail, _or(step, 0.0))
        agree = agree or bool(tied[0])
        down = [(mine["risk"] - mine["lower"]).mean(), mine["base_upper"].mean() - _base(mine)]
        up = [(mine["upper"] - mine["risk"]).mean(), _base(mine) - mine["base_lower"].mean()]
        values[j] = mine["change"].mean()
        below[j], above[j] = (
            _or(float(np.sqrt(half[0] ** 2 + sum((scale * d) ** 2 for d in rows))), math.inf)
            for rows in (down, up)
        )
    if sign < 0:
        values, below, above = -values, above, below
    seeds = slices["seed"].nunique()
    return _least(claim, measured, values, below, above, seeds, SEEDS_AND_ROWS, agree)


def _least(
    claim: str,
    measured: str,
    means: NDArray[np.float64],
    below: NDArray[np.float64],
    above: NDArray[np.float64],
    seeds: int,
    over: str,
    tied: bool,
) -> Observation:
    value, lower, upper = (float(x.min()) for x in (means, means - below, means + above))
    return Observation(claim, measured, value, lower, upper, seeds, over, tied)


def _half_widths(
    x: NDArray[np.float64], tail: float, resolution: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Student's t half-widths of the rows of ``x``, and where seeds lie within one step."""
    count = x.shape[1]
    if count < 2:
        return np.full(len(x), math.inf), np.zeros(len(x), dtype=bool)
    spread = x.std(axis=1, ddof=1)
    last_digit = 1e-9 * np.maximum(1.0, np.abs(x).max(axis=1))
    tied = np.ptp(x, axis=1) < np.maximum(resolution * (1 - 1e-9), last_digit)
    half = student.ppf(1 - tail, count - 1) * spread / math.sqrt(count)
    unknown = math.inf if resolution == 0 else resolution
    return np.where(tied, unknown, np.maximum(half, resolution)), tied


def _tail(parts: int) -> float:
    return (1 - CONFIDENCE) / 2 / parts


def _base(mine: pd.DataFrame) -> float:
    return float((mine["risk"] - mine["change"]).mean())


def _or(x: float, otherwise: float) -> float:
    return otherwise if math.isnan(x) else x
