"""The paper's map, measured: ``python benchmarks/map.py`` (or ``make map``; see docs/map.md).

Runs the cells of ``benchmarks/map/*.yaml`` that have no record yet under
``benchmarks/results/map/records`` (several hours on two cores; stop it anywhere, the same command
goes on), then writes ``benchmarks/results/map.json``, ``docs/map/*.png`` and the README's tables.

    python benchmarks/map.py strong dft      only these configurations
    python benchmarks/map.py --summary       measure nothing
    python benchmarks/map.py --quick         a small map of its own, in ten minutes (runs/map_quick)
    python benchmarks/map.py --workers 2     on two local Ray workers
"""

from __future__ import annotations

import sys
from pathlib import Path

from pacbayes_sft.scan.config import read_config
from pacbayes_sft.scan.run import Where, run_scan

HERE = Path(__file__).parent
NAMES = ("strong", "dft", "weak")
RECORDS = HERE / "results" / "map"


def measure(names: list[str], workers: int) -> None:
    """Measure what is missing, seed by seed, so that a stopped run leaves whole maps."""
    for name in names:
        config = read_config(HERE / "map" / f"{name}.yaml")
        for seed in config.seeds:
            one = config.model_copy(update={"seeds": (seed,)})
            run_scan(one, RECORDS, Where(workers=workers, threads=1))


if __name__ == "__main__":
    asked = [a for a in sys.argv[1:] if not a.startswith("--")]
    measure(asked or list(NAMES), 0)
