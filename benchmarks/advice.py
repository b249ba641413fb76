"""Is the advice any good? ``python benchmarks/advice.py``: regret on the committed map, by replay.

The map's records (``benchmarks/results/map/records``) hold the risk of every window at every size,
slice by slice. A rule sees the records of one seed at sizes up to 1,024 (its pilots; in a first
stage up to 256) and names a window for a size above, never piloted; its regret is that window's
measured risk (mean over seeds) minus the least of any window's. Three test laws re-weight the
slices: the easiest third of them, all, the hardest third. Rules that pick rows instead of a window
need fine-tunes of their own: ``benchmarks/advice_selectors.py`` makes them, and what is there is
taken in.

Writes ``benchmarks/results/advice.json`` (one entry a rule × base × budget × law × pilot seed) and
``docs/advice.png``; ``--records DIR`` replays another scan.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from advice_cases import (
    ACCURACY,
    BOUND,
    LARGEST_PILOT,
    PLAIN,
    UNTOUCHED,
    Law,
    full_sweep,
    laws_of,
    measured,
    windows_of,
)
from advice_judges import (
    covariance_over_seeds,
    difference,
    judged_again,
    shared_between_seeds,
    together,
    whole_seeds,
)
from advice_report import (
    ADVICE,
    RESULT,
    draw,
    fewer_table,
    halving_table,
    judges_table,
    table,
    weight_rules_table,
    weights_table,
)
from advice_selectors import NAMES
from readme import DOCS, write_between

from pacbayes_sft.advise.cost import cost_of
from pacbayes_sft.advise.halving import halve
from pacbayes_sft.advise.pilots import Measured, Pilot, read_base_profile, read_pilots
from pacbayes_sft.advise.predict import DEFAULT, Evidence, Extra, Rule, Train, gather, reweighted
from pacbayes_sft.advise.scaling import FARTHEST, FEWEST_SIZES
from pacbayes_sft.advise.shifts import window_shifts
from pacbayes_sft.advise.ties import first_least, leader
from pacbayes_sft.choices import Objective
from pacbayes_sft.errors import InputError
from pacbayes_sft.scan.config_file import read_config
from pacbayes_sft.scan.store import Store
from pacbayes_sft.scan.windows import edges

HERE = Path(__file__).parent
RECORDS = HERE / "results" / "map"
POWERS = HERE / "results" / "powers"  # `benchmarks/powers.yaml`: token weights beside the map's
JUDGES = HERE / "results" / "judges"  # `benchmarks/advice_judges.py`: fine-tunes no rule has seen
SELECTORS = HERE / "results" / "advice_selectors.json"
PICTURE = HERE.parent / "docs" / "advice.png"
STAGES = (256, LARGEST_PILOT)  # the first judges at 1,024 alone, on two pilot sizes
DRAWS = 60
UNTIED = "held-out risk + measured shift"
RIVAL = "held-out risk + D⁺"
HALVED = "advice, windows halved after the smallest pilots"
PRIMARY = "the map's primary bound (PAC-Bayes-kl + D⁺ + 0.3·TV)"
RULES = {
    UNTIED: DEFAULT,
    PRIMARY: Rule(Train.TIGHT, Extra.SLACK),
    "Proposition 4.1 as printed (KL term + TV)": Rule(Train.BOUND, Extra.TV),
    "PAC-Bayes-kl + TV": Rule(Train.TIGHT, Extra.TV),
    "PAC-Bayes-kl + D⁺": Rule(Train.TIGHT, Extra.D_PLUS),
    "held-out risk + TV": Rule(Train.HELDOUT, Extra.TV),
    "held-out risk + D⁺ + γ·TV, γ measured": Rule(Train.HELDOUT, Extra.ROBUST),
    RIVAL: Rule(Train.HELDOUT, Extra.D_PLUS),
    "KL term alone": Rule(Train.KL, Extra.NOTHING),
    "shift term alone (TV)": Rule(Train.NOTHING, Extra.TV),
    "shift term alone (D⁺)": Rule(Train.NOTHING, Extra.D_PLUS),
}
# The advice breaks ties by the bound since 2026-11-27. That rule was written down when one pilot
# seed had been judged at one size; what came after is the evidence for it.
SEEN_BEFORE = ("strong", 4096, 0)  # base, budget, pilot seed
# And before any of these records was there, advice and rival were named to be judged by them:
FRESH = {("weak", 4096): (1,), ("strong", 16384): (1, 2)}  # (base, budget): fine-tunes' seeds
RECIPE = read_config(HERE / "map" / "strong.yaml").fine_tune  # all of the map's
FIXED = {"always easy": 0.0, "always medium": 0.5, "always hard": 1.0}  # place among the windows
SWEEP = "the whole sweep, one seed of it"


def judged_at(sizes: Sequence[int], largest: int) -> list[int]:
    """Return the sizes at which pilots up to ``largest`` are judged."""
    above = [n for n in sizes if n > largest]
    return above if largest == LARGEST_PILOT else [n for n in above if n <= LARGEST_PILOT]


def constant_rules(windows: Sequence[str]) -> dict[str, str]:
    """Name the rules that always take one window: those of `FIXED`, then all others by theirs.

    Which of the others is best is known in hindsight alone.
    """
    last = len(windows) - 1
    named = {f"{rule} ({_said(windows[round(place * last)])})": windows[round(place * last)]
             for rule, place in FIXED.items()}  # fmt: skip
    others = {f"always {_said(w)}": w for w in windows if w not in named.values()}
    return named | others


def _said(window: str) -> str:
    return window.replace(":", "–")


def replay(
    pilots: Sequence[Pilot],
    base: str,
    pool: Law,
    largest: int,
    untouched: Mapping[float, Measured] | None = None,
) -> list[dict[str, Any]]:
    """Return one entry a rule × budget × law × pilot seed; ``untouched``: the base's profile."""
    windows, found = windows_of(pilots), []
    sizes = sorted({p.size for p in pilots})
    small = [n for n in sizes if n <= largest]
    whole = {(p.window, p.size, p.seed) for p in pilots}
    for name, law in laws_of(list(pilots[0].profile)).items():
        truth, shifts = measured(pilots, law), window_shifts(pool, law, windows)
        for budget in judged_at(sizes, largest):
            if any((window, budget) not in truth for window in windows):
                continue
            risks = {window: truth[window, budget] for window in windows}
            where = {"stage": largest, "base": base, "budget": budget, "law": name}

            def entry(rule: str, seed: int | None, window: str, where=where, risks=risks):  # type: ignore[no-untyped-def]
                regret = risks[window] - min(risks.values())
                return {**where, "rule": rule, "pilot_seed": seed, "window": window,
                        "regret": regret, "risk": risks[window]}  # fmt: skip

            for rule, window in constant_rules(windows).items():
                found.append(entry(rule, None, window))
            least = min(risks.values())
            mean = float(np.mean(list(risks.values())))
            found.append({**where, "rule": "a window at random", "pilot_seed": None,
                          "window": None, "regret": mean - least, "risk": mean})  # fmt: skip
            if untouched:
                risk = reweighted(untouched, law).value
                found.append({**where, "rule": UNTOUCHED, "pilot_seed": None,
                              "window": None, "regret": risk - least, "risk": risk})  # fmt: skip
            for seed in sorted({p.seed for p in pilots}):
                if any((w, n, seed) not in whole for w in windows for n in small):
                    continue
                if budget > FARTHEST.get(min(len(small), 3), 0) * largest:
                    continue  # beyond what advice answers to
                seen = [p for p in pilots if p.size <= largest and p.seed == seed]
                for rule, plain in PLAIN.items():
                    found.append(entry(rule, seed, plain(seen, law, budget)))
                evidence = gather(seen, shifts, law, delta=0.05, draws=DRAWS, seed=seed)
                found.append(entry(ADVICE, seed, advised(evidence, budget)))
                better = halve(seen, law).kept
                fewer = gather(
                    [p for p in seen if p.window in better],
                    shifts, law, delta=0.05, draws=DRAWS, seed=seed,
                )  # fmt: skip
                best = min(risks, key=risks.__getitem__)
                found.append(entry(HALVED, seed, advised(fewer, budget))
                             | {"best_was_dropped": best not in better})  # fmt: skip
                for rule, asked in RULES.items():
                    total = evidence.total(asked, budget)[0]
                    if np.ptp(total) < 1e-9:  # it says nothing, which is a window at random
                        found.append({**where, "rule": rule, "pilot_seed": seed, "window": None,
                                      "regret": mean - least, "risk": mean})  # fmt: skip
                    else:
                        window = evidence.arms[first_least(total)][0]
                        found.append(entry(rule, seed, window))
    return found


def advised(evidence: Evidence, budget: float) -> str:
    """Return the window that the default rule names."""
    total = evidence.total(DEFAULT, budget)
    return evidence.arms[leader(evidence, total, budget, bound_breaks_ties=True)][0]


def same_for_all(pilots: Sequence[Pilot]) -> list[Pilot]:
    """Keep the sizes and seeds at which every objective (token weight) has every window."""
    arms = {(o, w) for o in {p.objective for p in pilots} for w in windows_of(pilots)}
    have: defaultdict[tuple[int, int], set[tuple[str, str]]] = defaultdict(set)
    for p in pilots:
        have[p.size, p.seed].add((p.objective, p.window))
    return [p for p in pilots if have[p.size, p.seed] == arms]


def token_weights(pilots: Sequence[Pilot], base: str, pool: Law) -> list[dict[str, Any]]:
    """Choose between token weights (those on record) and windows at once, by the advice's rule.

    And by the map's primary bound. At the sizes, and for the seeds, that all objectives share.
    """
    same = same_for_all(pilots)
    objectives = sorted({p.objective for p in same}, key=_alpha)
    if len(objectives) < 2:
        return []
    judged: list[tuple[list[str], list[tuple[str, Rule]]]] = [
        (objectives, [("advice", DEFAULT), (PRIMARY, RULES[PRIMARY])]),
        *(([o], [(f"always {o}, its window advised", DEFAULT)]) for o in objectives),
    ]
    found = []
    for name, law in laws_of(list(pilots[0].profile)).items():
        shifts = window_shifts(pool, law, windows_of(same))
        means = risks_of_arms(same, law)
        for budget in sorted({p.size for p in same if p.size > LARGEST_PILOT}):
            least = min(v for (_, _, n), v in means.items() if n == budget)
            for seed in sorted({p.seed for p in same}):
                seen = [p for p in same if p.size <= LARGEST_PILOT and p.seed == seed]
                for of, rules in judged:
                    try:
                        arms = [p for p in seen if p.objective in of]
                        evidence = gather(arms, shifts, law, delta=0.05, draws=DRAWS, seed=seed)
                    except InputError:
                        continue
                    for said, rule in rules:
                        total, ties = evidence.total(rule, budget), rule is DEFAULT
                        arm = evidence.arms[leader(evidence, total, budget, bound_breaks_ties=ties)]
                        found.append(
                            {"base": base, "budget": budget, "law": name, "pilot_seed": seed,
                             "rule": said, "window": arm[0], "objective": arm[1],
                             "alpha": _alpha(arm[1]), "regret": means[(*arm, budget)] - least}
                        )  # fmt: skip
    return found


def risks_of_arms(pilots: Sequence[Pilot], law: Law) -> dict[tuple[str, str, int], float]:
    """Return the risk under a law of every window, objective and size, mean over seeds."""
    found: defaultdict[tuple[str, str, int], list[float]] = defaultdict(list)
    for p in pilots:
        found[p.window, p.objective, p.size].append(reweighted(p.profile, law).value)
    return {key: float(np.mean(values)) for key, values in found.items()}


def _alpha(objective: str) -> float:
    return Objective(objective).power


def risks_by_weight(pilots: Sequence[Pilot], base: str) -> list[dict[str, Any]]:
    """Return the risk under the flat law of every size, token weight and window, mean over seeds.

    At the sizes, and for the seeds, that all objectives share; nothing where there is but one.
    """
    same = same_for_all(pilots)
    if len({p.objective for p in same}) < 2:
        return []
    risks = risks_of_arms(same, laws_of(list(pilots[0].profile))["flat"])
    seeds = {n: len({p.seed for p in same if p.size == n}) for n in {p.size for p in same}}
    found = [
        {"base": base, "size": size, "objective": objective, "alpha": _alpha(objective),
         "window": window, "risk": risk, "seeds": seeds[size]}
        for (window, objective, size), risk in risks.items()
    ]  # fmt: skip
    return sorted(found, key=lambda e: (e["size"], e["alpha"], edges(e["window"])))


def fresh(pilots: Sequence[Pilot], base: str, pool: Law) -> list[dict[str, Any]]:
    """Judge by the fine-tunes that were made after the rules were named, and by no other."""
    kept = [p for p in pilots if p.size <= LARGEST_PILOT or p.seed in FRESH.get((base, p.size), ())]
    return replay(kept, base, pool, LARGEST_PILOT)


def fewer_pilots(pilots: Sequence[Pilot], base: str, pool: Law) -> list[dict[str, Any]]:
    """Leave pilot sizes out: what the advice then costs, and its regret on the cases in its reach.

    All sizes are judged on those cases too, so that a line may be held against the next. The cost
    is over the sweep within that reach.
    """
    sizes = sorted({p.size for p in pilots if p.size <= LARGEST_PILOT})
    smallest, *middle, largest = sizes
    reach = FARTHEST[FEWEST_SIZES] * LARGEST_PILOT
    found = []
    for kept in dict.fromkeys([tuple(sizes), (smallest, largest), (*middle[-1:], largest)]):
        if len(kept) < FEWEST_SIZES:
            continue
        seen = [p for p in pilots if p.size in kept or p.size > LARGEST_PILOT]
        entries = [
            e for e in replay(seen, base, pool, LARGEST_PILOT)
            if e["budget"] <= reach
        ]  # fmt: skip
        cost = pilot_cost([p for p in pilots if p.size <= reach], kept)
        found.append({"base": base, "sizes": kept, "cost": cost, **verdict(entries)})
    return found


def pilot_cost(
    pilots: Sequence[Pilot], sizes: Sequence[int], halved_for: Law | None = None
) -> dict[str, float]:
    """Return what the first seed's pilots of these sizes cost, over all of its fine-tunes.

    ``units`` are training units; ``rows_read`` what steps read, over a fine-tune of every window
    at every size above the pilots', as `advise` counts it; ``seconds`` what whole cells took on
    machines that did other work besides (small cells took longer than larger ones of equal steps).
    """
    one = [p for p in pilots if p.seed == min(q.seed for q in pilots)]
    small = [p for p in one if p.size in sizes]
    if halved_for:
        kept = halve(small, halved_for).kept
        small = [p for p in small if p.size == min(sizes) or p.window in kept]
    budgets = sorted({p.size for p in one if p.size > max(sizes)})
    return {
        "units": sum(p.size for p in small) / sum(p.size for p in one),
        "rows_read": cost_of(small, budgets, RECIPE)["share_of_sweep"] or 0.0,
        "seconds": sum(p.seconds for p in small) / sum(p.seconds for p in one),
    }


def halving(pilots: Sequence[Pilot], base: str, entries: Sequence[Mapping[str, Any]]) -> Any:
    """Return what piloting all windows at all sizes costs and does, and with half of them."""
    sizes = sorted({p.size for p in pilots if p.size <= LARGEST_PILOT})
    mine = [e for e in entries if e["base"] == base and e["stage"] == LARGEST_PILOT]
    rules = summary([e for e in mine if e["rule"] in (ADVICE, HALVED)])
    if not rules:
        return []
    laws = list(laws_of(list(pilots[0].profile)).values())
    above = sorted({p.size for p in pilots if p.size > LARGEST_PILOT})
    of_law = [pilot_cost(pilots, sizes, law) for law in laws]
    fewer = {key: float(np.mean([cost[key] for cost in of_law])) for key in of_law[0]}
    seeds = sorted({p.seed for p in pilots if p.size <= LARGEST_PILOT})
    smallest = [[p for p in pilots if p.size == sizes[0] and p.seed == seed] for seed in seeds]
    kept = [len(halve(first, law).kept) for law in laws for first in smallest]
    both = [[e for e in mine if e["rule"] == rule] for rule in (ADVICE, HALVED)]
    changed = sum(a["window"] != b["window"] for a, b in zip(*both, strict=True))
    dropped = sum(e["best_was_dropped"] for e in both[1])
    told = {ADVICE: {}, HALVED: {"windows_changed": changed, "best_was_dropped": dropped}}
    return [
        {"base": base, "sizes": sizes, "budgets": above, "halved": rule is HALVED, "cost": cost,
         **told[rule], "kept": kept if rule is HALVED else [len(windows_of(pilots))], **rules[rule]}
        for rule, cost in ((ADVICE, pilot_cost(pilots, sizes)), (HALVED, fewer))
    ]  # fmt: skip


def since_named(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the entries that had not been seen when ties by the bound were written down."""
    return [
        e
        for e in entries
        if e["stage"] == LARGEST_PILOT
        and e["pilot_seed"] is not None
        and (e["base"], e["budget"], e["pilot_seed"]) != SEEN_BEFORE
        and e["rule"] in (ADVICE, UNTIED, RIVAL, PRIMARY, *PLAIN)
    ]


def selector_entries(pilots: Sequence[Pilot], base: str) -> list[dict[str, Any]]:
    """Return the regret of the row selectors that were fine-tuned, against the same windows."""
    if not SELECTORS.exists():
        return []
    found = []
    for record in json.loads(SELECTORS.read_text(encoding="utf-8")):
        if record["base"] != base:
            continue
        profile = {float(k): v for k, v in record["slices"].items()}
        for name, law in laws_of(list(pilots[0].profile)).items():
            if record["law"] not in (name, "any"):
                continue
            truth = measured(pilots, law)
            risks = [r for (_, n), r in truth.items() if n == record["size"]]
            if risks:
                risk = sum(w * profile[level] for level, w in law.items())
                found.append(
                    {"stage": max(n for n in STAGES if n < record["size"]), "base": base,
                     "budget": record["size"], "law": name,
                     "rule": record["selector"], "pilot_seed": record["seed"], "window": None,
                     "risk": risk, "regret": risk - min(risks), "said": record["said"]}
                )  # fmt: skip
    return found


def _case(entry: Mapping[str, Any]) -> tuple[str, int, str]:
    return entry["base"], entry["budget"], entry["law"]


def summary(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return each rule's regret: mean, worst, and how often it is the best window.

    A case is a base × budget × law. Where several pilot seeds were tried their regrets are averaged
    first: rules that need no pilot have one entry a case, and means are over the same cases.
    """
    found: dict[str, Any] = {}
    for rule in dict.fromkeys(e["rule"] for e in entries):
        mine: defaultdict[tuple[str, int, str], list[float]] = defaultdict(list)
        for e in entries:
            if e["rule"] == rule:
                mine[_case(e)].append(e["regret"])
        means = {case: float(np.mean(regrets)) for case, regrets in mine.items()}
        every = np.concatenate([np.array(regrets) for regrets in mine.values()])
        # a window's risk is a mean over fine-tunes; so is a selector's, whose entries are single
        each = np.array(list(means.values())) if rule in NAMES else every
        found[rule] = {
            "mean": float(np.mean(list(means.values()))),
            "worst": float(each.max()),
            "best_share": float(np.mean(each <= 0)),
            "cases": len(means),
            "entries": len(every),
            "by_law": {
                law: float(np.mean([r for (_, _, of), r in means.items() if of == law]))
                for law in ("easy", "flat", "hard")
                if any(of == law for _, _, of in means)
            },
        }
    return found


def verdict(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Hold the advice against fixed rules and accuracy extrapolation, on its own cases.

    The best of the rules that were named beforehand (easy, medium, hard, any window), and the
    window that was best on average, which nobody knew.
    """
    judged = {_case(e) for e in entries if e["rule"] == ADVICE}
    if not judged:
        return {}  # the map lacks pilots for it yet
    rules = summary([e for e in entries if _case(e) in judged])
    mine = rules[ADVICE]["mean"]
    always = {name: found["mean"] for name, found in rules.items() if name.startswith("always ")}
    named = {n: mean for n, mean in always.items() if n.partition(" (")[0] in FIXED}
    named["a window at random"] = rules["a window at random"]["mean"]
    fixed, hindsight = min(named, key=named.__getitem__), min(always, key=always.__getitem__)
    return {
        "advice": mine,
        "best_fixed_rule": named[fixed],
        "best_fixed_rule_is": fixed,
        "advice_over_best_fixed": mine / named[fixed] if named[fixed] else None,
        "best_window_in_hindsight": always[hindsight],
        "best_window_in_hindsight_is": hindsight,
        "advice_over_best_in_hindsight": mine / always[hindsight] if always[hindsight] else None,
        "accuracy_extrapolation": rules[ACCURACY]["mean"],
    }


def run(records: Path) -> dict[str, Any]:
    """Replay every base of a scan."""
    every = [r for place in (records, POWERS) for r in Store(place).all()]
    bases = sorted({r["cell"]["base"] for r in every if "cell" in r})
    entries, weights, cost, later, fewer, half, sweep = [], [], {}, [], [], [], []
    plain_of: dict[str, list[Pilot]] = {}
    shared: list[dict[str, Any]] = []
    by_weight: list[dict[str, Any]] = []
    for base in bases:
        pilots = read_pilots(every, bound=BOUND, base=base)
        plain = plain_of[base] = [p for p in pilots if p.objective == "nll"]
        low = min(edges(p.window)[0] for p in plain)
        high = max(edges(p.window)[1] for p in plain)
        pool = {float(d): 1 / (high - low + 1) for d in range(int(low), int(high) + 1)}
        untouched = read_base_profile(every, base)
        shared += [
            {"base": base, "size": n, "law": name, "at_least": shared_between_seeds(plain, law, n)}
            for n in sorted({p.size for p in plain})
            for name, law in laws_of(list(plain[0].profile)).items()
        ]
        for largest in STAGES:
            entries += replay(plain, base, pool, largest, untouched)
        entries += selector_entries(plain, base)
        later += fresh(plain, base, pool)
        weights += token_weights(pilots, base, pool)
        by_weight += risks_by_weight(pilots, base)
        cost[base] = pilot_cost(plain, [p.size for p in plain if p.size <= LARGEST_PILOT])
        fewer += fewer_pilots(plain, base, pool)
        half += halving(plain, base, entries)
        above = sorted({p.size for p in plain if p.size > LARGEST_PILOT})
        sweep += full_sweep(plain, base, above)
    stages = {}
    for largest in STAGES:
        mine = [e for e in entries if e["stage"] == largest]
        if mine:
            rules = summary(mine)
            stages[str(largest)] = {
                "rules": rules,
                "verdict": verdict(mine),
                "not_run": not_run(rules),
                "judged_at": sorted({e["budget"] for e in mine}),
                "pilot_seeds": len({e["pilot_seed"] for e in mine if e["rule"] == ADVICE}),
            }
    return {
        "stages": stages,
        "pilot_cost_over_sweep": cost,
        "fewer_pilots": fewer,
        "halving": half,
        "full_sweep": {
            key: float(np.mean([e[key] for e in sweep])) if sweep else None
            for key in ("regret", "by_other_seeds")
        },
        "rows_shared_between_seeds": shared,
        "judged_again": by_judges(entries, sweep, plain_of),
        "cells": len([r for r in every if "cell" in r]),
        "token_weights": summary(weights),
        "risks_by_token_weight": by_weight,
        "since_named": summary(since_named(entries)),
        "fresh": summary(later),
        "fresh_by_base": {b: summary([e for e in later if e["base"] == b]) for b in bases},
        "entries": entries,
        "full_sweep_entries": sweep,
        "token_weight_entries": weights,
    }


def by_judges(
    entries: Sequence[Mapping[str, Any]],
    sweep: Sequence[Mapping[str, Any]],
    pilots: Mapping[str, Sequence[Pilot]],
) -> dict[str, Any]:
    """Judge what was named from the largest pilots by fine-tunes that no rule has seen.

    Args:
        entries: Of ``replay``; rules that pick rows are passed over, having no window.
        sweep: Of ``full_sweep``: what keeping the best of a whole sweep takes.
        pilots: The map's fine-tunes by base, for the spread over seeds.

    Returns:
        Nothing where no base has a judge for every window of a size.
    """
    records = list(Store(JUDGES).all())
    have = {
        b: whole_seeds(read_pilots(records, base=b), windows_of(of))
        for b, of in pilots.items()
        if _judged(records, b)
    }
    judges = {b: of for b, of in have.items() if of}
    asked = [e for e in entries if e["stage"] == LARGEST_PILOT and e["rule"] not in NAMES]
    asked += [{**e, "rule": SWEEP, "pilot_seed": e["seed"]} for e in sweep]
    mine = [
        e
        for b, of in judges.items()
        for e in judged_again(asked, of, b, read_base_profile(records, b))
    ]
    if not any(e["rule"] == ADVICE for e in mine):
        return {}
    said = verdict(mine)
    used = sorted({e["budget"] for e in mine})
    over_seeds = {b: covariance_over_seeds(pilots[b], used) for b in judges}
    cases = {_case(e) for e in mine}
    same = [e for e in asked if _case(e) in cases]
    against = {
        "fixed": said["best_fixed_rule_is"],
        "hindsight": said["best_window_in_hindsight_is"],
        "accuracy": ACCURACY,
        "sweep": SWEEP,
    }

    def minus(rule: str) -> dict[str, Any]:
        by = [
            difference(e, of, over_seeds, ADVICE, rule)
            for e, of in ((mine, judges), (same, pilots))
        ]
        return {"rule": rule, **by[0], "by_the_map": by[1], "together": together(*by)}

    return {
        "rules": summary(mine),
        "verdict": said,
        "not_run": [],
        "judged_at": used,
        "pilot_seeds": len({e["pilot_seed"] for e in mine if e["rule"] == ADVICE}),
        "judges": {
            b: sorted({(p.size, p.seed) for p in of if p.size in used}) for b, of in judges.items()
        },
        "advice_minus": {key: minus(rule) for key, rule in against.items()},
        "verdict_of_the_map": verdict(same),
        "entries": mine,
    }


def _judged(records: Sequence[Mapping[str, Any]], base: str) -> bool:
    return any("cell" in r and r["cell"]["base"] == base for r in records)


def not_run(rules: Mapping[str, Any]) -> list[str]:
    """Name the selectors without a fine-tune, and the advice where it lacks pilots."""
    return [name for name in (ADVICE, *NAMES) if name not in rules]


if __name__ == "__main__":
    at = Path(sys.argv[sys.argv.index("--records") + 1]) if "--records" in sys.argv else RECORDS
    if not any((at / "records").glob("*.json")):
        sys.exit(f"{at}: no records yet; make them with `python benchmarks/map.py`")
    result = run(at)
    if not result["stages"]:
        sys.exit(f"{at}: no base has every window at its pilot sizes and at one above yet")
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(result, PICTURE)
    write_between("advice", table(result), page=DOCS / "advice.md")
    write_between("fewer_pilots", fewer_table(result), "advice", DOCS / "advice.md")
    write_between("halving", halving_table(result), "advice", DOCS / "advice.md")
    write_between("weights", weights_table(result), "advice", DOCS / "advice.md")
    write_between("weight_rules", weight_rules_table(result), "advice", DOCS / "advice.md")
    if result["judged_again"]:
        write_between("judges", judges_table(result), "advice", DOCS / "advice.md")
    print(table(result))
    for stage in result["stages"].values():
        print(json.dumps(stage["verdict"], indent=1))
