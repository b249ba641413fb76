"""TV estimates against known truths: ``python benchmarks/tv.py`` (about half an hour, one core).

Seventeen text pairs whose TV is known (`tv_pairs`), ours from 200 to 20,000 rows a side, peers up
to 3,000, each peer in an environment of its own that this script makes (a peer that cannot be
installed is skipped with a note). Peers that read features get the twelve counts that ours reads.
``power`` is the share of repetitions that call the sides different at level 0.05: by the
permutation p-value for ours, by its own rule for a peer. Then 2,000 runs on small samples count
certificates on the wrong side of the truth. Kill it anywhere and run it again: what is measured is
kept in ``runs/tv``. Writes ``benchmarks/results/tv.json`` and the README's table; ``--table`` only
redraws. Seconds are of one thread beside other work; quote their ratios within a pair and size.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from readme import Record, write_between
from tv_pairs import Pair, pairs, texts

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "tv.json"
WORK = ROOT / "runs" / "tv"
ENVIRONMENTS = Path(tempfile.gettempdir()) / "tv_peers"
PEERS = {"sbi": ["sbi"], "hyppo": ["hyppo"], "evidently": ["evidently", "pandas<3"]}

BLOCK = 3_000  # rows a side that are drawn at once
SIZES = (200, 1_000, 3_000)
OURS = {200: 6, 1_000: 3, 3_000: 2}  # repetitions of default and of the same features
THEIRS = {200: 4, 1_000: 2, 3_000: 1}  # and of everything else
LARGE, LARGE_PAIRS = 20_000, ("chain_sum, terms 2-5 / 2-6", "tasks, 25 % worded problems")
RUNS, PART, SMALL, DELTA = 2_000, 250, 60, 0.05  # of the count of wrong certificates
WRONG = (
    "held-out lower > truth",
    "betting lower > truth",
    "best of both > truth",
    "attribute upper < truth",
    "false alarms of the permutation p-value",
)

DEFAULT, SAME, BETS, TFIDF = "default", "same features", "betting", "TF-IDF"
SAID = {
    DEFAULT: "ours: counts and words, boosted (all numbers)",
    SAME: "ours: the twelve counts alone, boosted (test only)",
    BETS: "ours: betting, counts and words",
    TFIDF: "ours: TF-IDF words, logistic regression",
    "sbi": "sbi c2st (random forest on the twelve counts)",
    "hyppo": "hyppo Energy (the twelve counts)",
    "evidently": "evidently text drift (TF-IDF)",
}


def ours(method: str, left: list[str], right: list[str], seed: int) -> Record:
    """Run one of our methods on two lists of texts."""
    from estimators import ClassifierTwoSample
    from estimators.total_variation.samples import pool
    from pacbayes_sft.choices import Features, View
    from pacbayes_sft.data.rows import Row
    from pacbayes_sft.views import featurise

    features = {SAME: Features.COUNTS, TFIDF: Features.WORDS}.get(method, Features.DEFAULT)
    began = time.perf_counter()
    sides = [[Row(text, "") for text in side] for side in (left, right)]
    looked = featurise(*sides, View.PROMPT, features, seed=seed)
    y = np.repeat([0, 1], [len(left), len(right)])
    test = ClassifierTwoSample(
        looked.classifier,
        delta=DELTA,
        folds=5 if method in (DEFAULT, TFIDF) else 0,
        prequential=method == BETS,
        random_state=seed,
    ).fit(pool(looked.train, looked.test), y)
    found: Record = {
        "value": test.cross_fitted_.value, "lower": test.tv_.lower, "upper": 1.0,
        "different": test.p_value_ <= DELTA,
    }  # fmt: skip
    if test.prequential_ is not None:
        bets = test.prequential_
        found |= {"value": bets.tv.value, "different": bets.p_value <= DELTA}
    if method == DEFAULT:
        found["plug_in"] = test.plug_in_.value
    return found | {"seconds": time.perf_counter() - began}


def samples(pair: Pair, n: int, repetitions: int) -> Iterator[tuple[list[str], list[str]]]:
    """Independent samples of n a side, cut from blocks that are drawn once and kept."""
    if n > BLOCK:
        left, right = pair.rows(n, 900)
        yield texts(left), texts(right)
        return
    per_block = BLOCK // n
    for k in range(repetitions):
        block, place = divmod(k, per_block)
        left, right = _block(pair, block)
        yield left[place * n : (place + 1) * n], right[place * n : (place + 1) * n]


def _block(pair: Pair, number: int) -> tuple[list[str], list[str]]:
    file = WORK / "blocks" / f"{_plain(pair.name)}-{number}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        found = [texts(side) for side in pair.rows(BLOCK, number)]
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(found), encoding="utf-8")
        partial.replace(file)
    left, right = json.loads(file.read_text(encoding="utf-8"))
    return left, right


def once(key: str, measure: Callable[[], Any]) -> Any:
    """Return a measurement that is on disk, or make it."""
    file = WORK / "done" / f"{_plain(key)}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        found = measure()
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(found), encoding="utf-8")
        partial.replace(file)
        print(key, flush=True)
    return json.loads(file.read_text(encoding="utf-8"))


def peer(name: str, n: int) -> list[list[Record]] | None:
    """Run a peer on every pair in its own environment; None if it cannot be had or broke."""
    from pacbayes_sft.views import count_features

    python = ENVIRONMENTS / name / "bin" / "python"
    if not python.exists():
        venv.create(python.parent.parent, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *PEERS[name]]
        if subprocess.run(command, check=False).returncode:
            return None
    jobs = [
        {"texts": [a, b], "counts": [count_features(s).tolist() for s in (a, b)]}
        for pair in pairs()
        for a, b in samples(pair, n, THEIRS[n])
    ]
    file = WORK / f"job-{name}-{n}.json"
    file.write_text(json.dumps(jobs), encoding="utf-8")
    script = Path(__file__).parent / "tv_peers.py"
    done = subprocess.run(
        [str(python), str(script), name, str(file)],
        stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    if done.returncode:
        print(name, n, "failed", flush=True)
        return None
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [found[k : k + THEIRS[n]] for k in range(0, len(found), THEIRS[n])]


def record(pair: Pair, n: int, method: str, runs: list[Record]) -> Record:
    """Return the record of several repetitions: medians, and the share that found a difference."""

    def middle(name: str) -> float | None:
        values = [r[name] for r in runs if name in r]
        return round(float(np.median(values)), 4) if values else None

    mine = "lower" in runs[0]
    found = {
        "pair": pair.name, "true_tv": round(pair.truth, 6), "n": n, "method": SAID[method],
        "value": middle("value") if mine else None, "lower": middle("lower"),
        "upper": middle("upper"), "seconds": middle("seconds"),
        "power": round(float(np.mean([r["different"] for r in runs])), 3),
        "repetitions": len(runs),
    }  # fmt: skip
    if mine:
        found["absolute_error"] = round(
            float(np.median([abs(r["value"] - pair.truth) for r in runs])), 4
        )
        found["lower_above_truth"] = sum(r["lower"] > pair.truth + 1e-12 for r in runs)
        if "plug_in" in runs[0]:
            found["plug_in"] = middle("plug_in")
    else:
        found["statistic"] = middle("value")  # an accuracy, a distance or an AUC: no TV
    return found


def validity(pair: Pair, part: int) -> Record:
    """Count wrong certificates in many runs of small samples."""
    from sklearn.tree import DecisionTreeClassifier

    from estimators import ClassifierTwoSample, total_variation_attribute
    from pacbayes_sft.views import count_features

    wrong = dict.fromkeys(WRONG, 0)
    for run in range(part * PART, (part + 1) * PART):
        sides = [texts(side) for side in pair.rows(SMALL, 10_000 + run)]
        test = ClassifierTwoSample(
            DecisionTreeClassifier(max_depth=2, class_weight="balanced", random_state=0),
            delta=DELTA, folds=0, prequential=True, permutations=99, random_state=run,
        ).fit(count_features([*sides[0], *sides[1]]), np.repeat([0, 1], SMALL))  # fmt: skip
        bets = test.prequential_
        assert bets is not None
        terms = [[1 + sum(t.count(s) for s in "+-") for t in side] for side in sides]
        upper = total_variation_attribute(terms[0], terms[1], DELTA).upper
        counted = (
            test.certificate_.lower > pair.truth + 1e-12,
            bets.tv.lower > pair.truth + 1e-12,
            test.tv_.lower > pair.truth + 1e-12,
            upper < pair.truth - 1e-12,
            pair.truth == 0 and test.p_value_ <= DELTA,
        )
        for name, bad in zip(WRONG, counted, strict=True):
            wrong[name] += int(bad)
    return wrong


def measure() -> Record:
    """Measure what is not measured yet, the most telling first; return everything."""
    every = pairs()
    found: dict[tuple[str, int, str], list[Record]] = {}
    skipped = []

    def mine(n: int, method: str, repetitions: int, chosen: tuple[Pair, ...] = every) -> None:
        for pair in chosen:
            found[pair.name, n, method] = once(
                f"{pair.name}-{n}-{method}",
                lambda p=pair: [
                    ours(method, a, b, k) for k, (a, b) in enumerate(samples(p, n, repetitions))
                ],
            )

    def theirs(n: int) -> None:
        for name in PEERS:
            runs = once(f"{name}-{n}", lambda m=name: peer(m, n))
            if runs is None:
                skipped.append(f"{name}, n = {n}")
            else:
                found.update({(p.name, n, name): r for p, r in zip(every, runs, strict=True)})

    for n in SIZES:
        mine(n, DEFAULT, OURS[n])
        mine(n, SAME, OURS[n])
        if n < SIZES[-1]:
            theirs(n)
    wrong: dict[str, Record] = {}
    for pair in every:
        if pair.name.startswith("chain_sum"):
            parts = [
                once(f"validity-{pair.name}-{k}", lambda p=pair, k=k: validity(p, k))
                for k in range(RUNS // PART)
            ]
            sums = {name: sum(part[name] for part in parts) for name in WRONG}
            wrong[pair.name] = {"true_tv": round(pair.truth, 6), **sums}
    mine(3_000, TFIDF, THEIRS[3_000])
    mine(1_000, BETS, THEIRS[1_000])
    mine(LARGE, DEFAULT, 1, tuple(p for p in every if p.name in LARGE_PAIRS))
    theirs(3_000)
    by_name = {pair.name: pair for pair in every}
    return {
        "pairs": len(every),
        "records": [record(by_name[p], n, m, r) for (p, n, m), r in found.items()],
        "validity": {"runs": RUNS, "n": SMALL, "delta": DELTA, "pairs": wrong},
        "skipped": skipped,
    }


def table(found: Record) -> str:
    """Return the README's table: our default beside the best peer at n = 1,000 and 3,000."""
    lines = [
        "| pair | true TV | ours, n = 3,000: value | lower limit | power at n = 200 / 1,000 | best "
        "peer's power there |",
        "|---|---|---|---|---|---|",
    ]
    by = {(r["pair"], r["n"], r["method"]): r for r in found["records"]}
    peers = [SAID[name] for name in PEERS]
    for name in dict.fromkeys(r["pair"] for r in found["records"]):
        large = by[name, 3_000, SAID[DEFAULT]]
        powers = [by[name, n, SAID[DEFAULT]]["power"] for n in (200, 1_000)]
        best = [
            max((by[name, n, p]["power"] for p in peers if (name, n, p) in by), default=None)
            for n in (200, 1_000)
        ]
        said = " / ".join("-" if b is None else f"{b:.2f}" for b in best)
        far = "" if large["absolute_error"] <= 0.05 else " *far*"
        lines.append(
            f"| {name} | {large['true_tv']:.2f} | {large['value']:.3f}{far} "
            f"| {large['lower']:.3f} | {powers[0]:.2f} / {powers[1]:.2f} | {said} |"
        )
    return "\n".join(lines)


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in name)


if __name__ == "__main__":
    if "--table" not in sys.argv:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    write_between("tv", table(json.loads(RESULT.read_text(encoding="utf-8"))))
