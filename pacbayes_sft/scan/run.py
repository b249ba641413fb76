"""Run the cells that are missing: here one by one, or on the workers of a Ray cluster."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pacbayes_sft import loaded
from pacbayes_sft.alone import alone
from pacbayes_sft.checkpoints.files import settings_sha256
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import local_directory, resolve_base
from pacbayes_sft.processes import Team, launched
from pacbayes_sft.scan.cells import Cell, Keys, list_cells
from pacbayes_sft.scan.config import Config, Files, read_config
from pacbayes_sft.scan.measure import Record, measure_base, measure_cell
from pacbayes_sft.scan.on_ray import on_ray
from pacbayes_sft.scan.progress import Watch
from pacbayes_sft.scan.rows import open_pool
from pacbayes_sft.scan.shape import MEND, check_drawn
from pacbayes_sft.scan.store import Store

FEWEST_CERTIFIED = 2


@dataclass(frozen=True)
class Where:
    """Where cells run.

    Attributes:
        workers: Ray workers on this machine; 0 runs in this process.
        address: Address of a Ray cluster instead.
        threads: Torch threads a cell, and a process of its fine-tune; None leaves torch alone in
            this process and gives a worker one.
        gpus: GPUs a cell, a fraction shares one.
        processes: Processes that share the steps of each fine-tune, each GPU one.
    """

    workers: int = 0
    address: str | None = None
    threads: int | None = None
    gpus: float = 0.0
    processes: int = 1


@dataclass(frozen=True)
class Job:
    """What is to be measured: a cell, or a base itself (``cell`` is None).

    Attributes:
        key: Name of its record.
        base: The base, as the configuration spells it.
        cell: The cell.
        base_settings: Hash of the base's configuration and tokenizer, which no key holds.
        files: Hashes of the rows' files.
        shared: Hash of what all records of its scan share, see `Keys.shared`.
    """

    key: str
    base: str
    cell: Cell | None
    base_settings: str = ""
    files: tuple[tuple[str, str], ...] = ()
    shared: str = ""

    def run(self, config: Config, folder: Path, processes: int = 1) -> Record:
        """Measure it, the bars and logs of a hundred trainers apart.

        Raises:
            InputError: If an input cannot be used, or changed since the scan began.
        """
        with _quiet():
            self._refuse_changed(config)
            if self.cell is None:
                found = measure_base(config, self.base, self.key, folder)
            else:
                found = measure_cell(config, self.cell, self.key, folder, processes)
            self._refuse_changed(config)
        return found | {
            "base_settings": self.base_settings,
            "shared": self.shared,
            "loss": str(config.loss),
            "delta": config.delta,
        }

    def of(self, record: Record) -> Record:
        """Return this job's record as its configuration spells the base.

        Raises:
            InputError: If it is of a base with other settings beside the same weights, or of a cell
                where a base's is expected, or the reverse.
        """
        if ("cell" in record) != (self.cell is not None):
            which = "cell is missing" if self.cell else "cell is there, in a base's record"
            raise InputError(f"records/{self.key}.json: {which}; {MEND}")
        if record.get("base_settings", self.base_settings) != self.base_settings:
            raise InputError(
                f"{self.base}: {self.key} was measured with another config.json or tokenizer "
                "beside these weights; give another --out, or the base as it was"
            )
        if self.cell is None:
            return record | {"base": self.base}
        return record | {"cell": record["cell"] | {"base": self.base}}

    def _refuse_changed(self, config: Config) -> None:
        """A record's name holds the hashes of the files that the scan began with."""
        if isinstance(config.data, Files) and self.files:
            now = open_pool(config.data).hashes()
            for name, digest in self.files:
                if now.get(name) != digest:
                    raise InputError(
                        f"data.{name}: the file was changed while the scan ran; finished cells are "
                        "kept under what it was, so give the same command again"
                    )


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
    _refuse_unshared(config, where)
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


def list_jobs(config: Config) -> list[Job]:
    """Return what a scan measures: each base, then each cell.

    Raises:
        InputError: If a file cannot be used, the pool is too small for a window's largest cell, or
            a checkpoint prior cannot share the steps of the smallest.
    """
    keys, cells, rows_a_unit = Keys(config), list_cells(config), 1
    if isinstance(config.data, Files):
        pool = open_pool(config.data)
        rows_a_unit = max(map(len, pool.units.values()))
        for window in dict.fromkeys(cell.window for cell in cells):
            pool.refuse_small(window, max(config.sizes))
    least = min(config.sizes)
    shared = any(bound.prior == "checkpoint" for bound in config.bounds.values())
    if shared and config.fine_tune.steps(least * rows_a_unit) < 2:
        raise InputError(
            f"least_steps: at n = {least} a fine-tune takes a single step, which a checkpoint "
            "prior cannot share; give 2 or more"
        )
    held = {bound.prior for bound in config.bounds.values()}
    left = least - (int(config.fine_tune.prior_fraction * least) if "checkpoint" in held else 0)
    if left < FEWEST_CERTIFIED:
        raise InputError(
            f"sizes: at n = {least} a bound is left {left} unit to certify on, and no bound says "
            "anything of that; begin with a larger size"
        )
    files: tuple[tuple[str, str], ...] = ()
    if isinstance(config.data, Files):
        files = tuple(open_pool(config.data).hashes().items())
    settings = {base: settings_sha256(local_directory(resolve_base(base))) for base in config.bases}
    shared_by_all = keys.shared()
    bases = [Job(keys.of_base(b), b, None, settings[b], files, shared_by_all) for b in config.bases]
    return bases + [
        Job(keys.of(cell), cell.base, cell, settings[cell.base], files, shared_by_all)
        for cell in cells
    ]


def read_records(directory: Path, config: Path | None = None) -> list[Record]:
    """Return the records that lie in a scan's directory.

    Args:
        directory: Of the scan.
        config: Those of this configuration alone.

    Raises:
        InputError: If they are of several configurations and none is named: a mean over two records
            of one cell would be of neither; if no cell of the named one is there; or if a record
            lacks a field.
    """
    store = Store(directory)
    if config is not None:
        jobs = list_jobs(read_config(config))
        if not any(job.cell and store.has(job.key) for job in jobs):
            raise InputError(f"{config}: none of its cells is measured in {directory}")
        found = [job.of(store.get(job.key)) for job in jobs if store.has(job.key)]
        for record in found:
            check_drawn(record, f"{store.records / record['key']}.json")
        return found
    records, seen = list(store.all()), dict[str, str]()
    for record in records:
        check_drawn(record, f"{store.records / record['key']}.json")
    _refuse_mixed(records, directory)
    for record in records:
        if "cell" not in record:
            continue
        name = json.dumps(record["cell"], sort_keys=True)
        if seen.setdefault(name, record["key"]) != record["key"]:
            raise InputError(
                f"{directory}: {seen[name]} and {record['key']} are records of one cell by "
                "different configurations; name the one that is meant with --config"
            )
    return records


def _refuse_mixed(records: list[Record], directory: Path) -> None:
    """Refuse records of different configurations, even where no two are of one cell."""
    first: Record | None = None
    bases: dict[str, Record] = {}
    for record in records:
        if "cell" not in record:
            other = bases.setdefault(record["base"], record)
            told = "shared" in other and "shared" in record
            if other is not record and not told and not _alike(other, record):
                raise _mixed(directory, other, record)
        if "shared" in record:
            first = first or record
            if record["shared"] != first["shared"]:
                raise _mixed(directory, first, record)
    for record in records:  # those of old do not tell what they share, but all see one test set
        if {*record["measured"]["slices"]} != {*records[0]["measured"]["slices"]}:
            raise _mixed(directory, records[0], record)


def _mixed(directory: Path, one: Record, other: Record) -> InputError:
    differ = [
        f"{name} {one[name]} and {other[name]}"
        for name in ("loss", "delta")
        if name in one and name in other and one[name] != other[name]
    ]
    return InputError(
        f"{directory}: {one['key']} and {other['key']} are records of different configurations"
        f"{' (' + ', '.join(differ) + ')' if differ else ''}; name the one that is meant with "
        "--config"
    )


def _alike(one: Record, other: Record) -> bool:
    """Whether two records of a base can be of one configuration, on two devices say."""
    a, b = one["measured"]["slices"], other["measured"]["slices"]
    return {*a} == {*b} and all(
        abs(a[label]["value"] - b[label]["value"])
        <= ((a[label].get("upper") or 0.0) - (a[label].get("lower") or 0.0)) / 2
        for label in a
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


def _refuse_unshared(config: Config, where: Where) -> None:
    """Refuse what processes cannot share, before anything is measured."""
    Team(where.processes).rows_each(config.fine_tune.batch_size)
    if 0 < where.gpus < where.processes > 1:
        raise InputError(
            f"--gpus {where.gpus:g}: each of --processes {where.processes} takes a GPU of its own; "
            f"give --gpus {where.processes}"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what trainers and loaders print off the terminal; warnings still come through."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def set_threads(threads: int | None) -> None:
    """Give torch that many threads; None leaves it alone."""
    if threads is not None:
        import torch

        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)


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
