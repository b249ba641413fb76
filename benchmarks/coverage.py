"""Is the guarantee kept? ``python -m benchmarks.coverage`` from the root (a few minutes, one core).

Simulates sample → posterior → certificate where the truth is known, counts the violations, shows
that planted mistakes are caught, and measures Maurer's moment. Each piece is written to
``benchmarks/results/coverage.json`` when it is done; a second run goes on with what is missing.
``--fresh`` starts over, ``--repeats`` sets the repetitions a piece, ``--table`` only prints and
rewrites its table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.readme import MEASURED, write_between  # noqa: E402
from estimators.display import rounded_down, rounded_up  # noqa: E402
from tests.coverage.outcome import row  # noqa: E402
from tests.coverage.planted import PLANTED, moment  # noqa: E402
from tests.coverage.procedures import procedures, refined_by_fit  # noqa: E402
from tests.coverage.simulation import Arms, Plane, Problem  # noqa: E402
from tests.coverage.trial import Trial  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "coverage.json"
PROBLEMS: dict[str, Problem] = {"arms": Arms.varied(), "plane": Plane()}
MOMENTS: dict[str, Problem] = {"arms": Arms.varied(), "plane": Plane(noise=0.3)}
SIZES, DELTAS = (40, 200), (0.05, 0.2, 0.5)
CHUNK, FITS, PLANTED_REPEATS, MOMENT_REPEATS = 2000, 500, 2000, 400_000
Rows = dict[str, dict[str, Any]]


def covered(problem: Problem, n: int, delta: float, repeats: int, recursive: bool) -> Rows:
    """Every procedure, the recursive ones or the others, on the same samples, in chunks."""
    chosen = {
        k: f for k, f in procedures(problem).items() if k.startswith("recursive") is recursive
    }
    sizes = [min(CHUNK, repeats - done) for done in range(0, repeats, CHUNK)]
    outcomes: dict[str, list[Any]] = {name: [] for name in chosen}
    for chunk, size in enumerate(sizes):
        trial = Trial(problem, n, size, delta, seed=chunk)
        for name, procedure in chosen.items():
            outcomes[name].append(procedure(trial))
            outcomes[name][-1].check(20)
    return {name: row(of_one, delta) for name, of_one in outcomes.items()}


def through_fit(problem: Problem, delta: float) -> Rows:
    """Refined posteriors, each by `refined.fit` itself."""
    outcome = refined_by_fit(Trial(problem, SIZES[0], FITS, delta, seed=10**4))
    outcome.check(20)
    return {"refined_by_fit": row([outcome], delta)}


def planted(name: str, delta: float, honest: bool) -> Rows:
    """One mistake, or the honest way beside it."""
    step = 200
    chunks = range(PLANTED_REPEATS // step)
    outcomes = [PLANTED[name](step, delta, 10**5 + chunk, honest=honest) for chunk in chunks]
    outcomes[0].check(20)
    return {name: row(outcomes, delta)}


def pieces(repeats: int) -> dict[str, Callable[[], Rows]]:
    """All that is to be computed, by the name it is kept under."""
    work: dict[str, Callable[[], Rows]] = {}
    for name, problem in PROBLEMS.items():
        for n in SIZES:
            for delta in DELTAS:
                key = f"covered/{name}/n={n}/delta={delta}"
                work[key] = partial(covered, problem, n, delta, repeats, recursive=False)
                work[f"{key}/rec"] = partial(covered, problem, n, delta, repeats, recursive=True)
        work[f"covered/{name}/n={SIZES[0]}/delta=0.05/by fit"] = partial(through_fit, problem, 0.05)
    for name in PLANTED:
        for honest in (False, True):
            key = f"{'honest' if honest else 'planted'}/{name}/delta=0.05"
            work[key] = partial(planted, name, 0.05, honest)
    for name, problem in MOMENTS.items():
        work[f"moment/{name}"] = partial(
            lambda p: {"moment": moment(p, 6, MOMENT_REPEATS, 10**6)}, problem
        )
    return work


def verdict(kind: str, figures: dict[str, Any]) -> bool:
    """Whether a row says what it must."""
    if kind == "moment":
        return abs(figures["mean"] - figures["xi"]) <= 3 * figures["standard_error"]
    if kind == "planted":
        return bool(figures["lower_95"] > figures["delta"])
    return bool(figures["upper_95"] <= figures["delta"])


def table(results: dict[str, Rows]) -> tuple[str, bool]:
    """Return the table and whether everything is as it must be."""
    lines = [
        "rate: share of certificates that were wrong; limit: 95 % Clopper-Pearson (upper, lower",
        "for planted mistakes); factor: on the complexity term, where the rate would reach δ.",
        "",
        f"{'piece':49}{'procedure':30}{'rate':>9}{'limit':>9}{'δ':>6}{'factor':>8}{'bound':>7}"
        f"{'truth':>7}",
    ]
    sound = True
    for key, rows in results.items():
        kind, rest = key.split("/", 1)
        for name, f in rows.items():
            good = verdict(kind, f)
            sound &= good
            mark = "" if good else "  <-- NOT AS IT MUST BE"
            if kind == "moment":
                lines.append(
                    f"{key:49}mean {f['mean']:.3f} ± {f['standard_error']:.3f}, ξ({f['n']}) = "
                    f"{f['xi']:.3f}{mark}"
                )
                continue
            limit = f["lower_95" if kind == "planted" else "upper_95"]
            factor = "none" if f["factor_at_delta"] is None else f"{f['factor_at_delta']:.2f}"
            lines.append(
                f"{kind + '/' + rest:49}{name:30}{f['rate']:9.5f}{limit:9.5f}{f['delta']:6.2f}"
                f"{factor:>8}{f['mean_bound']:7.3f}{f['mean_truth']:7.3f}{mark}"
            )
    return "\n".join(lines), sound


LABELS = {
    "scale_grid": "isotropic, prior scale from a charged grid",
    "refined_vectorised": "refined mean and scale",
    "refined_by_fit": "refined by `refined.fit` itself",
    "checkpoint_prior": "checkpoint prior on the units it never saw, Q saw all",
    "catoni_refined": "refined, Catoni on a charged grid",
    "catoni_checkpoint": "checkpoint prior, Catoni on a charged grid",
    "recursive_refined": "refined, recursive over a fixed predictor",
    "recursive_checkpoint": "checkpoint prior, recursive over the checkpoint",
    "recursive_known": "checkpoint prior, recursive over a predictor of known risk",
    "recursive_zero": "Q = P, recursive over the checkpoint",
    "recursive_mc_per_unit": "recursive, a fresh draw per unit",
    "one_draw": "one draw (disintegrated)",
    "ten_declared_draws": "the best of ten declared draws",
    "undeclared_draws": "the best of undeclared draws, the k-th at 6δ/(π²k²)",
    "rounded_draw": "one draw, deployed rounded",
    "mixture_draw": "one draw, prior a mixture over scales",
    "kl_zero": "Q = P",
    "kl_near_zero": "Q almost P",
    "gibbs_mc": "refined, with a Monte-Carlo limit",
    "gibbs_mc_per_unit": "the same, a fresh draw per unit",
}


def page_table(results: dict[str, Rows]) -> str:
    """Return the page's table: δ = 0.05 and n = 40, the worse of the two problems a line."""
    lines = [
        "| certificate | repetitions | violations | upper limit of the rate | δ |",
        "|---|---|---|---|---|",
    ]
    small = [
        rows for key, rows in results.items()
        if key.startswith("covered/") and f"n={SIZES[0]}/delta=0.05" in key
    ]  # fmt: skip
    for name in dict.fromkeys(name for rows in small for name in rows):
        f = max((rows[name] for rows in small if name in rows), key=lambda r: float(r["upper_95"]))
        label = LABELS.get(name, name.replace("_", " "))
        lines.append(
            f"| {label} | {f['repeats']:,} | {f['violations']:,} | {rounded_up(f['upper_95'], 4)} "
            f"| {f['delta']:g} |"
        )
    for key, rows in results.items():
        if key.startswith("planted/"):
            for name, f in rows.items():
                lines.append(
                    f"| *planted mistake:* {name.replace('_', ' ')} | {f['repeats']:,} "
                    f"| **{f['violations']:,}** | caught: rate ≥ {rounded_down(f['lower_95'], 2)} "
                    f"| {f['delta']:g} |"
                )
    return "\n".join(lines)


def main() -> int:
    """Compute what is missing, print the table; 1 if a promise was broken or a mistake missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=20_000)
    options.add_argument("--fresh", action="store_true")
    options.add_argument("--table", action="store_true")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    settings = {
        "repeats": chosen.repeats,
        "fits": FITS,
        "planted_repeats": PLANTED_REPEATS,
        "moment_repeats": MOMENT_REPEATS,
    }
    kept = json.loads(RESULT.read_text()) if RESULT.exists() and not chosen.fresh else {}
    if kept.get("settings") != settings and not chosen.table:
        kept = {"settings": settings, "wall_seconds_noisy": 0.0, "pieces": {}}
    for key, compute in {} if chosen.table else pieces(chosen.repeats).items():
        if key in kept["pieces"]:
            continue
        print(key, file=sys.stderr, flush=True)
        began = time.monotonic()
        kept["pieces"][key] = compute()
        kept["wall_seconds_noisy"] = round(kept["wall_seconds_noisy"] + time.monotonic() - began, 1)
        partial_file = RESULT.with_suffix(".tmp")
        partial_file.write_text(json.dumps(kept, indent=1, allow_nan=False) + "\n")
        partial_file.replace(RESULT)
    text, sound = table(kept["pieces"])
    print(text)
    write_between("coverage", page_table(kept["pieces"]), page=MEASURED)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
