"""Whether what the paper observed appears in a map too, each with its interval.

Seeds draw their own training rows and noise and share the test rows, so a difference between cells
is taken within a seed. Claims about test slices count test rows and seeds as random. All others
that use the test risk hold *given these test rows*: their intervals are Student's t over the seeds,
and another test sample may say otherwise; which window is best is then also chosen and judged on
the same rows. The generalisation gap looks at no test row; its held-out rows are drawn anew by each
seed where a generator makes them, and shared by the seeds where they come from files.

A claim is "yes" or "no" where the interval leaves zero on one side, there are three seeds or more,
and they do not all lie within one step of the statistic; else "undecided" (`intervals`). Every
claim has its own 95 %: of twenty that are read, one may be wrong. None of this is a certificate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pacbayes_sft.scan.canvas import CELL
from pacbayes_sft.scan.frame import GROUP, SAME, whole_rows
from pacbayes_sft.scan.intervals import (
    SEEDS,
    Observation,
    Spread,
    least_change,
    least_over_seeds,
    over_seeds,
    spread_of_contrast,
)

__all__ = ["Observation", "observe", "over_seeds"]


MEASURED = ["test_risk", "generalization_gap", "extrapolation_gap"]


def observe(cells: pd.DataFrame, slices: pd.DataFrame, few_units: float = 0) -> list[Observation]:
    """Hold every observation of the paper that the cells allow against them.

    Sizes and seeds of which a window is missing are left out.

    Args:
        cells: `cells_frame`; bounds and theorems do not matter.
        slices: `slices_frame`.
        few_units: Below so many units a fine-tune passes over its rows more often than above
            (`FineTune.few_rows`). Memory falls with the passes, so whether the generalisation gap
            falls with n is asked of the sizes from there on alone, and of all under another name.
    """
    risks = whole_rows(cells[[*CELL, *MEASURED]].drop_duplicates(CELL))
    slices = whole_rows(slices)
    found: list[Observation] = []
    for (base, objective, method), mine in risks.groupby(GROUP):
        name = f"{base} base, {objective}{_of(method)}"
        found += _within(name, mine) + _gaps(name, mine, few_units)
    for (base, objective, method), mine in slices.groupby(GROUP):
        if objective == "nll":
            found += _by_slice(f"{base} base{_of(method)}", mine)
    for method, mine in risks.groupby("method"):
        found += _between(mine, _of(str(method)))
    return found


def _of(method: str) -> str:
    return "" if method == "lora" else f", {method}"


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
        ends = [
            [table.loc[s, end] - table.loc[s, inner[s]] for s in table.index]
            for end in (first, last)
        ]
        found.append(
            least_over_seeds(
                "risk is not monotone in difficulty",
                f"{name}, n = {size:,}: the lesser of the easiest and the hardest window's risk "
                "minus that of the inner window which is best for the other seeds",
                ends,
                spreads=[spread_of_contrast(table, 2.0)] * 2,  # of two windows' difference
            )
        )
    shared = _of_sizes_all_seeds_have(risks)
    found.append(
        over_seeds(
            "the best difficulty moves harder as n grows",
            f"{name}: slope of the best window's centre (operations) per doubling of n",
            [_slope(mine) for _, mine in shared.groupby("seed")],
            resolution=_step(shared) * _weight_of_one_size(shared),
        )
    )
    return found


def _gaps(name: str, risks: pd.DataFrame, few_units: float) -> list[Observation]:
    """Both gaps as observed, over difficulty and over n."""
    found = []
    for size, mine in risks.groupby("size"):
        if rises := _between_thirds(_seeds_by_window(mine, "generalization_gap")):
            found.append(
                least_over_seeds(
                    "the generalisation gap rises with difficulty",
                    f"{name}, n = {size:,}: the lesser of its two rises, from the easy third of "
                    "the windows to the middle one and from there to the hard one",
                    rises.values,
                    spreads=rises.spreads,
                    over=SEEDS,
                )
            )
    claim, measured = (
        "the generalisation gap falls with n",
        "fall of its mean over windows per doubling of n",
    )
    asked = {claim: (risks, "")}
    if (risks["size"] < few_units).any():
        often = risks[risks["size"] >= few_units]
        asked = {
            claim: (often, f", n ≥ {few_units:,.0f}, where rows are passed over alike"),
            f"{claim} and the passes": (risks, ", of which small n have more"),
        }
    found += [
        over_seeds(
            claim,
            f"{name}: {measured}{which}",
            [_fall(mine) for _, mine in _of_sizes_all_seeds_have(of).groupby("seed")],
            spread=_spread_of_fall(_of_sizes_all_seeds_have(of)),
            over=SEEDS,
        )
        for claim, (of, which) in asked.items()
        if of["size"].nunique() > 1
    ]
    over_sizes = _seeds_by_window(_of_sizes_all_seeds_have(risks), "extrapolation_gap")
    if rises := _between_thirds(over_sizes):
        found.append(
            least_over_seeds(
                "the extrapolation gap falls with difficulty",
                f"{name}, mean over n: the lesser of its two falls, from the easy third of the "
                "windows to the middle one and from there to the hard one",
                [-rise for rise in rises.values],
                spreads=rises.spreads,
            )
        )
    return found


def _by_slice(name: str, slices: pd.DataFrame) -> list[Observation]:
    """Hard training at small n against every slice; easy training against easy and hard ones."""
    found = []
    sizes, windows = sorted(slices["size"].unique()), _ordered(slices["window"].unique())
    labels = sorted(slices["slice"].unique(), key=float)
    small = slices[(slices["size"] == sizes[0]) & (slices["window"] == windows[-1])]
    found.append(
        least_change(
            "hard training at small n raises the risk of every slice",
            f"{name}, n = {sizes[0]:,}, window {windows[-1]}: least change of risk over the base "
            "among the slices",
            small,
        )
    )
    large = slices[(slices["size"] == sizes[-1]) & (slices["window"] == windows[0])]
    for claim, label, sign in (
        ("easy training lowers the risk of easy slices", labels[0], -1),
        ("easy training raises the risk of hard slices", labels[-1], 1),
    ):
        found.append(
            least_change(
                claim,
                f"{name}, n = {sizes[-1]:,}, window {windows[0]}, slice {label}: "
                f"{'fall' if sign < 0 else 'rise'} of risk over the base",
                large[large["slice"] == label],
                sign,
            )
        )
    return found


def _between(risks: pd.DataFrame, of: str) -> list[Observation]:
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
                    f"n = {size:,}{of}: centre of the strong base's best window minus the weak "
                    "one's",
                    [strong[size, s] - weak[size, s] for s in seeds],
                    resolution=_step(plain),
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
            everywhere = both[both["size"] == size].assign(
                gain=lambda x: x["test_risk"] - x["test_risk_dft"]
            )
            found.append(
                over_seeds(
                    claim,
                    f"n = {size:,}{of}, windows {' and '.join(hard)}: risk under SFT "
                    f"{'minus' if sign > 0 else 'below'} that under DFT",
                    gain.groupby(mine["seed"]).mean(),
                    spread=spread_of_contrast(_seeds_by_window(everywhere, "gain"), 1 / len(hard)),
                )
            )
    return found


def _seeds_by_window(risks: pd.DataFrame, column: str = "test_risk") -> pd.DataFrame:
    """Seeds × windows, easy windows first; seeds that lack one are left out."""
    table = risks.pivot_table(index="seed", columns="window", values=column)
    return table[_ordered(table.columns)].dropna()


def _of_sizes_all_seeds_have(risks: pd.DataFrame) -> pd.DataFrame:
    """Leave out sizes that some seed lacks: what differs between seeds must not be their sizes.

    A seed of one size goes first: it would take all others with it, and has no slope anyway.
    """
    sizes = risks.groupby("seed")["size"].transform("nunique")
    risks = risks[sizes > 1] if (sizes > 1).any() else risks
    seeds = risks.groupby("size")["seed"].transform("nunique")
    return risks[seeds == risks["seed"].nunique()]


@dataclass(frozen=True)
class _Rises:
    """Differences between thirds of the windows, by seed, and their spread over seeds."""

    values: list[pd.Series]
    spreads: list[Spread | None]


def _between_thirds(table: pd.DataFrame) -> _Rises | None:
    """By seed: the middle third of the windows minus the easy one, the hard minus the middle."""
    if table.shape[1] < 3:
        return None
    easy, middle, hard = (list(k) for k in np.array_split(table.columns, 3))
    pairs = (easy, middle), (middle, hard)
    return _Rises(
        [table[high].mean(axis=1) - table[low].mean(axis=1) for low, high in pairs],
        [spread_of_contrast(table, 1 / len(low) + 1 / len(high)) for low, high in pairs],
    )


def _fall(risks: pd.DataFrame) -> float:
    """Minus the slope of the generalisation gap's mean over windows per doubling, in one seed."""
    gap = risks.groupby("size")["generalization_gap"].mean()
    if len(gap) < 2:
        return math.nan
    return -float(np.polyfit(np.log2(gap.index.to_numpy(float)), gap, 1)[0])


def _spread_of_fall(risks: pd.DataFrame) -> Spread | None:
    """Spread of `_fall` over seeds, from that of every window by itself."""
    falls = [
        {"seed": seed, "window": window, "fall": _fall(mine)}
        for (seed, window), mine in risks.groupby(["seed", "window"])
    ]
    if not falls:
        return None
    table = _seeds_by_window(pd.DataFrame(falls), "fall")
    return spread_of_contrast(table, 1 / table.shape[1]) if table.size else None


def _step(risks: pd.DataFrame) -> float:
    """Least distance between two windows' centres: no best window moves by less."""
    centres = np.unique((risks["low"] + risks["high"]) / 2)
    return float(np.diff(centres).min()) if len(centres) > 1 else 0.0


def _weight_of_one_size(risks: pd.DataFrame) -> float:
    """How much a slope per doubling changes, at most, when one size's value changes by 1."""
    x = np.log2(np.unique(risks["size"]).astype(float))
    centred = x - x.mean()
    return float(np.abs(centred).max() / (centred**2).sum()) if len(x) > 1 else 0.0


def _best_for_others(table: pd.DataFrame, seed: int) -> str:
    others = table.drop(index=seed) if len(table) > 1 else table
    return str(others.mean().idxmin())


def _slope(risks: pd.DataFrame) -> float:
    """Slope of the best window's centre per doubling of n, in one seed."""
    centres = _centres(risks)
    if len(centres) < 2:
        return math.nan
    sizes = [size for size, _ in centres]
    return float(np.polyfit(np.log2(sizes), list(centres.values()), 1)[0])


def _centres(risks: pd.DataFrame) -> Mapping[tuple[int, int], float]:
    """Centre of the best window by size and seed; of several that are best, the mean."""
    return {
        (int(size), int(seed)): float((best["low"] + best["high"]).mean() / 2)
        for (size, seed), mine in risks.groupby(["size", "seed"])
        for best in [mine[mine["test_risk"] <= mine["test_risk"].min() + SAME]]
    }


def _ordered(windows: Iterable[str]) -> list[str]:
    return sorted(windows, key=lambda w: tuple(map(float, w.split(":"))))
