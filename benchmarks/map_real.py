"""The map on a real language model: ``python benchmarks/map_real.py`` (the recipe ``chain-sum``).

SmolLM2-135M-Instruct on reasoning-gym's ``chain_sum`` by number of terms: the cells of
`pacbayes_sft/recipes/chain-sum.yaml` that have no record yet (minutes each on one core; stop it
anywhere, the same command goes on), under ``benchmarks/results/map_real``. The primary bound is
that of benchmarks/map. Then ``benchmarks/results/map_real.json``, with the advice's regret
(pilots up to 256, judged at 1,024), and the tables and the picture of ``docs/map.md``.

    python benchmarks/map_real.py --seeds 0 --sizes 64      a piece of it
    python benchmarks/map_real.py --summary                 measure nothing

Needs the extra ``real``.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import advice
import real
from map import DEVICES, labelled_upper, measure, table
from map import finished_records as records_of
from readme import Record, said, write_between

from pacbayes_sft.recipes.generated import TERMS
from pacbayes_sft.recipes.write import write_recipe
from pacbayes_sft.scan.cells import list_cells
from pacbayes_sft.scan.config import Config
from pacbayes_sft.scan.config_file import read_config
from pacbayes_sft.scan.frame import cells_frame, summary, whole_rows
from pacbayes_sft.scan.pictures import plot_scan

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "benchmarks" / "results" / "map_real"
RESULT = RECORDS.with_suffix(".json")
PAGE, PICTURE = ROOT / "docs" / "map.md", ROOT / "docs" / "map_real.png"
NAME = "SmolLM2-135M-Instruct"
BASE, FILES = Path("runs/real/base"), Path("runs/map_real")  # relative: records name no machine


def configuration(recipe: str = "chain-sum", files: Path = FILES) -> Config:
    """Return a recipe's configuration; base and rows are made where they are missing."""
    os.chdir(ROOT)
    if not BASE.exists():
        real.fetch_base(BASE)
    if not (files / "scan.yaml").exists():
        write_recipe(recipe, files, base=str(BASE))
    return read_config(files / "scan.yaml")


def finished_records(config: Config, folder: Path) -> list[Record]:
    """Return the records of the configuration, the base by its name and not by its place here."""
    found, _ = records_of(config, folder)
    for record in found:
        record.get("cell", record)["base"] = NAME
    return found


def summarise() -> Record:
    """Write ``map_real.json`` and the curves from the records that are there."""
    config = configuration()
    records, first = finished_records(config, RECORDS), config.primary
    found = summary(whole_rows(cells_frame(records)), first.bound, first.theorem, first.shift)
    (group,) = found["groups"].values()
    result = {
        "primary": found["primary"],
        **group["primary"],
        "labelled_upper_in_group": labelled_upper(group["primary"], group["others"]),
        "others": group["others"],
        "measured": [cell(r) for r in records if "cell" in r],
        "base": next(r for r in records if "cell" not in r)["measured"]["test_risk"],
        "cells_of": len(list_cells(config)),
        "advice": regrets(records),
    }
    RESULT.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with TemporaryDirectory() as folder:
        drawn = plot_scan(records, Path(folder), first.bound, first.theorem, first.shift)
        (curves,) = (f for f in drawn if f.name.endswith("curves.png"))
        PICTURE.write_bytes(curves.read_bytes())
    return result


def regrets(records: list[Record]) -> Record:
    """Return the regret of every rule on these records, as ``benchmarks/advice.py`` does."""
    pilots = advice.read_pilots(records, bound=advice.BOUND, base=NAME)
    low, high = TERMS
    pool = {float(d): 1 / (high - low + 1) for d in range(low, high + 1)}
    entries = advice.replay(pilots, NAME, pool, advice.STAGES[0])
    return {"rules": advice.summary(entries), "verdict": advice.verdict(entries)}


def cell(found: Record) -> Record:
    """Return the figures of one cell that the table shows."""
    asked, bounds = found["cell"], found["bounds"]
    return {
        **{k: asked[k] for k in ("size", "window", "seed")},
        "test_risk": found["measured"]["test_risk"],
        "slices": {k: e["value"] for k, e in found["measured"]["slices"].items()},
        **{k: found["measured"][k] for k in ("generalization_gap", "extrapolation_gap")},
        "kl_nats": {name: b["kl_nats"] for name, b in bounds.items()},
        "d_plus": bounds["checkpoint"]["shifts"]["d_plus"]["value"],
        "kl_bound_on_train": bounds["checkpoint"]["bounds"]["kl"]["train_raw"],
        "proposition_4_1": bounds["paper"]["bounds"]["proposition_4_1"]["train_raw"],
    }


def cells_table(result: Record) -> str:
    """Return measured risk and the parts of the bounds, one line a cell (means over its seeds)."""
    lines = [
        "| n | terms | seeds | token error on the test law | with 2 / 4 / 6 terms | PAC-Bayes-kl "
        "around the checkpoint, train law | D⁺ | Prop. 4.1 around the base, train law | its KL "
        "(nats) |",
        "|" + "---|" * 9,
    ]
    groups: dict[tuple[int, str], list[Record]] = {}
    for found in result["measured"]:
        groups.setdefault((found["size"], found["window"]), []).append(found)
    for (size, window), cells in sorted(groups.items()):
        risks = [c["test_risk"]["value"] for c in cells]
        slices = " / ".join(f"{fmean(c['slices'][k] for c in cells):.2f}" for k in ("2", "4", "6"))
        lines.append(
            f"| {size:,} | {window.replace(':', '-')} | {len(cells)} | {fmean(risks):.3f} "
            f"| {slices} | {said(fmean(c['kl_bound_on_train'] for c in cells))} "
            f"| {fmean(c['d_plus'] for c in cells):.2f} "
            f"| {said(fmean(c['proposition_4_1'] for c in cells))} "
            f"| {fmean(c['kl_nats']['paper'] for c in cells):,.0f} |"
        )
    risk = result["base"]["value"]
    lines += ["", f"The base before any fine-tune: {risk:.3f}. {len(result['measured'])} of "
              f"{result['cells_of']} cells are measured."]  # fmt: skip
    return "\n".join(lines)


def asked_for(about: str | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    for name in ("--sizes", "--seeds"):
        parser.add_argument(name, default=[], type=_numbers, help="only these, comma-separated")
    parser.add_argument("--device", default="cpu", choices=DEVICES)
    parser.add_argument("--summary", action="store_true", help="measure nothing")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(x) for x in text.split(",")]


if __name__ == "__main__":
    asked = asked_for(__doc__)
    if not asked.summary:
        measure(configuration(), RECORDS, asked.sizes, asked.seeds, asked.device)
    result = summarise()
    write_between("map_real", cells_table(result), page=PAGE)
    write_between("map_real_bounds", table(result), "map_real", PAGE)
