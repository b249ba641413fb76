"""Whether what the paper observed appears in a map too, each with its interval over seeds.

Seeds draw their own training rows and noise and share the test rows, so a difference between cells
is taken within a seed. Its interval is Student's t over the seeds: with two or three of them it is
wide, and says only what it can. A claim is "yes" or "no" where the interval leaves zero on one
side, else "undecided". None of this is a certificate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from pacbayes_sft.scan.frame import whole_rows

CONFIDENCE = 0.95
NUMBERS = ("value", "lower", "upper")
CELL = ["size", "window", "low", "high", "seed", "base", "objective", "method"]


@dataclass(frozen=True)
class Observation:
    """One claim held against a map.

    Attributes:
        claim: What the paper says.
        measured: What was taken the mean of, in words.
        value: Its mean over seeds; positive speaks for the claim.
        lower: Lower end of the 95 % interval over seeds.
        upper: Upper end.
        seeds: How many seeds entered.
    """

    claim: str
    measured: str
    value: float
    lower: float
    upper: float
    seeds: int

    @property
    def appears(self) -> str:
        """``yes``, ``no`` or ``undecided``."""
        if self.lower > 0:
            return "yes"
        return "no" if self.upper < 0 else "undecided"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object; a number that is not finite is null."""
        plain = asdict(self)
        ends = {k: v if math.isfinite(v) else None for k, v in plain.items() if k in NUMBERS}
        return plain | ends | {"appears": self.appears}


def over_seeds(claim: str, measured: str, values: Iterable[float]) -> Observation:
    """Return the mean of one value a seed, with its interval.

    >>> over_seeds("c", "m", [0.1, 0.2, 0.3]).appears
    'undecided'
    """
    x = np.array([v for v in values if math.isfinite(v)])
    if not len(x):
        return Observation(claim, measured, math.nan, -math.inf, math.inf, 0)
    mean = float(x.mean())
    if len(x) == 1:
        return Observation(claim, measured, mean, -math.inf, math.inf, 1)
    half = float(student.ppf(0.5 + CONFIDENCE / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return Observation(claim, measured, mean, mean - half, mean + half, len(x))


def observe(cells: pd.DataFrame, slices: pd.DataFrame) -> list[Observation]:
    """Hold every observation of the paper that the cells allow against them.

    Sizes and seeds of which a window is missing are left out.

    Args:
        cells: `cells_frame`; bounds and shift terms do not matter.
        slices: `slices_frame`.
    """
    risks = whole_rows(cells[[*CELL, "test_risk"]].drop_duplicates(CELL))
    slices = whole_rows(slices)
    found: list[Observation] = []
    for (base, objective), mine in risks.groupby(["base", "objective"]):
        found += _within(f"{base} base, {objective}", mine)
    for (base, objective), mine in slices.groupby(["base", "objective"]):
        if objective == "nll":
            found += _by_slice(f"{base} base", mine)
    return found + _between(risks)


def _within(name: str, risks: pd.DataFrame) -> list[Observation]:
    """Non-monotone in difficulty at every n; the optimum moves harder with n."""
    found = []
    for size, mine in risks.groupby("size"):
        table = _seeds_by_window(mine)
        if table.shape[1] < 3:
            continue
        first, last = table.columns[0], table.columns[-1]
        # the window that is best for the other seeds: choosing and judging on one would flatter it
        inner = {s: _best_for_others(table.iloc[:, 1:-1], s) for s in table.index}
        margin = [
            min(table.loc[s, first], table.loc[s, last]) - table.loc[s, inner[s]]
            for s in table.index
        ]
        found.append(
            over_seeds(
                "risk is not monotone in difficulty",
                f"{name}, n = {size:,}: the lesser of the easiest and the hardest window's risk "
                "minus that of the inner window which is best for the other seeds",
                margin,
            )
        )
    slopes = [_slope(mine) for _, mine in risks.groupby("seed")]
    found.append(
        over_seeds(
            "the best difficulty moves harder as n grows",
            f"{name}: slope of the best window's centre (operations) per doubling of n",
            slopes,
        )
    )
    return found


def _by_slice(name: str, slices: pd.DataFrame) -> list[Observation]:
    """Hard training at small n against every slice; easy training against easy and hard ones."""
    found = []
    sizes, windows = sorted(slices["size"].unique()), _ordered(slices["window"].unique())
    labels = sorted(slices["slice"].unique(), key=float)
    small = slices[(slices["size"] == sizes[0]) & (slices["window"] == windows[-1])]
    least = [mine["change"].min() for _, mine in small.groupby("seed")]
    found.append(
        over_seeds(
            "hard training at small n raises the risk of every slice",
            f"{name}, n = {sizes[0]:,}, window {windows[-1]}: least change of risk over the base "
            "among the slices",
            least,
        )
    )
    large = slices[(slices["size"] == sizes[-1]) & (slices["window"] == windows[0])]
    for claim, label, sign in (
        ("easy training lowers the risk of easy slices", labels[0], -1),
        ("easy training raises the risk of hard slices", labels[-1], 1),
    ):
        mine = large[large["slice"] == label]
        found.append(
            over_seeds(
                claim,
                f"{name}, n = {sizes[-1]:,}, window {windows[0]}, slice {label}: "
                f"{'fall' if sign < 0 else 'rise'} of risk over the base",
                sign * mine["change"],
            )
        )
    return found


def _between(risks: pd.DataFrame) -> list[Observation]:
    """The strong base against the weak one, SFT against DFT, at the cells that both have."""
    found = []
    plain = risks[risks["objective"] == "nll"]
    if {"strong", "weak"} <= set(plain["base"]):
        strong, weak = (_centres(plain[plain["base"] == b]) for b in ("strong", "weak"))
        for size in sorted({n for n, _ in strong} & {n for n, _ in weak}):
            seeds = sorted({s for n, s in strong if n == size} & {s for n, s in weak if n == size})
            found.append(
                over_seeds(
                    "a stronger base moves the best difficulty harder",
                    f"n = {size:,}: centre of the strong base's best window minus the weak one's",
                    [strong[size, s] - weak[size, s] for s in seeds],
                )
            )
    if {"nll", "dft"} <= set(risks["objective"]):
        key = ["size", "window", "seed", "base"]
        both = risks[risks["objective"] == "nll"].merge(
            risks[risks["objective"] == "dft"], on=key, suffixes=("", "_dft")
        )
        if both.empty:
            return found
        hard = _ordered(both["window"].unique())[-2:]
        for claim, size, sign in (
            ("DFT is ahead of SFT at small n on hard data", both["size"].min(), 1),
            ("DFT is behind SFT at large n on hard data", both["size"].max(), -1),
        ):
            mine = both[(both["size"] == size) & both["window"].isin(hard)]
            gain = sign * (mine["test_risk"] - mine["test_risk_dft"])
            found.append(
                over_seeds(
                    claim,
                    f"n = {size:,}, windows {' and '.join(hard)}: risk under SFT "
                    f"{'minus' if sign > 0 else 'below'} that under DFT",
                    gain.groupby(mine["seed"]).mean(),
                )
            )
    return found


def _seeds_by_window(risks: pd.DataFrame) -> pd.DataFrame:
    """Seeds × windows, easy windows first; seeds that lack one are left out."""
    table = risks.pivot_table(index="seed", columns="window", values="test_risk")
    return table[_ordered(table.columns)].dropna()


def _best_for_others(table: pd.DataFrame, seed: int) -> str:
    others = table.drop(index=seed) if len(table) > 1 else table
    return str(others.mean().idxmin())


def _slope(risks: pd.DataFrame) -> float:
    """Slope of the best window's centre per doubling of n, in one seed."""
    best = risks.loc[risks.groupby("size")["test_risk"].idxmin()]
    if len(best) < 2:
        return math.nan
    centre = (best["low"] + best["high"]) / 2
    return float(np.polyfit(np.log2(best["size"]), centre, 1)[0])


def _centres(risks: pd.DataFrame) -> Mapping[tuple[int, int], float]:
    best = risks.loc[risks.groupby(["size", "seed"])["test_risk"].idxmin()]
    return {
        (int(size), int(seed)): (low + high) / 2
        for size, seed, low, high in best[["size", "seed", "low", "high"]].to_numpy()
    }


def _ordered(windows: Iterable[str]) -> list[str]:
    return sorted(windows, key=lambda w: tuple(map(float, w.split(":"))))
