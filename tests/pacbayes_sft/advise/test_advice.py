"""Advice in a world whose best window is known, and the sentences where there is none."""

import dataclasses
import json

import numpy as np
import pytest

from pacbayes_sft.advise.advice import Move, _moves, advise
from pacbayes_sft.advise.pilots import Measured, Pilot, read_base_profile, read_pilots
from pacbayes_sft.advise.predict import Extra, Rule, Train, gather, observed_gamma
from pacbayes_sft.advise.report import moves_said, not_told_from
from pacbayes_sft.advise.shifts import window_shifts
from pacbayes_sft.advise.ties import LEVEL, alike, tied
from pacbayes_sft.errors import InputError
from tests.pacbayes_sft.advise.cases import LEVELS, WINDOWS, law, record, truth, world

POOL, FLAT = law(LEVELS), law(LEVELS)
SHIFTS = window_shifts(POOL, FLAT, WINDOWS)
BUDGETS = (64, 1024, 4096, 16384)


def advice(records=None, test=FLAT, budgets=BUDGETS, **changes):
    pilots = read_pilots(world() if records is None else records)
    return advise(pilots, window_shifts(POOL, test, WINDOWS), test, budgets, draws=60, **changes)


@pytest.mark.parametrize("test", [law((2, 3, 4)), FLAT, law((6, 7, 8, 9, 10))])
def test_the_best_window_is_advised_at_budgets_never_piloted(test):
    found = advice(test=test)
    for choice in found.choices:
        risks = {w: truth(w, choice.budget, test) for w in WINDOWS}
        assert risks[choice.window] == pytest.approx(min(risks.values()), abs=1e-3)
        # (the hardest window's pilots stand at 1 on easy levels: no form carries that on)
        assert choice.predictions[0].value == pytest.approx(risks[choice.window], abs=0.03)


def test_it_moves_harder_where_the_truth_does():
    sizes = np.unique(np.round(np.geomspace(64, 16384, 200)).astype(int))
    best = [min(WINDOWS, key=lambda w: truth(w, n, FLAT)) for n in sizes]
    turns = [int(n) for n, a, b in zip(sizes[1:], best, best[1:], strict=False) if a != b]
    found = advice()
    assert len(found.moves) == len(turns) >= 1
    for move, turn in zip(found.moves, turns, strict=True):
        assert move.harder and 0.7 < move.size / turn < 1.4
        assert move.earliest <= move.size and (move.latest is None or move.size <= move.latest)


def test_a_law_counted_on_a_test_sample_has_that_samples_noise():
    """Two arms whose profiles cross: their difference is a mean over the test units."""
    levels, units = (0.0, 1.0), 30
    profiles = {"0:0": (0.2, 0.6), "1:1": (0.6, 0.2)}
    pilots = [
        Pilot(
            w, "nll", n, 0, 0.3, Measured(0.4, 1e-4),
            {v: Measured(r, 1e-4) for v, r in zip(levels, risks, strict=True)}, 0.5, 0.1, 0.5, 1.0,
        )
        for w, risks in profiles.items() for n in (64, 256, 1024)
    ]  # fmt: skip
    law_of_sample = {0.0: 0.5, 1.0: 0.5}
    shifts = window_shifts(law_of_sample, law_of_sample, list(profiles))
    spread = {}
    for known in (True, False):
        evidence = gather(
            pilots, shifts, law_of_sample, delta=0.05, draws=600, seed=0,
            test_units=None if known else units,
        )  # fmt: skip
        risks = evidence.fits["test"].at(1024)[1:]
        spread[known] = float(np.std(risks[:, 0] - risks[:, 1]))
    assert spread[True] < 1e-3
    assert spread[False] == pytest.approx(0.8 * 0.5 / units**0.5, rel=0.1)


def test_what_the_evidence_cannot_tell_apart_is_said():
    sharp, blurred = advice(budgets=(64,)), advice(world(noise=0.15), budgets=(16384,))
    assert sum(p.alike for p in sharp.choices[0].predictions) == 1
    assert sharp.choices[0].mixture == {sharp.choices[0].window: 1.0}
    assert sum(p.alike for p in blurred.choices[0].predictions) > 1
    assert sum(blurred.choices[0].mixture.values()) == pytest.approx(1)


def test_of_windows_that_cannot_be_told_apart_the_least_bound_is_advised():
    decided = []
    for seed in range(4):
        records = world(seeds=(seed,), noise=0.1)
        bound, plain = (advice(records, bound_breaks_ties=way) for way in (True, False))
        assert bound.ties == "kl_bound + slack" and plain.ties is None
        evidence = gather(read_pilots(records), SHIFTS, FLAT, delta=0.05, draws=60, seed=0)
        for choice, least in zip(bound.choices, plain.choices, strict=True):
            assert choice.predictions[0].window == choice.window
            assert least.window == min(choice.predictions, key=lambda p: p.value).window
            near_least = tied(evidence.total(Rule(), choice.budget))
            bounds = {p.window: p.bound_kl for p in choice.predictions}
            tied_with = [w for w, near in zip(WINDOWS, near_least, strict=True) if near]
            assert choice.window == min(tied_with, key=bounds.__getitem__)
            assert choice.by_bound == (choice.window != least.window) and not least.by_bound
            said = "the least bound of the tied"
            assert choice.by_bound == any(said in s for s in choice.changes)
            decided.append(choice.by_bound)
    assert any(decided) and not all(decided)


def test_windows_are_held_against_the_advised_one_and_not_against_the_least():
    """Three arms, of which the second is known badly: the third is like it alone."""
    draws = np.random.default_rng(0).normal([0.1, 0.12, 0.2], [0.001, 0.1, 0.001], (400, 3))
    totals = np.concatenate([[[0.1, 0.12, 0.2]], draws])
    assert alike(totals, 0).tolist() == [True, True, False]
    assert alike(totals, 1).tolist() == [True, True, True]
    known = np.tile([0.1, 0.1, 0.2], (401, 1))  # a rule that draws nothing tells any difference
    assert alike(known, 0).tolist() == tied(known).tolist() == [True, True, False]


@pytest.mark.parametrize("arms", [2, 5, 8])
def test_equal_arms_are_seldom_told_apart_though_the_reference_is_the_least_of_them(arms):
    """Each held alone against the least of one fit, some of five was told worse in 46 % of runs."""
    stream, told, alone, runs = np.random.default_rng(arms), 0, 0, 300
    for _ in range(runs):
        fit = stream.standard_normal(arms)
        totals = np.concatenate([[fit], fit + stream.standard_normal((400, arms))])
        told += not alike(totals, int(np.argmin(fit))).all()
        alone += not tied(totals).all()
    assert told / runs < LEVEL + 3 * (LEVEL / runs) ** 0.5  # 0.089: three standard errors
    assert alone > 1.5 * told  # the rule's ties are no such comparison
    assert alike(totals + 12 * np.arange(arms), 0).sum() == 1  # what is far is told apart


def test_a_record_that_holds_a_standard_error_is_believed_and_of_others_the_interval_serves():
    old, new = record("2:4", 64, 0), record("2:4", 64, 1)
    for estimate in (
        *new["measured"]["slices"].values(),
        new["measured"]["train_distribution_risk"],
    ):
        estimate["standard_error"] = 0.0123  # losses of several rows a unit: the interval is wider
    before, after = read_pilots([old, new])
    slices = old["measured"]["slices"]
    assert before.profile[2.0].error == pytest.approx(
        (slices["2"]["upper"] - slices["2"]["lower"]) / 3.92
    )
    assert {m.error for m in (*after.profile.values(), after.heldout)} == {0.0123}


def test_a_move_to_another_objective_is_no_move_to_harder_data():
    move = Move(64, 64, 64, "6:10 (dft)", "6:10", None)
    found = dataclasses.replace(advice(budgets=(4096,)), moves=(move,))
    assert moves_said(found)[-1].endswith("the advice moves from 6:10 (dft) to 6:10")
    records = world() + world(objective="dft")
    evidence = gather(read_pilots(records), SHIFTS, FLAT, delta=0.05, draws=9, seed=0)
    leaders = [
        evidence.arms.index(arm) for arm in (("5:7", "dft"), ("5:7", "nll"), ("8:10", "dft"))
    ]
    grid = np.array([64, 256, 1024])
    totals = [evidence.total(Rule(), n) for n in grid]
    assert [m.harder for m in _moves(evidence, grid, totals, leaders)] == [None, True]
    assert [m.harder for m in _moves(evidence, grid, totals, leaders[::-1])] == [False, None]


def test_a_column_that_is_high_where_rows_are_easy_is_seen_by_the_pilots():
    """A pass rate under another name: nothing is called harder, and D⁺ decides nothing."""
    pilots = read_pilots(world())
    turned = [
        dataclasses.replace(p, profile={12 - v: risk for v, risk in p.profile.items()})
        for p in pilots
    ]
    right, found = (advise(of, SHIFTS, FLAT, (256, 4096)) for of in (pilots, turned))
    assert not right.falls and right.ties and any(m.harder for m in right.moves)
    assert found.falls and found.ties is None
    assert all(m.harder is None for m in found.moves)
    flat = [
        dataclasses.replace(p, profile={v: Measured(0.5 - 0.001 * v, 0.02) for v in p.profile})
        for p in pilots
    ]  # falls by less than its noise
    assert not advise(flat, SHIFTS, FLAT, (256,)).falls


def test_a_path_that_turns_back_moves_the_second_time_after_the_first():
    """Easy, hard, middle: every draw had left the hard window's side of the middle at the start."""
    grid, leaders = np.array([64, 128, 256, 512]), [0, 2, 2, 1]
    draws = np.stack([np.ones((4, 3))] * 5, axis=1)  # (sizes, draws, arms)
    for k, arm in enumerate(leaders):
        draws[k, :, arm] = 0
    evidence = gather(read_pilots(world()), SHIFTS, FLAT, delta=0.05, draws=9, seed=0)
    there, back = _moves(evidence, grid, list(draws), leaders)
    assert (there.size, there.earliest, there.latest, there.harder) == (128, 128, 128, True)
    assert (back.size, back.earliest, back.latest, back.harder) == (512, 512, 512, False)


def test_the_bound_overrules_no_evidence():
    """On the hard test law the easy window's bound is made the least; its risk says otherwise."""
    hard = law((8, 9, 10))
    pilots = [
        dataclasses.replace(p, empirical=0.0 if p.window == "2:4" else 1.0)
        for p in read_pilots(world())
    ]
    shifts = dict.fromkeys(WINDOWS, SHIFTS["5:7"])
    for choice in advise(pilots, shifts, hard, (4096,), draws=60).choices:
        bounds = {p.window: p.bound_kl for p in choice.predictions}
        assert min(bounds, key=bounds.__getitem__) == "2:4" != choice.window
        assert not choice.by_bound


def test_the_order_of_the_records_does_not_matter():
    records = world(seeds=(0, 1), noise=0.02)
    a, b = advice(records), advice(records[::-1])
    assert [c.window for c in a.choices] == [c.window for c in b.choices]
    assert a.choices[0].predictions[0].value == pytest.approx(b.choices[0].predictions[0].value)


def test_an_objective_is_an_arm_like_a_window():
    records = world() + world(objective="dft")
    found = advice(records)
    assert {p.objective for p in found.choices[0].predictions} == {"nll", "dft"}
    assert all(c.objective == "nll" for c in found.choices)  # dft is worse in this world


def test_each_rule_minimises_what_it_says():
    for rule in (Rule(t, e) for t in Train for e in Extra):
        found = advice(rule=rule, budgets=(4096,), bound_breaks_ties=False).choices[0]
        values = [p.value for p in found.predictions]
        assert values == sorted(values) and found.window == found.predictions[0].window
        sides = found.predictions[0]
        assert sides.value == pytest.approx(sides.train + sides.shift)
    shift = Rule(Train.NOTHING, Extra.TV)
    tv = advice(rule=shift, budgets=(4096,)).choices[0].predictions
    assert {p.window: p.value for p in tv} == {w: s.tv.value for w, s in SHIFTS.items()}


def test_it_says_what_would_change_its_mind():
    said = " ".join(advice(budgets=(4096,)).choices[0].changes)
    assert "is as good if" in said and "γ" in said and "pilots at n = 4096" in said
    json.dumps(advice().to_dict())


def test_an_arm_is_not_held_against_itself_where_all_are_equal():
    """D⁺ alone is 0 for several windows, and the bound then takes any of them."""
    nothing = Rule(Train.NOTHING, Extra.NOTHING)
    (choice,) = advice(budgets=(4096,), rule=nothing).choices
    first = choice.changes[0]
    assert "0.000 lower" in first
    other, mine = first.split(" is as good")[0], first.split("that of ")[1].split()[0]
    assert mine == choice.window != other


def test_pilots_that_tell_no_window_from_another_make_a_guess():
    found = advice(budgets=(4096,))
    blind = [
        dataclasses.replace(
            c, predictions=tuple(dataclasses.replace(p, alike=True) for p in c.predictions)
        )
        for c in found.choices
    ]
    guess = "the advice is a guess"
    assert any(guess in s for s in moves_said(dataclasses.replace(found, choices=tuple(blind))))
    assert not any(guess in s for s in moves_said(found))
    assert not_told_from(blind[0]) == "any other: no preference"
    first, *others = blind[0].predictions
    told = dataclasses.replace(others[0], alike=False)
    some = dataclasses.replace(blind[0], predictions=(first, told, *others[1:]))
    assert not_told_from(some).split(", ") == [p.window for p in others[1:]]
    alone = dataclasses.replace(blind[0], predictions=(first,))
    assert not_told_from(alone) == ""


# measured test error of the pilot map (one seed, flat law): window -> by size
PILOT_MAP = {
    "2:6": (0.73, 0.81, 0.77, 0.75, 0.73),
    "4:8": (0.70, 0.74, 0.69, 0.69, 0.66),
    "6:10": (0.69, 0.67, 0.64, 0.59, 0.56),
    "8:12": (0.73, 0.69, 0.54, 0.49, 0.46),
    "10:14": (0.98, 0.93, 0.91, 0.79, 0.72),
}


def test_on_the_pilot_map_the_best_window_is_found_at_sizes_not_seen():
    def pilot(window, size, risk):
        seen = Measured(risk, 0.02)
        return Pilot(window, "nll", size, 0, risk, seen, {9.0: seen}, risk, 10.0, 0.5, 1.0)

    pilots = [
        pilot(window, n, risks[i])
        for window, risks in PILOT_MAP.items()
        for i, n in enumerate((64, 256, 1024))
    ]
    shifts = window_shifts(law(range(2, 15)), law(range(6, 13)), tuple(PILOT_MAP))
    found = advise(pilots, shifts, {9.0: 1.0}, (4096, 16384))
    assert [c.window for c in found.choices] == ["8:12", "8:12"]
    for choice, place in zip(found.choices, (3, 4), strict=True):
        predicted = {p.window: p.value for p in choice.predictions}
        assert predicted["8:12"] == pytest.approx(PILOT_MAP["8:12"][place], abs=0.08)


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "says"),
    [
        (world(sizes=(64,)), "cannot be extrapolated"),
        (world(sizes=(64, 96, 128)), "cannot be extrapolated"),
        (world()[:-1], "no pilot of size 1024"),
    ],
)
def test_pilots_that_are_too_few_or_too_small(records, says):
    with pytest.raises(InputError, match=says):
        advice(records)


def test_a_budget_out_of_reach_is_refused_and_the_others_are_not():
    found = advice(budgets=(32, 4096, 10**6))
    assert [c.budget for c in found.choices] == [4096]
    assert "smallest pilot" in found.refused[32] and "largest pilot" in found.refused[10**6]


def test_two_sizes_reach_less_far_and_are_less_sure():
    two, three = advice(world(sizes=(64, 1024)), budgets=(4096, 8192)), advice(budgets=(4096,))
    assert "2 pilot sizes" in two.refused[8192] and [c.budget for c in two.choices] == [4096]
    a, b = two.choices[0].predictions[0], three.choices[0].predictions[0]
    assert a.upper - a.lower > b.upper - b.lower


@pytest.mark.parametrize(
    ("pool", "test", "windows", "says"),
    [
        ([3.0] * 9, [3.0, 4.0], ["2:4"], "constant"),
        ([1.0, 2.0], [5.0, 6.0], ["1:2"], "do not overlap"),
        ([1.0, 9.0], [1.0, 2.0], ["3:4"], "no row of the pool"),
    ],
)
def test_a_column_that_cannot_carry_advice(pool, test, windows, says):
    with pytest.raises(InputError, match=says):
        window_shifts(pool, test, windows)


def test_a_test_law_that_the_pilots_do_not_cover():
    test = law((9, 10, 11, 12))
    with pytest.raises(InputError, match="cover 50%"):
        advise(read_pilots(world()), SHIFTS, test, (64,))


def test_records_of_two_bases_are_not_mixed():
    records = world()
    other = dict(records[1]) | {"cell": records[1]["cell"] | {"base": "weak"}}
    with pytest.raises(InputError, match="several bases"):
        read_pilots([*records, other])
    assert len(read_pilots([*records, other], base="weak")) == 1
    with pytest.raises(InputError, match="holds no bound"):
        read_pilots(records, bound="none")


def test_a_pilot_or_base_of_another_shape_ends_in_a_sentence():
    made = record("5:7", 64, 0)
    made["measured"]["slices"]["3"] = {"value": 0.5}
    with pytest.raises(InputError, match=r"record 5:7-64-0-nll: upper is missing; remove it and"):
        read_pilots([made])
    own = {"key": "b", "base": "strong", "measured": {"slices": {"3": {"value": None}}}}
    with pytest.raises(InputError, match=r"record b: of another shape .*; remove it and scan"):
        read_base_profile([own])


# --- shift terms -----------------------------------------------------------------------------


def test_labels_of_the_shift_terms():
    known = SHIFTS["2:4"]
    assert known.tv.guarantee == "exact" and known.tv.value == pytest.approx(2 / 3)
    assert known.d_plus.guarantee == "estimate"
    assert SHIFTS["8:10"].d_plus.value == 0  # harder than the test
    sampled = window_shifts([float(d) for d in LEVELS] * 30, [2.0, 9.0] * 40, WINDOWS)["2:4"]
    assert sampled.tv.guarantee == "upper" and sampled.tv.upper > sampled.tv.value
    assert sampled.with_slack(0) == sampled.d_plus.value
    assert sampled.with_slack(1) == sampled.tv.value


def test_edges_of_the_sample_weaken_the_label_and_say_why():
    pool, test = [float(d) for d in LEVELS] * 30, [2.0, 9.0] * 40
    fixed = window_shifts(pool, test, WINDOWS)["2:4"].tv
    for changes in ({"levels_of_sample": True}, {"windows_of_sample": True}):
        weaker = window_shifts(pool, test, WINDOWS, **changes)["2:4"].tv
        assert weaker.guarantee == "estimate" and weaker.upper == fixed.upper
        assert "not fixed without" in weaker.assumptions[-1]
    # a TV of known laws is exact for any window, but not where levels hold values together
    known = window_shifts(POOL, FLAT, WINDOWS, windows_of_sample=True)["2:4"].tv
    assert known.guarantee == "exact"
    merged = window_shifts(POOL, FLAT, WINDOWS, levels_of_sample=True)["2:4"].tv
    assert merged.guarantee == "estimate"


def test_the_bootstrap_draws_a_kl_with_the_decreed_error_whatever_its_spread():
    """As docs/advice.md says; held-out risks are drawn with their own."""

    def spreads(kl_apart, risk_apart):
        pilots = [
            dataclasses.replace(
                p,
                kl=p.kl * np.exp(kl_apart * p.seed),
                heldout=Measured(min(1.0, p.heldout.value + risk_apart * p.seed), 0.001),
            )
            for p in read_pilots(world(seeds=(0, 1)))
        ]
        fits = gather(pilots, SHIFTS, FLAT, delta=0.05, draws=300, seed=0).fits
        return np.log(fits["kl"].at(8.0))[1:].std(axis=0), fits["heldout"].at(8.0)[1:].std(axis=0)

    (kl, risk), (wide_kl, wide_risk) = spreads(0.0, 0.0), spreads(3.0, 0.2)
    assert (wide_kl < 1.5 * kl).all() and (kl > 0.05).all()
    assert (wide_risk > 2 * risk).any()


def test_gamma_is_how_far_the_risk_falls():
    pilot = read_pilots(world())[-1]  # hardest window, largest size
    falls = max(pilot.profile[2].value - pilot.profile[d].value for d in LEVELS)
    assert observed_gamma(pilot.profile) == pytest.approx(falls)
    assert dataclasses.replace(pilot, size=1).arm == ("8:10", "nll")
