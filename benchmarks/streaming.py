"""How fast ‖W − W₀‖² streams from files: ``make bench-streaming`` (about five minutes).

Pairs of bf16 checkpoints of three sizes (shards of 512 MB, made here from a seed) and the LoRA set
of a 7B model lie under ``--work`` while it runs and are removed one by one (``--keep`` keeps them;
one that is there is not made again). Every figure is a ratio within this run: the contestants take
turns, and medians of the turns are compared. Files are read from the page cache: the largest pair
must fit into free memory.

Writes ``benchmarks/results/streaming.json`` and its table; ``--table`` only rewrites the
table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from readme import MEASURED, Record, write_between
from safetensors.torch import load_file, save_file

from estimators.display import rounded_down, rounded_up
from pacbayes_sft.checkpoints.files import open_checkpoint
from pacbayes_sft.checkpoints.streaming import squared_distances
from pacbayes_sft.choices import Space
from pacbayes_sft.terms import kl_term

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "streaming.json"
SEED = 7
TURNS = 7
TENSOR = (4096, 8192)  # 64 MB in bf16
SHARD = 8  # tensors
SHARES = (0.1, 0.3, 1.0)  # of the largest pair
SUBTRACTED = 0  # the pair that is also subtracted whole: float64 takes four times its size
Q, UP, DOWN = (4096, 4096), (4096, 11008), (11008, 4096)  # (in, out) of a 7B Llama
MODULES = {f"self_attn.{n}_proj": Q for n in "qkvo"} | {
    "mlp.gate_proj": UP,
    "mlp.up_proj": UP,
    "mlp.down_proj": DOWN,
}


def make_pair(folder: Path, tensors: int) -> None:
    """Write ``base`` and ``tuned``, of so many tensors each, whole or not at all."""
    for seed, side in enumerate(("base", "tuned")):
        if (folder / side).exists():
            continue
        partial = folder / f"{side}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        block = torch.randn(TENSOR, generator=torch.Generator().manual_seed(SEED + seed))
        file_of = {}
        for start in range(0, tensors, SHARD):
            name = f"model-{start:05}.safetensors"
            part = {
                f"model.layers.{i}.mlp.up_proj.weight": (block * (0.02 + i * 1e-4)).bfloat16()
                for i in range(start, min(start + SHARD, tensors))
            }
            save_file(part, partial / name)
            file_of |= dict.fromkeys(part, name)
        (partial / "model.safetensors.index.json").write_text(json.dumps({"weight_map": file_of}))
        partial.rename(folder / side)


def make_adapter(folder: Path, rank: int = 16, layers: int = 32) -> None:
    """Write the LoRA set of a 7B model, and a base of the same shapes that is one hole on disk."""
    if folder.exists():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "adapter").mkdir(parents=True)
    (partial / "base").mkdir()
    generator = torch.Generator().manual_seed(SEED)
    factors, header, place = {}, {}, 0
    for layer in range(layers):
        for module, (into, out) in MODULES.items():
            name = f"model.layers.{layer}.{module}"
            for letter, shape in (("A", (rank, into)), ("B", (out, rank))):
                factors[f"base_model.model.{name}.lora_{letter}.weight"] = (
                    torch.randn(shape, generator=generator) * 0.02
                )
            end = place + 2 * into * out
            header[f"{name}.weight"] = {
                "dtype": "BF16",
                "shape": [out, into],
                "data_offsets": [place, end],
            }
            place = end
    save_file(factors, partial / "adapter" / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "base_model_name_or_path": "base",
    }
    (partial / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (partial / "base" / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + place)
    partial.rename(folder)


def raw_read(folder: Path) -> None:
    """Read every byte of a pair once, as plainly as Python can, on one thread."""
    buffer = memoryview(bytearray(4 << 20))
    for file in sorted(folder.glob("*/*.safetensors")):
        with file.open("rb", buffering=0) as handle:
            while handle.readinto(buffer):
                pass


def stream(folder: Path, threads: int) -> float:
    """Return ‖W − W₀‖² as `kl` computes it, opening the files included."""
    base, tuned = open_checkpoint(folder / "base"), open_checkpoint(folder / "tuned")
    return sum(squared_distances(base, tuned, list(tuned.file_of), threads))


def subtract(folder: Path, dtype: torch.dtype) -> float:
    """Load both state dicts and subtract them: what `kl` would do without streaming."""
    sides: list[dict[str, torch.Tensor]] = []
    for side in ("base", "tuned"):
        loaded: dict[str, torch.Tensor] = {}
        for file in sorted((folder / side).glob("*.safetensors")):
            loaded |= {name: tensor.to(dtype) for name, tensor in load_file(file).items()}
        sides.append(loaded)
    return sum(float((t - sides[0][name]).square().sum()) for name, t in sides[1].items())


def turns(contestants: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median seconds of each, taking turns after one turn that warms the cache."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(TURNS + 1):
        for name, work in contestants.items():
            started = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(found) for name, found in seconds.items()}


def anonymous_mb(folder: Path) -> tuple[float, float]:
    """Return the peak anonymous memory of the command `kl` on a pair, and that of its imports."""
    words = [sys.executable, __file__, "--watch", str(folder)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT)
    peak, imports = json.loads(done.stdout.splitlines()[-1])
    return peak, imports


def watch(folder: Path) -> None:
    """Run `kl` while a thread looks at this process's anonymous pages every two milliseconds."""

    def anonymous() -> float:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(x for x in lines if x.startswith("RssAnon")).split()[1]) / 1000

    peaks, over = [anonymous()], threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            peaks.append(anonymous())

    watcher = threading.Thread(target=look)
    watcher.start()
    kl_term(str(folder / "base"), folder / "tuned", sigma=0.1)
    over.set()
    watcher.join()
    print(json.dumps([max(peaks), peaks[0]]))


def measure(work: Path, largest: float, keep: bool) -> Record:
    """Make the files in ``work``, take the turns, return the figures.

    Args:
        work: Directory for the files.
        largest: GB of the largest pair, both checkpoints together.
        keep: Whether the files stay.
    """
    torch.set_num_threads(1)
    pairs = []
    size_of = 2 * 2 * TENSOR[0] * TENSOR[1] / 1e9  # GB of one tensor of a pair
    for place, share in enumerate(SHARES):
        folder = work / f"pair-{place}"
        make_pair(folder, max(1, round(share * largest / size_of)))
        size = sum(f.stat().st_size for f in folder.glob("*/*.safetensors"))
        contestants: dict[str, Callable[[], object]] = {
            "raw": lambda f=folder: raw_read(f),
            "one": lambda f=folder: stream(f, 1),
            "two": lambda f=folder: stream(f, 2),
        }
        if place == SUBTRACTED:
            contestants["float32"] = lambda f=folder: subtract(f, torch.float32)
            contestants["float64"] = lambda f=folder: subtract(f, torch.float64)
        median = turns(contestants)
        peak, imports = anonymous_mb(folder)
        pair = {
            "pair_gb": round(size / 1e9, 3),
            "ratio_to_raw_read": median["two"] / median["raw"],
            "ratio_to_raw_read_one_thread": median["one"] / median["raw"],
            "anonymous_mb": peak,
            "anonymous_mb_of_imports": imports,
            "wall_seconds_noisy": median,
        }
        if place == SUBTRACTED:
            pair["speedup_over_load_and_subtract"] = {
                f"{threads}, {dtype}": median[dtype] / median[threads]
                for threads in ("one", "two")
                for dtype in ("float32", "float64")
            }
        pairs.append(pair)
        print(json.dumps(pair), flush=True)
        if not keep:
            shutil.rmtree(folder)
    first, last = pairs[0], pairs[-1]
    return {
        "what": "bf16 pairs from the page cache, medians of interleaved turns; other processes "
        "kept one to two cores busy, so only ratios mean something",
        "turns": TURNS,
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "pairs": pairs,
        "time_over_bytes_largest_to_smallest": {
            threads: (last["wall_seconds_noisy"][threads] / last["pair_gb"])
            / (first["wall_seconds_noisy"][threads] / first["pair_gb"])
            for threads in ("raw", "one", "two")
        },
        "adapter": measure_adapter(work / "adapter-7b", keep),
    }


def measure_adapter(folder: Path, keep: bool) -> Record:
    """The KL of a 7B model's LoRA set, after imports."""
    make_adapter(folder)

    def term(space: Space) -> int:
        base, adapter = str(folder / "base"), folder / "adapter"
        return kl_term(base, adapter, sigma=0.05, space=space).parameters

    entries = term(Space.FACTORS)
    median = turns({space.value: lambda s=space: term(s) for space in Space})
    if not keep:
        shutil.rmtree(folder)
    return {"adapter_parameters": entries, "wall_seconds_noisy": median}


def table(result: Record) -> str:
    """Return the page's table."""
    lines = [
        "| pair of checkpoints | time ÷ raw read, two threads | one thread | faster than load and "
        "subtract (float32 / float64), one thread | anonymous memory (imports alone) |",
        "|---|---|---|---|---|",
    ]
    for pair in result["pairs"]:
        faster = pair.get("speedup_over_load_and_subtract")
        types = ("float32", "float64") if faster else ()
        said = " / ".join(f"{rounded_down(faster[f'one, {t}'], 0)}×" for t in types)
        lines.append(
            f"| {pair['pair_gb']:.1f} GB | {rounded_up(pair['ratio_to_raw_read'], 2)} "
            f"| {rounded_up(pair['ratio_to_raw_read_one_thread'], 2)} | {said} "
            f"| {pair['anonymous_mb']:.0f} MB ({pair['anonymous_mb_of_imports']:.0f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "streaming")
    parser.add_argument("--largest", type=float, default=8.5, help="GB of the largest pair")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--watch", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.watch:
        watch(given.watch)
        return
    if not given.table:
        measured = measure(given.work, given.largest, given.keep)
        RESULT.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    write_between("streaming", table(json.loads(RESULT.read_text(encoding="utf-8"))), page=MEASURED)


if __name__ == "__main__":
    main()
