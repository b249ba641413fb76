"""Run the demo and keep its terms: ``python benchmarks/demo.py`` (a few minutes, two cores).

Beside the bounds stands what a user would pick instead: a held-out binomial limit on the finished
model, which needs labelled test rows. Writes ``benchmarks/results/demo.json`` and the README's
table from it, and ``docs/demo.png`` of the same run. ``--table`` only rewrites the table.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from readme import Record, bound_table, cell, write_between

RESULT = Path(__file__).parent / "results" / "demo.json"
PICTURE = Path(__file__).parent.parent / "docs" / "demo.png"


def measure() -> Record:
    """Run the demo; return its figures."""
    from pacbayes_sft.bound_json import to_record
    from pacbayes_sft.demo import SETTINGS, TEST_LAW, TRAIN_LAW, run_demo
    from pacbayes_sft.plots import plot_bound

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = run_demo(Path(folder))
    plot_bound(result.base_prior, PICTURE)
    return {
        "train_ops": sorted(TRAIN_LAW.weights),
        "test_ops": sorted(TEST_LAW.weights),
        "steps": SETTINGS.steps,
        "wall_seconds_noisy": round(time.monotonic() - started),
        "cells": [
            cell("base", to_record(result.base_prior)),
            cell("checkpoint", to_record(result.checkpoint_prior)),
        ],
    }


def table(result: Record) -> str:
    """Return the README's table."""
    return bound_table(result["cells"])


if __name__ == "__main__":
    if "--table" not in sys.argv:
        RESULT.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    write_between("demo", table(json.loads(RESULT.read_text(encoding="utf-8"))))
