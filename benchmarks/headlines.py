"""README's short tables, from the figures of all benchmarks: ``python benchmarks/headlines.py``.

Measures nothing. One line a question, with the page that has the whole table; the bounds of the map
that its text speaks of; how many of the paper's observations were decided; what the advice is held
against. Run it after any benchmark whose JSON has changed: a test says when it was forgotten.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import mean, median
from typing import Any

import advice_report
import map as whole_map
import tightness
import tightness_real
import tv
from readme import Record, write_between

from estimators.display import rounded_up
from pacbayes_sft.scan.intervals import UNDECIDED

RESULTS = Path(__file__).parent / "results"
OF_MAP = ("checkpoint, kl, d_plus", "checkpoint, kl, tv", "paper, proposition_4_1, tv")
RIVALS = (
    advice_report.ADVICE,
    "held-out risk + D⁺",
    "pilot accuracy, a line in ln n",
    "always medium",
    "all windows mixed",
    "random rows",
    "drop what the base solves (LIMO, s1)",
    "THTB, intrinsic hardness proxied",
    "closest to the base (perplexity)",
    "always hard",
    "always easy",
)


def read(name: str) -> Any:
    """Return the committed figures of a benchmark."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def how_tight() -> str:
    """Return the least bounds over the finished model's risk on 8,192 rows."""
    ratios: dict[str, list[float]] = {"refined": [], "isotropic": []}
    for found in tightness.by_cell(read("tightness")).values():
        r = found["kl"]
        if r["n_train"] < 8192 or (r["posterior"] == "refined" and r["kl_nats"] > 0):
            continue
        least = min(f["value"] for name, f in found.items() if name != "disintegrated")
        ratios[r["posterior"]].append(least / r["finished_test_risk"])
    low, high = min(ratios["refined"]), max(ratios["refined"])
    return (
        f"{low:.2f} to {high:.2f} times the finished model's measured risk "
        "with a refined posterior, always at a KL of 0: it certifies the prior's centre under "
        f"noise, nothing of what the rows taught; {min(ratios['isotropic']):.2f} times "
        "with one σ around the finished weights"
    )


def how_tight_on_a_real_model() -> str:
    """Return the same for SmolLM2, and the one bound against the base that says something."""
    rows = read("tightness_real")
    ratios = []
    for name in tightness_real.CELLS:
        here = [r for r in rows if (r["cell"], r["prior"]) == (name, "checkpoint")]
        if here:
            ratios.append(min(r["value"] for r in here) / here[0]["finished_test_risk"])
    best = min((r for r in rows if r["prior"] == "base"), key=lambda r: r["value"])
    return (
        f"{min(ratios):.2f} to {max(ratios):.2f} times it against the "
        f"half-data checkpoint (KL 0 again); against the base, whose own risk is over 0.99, "
        f"{rounded_up(best['value'], 3)} at best ({best['kl_nats']:,.0f} nats, "
        f"{best['parameters']:,} entries, {best['n']:,} rows), 1 to two digits elsewhere"
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
    whole = read("whole_path")
    return (
        f"in simulation at δ = 0.05 the worst of {len(held)} failed in "
        f"{rounded_up(100 * worst['violations'] / worst['repeats'], 2)} % of "
        f"{worst['repeats']:,} runs, and {caught} of {len(planted)} planted mistakes were caught; "
        f"the whole path, fine-tune included: {sum(r['violations'] for r in whole)} of "
        f"{max(r['runs'] for r in whole)} runs, whichever posterior and δ"
    )


def how_near_is_tv() -> str:
    """Return the default's error at 3,000 rows a side, and what calls sides different."""
    ours = tv.SAID[tv.DEFAULT]
    records = read("tv")["records"]
    large = [r for r in records if r["method"] == ours and r["n"] == 3000]
    power: dict[str, list[float]] = {"ours": [], "peers": []}
    for pair in large:
        here = {r["method"]: r["power"] for r in records
                if r["pair"] == pair["pair"] and r["n"] == 200}  # fmt: skip
        peers = [here[tv.SAID[name]] for name in tv.PEERS if tv.SAID[name] in here]
        if peers and pair["true_tv"] > 0:
            power["ours"].append(here[ours])
            power["peers"].append(max(peers))
    return (
        f"off by {median(r['absolute_error'] for r in large):.3f} (median of {len(large)} pairs of "
        f"known TV, 3,000 rows a side, at most {max(r['absolute_error'] for r in large):.2f}: "
        f"wrong last numbers are not seen); at 200 rows {len(power['ours'])} pairs that differ are "
        f"told so in {mean(power['ours']):.0%} of runs, by the best of {len(tv.PEERS)} peers in "
        f"{mean(power['peers']):.0%}"
    )


def how_fast_is_kl() -> str:
    """Return the streamed KL against reading the files, and against loading them."""
    pairs = read("streaming")["pairs"]
    largest = max(pairs, key=lambda p: p["pair_gb"])
    faster = next(p["speedup_over_load_and_subtract"] for p in pairs
                  if "speedup_over_load_and_subtract" in p)["one, float32"]  # fmt: skip
    return (
        f"{largest['ratio_to_raw_read']:.1f} times a raw read of {largest['pair_gb']:.1f} GB, in "
        f"{largest['anonymous_mb']:.0f} MB; {faster:.0f} times faster than load and subtract"
    )


def what_monte_carlo_costs() -> str:
    """Return the price of a draw for every row."""
    found = read("monte_carlo")
    costs = found["cost_per_draw_over_ours"]
    return (
        f"{found['pass_over_deterministic']:.2f} times a pass without noise; a draw of the whole "
        f"model for every 64 rows costs {costs['a whole-model draw for every 64 rows']:.0f} times "
        "as much at equal half-width"
    )


def how_fast_is_a_scan() -> str:
    """Return the cells an hour over a plain loop, and of two workers over one."""
    ratio = {r["measurement"]: r["cells_an_hour_ratio"] for r in read("scan_speed")["measured"]}
    cells = ratio["scan with the map's bounds over plain loop, cells of the map"]
    tiny = ratio["scan with an isotropic bound over plain loop"]
    return (
        f"{cells:.2f} times the cells an hour of a loop over `SFTTrainer` and `generate`, bounds "
        f"included, on cells of the map ({tiny:.2f} on tiny ones; asked: 2); two workers "
        f"{ratio['2 workers over 1 workers']:.2f} times one"
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
