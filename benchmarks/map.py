"""The paper's map, measured: ``python benchmarks/map.py`` (``make map``; the story is docs/map.md).

Runs the cells of ``benchmarks/map/*.yaml`` that have no record yet under
``benchmarks/results/map/records`` (many hours on two cores; stop it anywhere, the same command
goes on), then writes ``benchmarks/results/map.json``, ``docs/map/*.png`` and the tables of
``docs/map.md``.

    python benchmarks/map.py strong --sizes 64,256 --seeds 0    a piece of it
    python benchmarks/map.py --workers 2                        on two local Ray workers
    python benchmarks/map.py --device cuda                      on a GPU; the records name it
    python benchmarks/map.py --summary                          measure nothing
    python benchmarks/map.py --quick                            ten minutes, into runs/map_quick
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from readme import write_between

from pacbayes_sft.scan.cells import Cell, Keys, list_cells
from pacbayes_sft.scan.config import Config
from pacbayes_sft.scan.config_file import read_config
from pacbayes_sft.scan.frame import cells_frame, slices_frame, summary, whole_rows
from pacbayes_sft.scan.intervals import FEWEST_SEEDS
from pacbayes_sft.scan.observations import observe
from pacbayes_sft.scan.pictures import plot_scan
from pacbayes_sft.scan.run import run_scan
from pacbayes_sft.scan.store import Store
from pacbayes_sft.scan.where import Where

HERE = Path(__file__).parent
NAMES = ("strong", "dft", "weak")
RECORDS = HERE / "results" / "map"
RESULT = HERE / "results" / "map.json"
PAGE, PICTURES = HERE.parent / "docs" / "map.md", HERE.parent / "docs" / "map"
FIRST_GROUP = "strong, nll, lora"
DEVICES = ("cpu", "cuda")  # a cell measured on either is a cell of the map


def configuration(name: str) -> Config:
    """Return one of the configurations of the reproduction."""
    return read_config(HERE / "map" / f"{name}.yaml")


def measure(
    config: Config, folder: Path, sizes: list[int], seeds: list[int], device: str, workers: int = 0
) -> None:
    """Measure the cells that no device has measured, seed by seed, then size by size."""
    assert isinstance(config.windows, tuple)  # a rule cut down to some windows is another rule
    for seed, size, base, objective, method in itertools.product(
        config.seeds, config.sizes, config.bases, config.objectives, config.methods
    ):
        if (seeds and seed not in seeds) or (sizes and size not in sizes):
            continue
        here = {"seeds": (seed,), "sizes": (size,), "bases": (base,)}
        here |= {"objectives": (objective,), "methods": (method,)}
        _, missing = finished_records(config.model_copy(update=here), folder)
        if missing:
            here |= {"windows": tuple(cell.window for cell in missing), "device": device}
            piece = config.model_copy(update=here)
            run_scan(piece, folder, Where(workers=workers, threads=1))


def finished_records(config: Config, folder: Path) -> tuple[list[dict[str, Any]], list[Cell]]:
    """Return the records of a configuration, bases first, and the cells that have none yet."""
    store, missing = Store(folder), []
    keys = [Keys(config.model_copy(update={"device": device})) for device in DEVICES]

    def found(names: list[str]) -> dict[str, Any] | None:
        return next((store.get(name) for name in names if store.has(name)), None)

    bases = [found([k.of_base(base) for k in keys]) for base in config.bases]
    records = [record for record in bases if record]
    for cell in list_cells(config):
        record = found([k.of(cell) for k in keys])
        if record:
            records.append(record)
        else:
            missing.append(cell)
    return records, missing


def summarise() -> dict[str, Any]:
    """Write ``map.json`` and the pictures from the records that are there."""
    records, missing = {}, {}
    for name in NAMES:
        found, cells = finished_records(configuration(name), RECORDS)
        records |= {record["key"]: record for record in found}  # bases are shared
        missing[name] = [f"n={c.size}, {c.window}, seed {c.seed}" for c in cells]
    records = list(records.values())
    first, few = configuration("strong").primary, configuration("strong").fine_tune.few_rows
    frame, slices = whole_rows(cells_frame(records)), slices_frame(records)
    found = summary(frame, first.bound, first.theorem, first.shift)
    mine = found["groups"].pop(FIRST_GROUP)
    primary = mine["primary"]
    result = {
        "primary": found["primary"],
        **primary,
        "targets": targets(primary, mine["others"]),
        "labelled_upper_in_group": labelled_upper(primary, mine["others"]),
        "others": mine["others"],
        "groups": found["groups"],
        "observations": [o.to_dict() for o in observe(frame, slices, few)],
        "cells_measured": sum("cell" in r for r in records),
        "cells_measured_on": Counter(r.get("device", "cpu") for r in records if "cell" in r),
        "cells_missing": missing,
    }
    RESULT.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    shutil.rmtree(PICTURES, ignore_errors=True)
    plot_scan(records, PICTURES, first.bound, first.theorem, first.shift)
    for svg in PICTURES.glob("*.svg"):  # drawn for papers; the README shows the PNG
        svg.unlink()
    return result


def labelled_upper(primary: dict[str, Any], others: dict[str, Any]) -> dict[str, int]:
    """Return how many values of the group are labelled ``upper``, and how many were violated.

    Those of 1 and above cannot be. The values of one cell share its rows and draws: comparisons,
    not independent trials.
    """
    rows = [primary, *others.values()]
    return {
        "comparisons": sum(row["labelled_upper"] for row in rows),
        "could_fail": sum(row["could_fail"] for row in rows),
        "violations": sum(row["violations"] or 0 for row in rows),
    }


def targets(primary: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Hold the primary bound against what was asked of it before the runs.

    The last target speaks of every bound of the group that is labelled ``upper``: the primary one
    is an ``estimate`` and cannot violate. Null where none is labelled so, or all that are so are
    vacuous: nothing was held against it.
    """
    distances = list(primary["minimiser_distance"].values())
    ranks = [r for r in primary["spearman_per_n"].values() if r is not None]
    held = labelled_upper(primary, others)
    return {
        "minimiser within one window at every n": max(distances) <= 1,
        "minimiser equal at more than half": sum(d == 0 for d in distances) > len(distances) / 2,
        "median rank correlation per n >= 0.8": bool(ranks) and median(ranks) >= 0.8,
        "overall rank correlation >= 0.75": (primary["spearman"] or -1) >= 0.75,
        "no violation by a bound labelled upper": (
            held["violations"] == 0 if held["could_fail"] else None
        ),
    }


def table(result: dict[str, Any], others: Sequence[str] = ()) -> str:
    """Return the table of the primary bound, then of ``others``.

    Where none is named: of every bound and shift term, at one theorem each.
    """
    primary = result["primary"]
    rows = {f"{primary['bound']}, {primary['theorem']}, {primary['shift']}": result}
    for name, other in result["others"].items():
        if others and name not in others:
            continue
        bound, theorem, _ = name.split(", ")
        quoted = "kl" if bound == "checkpoint" else "proposition_4_1"  # kl is 1 where KL is large
        if theorem in (quoted, "importance") or name == "checkpoint, proposition_4_1, tv":
            rows[name] = other
    sizes = list(result["minimiser_distance"])
    lines = [
        "| bound, theorem, shift term | "
        + " | ".join(f"n = {int(n):,}" for n in sizes)
        + " | median ρ per n | ρ over all (bootstrap over cells) | ρ against its own predictor "
        "| below 1 | exceeded | violations |",
        "|" + "---|" * (len(sizes) + 7),
    ]
    for place, (name, row) in enumerate(rows.items()):
        ranks = [r for r in row["spearman_per_n"].values() if r is not None]
        low, high = row["spearman_interval"]
        own = row["against_gibbs"]["spearman"]
        distances = " | ".join(str(row["minimiser_distance"][n]) for n in sizes)
        middle = f"{median(ranks):.2f}" if ranks else "-"
        lines.append(
            f"| {'**' + name + '** (declared first)' if place == 0 else name} | {distances} "
            f"| {middle} | {_said(row['spearman'])} ({_said(low)} to {_said(high)}) "
            f"| {_said(own)} | {row['informative']} of {row['cells']} | {row['exceeded']} "
            f"| {_violations(row)} |"
        )
    held = result["labelled_upper_in_group"]
    lines += [
        "",
        "Below 1: cells whose value says anything; no risk exceeds the others. Exceeded: cells "
        "whose value lies below the measured risk of the predictor it speaks of. Violations: of "
        "the cells labelled `upper` and below 1, those in which even the lower limit of that risk "
        "lies above "
        f"the value (- where none is labelled so): {held['violations']} of {held['could_fail']:,} "
        "comparisons that could have failed, all bounds and theorems of this group together "
        f"({held['comparisons'] - held['could_fail']:,} more are vacuous).",
    ]
    return "\n".join(lines)


def _violations(row: dict[str, Any]) -> str:
    return "-" if row["violations"] is None else f"{row['violations']} of {row['could_fail']}"


def observations_table(result: dict[str, Any]) -> str:
    """Return the table of the paper's observations that seeds enough were measured for."""
    lines = [
        "| the paper says | here | measured | mean (95 %) | interval over | seeds |",
        "|---|---|---|---|---|---|",
    ]
    enough = [o for o in result["observations"] if o["seeds"] >= FEWEST_SEEDS]
    for o in enough:
        value, lower, upper = (
            unknown if o[k] is None else f"{o[k]:.3f}"
            for k, unknown in (("value", "-"), ("lower", "-∞"), ("upper", "∞"))
        )
        lines.append(
            f"| {o['claim']} | **{o['appears']}** | {o['measured']} "
            f"| {value} ({lower} to {upper}) | {o['over']} | {o['seeds']} |"
        )
    if few := len(result["observations"]) - len(enough):
        lines += [
            "",
            f"{few} further observations have fewer than {FEWEST_SEEDS} seeds so far, and are "
            "undecided: `benchmarks/results/map.json`.",
        ]
    return "\n".join(lines)


def _said(x: float | None) -> str:
    return "-" if x is None else f"{x:.2f}"


def quick() -> None:
    """Measure a small map of its own, in about ten minutes, and say what it shows."""
    out = HERE.parent / "runs" / "map_quick"
    config = read_config(HERE / "map" / "quick.yaml")
    records = run_scan(config, out, Where(threads=1))
    first = config.primary
    found = summary(cells_frame(records), first.bound, first.theorem, first.shift)
    for file in plot_scan(records, out / "pictures", first.bound, first.theorem, first.shift):
        print(file)
    for group, both in found["groups"].items():
        print(group, json.dumps(both["primary"], indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], default=[])
    parser.add_argument("--sizes", default="", help="only these, comma-separated")
    parser.add_argument("--seeds", default="", help="only these, comma-separated")
    parser.add_argument("--workers", type=int, default=0, help="local Ray workers")
    parser.add_argument("--device", default="cpu", choices=DEVICES)
    parser.add_argument("--summary", action="store_true", help="measure nothing")
    parser.add_argument("--quick", action="store_true", help="a small map of its own")
    asked = parser.parse_args()
    if asked.quick:
        quick()
    else:
        if not asked.summary:
            numbers = [[int(x) for x in t.split(",") if x] for t in (asked.sizes, asked.seeds)]
            for name in asked.names or NAMES:
                measure(configuration(name), RECORDS, *numbers, asked.device, asked.workers)
        result = summarise()
        write_between("map", table(result), page=PAGE)
        write_between("observations", observations_table(result), "map", PAGE)
        print(json.dumps(result["targets"] | result["labelled_upper_in_group"], indent=1))
