"""Run the cells that are missing: here one by one, or on the workers of a Ray cluster."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from pacbayes_sft import loaded
from pacbayes_sft.alone import alone
from pacbayes_sft.errors import InputError
from pacbayes_sft.processes import Team, launched
from pacbayes_sft.scan.config import Cell, Config
from pacbayes_sft.scan.jobs import Job, list_jobs
from pacbayes_sft.scan.measure import Record
from pacbayes_sft.scan.on_ray import on_ray
from pacbayes_sft.scan.progress import Watch
from pacbayes_sft.scan.store import Store
from pacbayes_sft.scan.where import Where, set_threads


def run_scan(config: Config, out: Path, where: Where | None = None) -> list[Record]:
    """Measure every cell of a scan that has no record yet; return the records of all.

    Kill it anywhere and call it again: finished cells are not done again, and the records equal
    those of an uninterrupted run (same machine and threads).

    Args:
        config: What to scan.
        out: Directory of the records.
        where: Where cells run.

    Returns:
        Records of the bases, then of the cells, in the order of `list_cells`.

    Raises:
        InputError: If an input cannot be used, or another scan is at work in ``out``.
    """
    _refuse_several_processes()
    where, store = where or Where(), Store(out)
    refuse_unshared(config, where)
    jobs = list_jobs(config)
    missing = [job for job in jobs if not store.has(job.key)]
    results = on_ray if where.workers or where.address else _here
    watch = Watch(len(jobs) - len(missing), len(jobs))
    with watch, _alone(store) if missing else contextlib.nullcontext():
        for job in jobs:
            if store.has(job.key):
                watch.saw(job.of(store.get(job.key)), finished=False)
                _remove(store.work(job.key))  # of a scan that was killed once it was written
        for record in results(config, missing, store, where) if missing else ():
            store.put(record)
            _remove(store.work(record["key"]))
            watch.saw(record, finished=True)
    return [job.of(store.get(job.key)) for job in jobs]


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _alone(store: Store) -> contextlib.AbstractContextManager[None]:
    """Keep other scans out of a directory: two would train in one folder."""
    return alone(
        store.work(".lock"),
        f"{store.directory}: another scan is at work there; wait for it, or give another --out",
    )


def _here(config: Config, jobs: list[Job], store: Store, where: Where) -> Iterator[Record]:
    set_threads(where.threads)
    with loaded.held():
        for job in jobs:
            yield job.run(config, store.work(job.key), where.processes)


def _refuse_several_processes() -> None:
    """Refuse to be one of several processes of one launch: each would write the records."""
    if launched() > 1:
        raise InputError(
            f"scan: started as one of {launched()} processes (accelerate launch, torchrun, "
            "mpirun), and a scan is one; it starts those of a fine-tune itself: --processes "
            f"{launched()}. To fill several devices with cells take --workers or --address with "
            "--gpus"
        )


def refuse_unshared(config: Config, where: Where) -> None:
    """Refuse what processes cannot share, before anything is measured.

    Raises:
        InputError: If the batch cannot be divided, or several processes are to share a GPU.
    """
    Team(where.processes).rows_each(config.fine_tune.batch_size)
    if 0 < where.gpus < where.processes > 1:
        raise InputError(
            f"--gpus {where.gpus:g}: each of --processes {where.processes} takes a GPU of its own; "
            f"give --gpus {where.processes}"
        )


def hours_left(records: list[Record], cells: list[Cell], workers: int) -> float | None:
    """Return how long cells will take by what finished ones of like size took; None if unknown.

    A cell of a size that was never run takes as long as one of the nearest size, or in proportion
    longer if it is larger (a small one takes its least steps all the same).
    """
    known: dict[int, list[float]] = {}
    for record in records:
        if "cell" in record:
            known.setdefault(record["cell"]["size"], []).append(record["seconds"]["all"])
    if not known:
        return None
    mean = {size: sum(s) / len(s) for size, s in known.items()}
    total = 0.0
    for cell in cells:
        near = min(mean, key=lambda size: abs(size - cell.size))
        total += mean[near] * max(1.0, cell.size / near)
    return total / max(1, workers) / 3600
