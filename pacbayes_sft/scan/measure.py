"""One cell: fine-tune, evaluate every slice, bound, and the gaps as observed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from estimators import Estimate, Guarantee
from pacbayes_sft.atomic import replacing
from pacbayes_sft.bound_json import to_record
from pacbayes_sft.certify import Certificate, bound
from pacbayes_sft.checkpoints.record import read_record
from pacbayes_sft.choices import Objective
from pacbayes_sft.data.rows import read_table
from pacbayes_sft.launch import run_sft_on
from pacbayes_sft.measure import Measured
from pacbayes_sft.models import device_name
from pacbayes_sft.options import Options
from pacbayes_sft.posteriors import Refinement
from pacbayes_sft.risk import standard_error
from pacbayes_sft.scan.config import Bound, Cell, Config, FineTune
from pacbayes_sft.scan.rows import Sources, write_rows
from pacbayes_sft.sft import Settings, run_sft
from pacbayes_sft.sft_folder import is_finished
from pacbayes_sft.shift.methods import NEED_LABELLED
from pacbayes_sft.shift.of_predictor import shift_terms
from pacbayes_sft.terms import RiskTerm, risk_term
from pacbayes_sft.versions import versions

Record = dict[str, Any]
CUT_BY_ROWS = (
    "the edges of the windows or levels are quantiles of the rows whose difficulty is counted, not "
    "fixed without them, so this is an estimate"
)
TRAIN_RISK_UNITS = 256  # training rows come in random order, so the first ones are a sample


def measure_cell(config: Config, cell: Cell, key: str, folder: Path, processes: int = 1) -> Record:
    """Return the record of a cell.

    Args:
        config: The scan.
        cell: Which point of the map.
        key: Its name.
        folder: Where to work; an interrupted fine-tune there goes on. The caller's to remove, once
            the record is kept.
        processes: How many share the fine-tune; all else is done in this one.

    Raises:
        InputError: If an input cannot be used.
    """
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    sources = write_rows(config.data, cell, folder)
    run, took = folder / "finetune", folder / "fine_tune_seconds.json"
    if not is_finished(run):  # a cell may have been killed after its fine-tune
        settings = _settings(config, cell, sources.train)
        if processes > 1:
            torch.cuda.empty_cache()  # of a GPU that the first of them takes
            run_sft_on(processes, cell.base, sources.train, run, settings)
        else:
            run_sft(cell.base, sources.train, run, settings)
        with replacing(took) as partial:
            partial.write_text(json.dumps(time.monotonic() - began), encoding="utf-8")
    trained = time.monotonic() - began
    before = json.loads(took.read_text(encoding="utf-8")) if took.is_file() else trained
    earlier = max(0.0, before - trained)  # by a call that was killed after the fine-tune
    test = _risk(config, cell.base, sources.test, sources.column, run)
    heldout = _risk(config, cell.base, str(sources.heldout), None, run)
    seen = _risk(config, cell.base, str(_first_units(sources.train)), None, run)
    finished = Measured(test.risk, seen.risk, test.losses)
    bounds = {
        name: _bound(config, cell, asked, sources, run, finished)
        for name, asked in config.bounds.items()
    }
    record = {
        "key": key,
        "cell": {
            "size": cell.size,
            "window": cell.window,
            "seed": cell.seed,
            "base": cell.base,
            "objective": cell.objective.value,
            "method": cell.method,
        },
        "measured": {
            "test_risk": test.risk.to_dict(),
            "slices": _slices(test),
            "train_distribution_risk": heldout.risk.to_dict()
            | {"standard_error": standard_error(heldout.losses)},
            "train_risk": seen.risk.value,
            "generalization_gap": heldout.risk.value - seen.risk.value,
            "extrapolation_gap": test.risk.value - heldout.risk.value,
        },
        "bounds": bounds,
        "version": versions("pacbayes-sft")["pacbayes-sft"],
        "device": device_name(config.device),
        "processes": _processes(run),
        "seconds": {
            "fine_tune": trained + earlier,
            "all": time.monotonic() - began + earlier,
        },
    }
    return _without_place(record, folder)


def _slices(term: RiskTerm) -> Record:
    """Each slice's risk; what pilots of `advise` need besides is its standard error."""
    return {
        label: e.to_dict() | {"standard_error": term.standard_errors[label]}
        for label, e in term.slices.items()
    }


def _processes(run: Path) -> int:
    """Return how many processes ended a fine-tune."""
    kept = read_record(run)
    found = kept.settings.get("processes", 1) if kept else 1
    return found if isinstance(found, int) else 1


def _first_units(train: Path) -> Path:
    """Write the rows of the first few hundred units beside the training rows."""
    units = read_table(train).units
    few = set(list(dict.fromkeys(units))[:TRAIN_RISK_UNITS])
    lines = train.read_text(encoding="utf-8").splitlines(keepends=True)
    file = train.with_name("train_looked_at.jsonl")
    kept = [line for line, unit in zip(lines, units, strict=True) if unit in few]
    file.write_text("".join(kept), encoding="utf-8")
    return file


def measure_base(config: Config, base: str, key: str, folder: Path) -> Record:
    """Return the record of a base itself: what every slice's change is held against.

    Raises:
        InputError: If an input cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    window = config.windows[0] if isinstance(config.windows, tuple) else None
    cell = Cell(1, window or f"{-1e300}:{1e300}", 0, base, Objective.NLL, "lora")
    sources = write_rows(config.data, cell, folder)
    term = _risk(config, base, sources.test, sources.column, None)
    record = {
        "key": key,
        "base": base,
        "measured": {
            "test_risk": term.risk.to_dict(),
            "slices": _slices(term),
        },
    }
    return _without_place(record, folder)


def _settings(config: Config, cell: Cell, train: Path) -> Settings:
    asked: FineTune = config.fine_tune
    with train.open("rb") as lines:
        rows = sum(1 for _ in lines)
    checkpoint = any(b.prior == "checkpoint" for b in config.bounds.values())
    return Settings(
        objective=cell.objective,
        lora_rank=asked.lora_rank if cell.method == "lora" else 0,
        lora_alpha=asked.lora_alpha,
        steps=asked.steps(rows),
        batch_size=asked.batch_size,
        learning_rate=asked.learning_rate,
        prior_fraction=asked.prior_fraction if checkpoint else 0.0,
        shared_steps=checkpoint,
        seed=cell.seed,
        device=config.device,
        dtype=config.dtype,
    )


def _risk(config: Config, base: str, rows: str, column: str | None, run: Path | None) -> RiskTerm:
    return risk_term(
        base,
        rows,
        run,
        loss=config.loss,
        slice_by=column,
        device=config.device,
        dtype=config.dtype,
        batch_size=config.batch_size,
    )


def _bound(
    config: Config, cell: Cell, asked: Bound, sources: Sources, run: Path, finished: Measured
) -> Record:
    """Return what a map needs of one ``bound.json``."""
    from estimators.posteriors.refined import Schedule

    certified = cell.size
    if asked.prior == "checkpoint":
        certified -= int(config.fine_tune.prior_fraction * cell.size)
    options = Options(
        prior=run / "pacbayes_sft" / "prior" if asked.prior == "checkpoint" else "base",
        prior_shape=asked.prior_shape,
        posterior=asked.posterior,
        refinement=Refinement(Schedule(steps=asked.steps)),
        prior_scales=asked.prior_scales,
        draws=max(1, round(asked.draws / certified)),
        units=asked.draws,
        baselines=False,
        profile=sources.column,
        shift=sources.column if config.data.kind == "rows" else "auto",
        loss=config.loss,
        delta=config.delta,
        batch_size=config.batch_size,
        seed=cell.seed,
        device=config.device,
        dtype=config.dtype,
    )
    certificate = bound(
        cell.base,
        run,
        str(sources.train),
        sources.test,
        options,
        train_heldout=str(sources.heldout),
        labelled=sources.labelled if {*asked.shifts} & NEED_LABELLED else None,
        finished=finished,
    )
    if config.cut_by_its_rows:
        certificate = _weakened(certificate)
    assert certificate.profile is not None
    full = to_record(certificate)
    return {
        "n": full["n"],
        "n_train": full["n_train"],
        "posterior": full["posterior"],
        "prior": full["prior"],
        "kl_nats": full["kl"]["value"],
        "squared_distance": full["squared_distance"],
        "empirical_risk": full["empirical_risk"],
        "tv": full["tv"],
        "terms": full["terms"],
        "bounds": {name: _slim(entry) for name, entry in full["bounds"].items()},
        "shifts": {
            name: _estimated(term) if config.cut_by_its_rows else term
            for name, term in shift_terms(certificate, asked.shifts).items()
        },
        "profile": certificate.profile.to_dict(),
        "delta_ledger": full["delta_ledger"],
        "gibbs": {
            name: full["measured"][name]
            for name in (
                "test_risk",
                "train_distribution_risk",
                "generalization_gap",
                "extrapolation_gap",
            )
        },
        "drift": full["drift"]["distance"],
        "warnings": full["warnings"],
    }


def _weakened(certificate: Certificate) -> Certificate:
    """Take the promise from what rests on a law whose own rows decided the window or its levels."""

    def weak(limit: Estimate) -> Estimate:
        return limit.without_promise(CUT_BY_ROWS) if limit.guarantee is Guarantee.UPPER else limit

    if certificate.shift.tv.guarantee is Guarantee.EXACT:  # of known laws: it counts no row
        return certificate
    shift = replace(certificate.shift, tv=weak(certificate.shift.tv))
    bounds = {name: (weak(test), train) for name, (test, train) in certificate.bounds.items()}
    return replace(certificate, shift=shift, bounds=bounds)


def _estimated(term: Record) -> Record:
    if term.get("guarantee") != Guarantee.UPPER:
        return term
    assumptions = [*term.get("assumptions", ()), CUT_BY_ROWS]
    return term | {"guarantee": "estimate", "confidence": 0.0, "assumptions": assumptions}


def _without_place(record: Record, folder: Path) -> Record:
    """Leave out where the cell worked: sentences name its files, and records equal anywhere."""
    place = json.dumps(f"{folder}/")[1:-1]
    found: Record = json.loads(json.dumps(record, allow_nan=False).replace(place, ""))
    return found


def _slim(entry: Mapping[str, Any]) -> Record:
    return {k: entry[k] for k in ("raw", "train_raw", "guarantee", "vacuous")}
