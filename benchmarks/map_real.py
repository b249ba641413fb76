"""The map on a real language model: ``python benchmarks/map_real.py`` (the recipe ``chain-sum``).

SmolLM2-135M-Instruct on reasoning-gym's ``chain_sum`` by number of terms: the cells of
`pacbayes_sft/recipes/chain-sum.yaml` that have no record yet (eight to ten minutes each on one
core; stop it anywhere, the same command goes on), under ``benchmarks/results/map_real``. The primary
bound is the one that benchmarks/map declared. Then ``benchmarks/results/map_real.json``, the table
of ``docs/map.md`` and its picture.

    python benchmarks/map_real.py --seeds 0 --sizes 64      a piece of it
    python benchmarks/map_real.py --summary                 measure nothing

Needs the extra ``real``.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import real

from pacbayes_sft.recipes.write import write_recipe
from pacbayes_sft.scan.config import Config, read_config
from pacbayes_sft.scan.run import Where, run_scan

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "benchmarks" / "results" / "map_real"
BASE, FILES = Path("runs/real/base"), Path("runs/map_real")  # relative: records name no machine


def configuration() -> Config:
    """Return the recipe's configuration; base and rows are made where they are missing."""
    os.chdir(ROOT)
    if not BASE.exists():
        real.fetch_base(BASE)
    if not (FILES / "scan.yaml").exists():
        write_recipe("chain-sum", FILES, base=str(BASE))
    return read_config(FILES / "scan.yaml")


def measure(sizes: list[int], seeds: list[int]) -> None:
    """Measure what is missing, seed by seed."""
    config = configuration()
    kept = tuple(n for n in config.sizes if not sizes or n in sizes)
    for seed in config.seeds:
        if not seeds or seed in seeds:
            piece = config.model_copy(update={"seeds": (seed,), "sizes": kept})
            run_scan(piece, RECORDS, Where(threads=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", default="")
    parser.add_argument("--seeds", default="")
    parser.add_argument("--summary", action="store_true")
    asked = parser.parse_args()
    if not asked.summary:
        sizes, seeds = (
            [int(w) for w in text.split(",") if w] for text in (asked.sizes, asked.seeds)
        )
        measure(sizes, seeds)
