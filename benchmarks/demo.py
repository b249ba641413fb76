"""Run the demo and keep its terms: ``python benchmarks/demo.py`` (about three minutes, two cores).

Beside the bounds stands what a user would pick instead: a held-out binomial limit on the finished
model, which needs labelled test rows. Writes ``benchmarks/results/demo.json`` and the README's
table from it. ``--table`` only rewrites the table.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "demo.json"
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- demo table: made by benchmarks/demo.py -->", "<!-- end of demo table -->"
NAMES = {"base": "the base (the paper's reading)", "checkpoint": "half-data checkpoint"}


def measure() -> dict[str, object]:
    """Run the demo; return its figures."""
    from pacbayes_sft.bound_json import to_record
    from pacbayes_sft.demo import SETTINGS, TEST_LAW, TRAIN_LAW, run_demo

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = run_demo(Path(folder))
    cells = []
    for prior, certificate in (
        ("base", result.base_prior),
        ("checkpoint", result.checkpoint_prior),
    ):
        record = to_record(certificate)
        cells.append(
            {
                "prior": prior,
                "n": record["n"],
                "sigma": record["posterior"]["sigma"],
                "kl_nats": record["kl"]["value"],
                "terms": record["terms"],
                "bounds": {k: [b["train_raw"], b["raw"]] for k, b in record["bounds"].items()},
                "gibbs_test_risk": record["measured"]["test_risk"]["value"],
                "finished_test_risk": record["measured"]["test_risk_finetuned"]["value"],
                "held_out_upper": record["measured"]["test_risk_finetuned"]["upper"],
                "held_out_rows": record["baselines"]["held_out"]["rows"],
                "delta": record["delta"],
            }
        )
    return {
        "train_ops": sorted(TRAIN_LAW.weights),
        "test_ops": sorted(TEST_LAW.weights),
        "steps": SETTINGS.steps,
        "wall_seconds_noisy": round(time.monotonic() - started),
        "cells": cells,
    }


def table(result: dict[str, object]) -> str:
    """Return the README's table."""
    lines = [
        "| prior | n | KL (nats) | R̂ (limit) | √(KL/2n) | TV | ε | Prop. 4.1 | PAC-Bayes-kl "
        "(train → test) | Gibbs test risk | finished test risk | held-out limit |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    cells = result["cells"]
    assert isinstance(cells, list)
    for c in cells:
        t, b = c["terms"], c["bounds"]

        def said(value: float) -> str:
            return f"{value:.3f}" + (" *vacuous*" if value >= 1 else "")

        lines.append(
            f"| {NAMES[c['prior']]} | {c['n']:,} | {c['kl_nats']:,.0f} | {t['empirical_risk']:.3f} "
            f"| {t['generalization']:.3f} | {t['extrapolation']:.3f} | {t['epsilon']:.3f} "
            f"| {said(b['proposition_4_1'][1])} | {said(b['kl'][0])} → {said(b['kl'][1])} "
            f"| {c['gibbs_test_risk']:.3f} | {c['finished_test_risk']:.3f} "
            f"| {c['held_out_upper']:.3f} |"
        )
    return "\n".join(lines)


def write_readme_table(result: dict[str, object]) -> None:
    """Put the table between its marks in the README."""
    text = README.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    README.write_text(f"{head}{BEGIN}\n{table(result)}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    if "--table" not in sys.argv:
        RESULT.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    write_readme_table(json.loads(RESULT.read_text(encoding="utf-8")))
