"""Is the guarantee kept on the whole path? ``python benchmarks/whole_path.py``.

240 independent runs of everything a user runs: 64 fresh iGSM rows, a LoRA fine-tune of a very
small base (two layers of width 32, made first) through `pacbayes_sft.sft`, and
`pacbayes_sft.bound` at delta 0.05, 0.2 or 0.5 in turn, under the base and under the half-data
checkpoint. The truth is the Gibbs test risk (token error) on 1,024 rows of the same law. About an
hour and a half on one core, in pieces of one run under ``runs/whole_path``; finished ones are not
done again. Writes ``benchmarks/results/whole_path.json`` and its table; ``--table`` only
redraws.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

from readme import MEASURED, Record, write_between
from scipy.stats import beta

from estimators.display import rounded_up

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "whole_path.json"
WORK = ROOT / "runs" / "whole_path"

RUNS, ROWS, TEST_ROWS = 240, 64, 1024
DELTAS = (0.05, 0.2, 0.5)
CELLS = [("base", "isotropic"), ("base", "refined"), ("checkpoint", "refined")]
SIGMA = 0.05
SEED_STEP = 10**4  # rows of two runs never come from one stream


def base() -> Path:
    """Return the very small base, pre-trained if it was not."""
    from pacbayes_sft.bases.pretrain import pretrain
    from pacbayes_sft.igsm import OpLaw

    made = WORK / "base"
    if not (made / "model.safetensors").exists():
        law = OpLaw.uniform(1, 2)
        pretrain(made, law=law, steps=1500, seed=0, abstract=False, width=32, layers=2)
    return made


def one_run(index: int) -> list[Record]:
    """Fine-tune on rows of its own and certify, at every delta and under both priors."""
    from estimators.posteriors.refined import Schedule
    from pacbayes_sft import Options, bound
    from pacbayes_sft.igsm import OpLaw
    from pacbayes_sft.igsm.files import write_problems
    from pacbayes_sft.posteriors import Refinement
    from pacbayes_sft.sft import Settings, run_sft

    folder, law = WORK / f"run-{index}", OpLaw.uniform(1, 2)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    test = WORK / "test.jsonl"
    if not test.exists():
        write_problems(test, law, size=TEST_ROWS, seed=1, abstract=False)
    write_problems(
        folder / "train.jsonl", law, size=ROWS, seed=SEED_STEP * (index + 1), abstract=False
    )
    settings = Settings(
        steps=12,
        lora_rank=2,
        batch_size=16,
        learning_rate=5e-3,
        prior_fraction=0.5,
        seed=index,
        device="cpu",
    )
    run = folder / "finetune"
    run_sft(str(base()), folder / "train.jsonl", run, settings)
    records = []
    delta = DELTAS[index % len(DELTAS)]
    for prior, posterior in CELLS:
        options = Options(
            prior=run / "pacbayes_sft" / "prior" if prior == "checkpoint" else "base",
            posterior=posterior,
            refinement=Refinement(Schedule(steps=60), batch_size=16),
            loss="token_error",
            prior_scales=(SIGMA,),
            delta=delta,
            draws=32,
            seed=index,
        )
        c = bound(str(base()), run, str(folder / "train.jsonl"), str(test), options)
        gap = binary_kl_budget(c.empirical_risk.upper, c.measured.test_risk.value)
        records.append(
            {
                "run": index,
                "prior": prior,
                "posterior": posterior,
                "delta": delta,
                "n": c.inputs.n,
                "kl_nats": c.kl.value,
                "empirical_risk": c.empirical_risk.value,
                "bound": c.bound.upper,
                "gibbs_test_risk": c.measured.test_risk.value,
                "violated": bool(c.measured.test_risk.value > c.bound.upper),
                "needed_factor": gap * c.inputs.n / complexity(c),
            }
        )
    shutil.rmtree(folder)
    return records


def binary_kl_budget(risk: float, truth: float) -> float:
    """Return kl(risk‖truth) where the truth is larger, else 0: the budget the truth needs."""
    from estimators.concentration import binary_kl

    return binary_kl(risk, truth) if truth > risk else 0.0


def complexity(certificate: Any) -> float:
    """Return KL + ln(ξ(n)/δ), what the kl bound pays in nats."""
    from estimators.concentration import log_maurer_moment

    n, leaf = certificate.inputs.n, certificate.leaves.theorem
    return float(certificate.kl.value + log_maurer_moment(n) - math.log(leaf))


def summarise(records: list[Record]) -> list[Record]:
    """Return one record per cell and delta: violations, their Clopper-Pearson limit, tightness."""
    rows = []
    for prior, posterior in CELLS:
        for delta in DELTAS:
            asked = (prior, posterior, delta)
            cell = [r for r in records if (r["prior"], r["posterior"], r["delta"]) == asked]
            bad, runs = sum(r["violated"] for r in cell), len(cell)
            naive = sum(r["gibbs_test_risk"] > r["empirical_risk"] for r in cell)
            factors = sorted(r["needed_factor"] for r in cell)
            rows.append(
                {
                    "prior": prior,
                    "posterior": posterior,
                    "delta": delta,
                    "n": cell[0]["n"],
                    "runs": runs,
                    "violations": bad,
                    "rate_limit": float(beta.ppf(0.95, bad + 1, runs - bad)) if bad < runs else 1.0,
                    "risk_above_empirical": naive / runs,
                    "mean_bound": sum(r["bound"] for r in cell) / runs,
                    "mean_gibbs_test_risk": sum(r["gibbs_test_risk"] for r in cell) / runs,
                    "mean_kl_nats": sum(r["kl_nats"] for r in cell) / runs,
                    "factor_at_delta": factors[min(runs - 1, math.ceil((1 - delta) * runs) - 1)],
                }
            )
    return rows


def table(rows: list[Record]) -> str:
    """Return the page's table."""
    lines = [
        "| prior | posterior | δ | runs | violations | rate at most (95 %) | mean bound | mean "
        "Gibbs test risk | test risk above R̂ | complexity really needed |",
        "|" + "---|" * 10,
    ]
    for r in rows:
        lines.append(
            f"| {r['prior']} | {r['posterior']} | {r['delta']} | {r['runs']} | {r['violations']} "
            f"| {rounded_up(r['rate_limit'], 3)} | {r['mean_bound']:.3f} "
            f"| {r['mean_gibbs_test_risk']:.3f} "
            f"| {r['risk_above_empirical']:.0%} | {r['factor_at_delta']:.0%} |"
        )
    return "\n".join(lines)


def measure() -> None:
    """Do the runs that are missing, each a file of its own, and write the summary."""
    (WORK / "pieces").mkdir(parents=True, exist_ok=True)
    for index in range(RUNS):
        piece = WORK / "pieces" / f"{index}.json"
        if not piece.exists():
            text = json.dumps(one_run(index))
            piece.with_suffix(".tmp").write_text(text, encoding="utf-8")
            piece.with_suffix(".tmp").replace(piece)
            print(f"run {index + 1} of {RUNS}", flush=True)
    pieces = sorted((WORK / "pieces").glob("*.json"))
    records = [r for piece in pieces for r in json.loads(piece.read_text(encoding="utf-8"))]
    RESULT.write_text(json.dumps(summarise(records), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if "--table" not in sys.argv:
        measure()
    write_between(
        "whole_path", table(json.loads(RESULT.read_text(encoding="utf-8"))), page=MEASURED
    )
