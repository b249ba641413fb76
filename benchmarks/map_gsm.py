"""Chains of thought by length: ``python benchmarks/map_gsm.py`` (the recipe ``gsm-symbolic``).

SmolLM2-135M-Instruct on reasoning-gym's ``gsm_symbolic`` by thirds of its templates' chain lengths.
The unit is the template, of which there are 85, so no bound can say much. Runs the cells of
`pacbayes_sft/recipes/gsm-symbolic.yaml` that have no record yet (half an hour to two and a
half hours each on one core; stop it anywhere, the same command goes on), under
``benchmarks/results/map_gsm``. Then ``benchmarks/results/map_gsm.json`` and the table of
``docs/map.md``.

    python benchmarks/map_gsm.py --seeds 0 --sizes 4      a piece of it
    python benchmarks/map_gsm.py --summary                measure nothing

Needs the extra ``real``.
"""

from __future__ import annotations

import json
from pathlib import Path

from map import measure
from map_real import PAGE, asked_for, configuration, finished_records
from readme import Record, said, write_between

from estimators.display import rounded_down, rounded_up
from pacbayes_sft.scan.cells import list_cells
from pacbayes_sft.scan.config import Config

RECORDS = Path(__file__).parent / "results" / "map_gsm"
RESULT = RECORDS.with_suffix(".json")
FILES = Path("runs/gsm_symbolic")  # relative: records name no machine
THIRDS = {"0:0": "short", "1:1": "medium", "2:2": "long"}


def gsm_configuration() -> Config:
    """Return the recipe's configuration."""
    return configuration("gsm-symbolic", FILES)


def summarise() -> Record:
    """Write ``map_gsm.json`` from the records that are there."""
    config = gsm_configuration()
    records = finished_records(config, RECORDS)
    base = next(r for r in records if "cell" not in r)["measured"]
    result = {
        "base": {"test_risk": base["test_risk"], "slices": base["slices"]},
        "measured": [cell(r) for r in records if "cell" in r],
        "cells_of": len(list_cells(config)),
    }
    RESULT.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return result


def cell(found: Record) -> Record:
    """Return the figures of one cell that the table shows."""
    asked, measured, (bound,) = found["cell"], found["measured"], found["bounds"].values()
    return {
        **{k: asked[k] for k in ("size", "window", "seed")},
        "test_risk": measured["test_risk"],
        "slices": measured["slices"],
        "kl_nats": bound["kl_nats"],
        "proposition_4_1": bound["bounds"]["proposition_4_1"]["train_raw"],
    }


def table(result: Record) -> str:
    """Return a line a cell, the base first."""
    lines = [
        "| templates | trained on chains | seed | token error on the test law (95 % over "
        "templates) | on short / medium / long chains | Prop. 4.1 around the base, train law |",
        "|" + "---|" * 6,
        f"| 0 | the base | | {risk(result['base'])} | - |",
    ]
    for found in sorted(result["measured"], key=lambda c: (c["size"], c["window"], c["seed"])):
        lines.append(
            f"| {found['size']} | {THIRDS[found['window']]} | {found['seed']} | {risk(found)} "
            f"| {said(found['proposition_4_1'])} |"
        )
    lines += ["", f"{len(result['measured'])} of {result['cells_of']} cells are measured."]
    return "\n".join(lines)


def risk(found: Record) -> str:
    """Return the table's two columns of measured risk."""
    here = found["test_risk"]
    slices = " / ".join(f"{found['slices'][window[0]]['value']:.3f}" for window in THIRDS)
    limits = f"{rounded_down(here['lower'], 3)} to {rounded_up(here['upper'], 3)}"
    return f"{here['value']:.3f} ({limits}) | {slices}"


if __name__ == "__main__":
    asked = asked_for(__doc__)
    if not asked.summary:
        measure(gsm_configuration(), RECORDS, asked.sizes, asked.seeds, asked.device)
    write_between("map_gsm", table(summarise()), page=PAGE)
