"""Cells on the workers of a Ray cluster, here or elsewhere."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pacbayes_sft import loaded
from pacbayes_sft.errors import InputError
from pacbayes_sft.scan.config import Config
from pacbayes_sft.scan.jobs import Job
from pacbayes_sft.scan.measure import Record
from pacbayes_sft.scan.store import Store
from pacbayes_sft.scan.where import Where, set_threads

RETRIES = 3  # of a cell whose worker died


def on_ray(config: Config, jobs: list[Job], store: Store, where: Where) -> Iterator[Record]:
    """Yield records as workers finish them; a cell whose worker died is tried again elsewhere.

    Only this process writes records, so none is doubled and workers need no common disk.
    """
    try:
        import ray
    except ImportError:
        flag = "--address" if where.address else "--workers"
        raise InputError(f"{flag}: needs Ray; pip install 'pacbayes-sft[ray]'") from None
    started = not ray.is_initialized()
    if started:
        here = {"num_cpus": where.workers, "include_dashboard": False}
        options: dict[str, Any] = {"address": where.address} if where.address else here
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:  # Ray raises whatever broke: ValueError, ConnectionError, …
            asked = f"--address {where.address}" if where.address else f"--workers {where.workers}"
            words = " ".join(str(error).split())[:200]
            raise InputError(
                f"{asked}: Ray could not be reached or started ({words}); an address is HOST:PORT"
            ) from None
    # beside the records, where what a killed scan left is found and removed
    root = None if where.address else store.work("ray").resolve()
    waiting: list[Any] = []
    try:
        sweep(root)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        refuse_unmet(nodes, where)
        task: Any = ray.remote(work).options(**task_options(where))
        shared = ray.put(config.model_dump(mode="json"))
        waiting = [task.remote(shared, job, where, root) for job in jobs]
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            try:
                yield ray.get(done[0])
            except ray.exceptions.RayTaskError as error:
                cause = error.cause if isinstance(error.cause, InputError) else None
                if cause is None:
                    raise
                raise cause from None
            except ray.exceptions.RayError as error:
                raise InputError(
                    f"scan: a Ray worker died on one cell {RETRIES + 1} times "
                    f"({type(error).__name__}), most likely for want of memory; give fewer "
                    "--workers or a smaller batch_size (finished cells are kept)"
                ) from None
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)
        if started:
            ray.shutdown()
        sweep(root)


def sweep(root: Path | None) -> None:
    """Remove what workers that were killed left behind."""
    if root is not None:
        shutil.rmtree(root, ignore_errors=True)


def task_options(where: Where) -> dict[str, Any]:
    """Return what Ray sets aside for one cell.

    Cells that share a GPU each take a fraction of it; a core on a cluster goes to one thread.
    """
    threads = where.threads or 1
    return {
        "num_cpus": threads * where.processes if where.address else 1,
        "num_gpus": where.gpus,
        "max_retries": RETRIES,
        "runtime_env": {
            "env_vars": {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        },
    }


def refuse_unmet(nodes: Sequence[Mapping[str, float]], where: Where) -> None:
    """Refuse what no single node has: Ray would wait for it without a word."""
    asked = task_options(where)
    cores = "threads" if where.processes == 1 else "processes"
    for name, key, flag in (("GPU", "num_gpus", "gpus"), ("CPU", "num_cpus", cores)):
        most = max((node.get(name, 0) for node in nodes), default=0)
        if asked[key] > most:
            raise InputError(
                f"--{flag}: a cell asks for {asked[key]:g} {name} and no node of the Ray cluster "
                f"has more than {most:g}, so it would never start"
            )


def work(config: dict[str, Any], job: Job, where: Where, root: Path | None) -> Record:
    """Measure one job in a worker, in a folder of its own, under ``root`` or the system's."""
    set_threads(where.threads or 1)
    loaded.keep(True)
    if root is not None:
        root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pacbayes-sft-", dir=root) as folder:
        return job.run(Config.model_validate(config), Path(folder) / job.key, where.processes)
