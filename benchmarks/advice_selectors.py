"""Fine-tunes of the rules that pick rows: ``python benchmarks/advice_selectors.py [SIZE ...]``.

A pool of iGSM problems with 2 to 16 operations; each selector takes SIZE rows of it (4,096 without
a word), the strong base is fine-tuned on them exactly as a cell of ``benchmarks/map/strong.yaml``
is, and judged slice by slice on the map's own test rows. Finished ones are kept in
``benchmarks/results/advice_selectors.json`` and not done again; stop it anywhere. ``--only NAME``
runs one, ``--seed K`` and ``--base weak`` do it again with another, ``--device cuda`` does it on a
GPU, ``--records DIR`` takes the map that the curriculum follows from elsewhere. Several may run
side by side.
``benchmarks/advice.py`` turns them into regrets.

`sft` shuffles rows once: the curriculum keeps its composition, not its order, as its record says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from advice_cases import BOUND, LARGEST_PILOT, laws_of, windows_of
from filelock import FileLock

from pacbayes_sft.advise import selectors
from pacbayes_sft.advise.pilots import read_pilots
from pacbayes_sft.advise.selectors.simple import Rows
from pacbayes_sft.atomic import replacing
from pacbayes_sft.data.rows import Table, read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import device_name
from pacbayes_sft.scan.config_file import read_config
from pacbayes_sft.scan.store import Store

HERE = Path(__file__).parent
RESULT = HERE / "results" / "advice_selectors.json"
WORK = HERE.parent / "runs" / "advice_selectors"
MAP = HERE / "results" / "map"
POOL_ROWS, POOL_SEED, JUDGE_SEED, LOOKED_AT = 16_384, 5_000_000, 6_000_000, 4096
NAMES = (
    "random rows",
    "all windows mixed",
    "drop what the base solves (LIMO, s1)",
    "closest to the base (perplexity)",
    "curriculum along d*(n)",
    "LESS-like influence",
    "THTB, intrinsic hardness proxied",
)
GRADIENTS = NAMES[5]
PER_LAW = ("curriculum along d*(n)", GRADIENTS)  # depend on the test law: flat here


def pool() -> Table:
    """Return the pool, made if it is not there."""
    from pacbayes_sft.igsm import OpLaw
    from pacbayes_sft.igsm.files import write_problems

    WORK.mkdir(parents=True, exist_ok=True)
    for name, law, size, seed in (
        ("pool.jsonl", OpLaw.uniform(2, 16), POOL_ROWS, POOL_SEED),
        ("target.jsonl", OpLaw.uniform(6, 12), 128, JUDGE_SEED),
    ):
        if not (WORK / name).exists():
            write_problems(WORK / name, law, size=size, seed=seed)
    return read_table(WORK / "pool.jsonl")


def pick(
    name: str, table: Table, base: str, size: int, seed: int, device: str = "cpu"
) -> tuple[Rows, list[str]]:
    """Return the rows that a selector takes, and what must be said of it."""
    levels = [float(row.difficulty or 0) for row in table.rows]
    windows = read_config(HERE / "map" / "strong.yaml").windows
    assert isinstance(windows, tuple)
    if name == NAMES[0]:
        return selectors.at_random(len(levels), size, seed), []
    if name == NAMES[1]:
        return selectors.all_windows(levels, windows, size, seed), []
    few = Table(table.source, table.rows[: max(LOOKED_AT, 2 * size)], table.sha256)
    looked = f"picked from the first {len(few.rows)} rows of the pool"
    if name in NAMES[2:4]:
        scores = _scores(few, base, device)
        if name == NAMES[2]:
            return selectors.unsolved(scores, size, seed), [looked]
        return selectors.closest(scores, size), [looked]
    if name == NAMES[4]:
        said = ["the trainer shuffles: composition of the curriculum, not its order"]
        return selectors.curriculum(levels, _path(base, size), size, seed), said
    if name == GRADIENTS:
        target, found = (
            selectors.row_gradients(rows, base, seed=seed, device=device)
            for rows in (read_table(WORK / "target.jsonl"), few)
        )
        return selectors.by_influence(found, target, size), [looked, "plain gradients at the base"]
    rows, told = selectors.thtb(few, size)
    return rows, [looked, *told]


def _scores(table: Table, base: str, device: str) -> selectors.BaseScores:
    file = WORK / f"scores-{base}-{len(table.rows)}.npz"
    if not file.exists():
        found = selectors.base_scores(table, base, device=device)
        with replacing(file) as partial, partial.open("wb") as stream:
            np.savez(stream, nll=found.nll, solved=found.solved)
    kept = np.load(file)
    return selectors.BaseScores(kept["nll"], kept["solved"])


def _path(base: str, size: int) -> dict[int, str]:
    """Return the advised window by size, from the map's pilots of seed 0 under the flat law."""
    from pacbayes_sft.advise.advice import advise
    from pacbayes_sft.advise.shifts import window_shifts

    every = read_pilots(Store(MAP).all(), bound=BOUND, base=base)
    most = LARGEST_PILOT if size > LARGEST_PILOT else LARGEST_PILOT // 4
    pilots = [p for p in every if p.seed == 0 and p.objective == "nll" and p.size <= most]
    law = laws_of(list(pilots[0].profile))["flat"]
    shifts = window_shifts({float(d): 1 / 15 for d in range(2, 17)}, law, windows_of(pilots))
    sizes = [n for n in (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384) if n <= size]
    found = advise(pilots, shifts, law, sizes, draws=50)
    return {c.budget: c.window for c in found.choices}


def measure(
    table: Table, rows: Rows, base: str, size: int, seed: int, device: str = "cpu"
) -> dict[str, float]:
    """Fine-tune as a cell of the map does, and return the risk of every slice of its test rows."""
    with TemporaryDirectory(dir=WORK) as folder:
        return _measure(Path(folder), table, rows, base, size, seed, device)


def _measure(
    folder: Path, table: Table, rows: Rows, base: str, size: int, seed: int, device: str
) -> dict[str, float]:
    from pacbayes_sft.igsm import OpLaw
    from pacbayes_sft.igsm.files import write_problems
    from pacbayes_sft.scan.rows import TEST_SEED
    from pacbayes_sft.sft import Settings, run_sft
    from pacbayes_sft.terms import risk_term

    config = read_config(HERE / "map" / "strong.yaml")
    asked, data = config.fine_tune, config.data
    assert data.kind == "igsm"
    run, train, test = folder / "run", folder / "train.jsonl", folder / "test.jsonl"
    lines = [json.dumps(table.rows[i].as_record(table.units[i])) + "\n" for i in rows]
    train.write_text("".join(lines), encoding="utf-8")
    write_problems(test, OpLaw.parse(data.test), size=data.test_rows, seed=TEST_SEED)
    settings = Settings(
        steps=max(asked.least_steps, round(asked.epochs * size / asked.batch_size)),
        batch_size=asked.batch_size,
        learning_rate=asked.learning_rate,
        lora_rank=asked.lora_rank,
        lora_alpha=asked.lora_alpha,
        prior_fraction=asked.prior_fraction,  # as the map's cells, which keep a checkpoint
        shared_steps=True,
        seed=seed,
        device=device,
        dtype=config.dtype,
    )
    run_sft(base, train, run, settings)
    term = risk_term(base, str(test), run, loss=config.loss, slice_by="difficulty",
                     device=device, dtype=config.dtype)  # fmt: skip
    return {label: e.value for label, e in term.slices.items()}


def record(
    key: dict[str, Any],
    table: Table,
    rows: Rows,
    said: list[str],
    slices: dict[str, float],
    device: str,
) -> dict[str, Any]:
    """Return the record of one fine-tune."""
    levels = np.array([table.rows[i].difficulty for i in rows], dtype=float)
    return {
        **key,
        "law": "flat" if key["selector"] in PER_LAW else "any",
        "said": said,
        "slices": slices,
        "difficulty": [float(np.quantile(levels, q)) for q in (0, 0.5, 1)],
        "device": device,
    }


def kept() -> list[dict[str, Any]]:
    """Return the records that are there."""
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else []


def keep(new: dict[str, Any]) -> None:
    """Add a record to those that are there by now: another process may have added some."""
    with FileLock(WORK / "records.lock"):
        records = [*kept(), new]
        records.sort(key=lambda r: (r["size"], r["base"], r["seed"], NAMES.index(r["selector"])))
        with replacing(RESULT) as partial:
            partial.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def main(
    sizes: Sequence[int],
    only: str | None,
    base: str = "strong",
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Measure what is missing."""
    table = pool()
    for size in sizes:
        for name in NAMES:
            key = {"selector": name, "base": base, "size": size, "seed": seed}
            done = any(all(r[k] == v for k, v in key.items()) for r in kept())
            if done or (only is not None and only not in name):
                continue
            try:
                rows, said = pick(name, table, base, size, seed, device)
            except InputError as error:
                print(f"{name}, {size}: not run ({error})", flush=True)
                continue
            slices = measure(table, rows, base, size, seed, device)
            keep(record(key, table, rows, said, slices, device_name(device)))
            print(name, size, {k: round(v, 2) for k, v in slices.items()}, flush=True)


if __name__ == "__main__":
    words = sys.argv[1:]
    if "--records" in words:
        MAP = Path(words[words.index("--records") + 1])
    one = words[words.index("--only") + 1] if "--only" in words else None
    base = words[words.index("--base") + 1] if "--base" in words else "strong"
    seed = int(words.pop(words.index("--seed") + 1)) if "--seed" in words else 0
    device = words[words.index("--device") + 1] if "--device" in words else "cpu"
    numbers = [int(w) for w in words if w.isdigit()]
    main(numbers or [4096], one, base, seed, device)
