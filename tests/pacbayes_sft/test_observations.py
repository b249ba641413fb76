"""The paper's claims held against maps whose truth is known."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, ttest_1samp
from scipy.stats import t as student

from pacbayes_sft.scan.intervals import (
    Spread,
    least_change,
    least_over_seeds,
    spread_of_contrast,
)
from pacbayes_sft.scan.observations import _centres, observe, over_seeds

WINDOWS = [(2, 6), (4, 8), (6, 10), (8, 12)]
SLICES = ("6", "9", "12")


def cells(
    best,
    *,
    seeds=(0, 1, 2),
    sizes=(64, 1024),
    base="strong",
    objective="nll",
    extra=0.0,
    gap=lambda n, d: 0.02 * d,
    beyond=lambda d: -0.05 * d,
):
    """Risk is a valley around ``best(size, seed)`` operations, not quite alike over seeds."""
    rows = [
        {
            "size": size, "window": f"{a}:{b}", "low": a, "high": b, "seed": seed, "base": base,
            "objective": objective, "method": "lora", "bound": "x", "tv": abs((a + b) / 2 - 8) / 10,
            "test_risk": 0.4 + (0.05 + 0.002 * seed) * abs((a + b) / 2 - best(size, seed))
            + extra * (1 + 0.01 * seed),
            "generalization_gap": (1 + 0.1 * seed) * gap(size, (a + b) / 2),
            "extrapolation_gap": (1 + 0.1 * seed) * beyond((a + b) / 2),
        }
        for size in sizes for a, b in WINDOWS for seed in seeds
    ]  # fmt: skip
    return pd.DataFrame(rows)


def limits(risk, rows):
    """Clopper-Pearson at 95 %."""
    hits = round(risk * rows)
    return (
        beta.ppf(0.025, hits, rows - hits + 1) if hits else 0.0,
        beta.ppf(0.975, hits + 1, rows - hits) if hits < rows else 1.0,
    )


def slices(change, *, seeds=(0, 1, 2), rows=2000):
    found = []
    own = limits(0.5, rows)
    for size in (64, 1024):
        for (a, b), seed, label in itertools.product(WINDOWS, seeds, SLICES):
            moved = change(size, a, int(label)) + 0.001 * seed
            low, high = limits(0.5 + moved, rows)
            found.append({
                "size": size, "window": f"{a}:{b}", "seed": seed, "base": "strong",
                "objective": "nll", "method": "lora", "slice": label, "risk": 0.5 + moved,
                "lower": low, "upper": high, "rows": rows, "change": moved,
                "base_lower": own[0], "base_upper": own[1],
            })  # fmt: skip
    return pd.DataFrame(found)


def named(found, claim, where=""):
    return [o for o in found if o.claim == claim and where in o.measured]


NO_SLICES = slices(lambda *_: 0.0).iloc[:0]


def best_at(small, large, apart=0.0):
    """The valley's bottom by size; one seed's lies ``apart`` elsewhere, so that seeds differ."""
    return lambda size, seed: (small if size == 64 else large) + apart * (seed == 2)


def test_a_valley_that_moves_is_seen():
    found = observe(cells(best_at(6, 8)), NO_SLICES)
    assert {o.appears for o in named(found, "risk is not monotone in difficulty")} == {"yes"}
    moves = named(found, "the best difficulty moves harder as n grows")[0]
    # four doublings; every seed's best window is the same: their spread is unknown, not zero
    assert moves.value == pytest.approx(2 / 4) and moves.tied and moves.appears == "undecided"
    assert (moves.lower, moves.upper) == pytest.approx((0, 1))  # one window step at one end


def test_a_monotone_map_and_an_optimum_that_moves_easier_are_no():
    rising = observe(cells(best_at(0, 0)), NO_SLICES)
    assert {o.appears for o in named(rising, "risk is not monotone in difficulty")} == {"no"}
    seeds, sizes = range(12), (64, 1024)
    back = observe(cells(best_at(10, 4, 2), seeds=seeds, sizes=sizes), NO_SLICES)
    assert named(back, "the best difficulty moves harder as n grows")[0].appears == "no"


def test_a_size_that_lacks_a_window_is_left_out():
    frame = cells(best_at(6, 8))
    gap = frame[~((frame["size"] == 1024) & (frame["seed"] == 0) & (frame["low"] == 6))]
    moves = named(observe(gap, NO_SLICES), "the best difficulty moves harder as n grows")[0]
    assert moves.seeds == 2 and moves.value == pytest.approx(2 / 4)


def test_seeds_are_compared_on_the_sizes_that_all_have():
    """One seed went further; the others' slopes and means must not be held against other sizes."""
    sizes = (64, 256, 1024)
    frame = cells(best_at(6, 8, 1.0), seeds=range(3), sizes=sizes)
    less = frame[~((frame["size"] == 1024) & (frame["seed"] > 0))]
    both = frame[frame["size"] < 1024]
    for claim in ("the best difficulty moves harder as n grows", "the generalisation gap falls"):
        one, other = (
            next(o for o in observe(of, NO_SLICES) if o.claim.startswith(claim))
            for of in (less, both)
        )
        assert (one.value, one.lower, one.upper) == pytest.approx(
            (other.value, other.lower, other.upper), nan_ok=True
        )


def test_of_windows_that_are_best_alike_the_centre_is_the_mean():
    frame = cells(best_at(6, 8), seeds=(0,))
    frame["test_risk"] = np.where(frame["low"].isin([2, 6]), 0.1, 0.5)
    ends = frame[frame["low"].isin([2, 6])]
    middle = float((ends["low"] + ends["high"]).mean() / 2)
    assert set(_centres(frame).values()) == {middle}


def test_slices_tell_generalisation_failure_from_extrapolation_failure():
    def change(size, low, label):
        if size == 64:
            return 0.2 if low == 8 else 0.0
        return {6: -0.1, 9: 0.0, 12: 0.2}[label]

    found = observe(cells(best_at(8, 8)), slices(change))
    for claim in (
        "hard training at small n raises the risk of every slice",
        "easy training lowers the risk of easy slices",
        "easy training raises the risk of hard slices",
    ):
        assert named(found, claim)[0].appears == "yes", claim
    mixed = slices(lambda size, low, label: -0.2 if label == 12 else 0.2)
    found = observe(cells(best_at(8, 8)), mixed)
    every = named(found, "hard training at small n raises the risk of every slice")[0]
    assert every.appears == "no" and every.over == "seeds and test rows"
    assert (
        named(observe(cells(best_at(8, 8)), slices(change, seeds=(0, 1))), every.claim)[0].appears
        == "undecided"
    )


def test_few_rows_leave_a_slice_undecided_however_alike_the_seeds_are():
    rises = slices(lambda *_: 0.1, rows=50)
    claim = "hard training at small n raises the risk of every slice"
    assert named(observe(cells(best_at(8, 8)), rises), claim)[0].appears == "undecided"
    unknown = rises.assign(base_lower=math.nan, base_upper=math.nan)
    assert named(observe(cells(best_at(8, 8)), unknown), claim)[0].lower == -math.inf


def test_where_nothing_falls_the_least_of_noisy_slices_is_no_verdict():
    """Seeds share 41 to 62 rows a slice; base and fine-tunes err alike on average."""
    rows = (41, 62, 49, 44, 50, 55, 49)
    memo = {n: [limits(k / n, n) for k in range(n + 1)] for n in set(rows)}
    wrong = wrong_before = 0
    for repetition in range(60):
        generator = np.random.default_rng(repetition)
        found = []
        for label, n in enumerate(rows):
            chance = generator.beta(0.4, 0.6, n)
            base = int((generator.random(n) < chance).sum())
            for seed in range(4):
                hits = int((generator.random(n) < chance).sum())
                found.append({
                    "slice": str(label), "seed": seed, "rows": n, "risk": hits / n,
                    "lower": memo[n][hits][0], "upper": memo[n][hits][1],
                    "change": (hits - base) / n,
                    "base_lower": memo[n][base][0], "base_upper": memo[n][base][1],
                })  # fmt: skip
        frame = pd.DataFrame(found)
        wrong += least_change("c", "m", frame).appears != "undecided"
        least = frame.groupby("seed")["change"].min()
        wrong_before += over_seeds("c", "m", least).appears == "no"
    assert wrong <= 0.05 * 60 and wrong_before > 0.25 * 60


def test_slices_that_are_all_wrong_in_every_seed_decide_nothing():
    """Three seeds of risk 1: their spread is unknown, not zero."""
    low, high = limits(1.0, 50)
    base_low, base_high = limits(0.4, 50)
    frame = pd.DataFrame(
        [
            {"slice": label, "seed": seed, "rows": 50, "risk": risk, "lower": low, "upper": high,
             "change": risk - 0.4, "base_lower": base_low, "base_upper": base_high}
            for label in "ab"
            for seed, risk in enumerate((1.0, 1.0, 1.0) if label == "a" else (0.96, 0.98, 1.0))
        ]
    )  # fmt: skip
    found = least_change("c", "m", frame)
    assert found.lower > 0 and found.tied and found.appears == "undecided"
    assert least_change("c", "m", frame[frame["slice"] == "b"]).appears == "yes"


def test_the_gaps_over_difficulty_and_n():
    falls = cells(best_at(8, 8), gap=lambda n, d: 0.02 * d / math.log2(n))
    found = observe(falls, NO_SLICES)
    rises = named(found, "the generalisation gap rises with difficulty")
    assert len(rises) == 2 and {o.appears for o in rises} == {"yes"}
    assert named(found, "the generalisation gap falls with n")[0].appears == "yes"
    assert named(found, "the extrapolation gap falls with difficulty")[0].appears == "yes"
    valley = cells(best_at(8, 8), beyond=lambda d: 0.05 * abs(d - 8))
    falls_on = named(observe(valley, NO_SLICES), "the extrapolation gap falls with difficulty")
    assert falls_on[0].appears == "no"


def test_a_gap_that_falls_with_the_passes_alone_does_not_fall_with_n():
    """Rows read more often at the smallest size: the fall from there on is another claim."""
    memory = cells(best_at(8, 8, 8), sizes=(64, 1024, 4096), gap=lambda n, d: 0.3 * (n < 1024))
    claim = "the generalisation gap falls with n"
    assert named(observe(memory, NO_SLICES), claim)[0].appears == "yes"
    told = observe(memory, NO_SLICES, few_units=1024)
    assert (
        named(told, claim)[0].appears == "undecided"
        and "n ≥ 1,024" in named(told, claim)[0].measured
    )
    assert named(told, f"{claim} and the passes")[0].appears == "yes"
    small = cells(best_at(8, 8), sizes=(64, 256))
    told = observe(small, NO_SLICES, few_units=1024)  # no two sizes are passed over alike
    assert not named(told, claim) and len(named(told, f"{claim} and the passes")) == 1


def test_a_gap_that_falls_again_over_the_hard_windows_does_not_rise():
    """Its rank correlation and its slope would be positive."""
    hump = {4: 0.0, 6: 0.1, 8: 0.3, 10: 0.15}
    found = observe(cells(best_at(8, 8), gap=lambda n, d: hump[int(d)]), NO_SLICES)
    assert {o.appears for o in named(found, "the generalisation gap rises with difficulty")} == {
        "no"
    }
    assert named(found, "the generalisation gap falls with n")[0].appears == "undecided"


def test_bases_and_objectives_are_compared_at_the_cells_that_both_have():
    frame = pd.concat(
        [
            cells(best_at(8, 8)),
            cells(best_at(6, 6), base="weak", seeds=(0, 1)),
            cells(best_at(8, 8), objective="dft", extra=-0.1),
        ]
    )
    found = observe(frame, NO_SLICES)
    stronger = named(found, "a stronger base moves the best difficulty harder", "n = 64")[0]
    assert stronger.value == 2 and stronger.seeds == 2 and stronger.appears == "undecided"
    assert (stronger.lower, stronger.upper) == (0, 4)  # a window step
    ahead = named(found, "DFT is ahead of SFT at small n on hard data")[0]
    behind = named(found, "DFT is behind SFT at large n on hard data")[0]
    assert ahead.value == pytest.approx(0.101) and ahead.appears == "yes"
    assert behind.value == pytest.approx(-0.101) and behind.appears == "no"


def test_methods_are_not_averaged():
    lora = cells(lambda n, s: 8.0)  # the inner window is best
    full = cells(lambda n, s: 4.0).assign(method="full")  # the easiest is
    empty = pd.DataFrame(columns=[*slices(lambda n, a, d: 0.0).columns])
    found = observe(pd.concat([lora, full]), empty)
    said = {f.measured: f.appears for f in found if f.claim.startswith("risk is not monotone")}
    assert {v for w, v in said.items() if ", full" in w} == {"no"}
    assert {v for w, v in said.items() if ", full" not in w} == {"yes"}
    alone = {
        f.measured: f.appears for f in observe(lora, empty) if f.claim.startswith("risk is not")
    }
    assert alone == {w: v for w, v in said.items() if ", full" not in w}
    dft = cells(lambda n, s: 8.0, objective="dft", extra=0.05)
    every = [lora, dft, full, dft.assign(method="full")]
    words = [(f.claim, f.measured) for f in observe(pd.concat(every), empty)]
    assert len(set(words)) == len(words) and any("DFT" in claim for claim, _ in words)


def test_seeds_that_agree_or_are_two_decide_nothing():
    assert over_seeds("c", "m", [6.0, 6.0]).appears == "undecided"
    assert over_seeds("c", "m", [6.0, 6.0]).lower == -math.inf
    tied = over_seeds("c", "m", [6.0, 6.0, 6.0], resolution=2)
    assert (tied.lower, tied.upper, tied.appears) == (4, 8, "undecided")
    assert over_seeds("c", "m", [6.0, 6.001]).appears == "undecided"  # t leans on normality alone
    for within in ([6.0, 6.001, 6.002], [6.0, 6.0, 7.0]):  # two windows that tie count half a step
        near = over_seeds("c", "m", within, resolution=2)
        assert near.tied and near.appears == "undecided" and near.upper - near.lower > 3.99
    close = over_seeds("c", "m", [16.0, 16.0, 18.0], resolution=2)
    assert not close.tied and close.upper - close.lower > 4 and close.appears == "yes"


def test_the_least_of_several_means_has_the_least_of_their_limits():
    one, two = [0.1, 0.2, 0.3], [1.0, 1.5, 1.7]
    found = least_over_seeds("c", "m", [one, two])
    ends = [ttest_1samp(x, 0).confidence_interval(0.975) for x in (one, two)]
    assert found.value == pytest.approx(0.2)
    assert found.lower == pytest.approx(min(e.low for e in ends))
    assert found.upper == pytest.approx(min(e.high for e in ends))


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


def test_an_interval_is_no_narrower_than_what_more_cells_tell():
    alike = [0.100, 0.101, 0.102]
    own = over_seeds("c", "m", alike)
    wide = over_seeds("c", "m", alike, spread=Spread(0.06, 12))
    assert own.appears == "yes" and wide.value == own.value
    assert wide.upper - wide.value == pytest.approx(student.ppf(0.975, 12) * 0.06 / 3**0.5)
    apart = over_seeds("c", "m", [0.0, 0.1, 0.5], spread=Spread(0.06, 12))
    assert apart == over_seeds("c", "m", [0.0, 0.1, 0.5])
    parts = least_over_seeds("c", "m", [alike, alike], spreads=[None, Spread(0.06, 12)])
    assert parts.lower == pytest.approx(0.101 - student.ppf(0.9875, 12) * 0.06 / 3**0.5)


def test_a_contrast_spreads_as_its_columns_do():
    table = pd.DataFrame(np.random.default_rng(0).normal(0, 3.0, (400, 6)))
    found = spread_of_contrast(table, 0.5)
    assert found.deviation == pytest.approx(3 * 0.5**0.5, rel=0.03) and found.freedom == 399 * 6
    assert spread_of_contrast(table[:1], 1.0) is None
    assert spread_of_contrast(table * 0, 1.0) is None


def test_of_many_equal_contrasts_those_that_spread_little_by_chance_are_not_decided():
    """Three seeds, six equal windows: own intervals decide one in twenty, the narrowest of all."""
    generator = np.random.default_rng(1)
    decided = {"own": 0, "pooled": 0}
    for _ in range(2000):
        table = pd.DataFrame(generator.normal(0, 1, (3, 6)))
        contrast = table[0] - table[5]
        spread = spread_of_contrast(table, 2.0)
        decided["own"] += over_seeds("c", "m", contrast).appears != "undecided"
        decided["pooled"] += over_seeds("c", "m", contrast, spread=spread).appears != "undecided"
    assert 0.03 < decided["own"] / 2000 < 0.07 and decided["pooled"] / 2000 < 0.03


def test_the_claims_within_one_size_take_the_spread_of_all_its_windows():
    """A valley whose two ends happen to lie equally far above it in every seed."""
    levels = {"2:6": 0.03, "4:8": 0.0, "6:10": 0.0, "8:12": 0.0, "10:14": 0.0, "12:16": 0.03}
    noise = {0: (0, 1, -1), 1: (0, -1, 1), 2: (0, 0, 0)}  # on the windows between, by seed

    def table(scale):
        rows = [
            {
                "base": "strong", "objective": "nll", "method": "lora", "size": 64, "seed": seed,
                "window": window, "low": float(window.split(":")[0]),
                "high": float(window.split(":")[1]), "generalization_gap": 0.0,
                "extrapolation_gap": 0.0,
                "test_risk": 0.5 + level
                + (scale * noise[seed][place % 3] + 0.0001 * seed if 0 < place < 5 else 0.0),
            }
            for seed in noise
            for place, (window, level) in enumerate(levels.items())
        ]  # fmt: skip
        return pd.DataFrame(rows).assign(bound="b", theorem="t", shift="s", test_loss="e")

    claim = "risk is not monotone in difficulty"
    quiet, loud = (named(observe(table(s), NO_SLICES), claim)[0] for s in (0.0, 0.05))
    assert quiet.appears == "yes"
    assert loud.upper - loud.lower > 2 * (quiet.upper - quiet.lower)


@pytest.mark.parametrize("noise", range(16))  # in one of five the pooled spread is the wider
def test_every_claim_takes_the_pooled_spread_of_its_own_contrast(noise):
    """Each half-width recomputed by hand on a map of noise: the wider of own and pooled."""
    generator = np.random.default_rng(noise)
    both = [cells(lambda n, s: 8, objective=o) for o in ("nll", "dft")]
    for frame in both:
        for column in ("test_risk", "generalization_gap", "extrapolation_gap"):
            frame[column] = 0.5 + generator.normal(0, 0.1, len(frame))
    found = observe(pd.concat(both), NO_SLICES)
    mine = both[0]

    def half(contrast, table, squared_weights, parts):
        tail, freedom = 0.025 / parts, 2 * table.shape[1]
        deviation = float(((table - table.mean()) ** 2).to_numpy().sum() / freedom) ** 0.5
        pooled = student.ppf(1 - tail, freedom) * deviation * squared_weights**0.5 / 3**0.5
        return max(pooled, student.ppf(1 - tail, 2) * contrast.std(ddof=1) / 3**0.5)

    def table(column, size=None):
        rows = mine if size is None else mine[mine["size"] == size]
        return rows.pivot_table(index="seed", columns="low", values=column)

    def of_thirds(name, numbers, sign):
        (seen,) = named(found, name[0], name[1])
        easy, middle, hard = (numbers[list(k)] for k in np.array_split(numbers.columns, 3))
        parts = [(middle, easy), (hard, middle)]
        ends = []
        for high, low in parts:
            rise = sign * (high.mean(axis=1) - low.mean(axis=1))
            weights = 1 / high.shape[1] + 1 / low.shape[1]
            wide = half(rise, numbers, weights, 2)
            ends.append((rise.mean() - wide, rise.mean() + wide))
        assert (seen.lower, seen.upper) == pytest.approx(tuple(np.min(ends, axis=0)))

    risks = table("test_risk", 64)
    (valley,) = named(found, "risk is not monotone in difficulty", "nll, n = 64")
    ends = []
    for end in (2, 8):
        inner = [risks.loc[s, risks.drop(index=s)[[4, 6]].mean().idxmin()] for s in risks.index]
        contrast = risks[end] - inner
        ends.append((contrast.mean(), half(contrast, risks, 2, 2)))
    assert valley.lower == pytest.approx(min(m - h for m, h in ends))
    assert valley.upper == pytest.approx(min(m + h for m, h in ends))

    gaps = "the generalisation gap rises with difficulty", "nll, n = 64"
    of_thirds(gaps, table("generalization_gap", 64), 1)
    falls = "the extrapolation gap falls with difficulty", "strong base, nll"
    of_thirds(falls, table("extrapolation_gap"), -1)

    by_window = (table("generalization_gap", 64) - table("generalization_gap", 1024)) / 4
    fall = by_window.mean(axis=1)
    (seen,) = named(found, "the generalisation gap falls with n", "strong base, nll")
    assert seen.value == pytest.approx(fall.mean())
    assert seen.upper - seen.value == pytest.approx(half(fall, by_window, 1 / 4, 1))

    apart = [f[f["size"] == 64].set_index(["seed", "low"])["test_risk"] for f in both]
    gain = (apart[0] - apart[1]).unstack()
    (ahead,) = named(found, "DFT is ahead of SFT at small n on hard data")
    assert ahead.value == pytest.approx(gain[[6, 8]].mean(axis=1).mean())
    wide = half(gain[[6, 8]].mean(axis=1), gain, 1 / 2, 1)
    assert ahead.upper - ahead.value == pytest.approx(wide)
