"""The same cells on a CPU and on a GPU: ``python benchmarks/map_devices.py``.

Part of the map was measured on a GPU (`benchmarks/map.py --device cuda`). Here the weak base's
cells of 1,024 rows and seed 2 that came from there are measured again on the CPU, with the same
rows, seed and noise; how far risks and bounds differ stands beside how far the other seeds' do.
Records under ``benchmarks/results/map_devices``, then ``benchmarks/results/map_devices.json`` and
the table of ``docs/map.md``. ``--summary`` measures nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean

from map import RECORDS as MAP
from map import configuration, finished_records
from readme import Record, write_between

from pacbayes_sft.scan.run import Where, run_scan

RECORDS = Path(__file__).parent / "results" / "map_devices"
RESULT = RECORDS.with_suffix(".json")
PAGE = Path(__file__).parent.parent / "docs" / "map.md"
NAME, SIZE, SEED = "weak", 1024, 2


def again() -> None:
    """Measure on the CPU what a GPU measured."""
    asked = {"sizes": (SIZE,), "seeds": (SEED,), "device": "cpu"}
    run_scan(configuration(NAME).model_copy(update=asked), RECORDS, Where(threads=1))


def figures(record: Record) -> Record:
    """Return what is compared: the finished model's test risk, and bounds of either posterior."""
    bounds = record["bounds"]
    return {
        "test_risk": record["measured"]["test_risk"]["value"],
        "kl_bound_checkpoint": bounds["checkpoint"]["bounds"]["kl"]["raw"],
        "proposition_4_1_paper": bounds["paper"]["bounds"]["proposition_4_1"]["raw"],
        "kl_nats_paper": bounds["paper"]["kl_nats"],
    }


def summarise() -> Record:
    """Write ``map_devices.json`` from the records of either device."""
    of_map, _ = finished_records(configuration(NAME), MAP)
    other, _ = finished_records(
        configuration(NAME).model_copy(update={"sizes": (SIZE,), "seeds": (SEED,)}), RECORDS
    )
    here = {r["cell"]["window"]: r for r in other if "cell" in r}
    cells = []
    for window, record in here.items():
        same = [
            r
            for r in of_map
            if "cell" in r and (r["cell"]["size"], r["cell"]["window"]) == (SIZE, window)
        ]
        (there,) = (r for r in same if r["cell"]["seed"] == SEED)
        seeds = [r for r in same if r["cell"]["seed"] != SEED]
        found = {"window": window, "on": {}, "other_seeds": [figures(r) for r in seeds]}
        for r in (record, there):
            found["on"][r.get("device", "cpu")] = figures(r)
        cells.append(found)
    result = {"cells": cells, "apart": apart(cells)}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def apart(cells: list[Record]) -> Record:
    """Return how far two devices, and how far two seeds on one, lie apart: mean and most."""
    found: Record = {}
    for name in figures_of(cells):
        devices, seeds = [], []
        for c in cells:
            first, second = (on[name] for on in c["on"].values())
            devices.append(abs(first - second))
            one, other = (s[name] for s in c["other_seeds"])
            seeds.append(abs(one - other))
        found[name] = {
            "devices": {"mean": fmean(devices), "most": max(devices)},
            "seeds": {"mean": fmean(seeds), "most": max(seeds)},
        }
    return found


def figures_of(cells: list[Record]) -> list[str]:
    """Return the names of the figures."""
    return list(next(iter(cells[0]["on"].values())))


def table(result: Record) -> str:
    """Return a line a cell, then how far apart."""
    devices = sorted({device for c in result["cells"] for device in c["on"]})
    lines = [
        "| operations | " + " | ".join(f"test risk, {d}" for d in devices) + " | "
        + " | ".join(f"PAC-Bayes-kl, {d}" for d in devices) + " |",
        "|" + "---|" * (1 + 2 * len(devices)),
    ]  # fmt: skip
    for c in result["cells"]:
        both = [
            f"{c['on'][d][name]:.3f}"
            for name in ("test_risk", "kl_bound_checkpoint")
            for d in devices
        ]
        lines.append(f"| {c['window'].replace(':', '-')} | " + " | ".join(both) + " |")
    risk, bound = (result["apart"][k] for k in ("test_risk", "kl_bound_checkpoint"))
    lines += [
        "",
        f"Mean distance between the devices: {risk['devices']['mean']:.3f} in risk (at most "
        f"{risk['devices']['most']:.3f}), {bound['devices']['mean']:.3f} in the bound (at most "
        f"{bound['devices']['most']:.3f}); between two seeds on one device: "
        f"{risk['seeds']['mean']:.3f} and {bound['seeds']['mean']:.3f}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    if "--summary" not in sys.argv:
        again()
    write_between("map_devices", table(summarise()), page=PAGE)
