"""The same cells on a CPU and on a GPU: ``python benchmarks/map_devices.py``.

Part of the map was measured on a GPU (`benchmarks/map.py --device cuda`). Here those of its cells
that have 1,024 rows are measured again on the CPU, with the same rows, seed and noise; how far
risks and bounds differ stands beside how far the other seeds' do. Records under
``benchmarks/results/map_devices``, then ``benchmarks/results/map_devices.json`` and the table of
``docs/map.md``. ``--summary`` measures nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean

from map import RECORDS as MAP
from map import configuration, finished_records
from readme import Record, said, write_between

from estimators.display import rounded_up
from pacbayes_sft.scan.run import run_scan
from pacbayes_sft.scan.where import Where

RECORDS = Path(__file__).parent / "results" / "map_devices"
RESULT = RECORDS.with_suffix(".json")
PAGE = Path(__file__).parent.parent / "docs" / "map.md"
SIZE, SEED = 1024, 2
NAMES = {"weak": "weak base", "dft": "strong base, DFT"}


def measured_on_a_gpu(name: str) -> list[Record]:
    """Return the records that a GPU made of this size and seed."""
    records, _ = finished_records(configuration(name), MAP)
    return [r for r in of_size(records) if r["cell"]["seed"] == SEED and on(r) != "cpu"]


def of_size(records: list[Record]) -> list[Record]:
    """Return the cells of this size among records."""
    return [r for r in records if "cell" in r and r["cell"]["size"] == SIZE]


def on(record: Record) -> str:
    """Return the device of a record."""
    return str(record.get("device", "cpu"))


def again() -> None:
    """Measure on the CPU what a GPU measured."""
    for name in NAMES:
        windows = tuple(r["cell"]["window"] for r in measured_on_a_gpu(name))
        asked = {"sizes": (SIZE,), "seeds": (SEED,), "windows": windows, "device": "cpu"}
        run_scan(configuration(name).model_copy(update=asked), RECORDS, Where(threads=1))


def figures(record: Record) -> Record:
    """Return what is compared: the finished model's test risk, and bounds of either posterior."""
    bounds = record["bounds"]
    return {
        "test_risk": record["measured"]["test_risk"]["value"],
        "kl_bound_on_train": bounds["checkpoint"]["bounds"]["kl"]["train_raw"],
        "proposition_4_1_paper_on_train": bounds["paper"]["bounds"]["proposition_4_1"]["train_raw"],
        "kl_nats_paper": bounds["paper"]["kl_nats"],
    }


def summarise() -> Record:
    """Write ``map_devices.json`` from the records of either device."""
    cells = []
    for name in NAMES:
        of_map, _ = finished_records(configuration(name), MAP)
        other, _ = finished_records(configuration(name), RECORDS)
        here = {r["cell"]["window"]: r for r in of_size(other)}
        for there in measured_on_a_gpu(name):
            window = there["cell"]["window"]
            if window not in here:
                continue
            seeds = [
                r
                for r in of_size(of_map)
                if r["cell"]["window"] == window and r["cell"]["seed"] != SEED
            ]
            cells.append(
                {
                    "of": NAMES[name],
                    "window": window,
                    "on": {on(r): figures(r) for r in (here[window], there)},
                    "other_seeds": [figures(r) for r in seeds],
                }
            )
    result = {"cells": cells, "apart": apart(cells)}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def apart(cells: list[Record]) -> Record:
    """Return how far two devices, and how far two seeds on one, lie apart: mean and most."""
    found: Record = {}
    for name in figures_of(cells):
        devices, seeds = [], []
        for c in cells:
            first, second = (here[name] for here in c["on"].values())
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
    heads = [f"{what}, {d}" for what in ("test risk", "PAC-Bayes-kl on train law") for d in devices]
    lines = [
        "| cells of 1,024 rows | operations | " + " | ".join(heads) + " |",
        "|" + "---|" * (2 + len(heads)),
    ]
    for c in result["cells"]:
        risks = [f"{c['on'][d]['test_risk']:.3f}" for d in devices]
        limits = [said(c["on"][d]["kl_bound_on_train"]) for d in devices]
        named = [c["of"], c["window"].replace(":", "-")]
        lines.append("| " + " | ".join([*named, *risks, *limits]) + " |")
    risk, bound = (result["apart"][k] for k in ("test_risk", "kl_bound_on_train"))
    lines += [
        "",
        f"Mean distance between the devices: {risk['devices']['mean']:.3f} in risk (at most "
        f"{rounded_up(risk['devices']['most'], 3)}), {bound['devices']['mean']:.3f} in the bound "
        f"(at most {rounded_up(bound['devices']['most'], 3)}); between two seeds on one device: "
        f"{risk['seeds']['mean']:.3f} and {bound['seeds']['mean']:.3f}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    if "--summary" not in sys.argv:
        again()
    write_between("map_devices", table(summarise()), page=PAGE)
