"""The paper's claims held against maps whose truth is known."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from pacbayes_sft.scan.observations import observe, over_seeds

WINDOWS = [(2, 6), (4, 8), (6, 10), (8, 12)]


def cells(best, *, seeds=(0, 1, 2), sizes=(64, 1024), base="strong", objective="nll", extra=0.0):
    """Risk is a valley around ``best(size)`` operations."""
    rows = [
        {
            "size": size, "window": f"{a}:{b}", "low": a, "high": b, "seed": seed, "base": base,
            "objective": objective, "method": "lora", "bound": "x",
            "test_risk": 0.4 + 0.05 * abs((a + b) / 2 - best(size)) + 0.002 * seed + extra,
        }
        for size in sizes for a, b in WINDOWS for seed in seeds
    ]  # fmt: skip
    return pd.DataFrame(rows)


def slices(change, *, seeds=(0, 1, 2)):
    rows = [
        {
            "size": size, "window": f"{a}:{b}", "seed": seed, "base": "strong", "objective": "nll",
            "method": "lora",
            "slice": label, "risk": 0.5, "change": change(size, a, int(label)) + 0.001 * seed,
        }
        for size in (64, 1024) for a, b in WINDOWS for seed in seeds for label in ("6", "9", "12")
    ]  # fmt: skip
    return pd.DataFrame(rows)


def named(found, claim, where=""):
    return [o for o in found if o.claim == claim and where in o.measured]


NO_SLICES = slices(lambda *_: 0.0).iloc[:0]


def test_a_valley_that_moves_is_seen():
    found = observe(cells(lambda n: 6 if n == 64 else 8), NO_SLICES)
    assert {o.appears for o in named(found, "risk is not monotone in difficulty")} == {"yes"}
    moves = named(found, "the best difficulty moves harder as n grows")[0]
    assert moves.value == pytest.approx(2 / 4) and moves.appears == "yes"  # four doublings


def test_a_monotone_map_and_an_optimum_that_moves_easier_are_no():
    rising = observe(cells(lambda n: 0), NO_SLICES)
    assert {o.appears for o in named(rising, "risk is not monotone in difficulty")} == {"no"}
    back = observe(cells(lambda n: 8 if n == 64 else 6), NO_SLICES)
    assert named(back, "the best difficulty moves harder as n grows")[0].appears == "no"


def test_a_size_that_lacks_a_window_is_left_out():
    frame = cells(lambda n: 6 if n == 64 else 8)
    gap = frame[~((frame["size"] == 1024) & (frame["seed"] == 0) & (frame["low"] == 6))]
    moves = named(observe(gap, NO_SLICES), "the best difficulty moves harder as n grows")[0]
    assert moves.seeds == 2 and moves.value == pytest.approx(2 / 4)


def test_slices_tell_generalisation_failure_from_extrapolation_failure():
    def change(size, low, label):
        if size == 64:
            return 0.2 if low == 8 else 0.0
        return {6: -0.1, 9: 0.0, 12: 0.2}[label]

    found = observe(cells(lambda n: 8), slices(change))
    for claim in (
        "hard training at small n raises the risk of every slice",
        "easy training lowers the risk of easy slices",
        "easy training raises the risk of hard slices",
    ):
        assert named(found, claim)[0].appears == "yes", claim
    mixed = slices(lambda size, low, label: -0.2 if label == 12 else 0.2)
    found = observe(cells(lambda n: 8), mixed)
    assert named(found, "hard training at small n raises the risk of every slice")[0].value < 0


def test_bases_and_objectives_are_compared_at_the_cells_that_both_have():
    frame = pd.concat(
        [
            cells(lambda n: 8),
            cells(lambda n: 6, base="weak", seeds=(0, 1)),
            cells(lambda n: 8, objective="dft", seeds=(0, 1), extra=-0.1),
        ]
    )
    found = observe(frame, NO_SLICES)
    stronger = named(found, "a stronger base moves the best difficulty harder", "n = 64")[0]
    assert stronger.value == 2 and stronger.seeds == 2 and stronger.appears == "yes"
    ahead = named(found, "DFT is ahead of SFT at small n on hard data")[0]
    behind = named(found, "DFT is behind SFT at large n on hard data")[0]
    assert ahead.value == pytest.approx(0.1) and ahead.appears == "yes"
    assert behind.value == pytest.approx(-0.1) and behind.appears == "no"


def test_the_interval_is_students():
    values = [0.1, 0.25, 0.4]
    interval = ttest_1samp(values, 0).confidence_interval(0.95)
    found = over_seeds("c", "m", values)
    assert (found.lower, found.upper) == pytest.approx(tuple(interval))
    one = over_seeds("c", "m", [0.3, math.nan])
    assert one.seeds == 1 and one.appears == "undecided"
    assert one.to_dict()["lower"] is None and over_seeds("c", "m", []).to_dict()["value"] is None
    covered = sum(
        (o := over_seeds("c", "m", np.random.default_rng(k).normal(1, 1, 3))).lower <= 1 <= o.upper
        for k in range(2000)
    )
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)
