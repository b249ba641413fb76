"""The replay of the advice benchmark, in a world whose regrets are known."""

import importlib.util
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pacbayes_sft.scan.store import Store
from tests.pacbayes_sft.advise.cases import WINDOWS, law, record, truth, untouched

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """The benchmark's module, without the committed records that it reads beside a map's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        spec = importlib.util.spec_from_file_location("advice_bench", ROOT / "benchmarks/advice.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        nowhere = tmp_path_factory.mktemp("nowhere")
        patch.setattr(module, "SELECTORS", nowhere / "advice_selectors.json")
        patch.setattr(module, "POWERS", nowhere / "powers")
        patch.setattr(module, "JUDGES", nowhere / "judges")
        patch.setattr(module, "DRAWS", 20)
        yield module


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    for objective in ("nll", "dft"):
        for size in (64, 256, 1024, 4096):
            for seed in (0, 1):
                for window in WINDOWS:
                    made = record(window, size, seed, objective)
                    made["bounds"] = {"checkpoint": made["bounds"]["plain"]}
                    Store(folder).put(made)
    return folder


@pytest.fixture
def records(world, tmp_path):
    """A copy, to be changed; of one objective, since nothing that reads it looks at another."""
    skipped = shutil.ignore_patterns("*-dft.json")
    return shutil.copytree(world, tmp_path / "records", ignore=skipped)


@pytest.fixture(scope="module")
def result(bench, world):
    return bench.run(world)


def test_regrets_are_those_of_the_truth(bench, result):
    json.dumps(result, allow_nan=False)
    stage = result["stages"]["1024"]
    assert stage["judged_at"] == [4096] and stage["pilot_seeds"] == 2
    rules = stage["rules"]
    laws = {"easy": law((2, 3, 4)), "flat": law(range(2, 11)), "hard": law((8, 9, 10))}
    for name, window in (("always easy (2–4)", "2:4"), ("always hard (8–10)", "8:10")):
        for test, q in laws.items():
            risks = {w: truth(w, 4096, q) for w in WINDOWS}
            expected = risks[window] - min(risks.values())
            assert rules[name]["by_law"][test] == pytest.approx(expected, abs=1e-9)
    assert rules[bench.ADVICE]["mean"] < 0.01 < rules["always medium (5–7)"]["mean"]
    assert rules[bench.ADVICE]["cases"] == 3 and rules[bench.ADVICE]["entries"] == 3 * 2
    assert result["stages"]["256"]["judged_at"] == [1024]
    weights = result["token_weights"]
    assert weights["advice"]["mean"] <= weights["always dft, its window advised"]["mean"]
    assert bench.PRIMARY in weights
    shown = bench.weights_table(result).splitlines()
    assert [line.split(" | ")[1:4] for line in shown[2:]] == [
        [f"{n:,}", "2", alpha] for n in (64, 256, 1024, 4096) for alpha in ("0", "1")
    ]
    flat, last_line = law(range(2, 11)), shown[-1].strip("| ").split(" | ")
    dft = {e["window"]: e["risk"] for e in result["risks_by_token_weight"]
           if (e["size"], e["objective"]) == (4096, "dft")}  # fmt: skip
    assert tuple(dft) == WINDOWS and last_line[4:-1] == [f"{dft[w]:.3f}" for w in WINDOWS]
    assert last_line[-1] == f"{min(dft.values()):.3f}"
    nll = {e["window"]: e["risk"] for e in result["risks_by_token_weight"]
           if (e["size"], e["objective"]) == (4096, "nll")}  # fmt: skip
    assert nll == pytest.approx({w: truth(w, 4096, flat) for w in WINDOWS})
    assert "0 in " in bench.weight_rules_table(result)
    share = result["pilot_cost_over_sweep"]["strong"]["units"]
    assert share == pytest.approx((64 + 256 + 1024) / (64 + 256 + 1024 + 4096))


def test_token_weights_are_compared_where_all_have_every_window(bench, world, tmp_path):
    """A run stopped in the middle: the seed that lacks a window of one weight counts for none."""
    folder = shutil.copytree(world, tmp_path / "stopped")
    (folder / "records" / "8:10-4096-1-dft.json").unlink()
    pilots = bench.read_pilots(list(Store(folder).all()), bound=bench.BOUND, base="strong")
    shown = bench.risks_by_weight(pilots, "strong")
    assert {(e["size"], e["seeds"]) for e in shown} == {(64, 2), (256, 2), (1024, 2), (4096, 1)}
    assert bench.weights_table({"risks_by_token_weight": shown}).count("\n") == 1 + 4 * 2
    pool = law(range(2, 11))
    judged = bench.token_weights(pilots, "strong", pool)
    assert {e["pilot_seed"] for e in judged} == {0, 1} and {e["budget"] for e in judged} == {4096}


def test_what_halving_the_windows_saves_and_costs(bench, result):
    whole, half = result["halving"]
    assert not whole["halved"] and half["halved"] and half["budgets"] == [4096]
    least = bench.RECIPE.least_steps * bench.RECIPE.batch_size
    one = {n: max(least, n) for n in (64, 256, 1024, 4096)}  # rows that the steps of a window read
    sweep = 3 * one[4096]  # as `advise` counts: a fine-tune of every window at every budget
    assert whole["cost"]["rows_read"] == 3 * (one[64] + one[256] + one[1024]) / sweep
    assert half["cost"]["rows_read"] == (3 * one[64] + 2 * (one[256] + one[1024])) / sweep
    assert whole["kept"] == [3] and set(half["kept"]) == {2}
    units = (3 * 64 + 2 * (256 + 1024)) / (3 * (64 + 256 + 1024 + 4096))
    assert half["cost"]["units"] == pytest.approx(units)
    entries = [e for e in result["entries"] if e["rule"] == bench.HALVED and e["stage"] == 1024]
    laws = {"easy": law((2, 3, 4)), "flat": law(range(2, 11)), "hard": law((8, 9, 10))}
    whole_entries = [
        e for e in result["entries"] if e["rule"] == bench.ADVICE and e["stage"] == 1024
    ]
    pairs = zip(whole_entries, entries, strict=True)
    assert half["windows_changed"] == sum(a["window"] != b["window"] for a, b in pairs)
    best = {name: min(WINDOWS, key=lambda w: truth(w, 4096, q)) for name, q in laws.items()}
    poor = {name: max(WINDOWS, key=lambda w: truth(w, 64, q)) for name, q in laws.items()}
    assert half["best_was_dropped"] == sum(best[e["law"]] == poor[e["law"]] for e in entries)
    for entry in entries:  # never the window that was worst at the smallest size
        assert entry["window"] != poor[entry["law"]]
    assert half["mean"] == pytest.approx(bench.summary(entries)[bench.HALVED]["mean"])
    assert bench.halving_table(result).count("strong") == 2


def test_a_window_that_overtakes_is_told_to_have_been_dropped(bench, records):
    """8:10 is the worst at 64 rows under the easy and the flat law, and made the best at 4,096."""
    for file in (records / "records").glob("8:10-4096-*-nll.json"):
        made = json.loads(file.read_text())
        for label in made["measured"]["slices"]:
            made["measured"]["slices"][label] = {"value": 0.0, "lower": 0.0, "upper": 0.02}
        file.write_text(json.dumps(made))
    half = bench.run(records)["halving"][1]
    assert half["best_was_dropped"] == 2 * 2  # two laws, two pilot seeds
    assert half["by_law"]["hard"] < min(half["by_law"]["easy"], half["by_law"]["flat"])


def test_every_constant_window_is_judged_and_the_luckiest_is_told(bench):
    windows = ["2:6", "4:8", "6:10", "8:12"]
    rules = bench.constant_rules(windows)
    assert rules == {"always easy (2–6)": "2:6", "always medium (6–10)": "6:10",
                     "always hard (8–12)": "8:12", "always 4–8": "4:8"}  # fmt: skip

    def entry(rule, regret):
        return {"rule": rule, "base": "a", "budget": 1, "law": "flat", "pilot_seed": 0,
                "regret": regret}  # fmt: skip

    regrets = dict(zip(rules, (0.5, 0.4, 0.6, 0.2), strict=True))
    made = [entry(rule, regret) for rule, regret in regrets.items()]
    made += [entry("a window at random", 0.45), entry(bench.ADVICE, 0.1), entry(bench.ACCURACY, 1)]
    found = bench.verdict(made)
    assert found["best_fixed_rule_is"] == "always medium (6–10)"
    assert found["best_window_in_hindsight_is"] == "always 4–8"
    assert found["advice_over_best_in_hindsight"] == pytest.approx(0.5)


def test_a_full_sweep_regrets_what_its_one_seed_misled_it_by(bench, result):
    """The floor: 0 in a world without noise, and by hand where the seeds disagree."""
    assert result["full_sweep"] == {"regret": 0.0, "by_other_seeds": 0.0}
    risks = {"2:4": (0.1, 0.5, 0.3), "5:7": (0.2, 0.2, 0.3)}  # a seed each
    pilots = []
    for window, of_seed in risks.items():
        for seed, risk in enumerate(of_seed):
            here = bench.Measured(risk, 0.01)
            pilots.append(bench.Pilot(window, "nll", 4096, seed, 0, here, {2.0: here, 5.0: here},
                                      0, 1, 1, 1))  # fmt: skip
    flat = [e for e in bench.full_sweep(pilots, "a", [4096]) if e["law"] == "flat"]
    # means 0.3, 0.2333; without seed 0: 0.4, 0.25, without 1: 0.2, 0.25, without 2: 0.3, 0.2
    assert [e["window"] for e in flat] == ["2:4", "5:7", "2:4"]  # a tie goes to the easier
    assert [e["regret"] for e in flat] == pytest.approx([0.2 / 3, 0, 0.2 / 3])
    assert [e["by_other_seeds"] for e in flat] == pytest.approx([0.15, 0.05, 0.1])
    assert not bench.full_sweep(pilots[1:], "a", [4096])  # a seed that lacks a window


def test_judges_change_regrets_and_never_a_choice(bench, world, result, tmp_path, monkeypatch):
    """Fine-tunes of a seed of their own, in which the hardest window is right everywhere."""
    assert result["judged_again"] == {}
    monkeypatch.setattr(bench, "JUDGES", tmp_path)
    world = shutil.copytree(world, tmp_path / "map")
    for window in WINDOWS:
        made = record(window, 4096, 10)
        if window == "8:10":
            for label in made["measured"]["slices"]:
                made["measured"]["slices"][label] = {"value": 0.0, "lower": 0.0, "upper": 0.02}
        Store(tmp_path).put(made)
    for size, window in ((4096, "8:10"), (1024, "2:4")):  # a scan that goes on
        Store(tmp_path).put(record(window, size, 11))
    found = bench.run(world)["judged_again"]
    assert found["judged_at"] == [4096] and found["judges"] == {"strong": [(4096, 10)]}
    named = [e for e in result["entries"] if e["stage"] == 1024]
    again = [e for e in found["entries"] if e["rule"] != bench.SWEEP]
    order = ["rule", "law", "pilot_seed"]
    key = lambda e: tuple(str(e[k]) for k in order)  # noqa: E731
    pairs = list(zip(sorted(named, key=key), sorted(again, key=key), strict=True))
    assert all(a["window"] == b["window"] for a, b in pairs)
    laws = {"easy": law((2, 3, 4)), "flat": law(range(2, 11)), "hard": law((8, 9, 10))}
    for _, e in pairs:
        risks = {w: truth(w, 4096, laws[e["law"]]) for w in WINDOWS} | {"8:10": 0.0}
        mean = sum(risks.values()) / len(risks)
        assert e["regret"] == pytest.approx(risks.get(e["window"], mean))
    assert found["verdict"]["best_fixed_rule_is"] == "always hard (8–10)"
    assert found["rules"][bench.SWEEP]["mean"] > 0  # the map's own fine-tunes misled it
    assert bench.judges_table({"stages": result["stages"], "judged_again": found}).count("always ")
    fixed = found["advice_minus"]["fixed"]
    assert fixed["value"] == pytest.approx(found["rules"][bench.ADVICE]["mean"])
    assert fixed["standard_error"] > 0
    Store(world).put({"key": "base", "base": "strong", "measured": untouched()})
    no_base = bench.run(world)["judged_again"]["rules"]  # the judges' rows were not shown to it
    assert bench.UNTOUCHED not in no_base
    Store(tmp_path).put({"key": "base", "base": "strong", "measured": untouched()})
    of_base = bench.run(world)["judged_again"]["rules"][bench.UNTOUCHED]["by_law"]
    assert of_base["flat"] == pytest.approx(0.5)  # the hardest window has 0
    (tmp_path / "records" / "2:4-4096-10-nll.json").unlink()  # no judge for a window: none at all
    assert bench.run(world)["judged_again"] == {}


def test_the_error_of_a_difference_is_that_of_rows_and_seeds_by_hand(bench):
    import advice_judges

    def fine_tune(window, seed, risks):
        profile = {float(v): bench.Measured(r, 0.01 * v) for v, r in risks.items()}
        return bench.Pilot(window, "nll", 9, seed, 0, profile[1.0], profile, 0, 1, 1, 1)

    judges = {"a": [fine_tune("1:2", s, {1: 0.1, 2: 0.2 + s, 3: 0.6}) for s in (0, 1)]
              + [fine_tune("2:3", s, {1: 0.4, 2: 0.5, 3: 0.6}) for s in (0, 1)]}  # fmt: skip
    case = {"base": "a", "budget": 9, "law": "flat"}
    entries = [{**case, "rule": "r", "pilot_seed": 0, "window": "1:2"},
               {**case, "rule": "r", "pilot_seed": 1, "window": "2:3"},
               {**case, "rule": "s", "pilot_seed": None, "window": "2:3"},
               {**case, "rule": "any", "pilot_seed": None, "window": None}]  # fmt: skip
    seeds = {"a": np.array([[0.04, 0.01, 0], [0.01, 0.09, 0], [0, 0, 0]])}
    found = advice_judges.difference(entries, judges, seeds, "r", "s")
    # half of 1:2 minus half of 2:3, each level a third; level v errs by 0.01·v; two seeds a window
    assert found["value"] == pytest.approx(0.5 * (0.1 + 0.7 + 0.6 - 1.5) / 3)
    rows = 2 * sum((0.5 / 3 * 0.01 * v) ** 2 for v in (1, 2, 3))
    of_seeds = 2 * (0.5 / 3) ** 2 * (0.04 + 0.09 + 2 * 0.01) / 2
    assert found["standard_error"] == pytest.approx((rows + of_seeds) ** 0.5)
    same = advice_judges.difference(entries, judges, seeds, "r", "any")
    assert same == {"value": pytest.approx(0), "standard_error": pytest.approx(0)}
    whole = advice_judges.whole_seeds(judges["a"][:-1], ["1:2", "2:3"])  # seed 1 lacks 2:3
    assert {(p.window, p.seed) for p in whole} == {("1:2", 0), ("2:3", 0)}


def test_two_estimates_of_one_difference_and_what_seeds_share_by_hand(bench):
    one, other = ({"value": v, "standard_error": s} for v, s in ((0.3, 0.1), (0.0, 0.2)))
    found = bench.together(one, other)
    assert found["value"] == pytest.approx(0.24)
    assert found["standard_error"] == pytest.approx((1 / 125) ** 0.5)

    def fine_tune(seed, risk):
        profile = {v: bench.Measured(risk, 0.2) for v in (1.0, 2.0)}
        return bench.Pilot("a", "nll", 9, seed, 0, profile[1.0], profile, 0, 1, 1, 1)

    pilots = [fine_tune(0, 0.4), fine_tune(1, 0.5)]  # variance 0.005; of the rows 2·(0.5·0.2)²
    shared = bench.shared_between_seeds(pilots, {1.0: 0.5, 2.0: 0.5}, 9)
    assert shared == pytest.approx(1 - 0.005 / 0.02)


def test_how_slices_vary_together_over_seeds_is_pooled_over_arms(bench):
    def fine_tune(window, seed, risk):
        profile = {1.0: bench.Measured(risk, 0.01), 2.0: bench.Measured(1 - 2 * risk, 0.01)}
        return bench.Pilot(window, "nll", 9, seed, 0, profile[1.0], profile, 0, 1, 1, 1)

    risks = {"a:b": (0.1, 0.3), "c:d": (0.2, 0.2, 0.5)}
    pilots = [fine_tune(w, s, r) for w, of in risks.items() for s, r in enumerate(of)]
    found = bench.covariance_over_seeds(pilots, [9])
    pooled = (2 * 0.1**2 + 2 * 0.1**2 + 0.2**2) / (1 + 2)
    assert found == pytest.approx(pooled * np.array([[1, -2], [-2, 4]]))
    assert np.isnan(bench.covariance_over_seeds(pilots[:1], [9])).all()


def test_the_base_as_it_is_is_judged_beside_the_windows(bench, records):
    Store(records).put({"key": "base", "base": "strong", "measured": untouched()})
    rules = bench.run(records)["stages"]["1024"]["rules"]
    flat = law(range(2, 11))
    least = min(truth(w, 4096, flat) for w in WINDOWS)
    assert rules[bench.UNTOUCHED]["by_law"]["flat"] == pytest.approx(0.5 - least)


def test_the_worst_of_rules_that_pick_rows_is_of_means_over_fine_tunes_as_windows_are(bench):
    name = bench.NAMES[0]
    made = [{"rule": name, "base": "b", "budget": 1, "law": "flat", "pilot_seed": s, "regret": r}
            for s, r in enumerate((0.0, 0.2))]  # fmt: skip
    assert bench.summary(made)[name]["worst"] == pytest.approx(0.1)


def test_means_are_over_the_same_cases_however_many_pilot_seeds_a_case_has(bench):
    def entry(rule, law, seed, regret):
        return {"rule": rule, "base": "b", "budget": 1, "law": law, "pilot_seed": seed,
                "regret": regret}  # fmt: skip

    entries = [entry("advice", "easy", s, 0.3) for s in range(3)] + [
        entry("advice", "hard", 0, 0.1)
    ]
    entries += [entry("fixed", "easy", None, 0.3), entry("fixed", "hard", None, 0.1)]
    found = bench.summary(entries)
    assert found["advice"]["mean"] == pytest.approx(0.2) == pytest.approx(found["fixed"]["mean"])
    assert found["advice"]["cases"] == 2 and found["advice"]["entries"] == 4


def test_the_verdict_is_over_the_cases_that_the_advice_was_given_in(bench):
    def entry(rule, base, regret):
        return {"rule": rule, "base": base, "budget": 1, "law": "flat", "pilot_seed": 0,
                "regret": regret}  # fmt: skip

    fixed = [entry(rule, "a", 0.4) for rule in (*bench.FIXED, "a window at random")]
    lucky = [entry(rule, "b", 0.0) for rule in (*bench.FIXED, "a window at random")]
    mine = [entry(bench.ADVICE, "a", 0.1), entry(bench.ACCURACY, "a", 0.2)]
    found = bench.verdict([*fixed, *lucky, *mine])
    assert found["best_fixed_rule"] == pytest.approx(0.4) and found["advice"] == pytest.approx(0.1)
    assert found["advice_over_best_fixed"] == pytest.approx(0.25)
    assert bench.verdict(fixed) == {}


def test_rules_named_beforehand_are_judged_by_what_came_after_and_by_nothing_else(
    bench, tmp_path, monkeypatch
):
    monkeypatch.setattr(bench, "FRESH", {("strong", 4096): (1,)})
    for size in (64, 256, 1024, 4096):
        for seed in (0, 1):
            for window in WINDOWS:
                made = record(window, size, seed, noise=0.1)
                Store(tmp_path).put(made | {"bounds": {"checkpoint": made["bounds"]["plain"]}})
    slices = {w: record(w, 4096, 1, noise=0.1)["measured"]["slices"] for w in WINDOWS}
    risks = {w: sum(s["value"] for s in slices[w].values()) / len(slices[w]) for w in WINDOWS}
    result = bench.run(tmp_path)
    easy = result["fresh"]["always easy (2–4)"]["by_law"]["flat"]
    assert easy == pytest.approx(risks["2:4"] - min(risks.values()))
    both = result["stages"]["1024"]["rules"]["always easy (2–4)"]["by_law"]["flat"]
    assert both != pytest.approx(easy)
    later = result["since_named"][bench.ADVICE]
    assert later["cases"] == 3  # of two pilot seeds under three laws, seed 0 had been seen


def test_selectors_are_judged_against_the_same_windows(bench, records, monkeypatch):
    slices = record("5:7", 4096, 0)["measured"]["slices"]
    made = {"selector": "random rows", "base": "strong", "size": 4096, "seed": 0, "law": "any"}
    made |= {"said": [], "slices": {level: e["value"] for level, e in slices.items()}}
    monkeypatch.setattr(bench, "SELECTORS", records / "advice_selectors.json")
    bench.SELECTORS.write_text(json.dumps([made]))
    stage = bench.run(records)["stages"]["1024"]
    middle, chosen = stage["rules"]["always medium (5–7)"], stage["rules"]["random rows"]
    assert chosen["by_law"] == pytest.approx(middle["by_law"]) and chosen["cases"] == 3
    assert "random rows" not in stage["not_run"]


def test_no_rule_sees_the_budget_it_is_judged_at(bench, result, records):
    """A change of the large records changes regrets, never a choice."""
    before = result["entries"]
    for file in (records / "records").glob("*-4096-*.json"):
        made = json.loads(file.read_text())
        for key in made["measured"]["slices"]:
            made["measured"]["slices"][key] = {"value": 0.5, "lower": 0.4, "upper": 0.6}
        file.write_text(json.dumps(made))
    after = bench.run(records)["entries"]
    assert [e["window"] for e in before] == [e["window"] for e in after]
    assert all(e["regret"] == pytest.approx(0) for e in after if e["budget"] == 4096)


def test_a_map_without_pilots_still_judges_the_fixed_rules(bench, records):
    for file in (records / "records").glob("*-256-*.json"):
        file.unlink()
    stage = bench.run(records)["stages"]["256"]  # one pilot size is left: no advice
    assert bench.ADVICE in stage["not_run"] and stage["verdict"] == {}
    assert stage["rules"]["always hard (8–10)"]["cases"] == 3
    assert "not run yet" in bench.table({"stages": {"256": stage}})


def test_table_and_picture_and_what_was_not_run(bench, result, tmp_path):
    text = bench.table(result)
    assert "**advice" in text and "not run yet" in text and "n = 4,096" in text
    bench.draw(result, tmp_path / "advice.png")
    assert (tmp_path / "advice.png").stat().st_size > 10_000


def test_selectors_that_run_side_by_side_keep_each_others_records(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import advice_selectors as bench

    monkeypatch.setattr(bench, "RESULT", tmp_path / "advice_selectors.json")
    monkeypatch.setattr(bench, "WORK", tmp_path)
    assert bench.kept() == []
    made = [
        {"selector": name, "base": base, "size": 4096, "seed": 0}
        for base in ("weak", "strong")
        for name in bench.NAMES[:2]
    ]
    with ThreadPoolExecutor(4) as processes:
        list(processes.map(bench.keep, made))
    assert bench.kept() == [made[2], made[3], made[0], made[1]]


def test_of_windows_with_one_shift_term_the_easiest_is_taken(bench, monkeypatch):
    """4:8 and 6:10 are both 2/5 from the easy law; rounding had always named the harder."""
    pool = law(range(2, 17))
    windows = ["4:8", "6:10"]
    tv = [bench.window_shifts(pool, law(range(6, 9)), windows)[w].tv.value for w in windows]
    assert tv[0] == pytest.approx(tv[1])
    assert bench.first_least(np.array([0.4, 0.4 - 1e-16, 0.7])) == 0
    assert bench.first_least(np.array([0.4, 0.3, 0.3 - 1e-16])) == 1
    import advice_cases

    assert advice_cases.easiest_of_least({"6:10": 0.4 - 1e-16, "4:8": 0.4}) == "4:8"
