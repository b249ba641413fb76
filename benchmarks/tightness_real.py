"""SmolLM2 on ``chain_sum``, by rank and target modules: ``python benchmarks/tightness_real.py``.

Where does a certificate against the pre-trained weights fall below the base's own test risk, and
how near does one against the half-data checkpoint come to the finished model's? The fewer entries
an adapter has, the fewer nats a refined posterior must pay. Train and test rows are of one law
(2-4 terms), so that no shift term hides the answer.

Each cell is one ``sft`` and two ``bound`` commands in ``runs/tightness_real``; finished stages are
not done again and refinements go on where they stopped. ``--cell NAME`` does one; ``--table`` only
prints. Writes ``benchmarks/results/tightness_real.json`` after each bound (cells without a record
were not run) and the README's table from it. Needs the extra ``real``. In float32, since a
processor without bf16 arithmetic takes three to four times as long in bf16.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import real
from readme import Record, said, write_between

from estimators.display import rounded_up

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "tightness_real.json"
WORK = ROOT / "runs" / "tightness_real"
ROWS = {"train": (2048, 1_000_000), "test": (1024, 3_000_000)}
CELLS = {  # name: rank, target modules
    "r1-q,v": (1, "q_proj,v_proj"),
    "r1-down": (1, "down_proj"),
    "r1-all": (1, "all-linear"),
    "r4-q,v": (4, "q_proj,v_proj"),
    "r8-all": (8, "all-linear"),
}
SFT = "--prior-fraction 0.5 --epochs 1 --batch-size 16 --learning-rate 1e-3 --dtype float32"
BOUND = (
    "--posterior refined --steps 60 --refine-batch 16 --prior-scales 0.005,0.02 --draws 2 "
    "--theorem recursive --dtype float32 --batch-size 32"
)


def measure(name: str) -> Iterator[list[Record]]:
    """Yield the records of one cell, prior by prior, one a bound."""
    WORK.mkdir(parents=True, exist_ok=True)
    rank, targets = CELLS[name]
    base, run = WORK / "base", WORK / name / "finetune"
    if not base.exists():
        real.fetch_base(base)
    for split, (size, seed) in ROWS.items():
        if not (WORK / f"{split}.jsonl").exists():
            real.TERMS[split], real.ROWS[split], real.SEEDS[split] = (2, 4), size, seed
            real.write_rows(split, WORK / f"{split}.jsonl")
    common = ("--base", str(base), "--train", str(WORK / "train.jsonl"))
    if not (run / "adapter_model.safetensors").exists():
        real.command(
            "sft", *common, "--out", str(run), "--lora-rank", str(rank),
            "--target-modules", targets, *SFT.split(),
        )  # fmt: skip
    for prior in ("checkpoint", "base"):
        out = WORK / name / f"bound-{prior}"
        where = "base" if prior == "base" else str(run / "pacbayes_sft" / "prior")
        if not (out / "bound.json").exists():
            real.command(
                "bound", *common, "--finetuned", str(run), "--test", str(WORK / "test.jsonl"),
                "--prior", where, "--out", str(out), *BOUND.split(),
            )  # fmt: skip
        found = json.loads((out / "bound.json").read_text(encoding="utf-8"))
        yield [record(name, prior, bound, found) for bound in found["bounds"]]


def record(name: str, prior: str, bound: str, found: Record) -> Record:
    """Return one record."""
    finished = found["measured"]["test_risk_finetuned"]
    return {
        "cell": name,
        "prior": prior,
        "posterior": found["posterior"]["family"],
        "bound": bound,
        "n": found["n"],
        "parameters": found["posterior"]["parameters"],
        "squared_distance": found["squared_distance"],
        "distance_to_prior": found["drift"]["distance_to_prior"],
        "kl_nats": found["kl"]["value"],
        "empirical_risk_limit": found["empirical_risk"]["upper"],
        "value": found["bounds"][bound]["raw"],
        "gibbs_test_risk": found["measured"]["test_risk"]["value"],
        "finished_test_risk": finished["value"],
        "finished_test_risk_interval": [finished["lower"], finished["upper"]],
        "prior_centre_limit": found["baselines"]["prior_centre"]["value"],
        "delta": found["delta"],
    }


def table(result: list[Record]) -> str:
    """Return what is there, one line a cell and prior, at its least bound."""
    lines = [
        "| adapter | entries | prior | n | ‖Δ‖² | KL (nats) | least bound | Catoni's | limit of "
        "the prior's own centre | Gibbs test risk | finished test risk |",
        "|" + "---|" * 11,
    ]
    for name in CELLS:
        for prior in ("base", "checkpoint"):
            here = [r for r in result if (r["cell"], r["prior"]) == (name, prior)]
            if not here:
                lines.append(f"| {name} | | {prior} | | | | *not run* | | | | |")
                continue
            r = min(here, key=lambda r: r["value"])
            lines.append(
                f"| {name} | {r['parameters']:,} | {prior} | {r['n']:,} "
                f"| {r['squared_distance']:.3g} | {r['kl_nats']:,.3g} | {_least(r)} "
                f"| {_catoni(here)} | {rounded_up(r['prior_centre_limit'], 3)} "
                f"| {r['gibbs_test_risk']:.3f} | {r['finished_test_risk']:.3f} |"
            )
    return "\n".join(lines)


def _least(found: Record) -> str:
    """The least bound; nearer to 1 than three digits show, with five."""
    value = found["value"]
    return f"{rounded_up(value, 5) if 0.995 < value < 1 else said(value)} ({found['bound']})"


def _catoni(found: list[Record]) -> str:
    """Catoni's bound, which an inversion of kl is not: it can exceed 1."""
    (value,) = (r["value"] for r in found if r["bound"] == "catoni")
    return rounded_up(value, 5) if 0.995 < value < 1 else said(value)


if __name__ == "__main__":
    kept = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else []
    named = [sys.argv[sys.argv.index("--cell") + 1]] if "--cell" in sys.argv else list(CELLS)
    for name in [] if "--table" in sys.argv else named:
        for new in measure(name):
            kept = [r for r in kept if (r["cell"], r["prior"]) != (name, new[0]["prior"])] + new
            RESULT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    write_between("tightness_real", table(kept))
    print(table(kept))
