"""README's short tables, from the figures of all benchmarks: ``python benchmarks/headlines.py``.

Measures nothing. One line a question, with the page that has the whole table; the bounds of the map
that its text speaks of; how many of the paper's observations were decided; what the advice is held
against. Run it after any benchmark whose JSON has changed: a test says when it was forgotten.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import advice_report
import map as whole_map
import tightness
import tightness_real
import tv
from readme import Record, write_between

from estimators.display import rounded_down, rounded_up
from pacbayes_sft.scan.intervals import UNDECIDED

RESULTS = Path(__file__).parent / "results"
OF_MAP = ("checkpoint, kl, d_plus", "checkpoint, kl, tv", "paper, proposition_4_1, tv")
RIVALS = (
    advice_report.ADVICE,
    "held-out risk + D⁺",
    "shift term alone (D⁺)",
    "shift term alone (TV)",
    "the map's primary bound (PAC-Bayes-kl + D⁺ + 0.3·TV)",
    "pilot accuracy at the largest pilot",
    "pilot accuracy, a line in ln n",
    "always medium (6–10)",
    "always 8–12",
    "the base, not fine-tuned",
    "all windows mixed",
    "random rows",
    "drop what the base solves (LIMO, s1)",
    "THTB, intrinsic hardness proxied",
    "closest to the base (perplexity)",
    "always hard (12–16)",
    "always easy (2–6)",
)


def read(name: str) -> Any:
    """Return the committed figures of a benchmark."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def how_tight() -> str:
    """Return the least bounds over the finished model's risk on 8,192 rows, base by base."""
    every: dict[str, list[tuple[float, Record]]] = {"refined": [], "isotropic": []}
    for found in tightness.by_cell(read("tightness")).values():
        r = found["kl"]
        if r["n_train"] == 8192:
            least = min(f["value"] for name, f in found.items() if name != "disintegrated")
            every[r["posterior"]].append((least / r["finished_test_risk"], r))

    def of(base: str, posterior: str) -> list[tuple[float, Record]]:
        return [(ratio, r) for ratio, r in every[posterior] if r["base"] == base]

    strong, weak = of("strong", "refined"), of("weak", "refined")
    still = sum(r["kl_nats"] == 0 for _, r in strong)
    risk = min(r["finished_test_risk"] for _, r in weak)
    return (
        f"strong base, refined posterior: {span(strong)} times the finished model's measured risk "
        f"of {strong[0][1]['finished_test_risk']:.2f}; {still} of {len(strong)} such "
        "cells end at a KL of 0, where the bound certifies the prior's centre under noise and "
        f"nothing of what the rows taught. One σ around the finished weights: "
        f"{span(of('strong', 'isotropic'))} times. Weak base: {span(weak)} times {risk:.2f}, which "
        f"says little, since a bound of 1 would be {1 / risk:.2f} times"
    )


def span(found: Sequence[tuple[float, Record]]) -> str:
    """Return the least and the greatest ratio."""
    low, high = (f"{of(ratio for ratio, _ in found):.2f}" for of in (min, max))
    return low if low == high else f"{low} to {high}"


def how_tight_on_a_real_model() -> str:
    """Return the same for SmolLM2, and the one bound against the base that says something."""
    rows = read("tightness_real")
    least = [
        min(here, key=lambda r: r["value"]) for name in tightness_real.CELLS
        if (here := [r for r in rows if (r["cell"], r["prior"]) == (name, "checkpoint")])
    ]  # fmt: skip
    ratios = [r["value"] / r["finished_test_risk"] for r in least]
    trivial = [1 / r["finished_test_risk"] for r in least]
    (units,) = {r["n"] for r in least}
    still = sum(r["kl_nats"] == 0 for r in least)
    bases = {}
    for r in rows:
        if r["prior"] == "base":
            bases[r["cell"]] = min(bases.get(r["cell"], r), r, key=lambda r: r["value"])
    best, *others = sorted(bases.values(), key=lambda r: r["value"])
    return (
        f"against the half-data checkpoint (n = {units:,}): {min(ratios):.2f} to "
        f"{max(ratios):.2f} times the finished model's risk, where a bound of 1 would be "
        f"{min(trivial):.2f} to {max(trivial):.2f} times; {still} of {len(least)} at a KL of 0. "
        f"Against the base, which errs on nearly every row: {rounded_up(best['value'], 3)} "
        f"({best['parameters']:,} trained numbers, {best['n']:,} rows); the other "
        f"{len(others)} are {rounded_down(others[0]['value'], 3)} or more, which says nothing"
    )


def do_they_hold() -> str:
    """Return how often simulated certificates at δ = 0.05 failed, and whether mistakes show."""
    pieces = read("coverage")["pieces"]
    held = [
        f for key, rows in pieces.items() if key.startswith("covered/") for f in rows.values()
        if f["delta"] == 0.05
    ]  # fmt: skip
    planted = [f for k, rows in pieces.items() if k.startswith("planted/") for f in rows.values()]
    caught = sum(f["lower_95"] > f["delta"] for f in planted)
    worst = max(held, key=lambda f: f["violations"] / f["repeats"])
    strict = [r for r in read("whole_path") if r["delta"] == 0.05]
    (runs,) = {r["runs"] for r in strict}
    rate = max(r["rate_limit"] for r in strict)
    untested = all(r["factor_at_delta"] == 0 for r in strict)
    return (
        f"in simulation at δ = 0.05 the worst of {len(held)} failed in "
        f"{rounded_up(100 * worst['violations'] / worst['repeats'], 2)} % of "
        f"{worst['repeats']:,} runs, and {caught} of {len(planted)} planted mistakes were caught. "
        f"The whole path, fine-tune included, at the same δ: {sum(r['violations'] for r in strict)}"
        f" of {runs} for each of {len(strict)} posteriors, so a rate of at most "
        f"{rounded_up(100 * rate, 1)} %"
        + "; they do not test the KL term, without which the bound would have held as often"
        * untested
    )


def how_near_is_tv() -> str:
    """Return the default's error at 3,000 rows a side, and what calls sides different."""
    ours = tv.SAID[tv.DEFAULT]
    records = read("tv")["records"]
    large = [r for r in records if r["method"] == ours and r["n"] == 3000]
    farthest = max(large, key=lambda r: r["absolute_error"])
    runs = {"ours": 0.0, "peers": 0.0, "all": 0.0}
    for pair in large:
        here = {r["method"]: r for r in records if r["pair"] == pair["pair"] and r["n"] == 200}
        peers = [here[tv.SAID[name]]["power"] for name in tv.PEERS if tv.SAID[name] in here]
        if peers and pair["true_tv"] > 0:
            count = here[ours]["repetitions"]
            runs["ours"] += count * here[ours]["power"]
            runs["peers"] += count * max(peers)
            runs["all"] += count
    return (
        f"off by {median(r['absolute_error'] for r in large):.3f} (median of {len(large)} pairs of "
        f"known TV, one draw of 3,000 rows a side each; at most "
        f"{farthest['absolute_error']:.2f}: {farthest['pair']}). At 200 rows differing sides are "
        f"called different in {runs['ours']:.0f} of {runs['all']:.0f} runs, by each pair's best of "
        f"{len(tv.PEERS)} peers in {runs['peers']:.0f}"
    )


def how_fast_is_kl() -> str:
    """Return the streamed KL against reading the files, and against loading them."""
    pairs = read("streaming")["pairs"]
    largest = max(pairs, key=lambda p: p["pair_gb"])
    loaded = next(p for p in pairs if "speedup_over_load_and_subtract" in p)
    faster = loaded["speedup_over_load_and_subtract"]["one, float32"]
    return (
        f"{rounded_up(largest['ratio_to_raw_read'], 2)} times a raw read of "
        f"{largest['pair_gb']:.1f} GB in the page cache, in {largest['anonymous_mb']:.0f} MB "
        f"({largest['anonymous_mb_of_imports']:.0f} of them imports); on {loaded['pair_gb']:.1f} "
        f"GB {rounded_down(faster, 0)} times faster than load and subtract (float32, one thread)"
    )


def what_monte_carlo_costs() -> str:
    """Return the price of a draw for every row, against whole-model draws."""
    found = read("monte_carlo")
    costs = found["cost_per_draw_over_ours"]
    every = (64, 8, 1)
    said = " / ".join(
        rounded_down(costs[f"a whole-model draw for every {k} rows"], 2) for k in every
    )
    return (
        f"{rounded_up(found['pass_over_deterministic'], 2)} times a pass without noise; a draw "
        f"of the whole model for every {' / '.join(map(str, every))} rows costs {said} times "
        "as much at equal half-width"
    )


def how_fast_is_a_scan() -> str:
    """Return the cells an hour over a plain loop, and of two workers over one."""
    found = {r["measurement"]: r for r in read("scan_speed")["measured"]}
    cells = found["scan with the map's bounds over plain loop, cells of the map"]
    tiny, refined = (
        found[f"scan with {bound} bound over plain loop"]["cells_an_hour_ratio"]
        for bound in ("an isotropic", "a refined")
    )
    workers = found["2 workers over 1 workers"]["cells_an_hour_ratio"]
    turns = ", ".join(rounded_down(ratio, 2) for ratio in cells["each_turn"])
    return (
        f"{rounded_down(cells['cells_an_hour_ratio'], 2)} times the cells an hour of a loop over "
        "`SFTTrainer` and `generate` (asked: 2), bounds included: the median of turns of "
        f"{cells['cells_a_turn']} cells of the map on two machines ({turns}); on a tiny "
        f"cell {rounded_down(tiny, 2)}, with a refined bound {rounded_down(refined, 2)}; "
        f"two workers {rounded_down(workers, 2)} times one"
    )


QUESTIONS = (
    ("How tight is a bound on 8,192 rows?", how_tight, "measured.md#how-tight"),
    ("And of SmolLM2-135M?", how_tight_on_a_real_model, "measured.md#on-a-real-model"),
    ("Do the certificates hold?", do_they_hold, "measured.md#do-the-certificates-hold"),
    ("How near is a TV from text?", how_near_is_tv, "measured.md#how-near-a-tv-from-text-is"),
    ("How fast does a KL stream?", how_fast_is_kl, "measured.md#how-fast-a-kl-streams"),
    ("What does a draw for every row cost?", what_monte_carlo_costs,
     "measured.md#what-the-monte-carlo-limit-costs"),
    ("How fast is a scan?", how_fast_is_a_scan, "map.md#how-fast"),
)  # fmt: skip


def headlines() -> str:
    """Return one line a question."""
    lines = ["| question | measured | all of it |", "|---|---|---|"]
    for asked, answer, place in QUESTIONS:
        page = place.partition("#")[0].removesuffix(".md")
        lines.append(f"| {asked} | {answer()} | [{page}](docs/{place}) |")
    return "\n".join(lines)


def bounds_of_the_map(result: Record) -> str:
    """Return the primary bound of the strong base under SFT and three others."""
    return whole_map.table(result, OF_MAP)


def observations(result: Record) -> str:
    """Return how many of each of the paper's claims appear, do not, or are undecided."""
    found: dict[str, Counter[str]] = {}
    for o in result["observations"]:
        if o["seeds"] >= whole_map.FEWEST_SEEDS:
            found.setdefault(o["claim"], Counter())[o["appears"]] += 1
    lines = ["| the paper says | yes | no | undecided |", "|---|---|---|---|"]
    for claim, counts in sorted(found.items(), key=lambda item: -item[1]["yes"]):
        lines.append(f"| {claim} | {counts['yes']} | {counts['no']} | {counts[UNDECIDED]} |")
    return "\n".join(lines)


def tables() -> dict[str, str]:
    """Return every table that README shows and this makes, by name."""
    of_map = read("map")
    return {
        "headlines": headlines(),
        "map": bounds_of_the_map(of_map),
        "observations": observations(of_map),
        "advice": advice_report.table(read("advice"), RIVALS),
    }


if __name__ == "__main__":
    for name, text in tables().items():
        write_between(name, text, "headlines")
        print(text, end="\n\n")
