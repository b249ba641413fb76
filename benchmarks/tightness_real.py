"""SmolLM2 on ``chain_sum``, by rank and target modules: ``python benchmarks/tightness_real.py``.

Where does a certificate against the pre-trained weights fall below the base's own test risk, and
how near does one against the half-data checkpoint come to the finished model's? The fewer entries
an adapter has, the fewer nats a refined posterior must pay. Train and test rows are of one law
(2-4 terms), so that no shift term hides the answer. The cell of 4,096 rows is the first one again
with other rows: the prior scale that won in the first is its only one, named before they were made.

Each cell is one ``sft`` and two ``bound`` commands in ``runs/tightness_real``; finished stages are
not done again and refinements go on where they stopped. ``--cell NAME`` does one; ``--table`` only
prints. Writes ``benchmarks/results/tightness_real.json`` after each bound (cells without a record
were not run) and its table from it. Needs the extra ``real``. In float32, since a
processor without bf16 arithmetic takes three to four times as long in bf16.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import real
from readme import MEASURED, Record, said, write_between

from estimators.display import rounded_up

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "tightness_real.json"
WORK = ROOT / "runs" / "tightness_real"
ROWS = {  # file: rows, seed
    "train": (2048, 1_000_000),
    "train-4096": (4096, 5_000_000),
    "test": (1024, 3_000_000),
}
SFT = "--epochs 1 --batch-size 16 --learning-rate 1e-3 --dtype float32"
BOUND = "--posterior refined --refine-batch 16 --draws 2 --dtype float32 --batch-size 32"
RACE = "--steps 60 --prior-scales 0.005,0.02 --theorem recursive"
BOTH = {"checkpoint": RACE, "base": RACE}


class Cell(NamedTuple):
    """A fine-tune, and what its bounds are asked for, prior by prior."""

    rank: int
    targets: str
    train: str = "train"
    bounds: dict[str, str] = BOTH


CELLS = {
    "r1-q,v": Cell(1, "q_proj,v_proj"),
    "r1-down": Cell(1, "down_proj"),
    "r1-all": Cell(1, "all-linear"),
    "r4-q,v": Cell(4, "q_proj,v_proj"),
    "r8-all": Cell(8, "all-linear"),
    "r1-q,v-4096": Cell(
        1,
        "q_proj,v_proj",
        "train-4096",
        {"base": "--steps 150 --prior-scales 0.02 --theorem kl"},
    ),
}


def measure(name: str) -> Iterator[list[Record]]:
    """Yield the records of one cell, prior by prior, one a bound."""
    WORK.mkdir(parents=True, exist_ok=True)
    cell = CELLS[name]
    base, run = WORK / "base", WORK / name / "finetune"
    if not base.exists():
        real.fetch_base(base)
    for split, (size, seed) in ROWS.items():
        if not (WORK / f"{split}.jsonl").exists():
            real.TERMS[split], real.ROWS[split], real.SEEDS[split] = (2, 4), size, seed
            real.write_rows(split, WORK / f"{split}.jsonl")
    common = ("--base", str(base), "--train", str(WORK / f"{cell.train}.jsonl"))
    if not (run / "adapter_model.safetensors").exists():
        half = ("--prior-fraction", "0.5") if "checkpoint" in cell.bounds else ()
        real.command(
            "sft", *common, "--out", str(run), "--lora-rank", str(cell.rank),
            "--target-modules", cell.targets, *half, *SFT.split(),
        )  # fmt: skip
    for prior, asked in cell.bounds.items():
        out = WORK / name / f"bound-{prior}"
        where = "base" if prior == "base" else str(run / "pacbayes_sft" / "prior")
        if not (out / "bound.json").exists():
            real.command(
                "bound", *common, "--finetuned", str(run), "--test", str(WORK / "test.jsonl"),
                "--prior", where, "--out", str(out), *BOUND.split(), *asked.split(),
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
    for name, cell in CELLS.items():
        for prior in sorted(cell.bounds):
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
    write_between("tightness_real", table(kept), page=MEASURED)
    print(table(kept))
