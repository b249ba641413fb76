"""Every posterior under every prior on the same fine-tunes: ``python benchmarks/tightness.py``.

LoRA fine-tunes (r = 8) of the shipped bases on ops 6-10, test of the same law, exact match, each
with its half-data checkpoint, trained under bf16 autocast where the processor computes in bf16, in
float32 elsewhere. Beside the bounds stand what a user would pick instead: a held-out binomial
limit, the limit of the prior's own centre, a compression bound. All cells name the recursive bound
in advance (``--theorem recursive``).

``--run NAME`` does the cells of one fine-tune, ``--one`` stops after the first that was not there,
``--finished`` takes in the cells that are there and measures none, ``--table`` only redraws.
Fine-tunes and refinements go on where they stopped; finished cells in ``runs/tightness`` are not
done again, and passes without noise are kept there, so that the cells of one run share them. Writes
``benchmarks/results/tightness.json`` (one record per posterior, prior and bound) after each cell,
its table and ``docs/tightness.png``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readme import MEASURED, Record, said, write_between

from estimators.display import rounded_down, rounded_up
from pacbayes_sft.certified.files import CERTIFICATE

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "tightness.json"
PICTURE = ROOT / "docs" / "tightness.png"
WORK = ROOT / "runs" / "tightness"
TEST_ROWS = {1024: 1024, 8192: 2048}


@dataclass(frozen=True)
class Run:
    """One fine-tune: base, rows, seed of the rows, epochs of either stage."""

    base: str
    n: int
    seed: int
    epochs: int


RUNS = {
    "strong-8192": Run("strong", 8192, 101, 1),
    "strong-1024": Run("strong", 1024, 303, 1),
    "weak-8192": Run("weak", 8192, 505, 1),
}


@dataclass(frozen=True)
class Cell:
    """One certificate. Steps and draws are settings, the rest names it."""

    run: str
    prior: str
    posterior: str
    shape: str = "isotropic"
    steps: int = 100
    draws: int = 4
    start: str = "auto"
    emit: bool = True

    @property
    def file(self) -> Path:
        """Where its ``bound.json`` lies."""
        shaped = "" if self.shape == "isotropic" else f"-{self.shape}"
        return WORK / self.run / f"{self.posterior}-{self.prior}{shaped}.json"

    @property
    def key(self) -> tuple[Any, ...]:
        """What its records are found by."""
        run = RUNS[self.run]
        return run.base, run.n, self.prior, self.posterior, self.shape


CELLS = [
    Cell("weak-8192", "base", "refined", steps=60, draws=2, start="prior", emit=False),
    Cell("weak-8192", "checkpoint", "refined", steps=60, draws=2, start="prior"),
    Cell("strong-8192", "checkpoint", "refined", steps=60, draws=2, start="prior"),
    Cell("strong-8192", "base", "refined", steps=60, draws=2, start="prior", emit=False),
    Cell(
        "strong-8192", "base_initial_lost", "refined", steps=60, draws=2, start="prior", emit=False
    ),
    Cell("strong-8192", "checkpoint", "refined", "curvature", 60, 2, "prior", emit=False),
    Cell("strong-8192", "checkpoint", "isotropic", draws=1, emit=False),
    Cell("strong-1024", "checkpoint", "refined", steps=40, start="prior"),
    Cell("strong-1024", "base", "refined", steps=40, start="prior"),
    Cell("strong-1024", "base_initial_lost", "refined", steps=40, start="prior", emit=False),
    Cell("strong-1024", "checkpoint", "isotropic"),
    Cell("strong-1024", "base", "isotropic"),
    Cell("strong-1024", "checkpoint", "refined", "curvature", 40, start="prior", emit=False),
]
NAMES = ("base", "n_train", "prior", "posterior", "prior_shape")
PRIOR_NAMES = {
    "base": "base, initial adapter kept",
    "base_initial_lost": "base, initial adapter lost",
    "checkpoint": "half-data checkpoint",
}


def prepare(name: str) -> Path:
    """Make the data and the fine-tune, and a copy that lost its initial adapter."""
    from pacbayes_sft.checkpoints.record import RECORD_DIR
    from pacbayes_sft.igsm import OpLaw
    from pacbayes_sft.igsm.files import write_problems
    from pacbayes_sft.models import computes_in_bfloat16
    from pacbayes_sft.sft import Settings, run_sft
    from pacbayes_sft.sft_folder import PARTIAL

    folder, law, asked = WORK / name, OpLaw.uniform(6, 10), RUNS[name]
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"train": (asked.n, asked.seed), "test": (TEST_ROWS[asked.n], 202)}
    for part, (size, seed) in sizes.items():
        if not (folder / f"{part}.jsonl").exists():
            write_problems(folder / f"{part}.jsonl", law, size=size, seed=seed)
    run, lost = folder / "finetune", folder / "finetune_lost"
    if not (run / "adapter_model.safetensors").exists() or (run / PARTIAL).exists():
        dtype = "autocast" if computes_in_bfloat16() else "float32"
        settings = Settings(epochs=asked.epochs, prior_fraction=0.5, device="cpu", dtype=dtype)
        run_sft(asked.base, folder / "train.jsonl", run, settings)
    if not lost.exists():
        shutil.copytree(run, lost, ignore=shutil.ignore_patterns(RECORD_DIR))
    return folder


def keep_passes(folder: Path) -> None:
    """Let passes without noise be read from ``folder`` where weights and rows are the same."""
    import numpy as np
    import torch

    from pacbayes_sft.gibbs import Evaluator, Rows

    plain = Evaluator.row_by_row

    def kept(self: Evaluator, rows: Rows, label: str) -> Any:
        digest = hashlib.sha256(f"{self.loss} {self.batch_size}".encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode() + tensor.to(torch.float32).numpy().tobytes())
        for row in rows.encoded:
            digest.update(f"{row.prompt_length} {row.ids}".encode())
        file = folder / f"{digest.hexdigest()[:24]}.npy"
        if not file.exists():
            folder.mkdir(exist_ok=True)
            np.save(file, plain(self, rows, label))
        return np.load(file)

    if Evaluator.row_by_row is plain and plain.__name__ != "kept":
        Evaluator.row_by_row = kept  # type: ignore[method-assign]


def measure_cell(cell: Cell) -> Record:
    """Return the ``bound.json`` of one cell, computed if it was not."""
    from estimators.posteriors.refined import Schedule
    from pacbayes_sft import Options, bound
    from pacbayes_sft.bound_json import write_bound_json
    from pacbayes_sft.certified.emit import emit_adapter
    from pacbayes_sft.refine import Refinement

    folder, file = prepare(cell.run), cell.file
    keep_passes(folder / "passes")
    if not file.exists():
        run = folder / ("finetune_lost" if cell.prior == "base_initial_lost" else "finetune")
        options = Options(
            prior=run / "pacbayes_sft" / "prior" if cell.prior == "checkpoint" else "base",
            prior_shape=cell.shape,
            posterior=cell.posterior,
            refinement=Refinement(
                Schedule(steps=cell.steps), 32, file.with_suffix(".partial"), cell.start
            ),
            draws=cell.draws,
            theorem="recursive",
        )
        certificate = bound(
            RUNS[cell.run].base,
            run,
            str(folder / "train.jsonl"),
            str(folder / "test.jsonl"),
            options,
        )
        if cell.posterior == "refined" and cell.emit:  # one draw of it, deployed as an adapter
            shutil.rmtree(file.with_suffix(".adapter"), ignore_errors=True)
            emit_adapter(certificate, file.with_suffix(".adapter"))
        write_bound_json(certificate, file)
        print(cell, certificate.bound, flush=True)
    record: Record = json.loads(file.read_text(encoding="utf-8"))
    return record


def records_of(cell: Cell, found: Record) -> list[Record]:
    """Return one record per bound of a cell, that of one deployed draw included."""
    measured, baselines = found["measured"], found["baselines"]
    values = {name: entry["raw"] for name, entry in found["bounds"].items()}
    adapter = cell.file.with_suffix(".adapter") / CERTIFICATE
    if adapter.exists():
        values["disintegrated"] = json.loads(adapter.read_text(encoding="utf-8"))["bound"]["upper"]
    finished, excess = measured["test_risk_finetuned"], found["excess_over_prior_centre"]
    return [
        {
            "base": RUNS[cell.run].base,
            "posterior": cell.posterior,
            "prior": cell.prior,
            "prior_shape": cell.shape,
            "bound": name,
            "n": found["n"],
            "n_train": RUNS[cell.run].n,
            "epochs": RUNS[cell.run].epochs,
            "steps": cell.steps,
            "draws": cell.draws,
            "sigma_prior": found["prior"]["sigma"],
            "kl_nats": found["kl"]["value"],
            "empirical_risk": found["empirical_risk"]["value"],
            "empirical_risk_limit": found["empirical_risk"]["upper"],
            "excess_more": excess["more"]["value"],
            "excess_less": excess["less"]["value"],
            "value": value,
            "gibbs_test_risk": measured["test_risk"]["value"],
            "finished_test_risk": finished["value"],
            "finished_test_risk_interval": [finished["lower"], finished["upper"]],
            "prior_centre_limit": baselines["prior_centre"]["value"],
            "held_out_limit": baselines["held_out"]["value"],
            "compression_limit": baselines["compression"]["value"],
            "drift": found["drift"]["distance"],
            "distance_finished_to_prior": found["drift"]["distance_finished_to_prior"],
            "agreement": found["drift"]["agreement"]["value"],
            "reason": found["posterior"]["reason"],
            "delta": found["delta"],
        }
        for name, value in values.items()
    ]


def key_of(record: Record) -> tuple[Any, ...]:
    """Return the cell of a record; records of an earlier version know one shape and no reason."""
    return tuple(record.get(k, "isotropic") for k in NAMES)


def by_cell(result: list[Record]) -> dict[tuple[Any, ...], dict[str, Record]]:
    """Return the records of each cell by bound."""
    cells: dict[tuple[Any, ...], dict[str, Record]] = {}
    for record in result:
        cells.setdefault(key_of(record), {})[record["bound"]] = record
    return cells


def table(result: list[Record]) -> str:
    """Return the page's table: one line a cell."""
    lines = [
        "| base | n | prior | posterior | KL (nats) | R̂ (limit) | PAC-Bayes-kl | recursive | one "
        "deployed draw | limit of the prior's own centre | Gibbs test risk | finished test risk "
        "(95 %) | least bound ÷ finished |",
        "|" + "---|" * 13,
    ]
    for found in by_cell(result).values():
        r = found["kl"]
        others = [
            said(found[name]["value"]) if name in found else "not measured"
            for name in ("recursive", "disintegrated")
        ]
        centre = (
            rounded_up(r["prior_centre_limit"], 3) if r["prior_centre_limit"] else "not measured"
        )
        shape = r.get("prior_shape", "isotropic")
        prior = PRIOR_NAMES[r["prior"]] + (f", {shape}-shaped" if shape != "isotropic" else "")
        interval = r.get("finished_test_risk_interval")
        about = (
            f" ({rounded_down(interval[0], 3)}–{rounded_up(interval[1], 3)})" if interval else ""
        )
        least = min(f["value"] for name, f in found.items() if name != "disintegrated")
        lines.append(
            f"| {r['base']} | {r['n']:,} | {prior} | {r['posterior']} "
            f"| {r['kl_nats']:,.3g} | {rounded_up(r['empirical_risk_limit'], 3)} "
            f"| {said(r['value'])} | {others[0]} | {others[1]} | {centre} "
            f"| {r['gibbs_test_risk']:.3f} | {r['finished_test_risk']:.3f}{about} "
            f"| {least / r['finished_test_risk']:.2f} |"
        )
    return "\n".join(lines)


def draw(result: list[Record]) -> None:
    """Draw bound against measured risk, cell by cell."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    cells = [
        min((r for name, r in found.items() if name != "disintegrated"), key=lambda r: r["value"])
        for found in by_cell(result).values()
    ]
    sns.set_theme(context="notebook", style="whitegrid")
    figure, axes = plt.subplots(figsize=(9.5, 0.5 * len(cells) + 1.4), layout="constrained")
    for place, r in enumerate(cells):
        colour = "#30506d" if r["posterior"] == "refined" else "#b9b9b9"
        axes.barh(place, min(r["value"], 1.0), color=colour)
        text = f" {rounded_up(r['value'], 3)}" + (" vacuous" if r["value"] >= 1 else "")
        axes.text(min(r["value"], 1.0), place, text, va="center", fontsize=10)
        axes.plot(r["gibbs_test_risk"], place, "o", color="#c9782d")
        axes.plot(r["finished_test_risk"], place, "D", color="black", markerfacecolor="white")
    axes.plot([], [], "o", color="#c9782d", label="Gibbs test risk, measured (covered)")
    axes.plot([], [], "D", color="black", markerfacecolor="white", label="finished (not covered)")
    names = [
        f"{r['base']}, n = {r['n']:,}, {PRIOR_NAMES[r['prior']]}, {r['posterior']}"
        + ("" if r.get("prior_shape", "isotropic") == "isotropic" else f", {r['prior_shape']}")
        for r in cells
    ]
    axes.set_yticks(range(len(cells)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3)
    axes.set_xlabel("least bound on the Gibbs risk (exact match, 0 to 1)")
    figure.legend(loc="outside upper right", ncols=2, fontsize=9)
    figure.savefig(PICTURE, dpi=110)


def measure(only_finished: bool, run: str | None) -> None:
    """Go through the cells and write after each; records of cells not measured yet stay."""
    order = [cell.key for cell in CELLS]
    for cell in CELLS:
        if (only_finished and not cell.file.exists()) or run not in (None, cell.run):
            continue
        new = not cell.file.exists()
        found = records_of(cell, measure_cell(cell))
        committed = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else []
        others = [r for r in committed if key_of(r) != cell.key]
        result = sorted(others + found, key=lambda r: order.index(key_of(r)))
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        if new and "--one" in sys.argv:
            return


if __name__ == "__main__":
    if "--table" not in sys.argv:
        named = sys.argv[sys.argv.index("--run") + 1] if "--run" in sys.argv else None
        measure("--finished" in sys.argv, named)
    committed = json.loads(RESULT.read_text(encoding="utf-8"))
    write_between("tightness", table(committed), page=MEASURED)
    draw(committed)
