"""TV estimates against known truths: ``python benchmarks/tv.py`` (about an hour, one core).

Seventeen text pairs whose TV is known (`tv_pairs`), ours from 200 to 20,000 rows a side, peers up
to 3,000, each peer in an environment of its own that this script makes (a peer that cannot be
installed is skipped with a note). Peers that read features get the twelve counts that ours reads.
``power`` is the share of repetitions that call the sides different at level 0.05: by the
permutation p-value for ours, by its own rule for a peer. Then 2,000 runs on small samples count
certificates on the wrong side of the truth, and the streamed test is timed at two sizes. Kill it
anywhere and run it again: what is measured is kept in ``runs/tv``. Writes
``benchmarks/results/tv.json`` and its table; ``--collect`` writes what has been measured
so far, ``--table`` only redraws. Seconds are CPU seconds of one thread; quote their ratios.
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
from readme import MEASURED, Record, write_between
from tv_pairs import Pair, pairs, texts

from estimators.display import rounded_down

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "tv.json"
WORK = ROOT / "runs" / "tv"
ENVIRONMENTS = Path(tempfile.gettempdir()) / "tv_peers"
PEERS = {"sbi": ["sbi"], "hyppo": ["hyppo"], "evidently": ["evidently", "pandas<3"]}

BLOCK = 1_000  # rows a side that are drawn at once, at least
FIRST = 100  # number of the first block: the statistics of the p-value were chosen on blocks 0-11
SIZES = (200, 1_000, 3_000)
REPETITIONS = {200: 40, 1_000: 10, 3_000: 1}
BET_REPETITIONS = 5
PEER_PAIRS = (0, 2, 4, 6, 10, 13)  # the pairs that peers get: far, near, equal, mixed, rare
LARGE, LARGE_PAIRS = 20_000, ("chain_sum, terms 2-5 / 2-6", "tasks, 25 % worded problems")
SCALES = (20_000, 100_000, 1_000_000)  # rows a side of the streamed test
RUNS, PART, SMALL, DELTA = 2_000, 500, 60, 0.05  # of the count of wrong certificates
WRONG = (
    "held-out lower > truth",
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
    began = time.process_time()
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
    return found | {"seconds": time.process_time() - began}


def samples(pair: Pair, n: int, repetitions: int) -> Iterator[tuple[list[str], list[str]]]:
    """Independent samples of n a side, cut from blocks that are drawn once and kept."""
    size = max(n, BLOCK)
    for k in range(repetitions):
        block, place = divmod(k, size // n)
        left, right = _block(pair, size, FIRST + block)
        yield left[place * n : (place + 1) * n], right[place * n : (place + 1) * n]


def _block(pair: Pair, size: int, number: int) -> tuple[list[str], list[str]]:
    file = WORK / "blocks" / f"{_plain(pair.name)}-{size}-{number}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        found = [texts(side) for side in pair.rows(size, number)]
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(found), encoding="utf-8")
        partial.replace(file)
    left, right = json.loads(file.read_text(encoding="utf-8"))
    return left, right


def once(key: str, measure: Callable[[], Any]) -> Any:
    """Return a measurement that is on disk, or make it (with ``--collect`` an empty list)."""
    file = WORK / "done" / f"{_plain(key)}.json"
    if not file.exists() and "--collect" in sys.argv:
        return []
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        found = measure()
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(found), encoding="utf-8")
        partial.replace(file)
        print(key, flush=True)
    return json.loads(file.read_text(encoding="utf-8"))


def peer(name: str, n: int) -> list[list[Record]] | None:
    """Run a peer on some pairs in its own environment; None if it cannot be had or broke."""
    from pacbayes_sft.views import count_features

    python = ENVIRONMENTS / name / "bin" / "python"
    if not python.exists():
        venv.create(python.parent.parent, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *PEERS[name]]
        if subprocess.run(command, check=False).returncode:
            return None
    jobs = [
        {"texts": [a, b], "counts": [count_features(s).tolist() for s in (a, b)]}
        for pair in (pairs()[k] for k in PEER_PAIRS)
        for a, b in samples(pair, n, REPETITIONS[n])
    ]
    file = WORK / f"job-{name}-{n}.json"
    file.write_text(json.dumps(jobs), encoding="utf-8")
    script = Path(__file__).parent / "tv_peers.py"
    done = subprocess.run(
        [str(python), str(script), name, str(file)],
        stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    if done.returncode < 0:
        raise SystemExit(f"{name}, n = {n}: killed by signal {-done.returncode}; run again")
    if done.returncode:
        print(name, n, "failed", flush=True)
        return None
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [found[k : k + REPETITIONS[n]] for k in range(0, len(found), REPETITIONS[n])]


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
            delta=DELTA, folds=0, permutations=99, random_state=run,
        ).fit(count_features([*sides[0], *sides[1]]), np.repeat([0, 1], SMALL))  # fmt: skip
        terms = [[1 + sum(t.count(s) for s in "+-") for t in side] for side in sides]
        upper = total_variation_attribute(terms[0], terms[1], DELTA).upper
        counted = (
            test.tv_.lower > pair.truth + 1e-12,
            upper < pair.truth - 1e-12,
            pair.truth == 0 and test.p_value_ <= DELTA,
        )
        for name, bad in zip(WRONG, counted, strict=True):
            wrong[name] += int(bad)
    return wrong


def scale(rows: int) -> Record:
    """Time the streamed test on ``rows`` sums a side in a process of its own."""
    files = [WORK / f"scale-{rows}-{side}.jsonl" for side in "ab"]
    for side, file in enumerate(files):
        generator = np.random.default_rng([rows, side])
        with file.open("w", encoding="utf-8") as lines:
            for count in generator.integers(2, 5 + side, rows):
                terms = generator.integers(10, 100, count)
                text = " + ".join(map(str, terms))
                row = {"prompt": f"What is {text}?", "completion": f" {terms.sum()}"}
                lines.write(json.dumps(row) + "\n")
    code = (
        "import resource, sys, time, json\n"
        "from pacbayes_sft.shift.streamed import stream_two_sample, hashed_rows\n"
        "hashed_rows(['warm 1'])\n"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "began = time.process_time()\n"
        "found = stream_two_sample(sys.argv[1], sys.argv[2])\n"
        "print(json.dumps({'cpu_seconds': time.process_time() - began,\n"
        "  'peak_mib': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,\n"
        "  'imports_mib': base / 1024, 'value': found.tv.value, 'lower': found.tv.lower}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, files)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for file in files:
        file.unlink()
    return {"rows_a_side": rows, "true_tv": 0.25, **json.loads(done.stdout)}


def measure() -> Record:
    """Measure what is not measured yet, the most telling first; return everything."""
    every = pairs()
    found: dict[tuple[str, int, str], list[Record]] = {}
    skipped = []

    def mine(n: int, method: str, repetitions: int, chosen: tuple[Pair, ...] = every) -> None:
        for pair in chosen:
            found[pair.name, n, method] = once(
                f"{pair.name}-{n}-{method}-{repetitions}",
                lambda p=pair: [
                    ours(method, a, b, k) for k, (a, b) in enumerate(samples(p, n, repetitions))
                ],
            )

    def theirs(n: int) -> None:
        for name in PEERS:
            runs = once(f"{name}-{n}-{REPETITIONS[n]}", lambda m=name: peer(m, n))
            if runs is None:
                skipped.append(f"{name}, n = {n}: could not be installed or failed")
            elif not runs:
                skipped.append(f"{name}, n = {n}: not measured yet")
            else:
                chosen = (every[k] for k in PEER_PAIRS)
                found.update({(p.name, n, name): r for p, r in zip(chosen, runs, strict=True)})

    mine(1_000, DEFAULT, REPETITIONS[1_000])
    mine(1_000, SAME, REPETITIONS[1_000])
    wrong: dict[str, Record] = {}
    for pair in every:
        if pair.name.startswith("chain_sum"):
            keys = [f"validity-{pair.name}-{k}" for k in range(RUNS // PART)]
            parts = [once(key, lambda p=pair, k=k: validity(p, k)) for k, key in enumerate(keys)]
            parts = [part for part in parts if part]
            sums = {name: sum(part[name] for part in parts) for name in WRONG}
            truth = round(pair.truth, 6)
            wrong[pair.name] = {"true_tv": truth, "runs": PART * len(parts), **sums}
    theirs(1_000)
    mine(200, SAME, REPETITIONS[200])
    theirs(200)
    mine(3_000, DEFAULT, 1)
    mine(200, DEFAULT, REPETITIONS[200])
    scales = [once(f"scale-{rows}", lambda r=rows: scale(r)) for rows in SCALES]
    mine(3_000, SAME, 1)
    mine(3_000, TFIDF, 1)
    mine(1_000, BETS, BET_REPETITIONS)
    theirs(3_000)
    mine(LARGE, DEFAULT, 1, tuple(p for p in every if p.name in LARGE_PAIRS))
    by_name = {pair.name: pair for pair in every}
    return {
        "pairs": len(every),
        "records": [record(by_name[p], n, m, r) for (p, n, m), r in found.items() if r],
        "validity": {"n": SMALL, "delta": DELTA, "pairs": wrong},
        "scale": [s for s in scales if s],
        "skipped": skipped,
    }


def table(found: Record) -> str:
    """Return the page's table: our default beside the peers' best power."""
    lines = [
        "| pair | true TV | value (lower limit) at n = 1,000 | at n = 3,000 | power at n = 200 / "
        "1,000 | best peer's |",
        "|---|---|---|---|---|---|",
    ]
    by = {(r["pair"], r["n"], r["method"]): r for r in found["records"]}
    peers = [SAID[name] for name in PEERS]

    def shown(record: Record | None) -> str:
        if record is None:
            return "-"
        far = "" if record["absolute_error"] <= 0.05 else " *far*"
        return f"{record['value']:.3f} ({rounded_down(record['lower'], 3)}){far}"

    def power(name: str, methods: list[str]) -> str:
        best = [
            max((by[name, n, m]["power"] for m in methods if (name, n, m) in by), default=None)
            for n in (200, 1_000)
        ]
        return " / ".join("-" if b is None else f"{b:.2f}" for b in best)

    truths = {r["pair"]: r["true_tv"] for r in found["records"]}
    for name, truth in truths.items():
        values = [shown(by.get((name, n, SAID[DEFAULT]))) for n in (1_000, 3_000)]
        powers = power(name, [SAID[DEFAULT]]), power(name, peers)
        lines.append(f"| {name} | {truth:.2f} | {' | '.join([*values, *powers])} |")
    return "\n".join(lines)


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in name)


if __name__ == "__main__":
    if "--table" not in sys.argv:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    write_between("tv", table(json.loads(RESULT.read_text(encoding="utf-8"))), page=MEASURED)
