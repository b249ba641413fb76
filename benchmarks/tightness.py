"""Every posterior under every prior on the same fine-tunes: ``python benchmarks/tightness.py``.

LoRA fine-tunes (r = 8) of the strong base on 8,192 and 1,024 rows and of the weak one on 8,192, ops
6-10, test of the same law, exact match, each with its half-data checkpoint. Beside the bounds stand
what a user would pick instead: a held-out binomial limit, the limit of the prior's own centre, a
compression bound. About three hours on one core; finished cells in
``runs/tightness`` are not done again. Writes ``benchmarks/results/tightness.json`` (one record per
posterior, prior and bound), the README's table and ``docs/tightness.png``; ``--table`` only
redraws, ``--finished`` takes in the cells that are there and measures none.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from readme import Record, said, write_between

from pacbayes_sft.certified.files import CERTIFICATE

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "tightness.json"
PICTURE = ROOT / "docs" / "tightness.png"
WORK = ROOT / "runs" / "tightness"

RUNS = {  # (base, n): seed of the rows, epochs
    ("strong", 8192): (101, 3),
    ("strong", 1024): (303, 3),
    ("weak", 8192): (505, 2),
}
CELLS = [
    ("weak", 8192, "base", "refined"),
    ("weak", 8192, "checkpoint", "refined"),
    ("weak", 8192, "base_initial_lost", "refined"),
    ("weak", 8192, "base", "isotropic"),
    ("strong", 1024, "checkpoint", "refined"),
    ("strong", 1024, "base", "refined"),
    ("strong", 8192, "base", "refined"),
    ("strong", 8192, "checkpoint", "refined"),
    ("weak", 8192, "checkpoint", "isotropic"),
]
STEPS, DRAWS, TEST_ROWS = 400, 3, 2048
PRIOR_NAMES = {
    "base": "base, initial adapter kept",
    "base_initial_lost": "base, initial adapter lost",
    "checkpoint": "half-data checkpoint",
}


def prepare(base: str, n: int) -> Path:
    """Make the data and the fine-tune of size n, and a copy that lost its initial adapter."""
    from pacbayes_sft.checkpoints.record import RECORD_DIR
    from pacbayes_sft.igsm import OpLaw
    from pacbayes_sft.igsm.files import write_problems
    from pacbayes_sft.sft import PARTIAL, Settings, run_sft

    folder, law = WORK / f"{base}-n{n}", OpLaw.uniform(6, 10)
    folder.mkdir(parents=True, exist_ok=True)
    seed, epochs = RUNS[base, n]
    write_problems(folder / "train.jsonl", law, size=n, seed=seed)
    write_problems(folder / "test.jsonl", law, size=TEST_ROWS, seed=202)
    run, lost = folder / "finetune", folder / "finetune_lost"
    if not (run / "adapter_model.safetensors").exists() or (run / PARTIAL).exists():
        settings = Settings(epochs=epochs, prior_fraction=0.5, device="cpu")
        run_sft(base, folder / "train.jsonl", run, settings)
    if not lost.exists():
        shutil.copytree(run, lost, ignore=shutil.ignore_patterns(RECORD_DIR))
    return folder


def cell_file(base: str, n: int, prior: str, posterior: str) -> Path:
    """Return where the ``bound.json`` of a cell lies."""
    return WORK / f"{base}-n{n}" / f"{posterior}-{prior}.json"


def measure_cell(base: str, n: int, prior: str, posterior: str) -> Record:
    """Return the ``bound.json`` of one cell, computed if it was not."""
    from estimators.posteriors.refined import Schedule
    from pacbayes_sft import Options, bound
    from pacbayes_sft.bound_json import write_bound_json
    from pacbayes_sft.certified.emit import emit_adapter
    from pacbayes_sft.posteriors import Refinement

    folder, file = prepare(base, n), cell_file(base, n, prior, posterior)
    if not file.exists():
        run = folder / ("finetune_lost" if prior == "base_initial_lost" else "finetune")
        options = Options(
            prior=run / "pacbayes_sft" / "prior" if prior == "checkpoint" else "base",
            posterior=posterior,
            refinement=Refinement(Schedule(steps=STEPS), 32, file.with_suffix(".partial")),
            draws=DRAWS,
        )
        certificate = bound(
            base, run, str(folder / "train.jsonl"), str(folder / "test.jsonl"), options
        )
        write_bound_json(certificate, file)
        if posterior == "refined":  # one draw of it, deployed as an adapter
            emit_adapter(certificate, file.with_suffix(".adapter"))
        print(base, n, prior, posterior, certificate.bound, flush=True)
    record: Record = json.loads(file.read_text(encoding="utf-8"))
    return record


def records_of(base: str, n: int, prior: str, posterior: str, found: Record) -> list[Record]:
    """Return one record per bound of a cell, that of one deployed draw included."""
    measured, baselines = found["measured"], found["baselines"]
    values = {name: entry["raw"] for name, entry in found["bounds"].items()}
    adapter = cell_file(base, n, prior, posterior).with_suffix(".adapter") / CERTIFICATE
    if adapter.exists():
        values["disintegrated"] = json.loads(adapter.read_text(encoding="utf-8"))["bound"]["upper"]
    return [
        {
            "base": base,
            "posterior": posterior,
            "prior": prior,
            "bound": name,
            "n": found["n"],
            "n_train": n,
            "sigma_prior": found["prior"]["sigma"],
            "kl_nats": found["kl"]["value"],
            "empirical_risk": found["empirical_risk"]["value"],
            "empirical_risk_limit": found["empirical_risk"]["upper"],
            "value": value,
            "gibbs_test_risk": measured["test_risk"]["value"],
            "finished_test_risk": measured["test_risk_finetuned"]["value"],
            "prior_centre_limit": baselines["prior_centre"]["value"],
            "held_out_limit": baselines["held_out"]["value"],
            "compression_limit": baselines["compression"]["value"],
            "drift": found["drift"]["distance"],
            "distance_finished_to_prior": found["drift"]["distance_finished_to_prior"],
            "agreement": found["drift"]["agreement"]["value"],
            "delta": found["delta"],
        }
        for name, value in values.items()
    ]


def table(result: list[Record]) -> str:
    """Return the README's table: one line a cell, at its kl bound."""
    lines = [
        "| base | n | prior | posterior | KL (nats) | R̂ (limit) | PAC-Bayes-kl | one deployed "
        "draw | limit of the prior's own centre | Gibbs test risk | finished test risk | bound ÷ "
        "finished |",
        "|" + "---|" * 12,
    ]
    cell = ("base", "n_train", "prior", "posterior")
    draws = {
        tuple(r[k] for k in cell): said(r["value"]) for r in result if r["bound"] == "disintegrated"
    }
    for r in (r for r in result if r["bound"] == "kl"):
        centre = f"{r['prior_centre_limit']:.3f}" if r["prior_centre_limit"] else "not measured"
        lines.append(
            f"| {r['base']} | {r['n']:,} | {PRIOR_NAMES[r['prior']]} | {r['posterior']} "
            f"| {r['kl_nats']:,.0f} | {r['empirical_risk_limit']:.3f} | {said(r['value'])} "
            f"| {draws.get(tuple(r[k] for k in cell), 'not drawn')} | {centre} "
            f"| {r['gibbs_test_risk']:.3f} "
            f"| {r['finished_test_risk']:.3f} | {r['value'] / r['finished_test_risk']:.2f} |"
        )
    return "\n".join(lines)


def draw(result: list[Record]) -> None:
    """Draw bound against measured risk, cell by cell."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    cells = [r for r in result if r["bound"] == "kl"]
    sns.set_theme(context="notebook", style="whitegrid")
    figure, axes = plt.subplots(figsize=(9.5, 0.5 * len(cells) + 1.4), layout="constrained")
    for place, r in enumerate(cells):
        colour = "#30506d" if r["posterior"] == "refined" else "#b9b9b9"
        axes.barh(place, min(r["value"], 1.0), color=colour)
        text = f" {r['value']:.3f}" + (" vacuous" if r["value"] >= 1 else "")
        axes.text(min(r["value"], 1.0), place, text, va="center", fontsize=10)
        axes.plot(r["gibbs_test_risk"], place, "o", color="#c9782d")
        axes.plot(r["finished_test_risk"], place, "D", color="black", markerfacecolor="white")
    axes.plot([], [], "o", color="#c9782d", label="Gibbs test risk, measured (covered)")
    axes.plot([], [], "D", color="black", markerfacecolor="white", label="finished (not covered)")
    names = [
        f"{r['base']}, n = {r['n']:,}, {PRIOR_NAMES[r['prior']]}, {r['posterior']}" for r in cells
    ]
    axes.set_yticks(range(len(cells)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15)
    axes.set_xlabel("PAC-Bayes-kl bound on the Gibbs risk (exact match, 0 to 1)")
    axes.legend(loc="lower right", fontsize=9)
    figure.savefig(PICTURE, dpi=110)


def measure(only_finished: bool) -> None:
    """Go through the cells and write after each; records of cells not measured yet stay."""
    names = ("base", "n_train", "prior", "posterior")
    for cell in CELLS:
        if only_finished and not cell_file(*cell).exists():
            continue
        found = records_of(*cell, measure_cell(*cell))
        committed = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else []
        others = [r for r in committed if tuple(r[k] for k in names) != cell]
        result = sorted(others + found, key=lambda r: CELLS.index(tuple(r[k] for k in names)))
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if "--table" not in sys.argv:
        measure("--finished" in sys.argv)
    committed = json.loads(RESULT.read_text(encoding="utf-8"))
    write_between("tightness", table(committed))
    draw(committed)
