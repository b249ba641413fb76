"""Where cells run: in this process, or on the workers of a Ray cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass


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


def set_threads(threads: int | None) -> None:
    """Give torch that many threads; None leaves it alone."""
    if threads is not None:
        import torch

        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
