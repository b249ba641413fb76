"""Records as tidy frames, and whether a bound knows where the best difficulty is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata, spearmanr

from estimators.estimate import Guarantee, weakest
from pacbayes_sft.scan.shape import check_drawn
from pacbayes_sft.scan.windows import edges

SAME = 1e-12  # two means that differ by less are equal
GROUP = ["base", "objective", "method"]
IMPORTANCE = "importance"


def cells_frame(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return one row a cell × bound × shift term × theorem.

    Columns: size, window, low, high, seed, base, objective, method; ``test_risk``, ``train_risk``,
    ``train_distribution_risk``, ``generalization_gap``, ``extrapolation_gap`` (measured, of the
    finished model); ``bound``, ``shift``, ``theorem``, ``value`` (raw, on test risk),
    ``train_value``, ``guarantee``; ``kl_nats``, ``tv``, the four terms of Proposition 4.1;
    ``gibbs_test_risk`` (what the bound speaks of) and its lower limit; ``device``, a GPU by its
    name (records from before 2026-11-28 do not tell: they are of a CPU).

    Raises:
        InputError: If a record, by its key, lacks a field.
    """
    rows = []
    for record in records:
        if "cell" not in record:
            continue
        check_drawn(record, f"record {record['key']}")
        cell, measured = record["cell"], record["measured"]
        low, high = edges(cell["window"])
        common = {
            **cell,
            "low": low,
            "high": high,
            "device": record.get("device", "cpu"),
            "test_risk": measured["test_risk"]["value"],
            "train_distribution_risk": measured["train_distribution_risk"]["value"],
            **{k: measured[k] for k in ("train_risk", "generalization_gap", "extrapolation_gap")},
        }
        for name, found in record["bounds"].items():
            gibbs = found["gibbs"]["test_risk"]
            terms = {f"term_{term}": value for term, value in found["terms"].items()}
            of_bound = {
                **common,
                "bound": name,
                "kl_nats": found["kl_nats"],
                "tv": found["tv"]["value"],
                "gibbs_test_risk": gibbs["value"],
                "gibbs_test_lower": gibbs["lower"],
            }
            for shift, theorem, entry in _limits(found):
                extrapolation = {"term_extrapolation": entry.pop("shift_limit")}
                rows.append({**of_bound, **terms, **extrapolation, **entry,
                             "shift": shift, "theorem": theorem})  # fmt: skip
    return pd.DataFrame(rows)


def _limits(found: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (shift term, theorem, raw value with what it is made of) of one posterior."""
    for shift, estimate in found["shifts"].items():
        limit, guarantee = estimate["upper"], estimate["guarantee"]
        limit = math.inf if limit is None else limit
        if shift == IMPORTANCE:  # a bound of its own, without a train part
            yield shift, IMPORTANCE, {
                "value": limit, "train_value": math.nan, "guarantee": guarantee,
                "shift_limit": math.nan,
            }  # fmt: skip
            continue
        for theorem, entry in found["bounds"].items():
            train = entry["train_raw"]
            yield shift, theorem, {
                "value": math.inf if train is None else train + limit,
                "train_value": math.inf if train is None else train,
                "guarantee": str(weakest([Guarantee(guarantee)])),
                "shift_limit": limit,
            }  # fmt: skip


def theorem_of(shift: str, theorem: str) -> str:
    """Return the theorem that a frame holds a shift term under: importance weights have their own.

    >>> theorem_of("tv", "kl"), theorem_of("importance", "kl")
    ('kl', 'importance')
    """
    return IMPORTANCE if shift == IMPORTANCE else theorem


def slices_frame(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return one row a cell × test slice: measured risk, and its change over the base's own.

    Columns beside the cell's: ``slice``; ``risk`` with its 95 % limits from rows, ``lower`` and
    ``upper``, and ``rows``, NaN where the record does not tell; ``change``; ``base_lower`` and
    ``base_upper``, the limits of the base's own risk.

    Raises:
        InputError: If a record, by its key, lacks a field.
    """
    for record in records:
        check_drawn(record, f"record {record['key']}")
    own = {r["base"]: r["measured"]["slices"] for r in records if "cell" not in r}
    rows = []
    for record in records:
        if "cell" in record:
            before = own.get(record["cell"]["base"], {})
            for label, estimate in record["measured"]["slices"].items():
                base = before.get(label, {})
                rows.append(
                    {
                        **record["cell"],
                        "slice": label,
                        "risk": estimate["value"],
                        "lower": estimate.get("lower", math.nan),
                        "upper": estimate.get("upper", math.nan),
                        "rows": _rows_of(estimate),
                        "change": estimate["value"] - base.get("value", math.nan),
                        "base_lower": base.get("lower", math.nan),
                        "base_upper": base.get("upper", math.nan),
                    }
                )
    return pd.DataFrame(rows)


def _rows_of(estimate: Mapping[str, Any]) -> float:
    """A record counts a slice's units in its method alone."""
    found = re.search(r"mean loss of (\d+) units", str(estimate.get("method", "")))
    return float(found[1]) if found else math.nan


def whole_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the sizes × seeds of which every window of their group was measured.

    A scan that is not finished has gaps, and the least of some windows is not the least.
    """
    windows = frame.groupby(GROUP)["window"].transform("nunique")
    there = frame.groupby([*GROUP, "size", "seed"])["window"].transform("nunique")
    return frame[there == windows]


@dataclass(frozen=True)
class Agreement:
    """How a bound's curve over difficulty agrees with measured risk, within one group.

    Attributes:
        minimiser: For every size the window of the least mean measured risk and of the least mean
            bound, and their distance in windows; where several are least, the farthest of the
            bound's from the nearest of the measured ones.
        spearman_per_size: Rank correlation over windows of the seed means, by size.
        spearman: Over all cells' seed means.
        interval: 2.5 % and 97.5 % quantiles of it when the points of the map (size × window, seed
            means) are drawn again with replacement: a description, since points share rows.
        informative: Cells, whatever their label, whose value is below 1. The others are vacuous: no
            risk exceeds them.
        exceeded: Cells whose value lies below the measured risk of what it speaks of: the Gibbs
            predictor on the test law. A point value, with its rows' noise.
        labelled_upper: Cells whose value is labelled ``upper``.
        could_fail: Those of them whose value is below 1.
        violations: Those of them in which even the lower limit of that risk lies above the value;
            None where no cell is labelled ``upper`` (what promises nothing cannot violate) or one
            has no such limit (records of full fine-tunes from before it was kept).
        cells: How many cells entered.
    """

    minimiser: dict[int, tuple[str, str, int]]
    spearman_per_size: dict[int, float]
    spearman: float
    interval: tuple[float, float]
    informative: int
    exceeded: int
    labelled_upper: int
    could_fail: int
    violations: int | None
    cells: int

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object; an undefined correlation is null."""
        return {
            "minimiser": {
                n: {"measured": m, "bound": b} for n, (m, b, _) in self.minimiser.items()
            },
            "minimiser_distance": {n: d for n, (_, _, d) in self.minimiser.items()},
            "spearman_per_n": {n: _number(r) for n, r in self.spearman_per_size.items()},
            "spearman": _number(self.spearman),
            "spearman_interval": [_number(x) for x in self.interval],
            "informative": self.informative,
            "exceeded": self.exceeded,
            "labelled_upper": self.labelled_upper,
            "could_fail": self.could_fail,
            "violations": self.violations,
            "cells": self.cells,
        }


def agreement(
    frame: pd.DataFrame, *, risk: str = "test_risk", resamples: int = 1000, seed: int = 0
) -> Agreement:
    """Compare one bound's raw value with measured test risk.

    Args:
        frame: Rows of `cells_frame` of one group, one bound, one shift term and one theorem.
        risk: ``test_risk`` (of the finished model, what a user asks for) or ``gibbs_test_risk`` (of
            the predictor that the bound speaks of).
        resamples: Bootstrap resamples of the cells' seed means, over points of the map.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: If the frame is empty.
    """
    if frame.empty:
        raise ValueError("no cells to compare")
    means = frame.groupby(["size", "window", "low", "high"], as_index=False)[["value", risk]].mean()
    order = list(means.sort_values(["low", "high"])["window"].drop_duplicates())
    minimiser, per_size = {}, {}
    for size, group in means.groupby("size"):
        measured, bound = (
            [order.index(w) for w in group.loc[of <= of.min() + SAME, "window"]]
            for of in (group[risk], group["value"])
        )
        # either of two windows that are measured alike is right; a bound that cannot tell is not
        distance, m, b = max(min((abs(m - b), m, b) for m in measured) for b in bound)
        minimiser[int(size)] = (order[m], order[b], distance)
        per_size[int(size)] = _spearman(group, risk)
    drawn = _resampled(means["value"], means[risk], resamples, seed)
    finite = [r for r in drawn if math.isfinite(r)]
    low, high = np.quantile(finite, [0.025, 0.975]) if finite else (math.nan, math.nan)
    promised = frame[frame["guarantee"] == "upper"]
    least = pd.to_numeric(promised["gibbs_test_lower"])
    judged = len(promised) > 0 and bool(least.notna().all())
    exceeded = int((frame["gibbs_test_risk"] > frame["value"]).sum())
    return Agreement(
        minimiser,
        per_size,
        _spearman(means, risk),
        (float(low), float(high)),
        int((frame["value"] < 1).sum()),
        exceeded,
        len(promised),
        int((promised["value"] < 1).sum()),
        int((least > promised["value"]).sum()) if judged else None,
        len(frame),
    )


def summary(frame: pd.DataFrame, bound: str, theorem: str, shift: str) -> dict[str, Any]:
    """Return the primary bound's agreement in every group first, then every other's.

    Args:
        frame: `cells_frame` of all records.
        bound: Name of the primary bound.
        theorem: Its theorem; passed over where importance weights are the shift term.
        shift: Its shift term.
    """
    theorem = theorem_of(shift, theorem)
    found: dict[str, Any] = {}
    for group, of_group in frame.groupby(GROUP):
        each = {
            f"{name}, {how}, {term}": _against_both(rows)
            for (name, how, term), rows in of_group.groupby(["bound", "theorem", "shift"])
        }
        primary = each.pop(f"{bound}, {theorem}, {shift}")
        found[", ".join(map(str, group))] = {"primary": primary, "others": each}
    primary_bound = {"bound": bound, "theorem": theorem, "shift": shift}
    return {"primary": primary_bound, "groups": found}


def _against_both(rows: pd.DataFrame) -> dict[str, Any]:
    """Against the finished model's risk, and in short against the predictor's own."""
    own = agreement(rows, risk="gibbs_test_risk").to_dict()
    kept = ("minimiser_distance", "spearman_per_n", "spearman", "spearman_interval")
    return agreement(rows).to_dict() | {"against_gibbs": {k: own[k] for k in kept}}


def _spearman(frame: pd.DataFrame, risk: str) -> float:
    if frame["value"].nunique() < 2 or frame[risk].nunique() < 2:
        return math.nan
    return float(spearmanr(frame["value"], frame[risk]).statistic)


def _resampled(value: pd.Series, risk: pd.Series, resamples: int, seed: int) -> list[float]:
    """Rank correlations of points drawn again with replacement; NaN where one side is constant."""
    generator = np.random.default_rng(seed)
    chosen = generator.integers(len(value), size=(resamples, len(value)))
    ranks = [rankdata(side.to_numpy()[chosen], axis=1) for side in (value, risk)]
    x, y = (r - r.mean(axis=1, keepdims=True) for r in ranks)
    scale = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: list[float] = ((x * y).sum(axis=1) / scale).tolist()
    return found


def _number(x: float) -> float | None:
    return x if math.isfinite(x) else None
