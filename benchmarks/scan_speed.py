"""How many cells an hour a scan measures: ``python benchmarks/scan_speed.py``.

Against a plain loop over `SFTTrainer` and batched greedy ``generate`` (what one writes without
this package: load, train, generate every solution of test, held-out and training rows, compare
with the true one), on the same tiny cells: same rows, steps, batch size, LoRA, learning rate. The
plain loop measures the three risks; the scan measures them *and* computes the bound named in its
configuration: an isotropic one of one scale, and a refined one. Interleaved turns, one thread;
beside the wall's ratio stands that of CPU time, which other work on the machine disturbs less.
``--map`` does the same with three cells of the published map (1,024 rows, the two bounds of
``benchmarks/map/strong.yaml``, float32): draws are a fixed number there, rows to generate are not,
and the scan's record of the base itself, one a scan, is shared by three (by 90 in the map).
``--workers`` measures one against two single-threaded Ray workers instead, which needs two free
cores to mean anything; ``--held`` what loading once saves. Finished turns are kept in
``runs/scan_speed``, and the same command goes on (``--one`` does one turn and stops); turns of an
earlier machine stay in the result, whose ratio is the median over all.

Writes ``benchmarks/results/scan_speed.json``: ratios, one record a measurement.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

RESULT = Path(__file__).parent / "results" / "scan_speed.json"
WORK = Path(__file__).parent.parent / "runs" / "scan_speed"
TURNS = 3
CELLS = {
    "name": "speed",
    "data": {"kind": "igsm", "test": "6:12", "test_rows": 96, "heldout_rows": 48},
    "windows": ["4:8"],
    "sizes": [64],
    "fine_tune": {"least_steps": 10, "batch_size": 32},
    "primary": {"bound": "it", "theorem": "kl"},
}
OF_MAP = "the map's bounds"
BOUNDS = {
    "isotropic": {"posterior": "isotropic", "prior_scales": [0.05]},
    "refined": {"posterior": "refined", "prior_scales": [0.05], "steps": 40},
}


def configuration(bound: str, seeds: list[int]) -> Any:
    from pacbayes_sft.scan.config import Config
    from pacbayes_sft.scan.config_file import read_config

    if bound == OF_MAP:
        whole = read_config(Path(__file__).parent / "map" / "strong.yaml")
        cell = {"windows": ("6:10",), "sizes": (1024,), "dtype": "float32", "seeds": tuple(seeds)}
        return whole.model_copy(update=cell)
    return Config.model_validate(CELLS | {"seeds": seeds, "bounds": {"it": BOUNDS[bound]}})


def scanned(bound: str, seeds: list[int], workers: int = 0) -> Callable[[], None]:
    """Return a function that measures cells of these seeds anew."""

    def run() -> None:
        from pacbayes_sft.scan.run import run_scan
        from pacbayes_sft.scan.where import Where

        out = WORK / "scan"
        shutil.rmtree(out, ignore_errors=True)
        run_scan(configuration(bound, seeds), out, Where(workers=workers, threads=1))

    return run


def plain(bound: str, seeds: list[int]) -> Callable[[], None]:
    """Return a function that does the same cells as a plain script would, without the bound."""

    def run() -> None:
        for seed in seeds:
            plain_cell(configuration(bound, [seed]), seed)

    return run


def plain_cell(config: Any, seed: int) -> dict[str, float]:
    """Fine-tune through TRL and judge every split by what the model writes."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from pacbayes_sft.choices import Objective
    from pacbayes_sft.models import resolve_base
    from pacbayes_sft.scan.cells import Cell
    from pacbayes_sft.scan.rows import write_rows

    folder = WORK / "plain"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cell = Cell(config.sizes[0], config.windows[0], seed, "strong", Objective.NLL, "lora")
    sources = write_rows(config.data, cell, folder)
    splits = {}
    for name, file in (("train", sources.train), ("test", sources.test), ("held", sources.heldout)):
        lines = [json.loads(line) for line in Path(file).read_text().splitlines()]
        splits[name] = [{k: row[k] for k in ("prompt", "completion")} for row in lines]
    base, asked = resolve_base("strong"), config.fine_tune
    steps = max(asked.least_steps, round(asked.epochs * cell.size / asked.batch_size))
    tokenizer = AutoTokenizer.from_pretrained(base)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(splits["train"]),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM", r=asked.lora_rank, lora_alpha=16, target_modules="all-linear"
        ),
        args=SFTConfig(
            output_dir=str(folder / "run"), max_length=None, max_steps=steps,
            per_device_train_batch_size=asked.batch_size, learning_rate=asked.learning_rate,
            use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none",
            save_strategy="no", disable_tqdm=True, seed=seed,
        ),
    )  # fmt: skip
    trainer.train()
    model = trainer.model.eval()
    return {name: generated_risk(model, tokenizer, rows) for name, rows in splits.items()}


def generated_risk(model: Any, tokenizer: Any, rows: list[dict[str, str]]) -> float:
    """Return the share of rows whose greedy solution is not the true one, token by token."""
    import torch

    wrong = 0
    tokenizer.padding_side = "left"
    ordered = sorted(rows, key=lambda row: len(row["prompt"]))
    for start in range(0, len(ordered), 64):
        batch = ordered[start : start + 64]
        inputs = tokenizer([r["prompt"] for r in batch], return_tensors="pt", padding=True)
        longest = max(len(tokenizer(r["completion"]).input_ids) for r in batch)
        with torch.no_grad():
            written = model.generate(
                input_ids=inputs.input_ids, attention_mask=inputs.attention_mask,
                max_new_tokens=longest + 1, do_sample=False,
                pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
            )[:, inputs.input_ids.shape[1] :]  # fmt: skip
        for tokens, row in zip(written, batch, strict=True):
            text = tokenizer.decode(tokens, skip_special_tokens=True)
            wrong += text.split() != row["completion"].split()
    return wrong / len(rows)


def without_holding(bound: str, seeds: list[int]) -> Callable[[], None]:
    def run() -> None:
        from pacbayes_sft import loaded

        kept, loaded.keep = loaded.keep, lambda on: None
        try:
            scanned(bound, seeds)()
        finally:
            loaded.keep = kept

    return run


def timed(work: Callable[[], None]) -> list[float]:
    """Return seconds on the wall, and of this process's own work: that a busy machine spares."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        wall, own = time.perf_counter(), time.process_time()
        work()
        return [time.perf_counter() - wall, time.process_time() - own]


def take_turns(name: str, cells: int, ways: dict[str, Callable[[], None]]) -> None:
    """Time several ways in interleaved turns; keep each one's cells an hour over the first's."""
    file = WORK / f"{name}.json"
    known = json.loads(RESULT.read_text())["measured"] if RESULT.exists() else []
    kept = {"turns": [], "elsewhere": known}  # what other machines measured stays in the result
    if file.exists():
        kept = json.loads(file.read_text())
    turns: list[dict[str, list[float]]] = kept["turns"]
    while len(turns) < TURNS:
        turns.append({way: timed(work) for way, work in ways.items()})
        print(
            name, {way: [round(s, 1) for s in both] for way, both in turns[-1].items()}, flush=True
        )
        WORK.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(kept), encoding="utf-8")
        if "--one" in sys.argv:
            break
    first, *others = ways
    for way in others:
        wall, own = ([turn[first][k] / turn[way][k] for turn in turns] for k in (0, 1))
        name_of = f"{way} over {first}"
        for old in (r for r in kept["elsewhere"] if r["measurement"] == name_of):
            wall = old["each_turn"] + wall
            own = old.get("each_turn_cpu", []) + own
        known = [r for r in known if r["measurement"] != name_of]
        known.append(
            {
                "measurement": name_of,
                "cells_an_hour_ratio": round(median(wall), 3),
                "each_turn": [round(ratio, 3) for ratio in wall],
                "each_turn_cpu": [round(ratio, 3) for ratio in own],
                # workers are processes of their own, so only the wall tells of them
                "cpu_time_ratio": None if name == "workers" else round(median(own), 3),
                "cells_a_turn": cells,
                "cores": os.cpu_count(),
                "load_average_at_end": round(os.getloadavg()[0], 1),
            }
        )
        print(f"{way} over {first}: {median(wall):.2f} x")
    record = {"cells": CELLS, "bounds": BOUNDS, "measured": known}
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure what was asked for, going on where an earlier run stopped."""
    import datasets
    import peft
    import torch
    import trl

    del datasets, peft, trl  # imports are nobody's cell
    torch.set_num_threads(1)
    if "--workers" in sys.argv:
        seeds = list(range(6))
        ways = {f"{k} workers": scanned("isotropic", seeds, k) for k in (1, 2)}
        take_turns("workers", len(seeds), ways)
    elif "--map" in sys.argv:
        seeds = [0, 1, 2]  # the scan's own record of the base, once a scan, is shared by three
        take_turns("map", len(seeds), {
            "plain loop, cells of the map": plain(OF_MAP, seeds),
            "scan with the map's bounds": scanned(OF_MAP, seeds),
        })  # fmt: skip
    elif "--held" in sys.argv:
        take_turns("held", 2, {
            "loading every time": without_holding("isotropic", [0, 1]),
            "loading once": scanned("isotropic", [0, 1]),
        })  # fmt: skip
    else:
        take_turns("plain", 1, {
            "plain loop": plain("isotropic", [0]),
            "scan with an isotropic bound": scanned("isotropic", [0]),
            "scan with a refined bound": scanned("refined", [0]),
        })  # fmt: skip


if __name__ == "__main__":
    main()
