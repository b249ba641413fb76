"""‖W - W₀‖² between two checkpoints, tensor by tensor from mapped files, on a few threads.

Anonymous memory is a few buffers a thread, whatever the size of the model: see `estimators.sums`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import local
from typing import TypeVar

import torch

from estimators import SumOfSquares
from pacbayes_sft.checkpoints.files import TensorFiles

THREADS = 2
Place = tuple[TensorFiles, str]  # a tensor, as the files have it
Item = TypeVar("Item")
_own = local()


def squared_distances(
    base: TensorFiles, tuned: TensorFiles, names: list[str], threads: int = THREADS
) -> list[float]:
    """Return ‖W - W₀‖² of each named tensor, which both have in one shape; exact to 7e-7.

    The result does not depend on the number of threads.

    Raises:
        InputError: If one of them holds NaN or infinity.
    """
    return paired_distances([((tuned, name), (base, name)) for name in names], threads)


def paired_distances(pairs: list[tuple[Place, Place]], threads: int = THREADS) -> list[float]:
    """Return `squared_distances` of tensors that may have other names on the two sides.

    Raises:
        InputError: If one of them holds NaN or infinity.
    """

    def distance(pair: tuple[Place, Place]) -> float:
        (files, name), (others, other) = pair
        found = _sums()(files.view(name), others.view(other))
        if not math.isfinite(found):
            files.refuse_not_finite(name)
            others.refuse_not_finite(other)
        return found

    return _each(distance, pairs, threads)


def squared_norms(files: TensorFiles, names: list[str], threads: int = THREADS) -> list[float]:
    """Return ‖W‖² of each named tensor.

    Raises:
        InputError: If one of them holds NaN or infinity.
    """

    def norm(name: str) -> float:
        found = _sums()(files.view(name))
        if not math.isfinite(found):
            files.refuse_not_finite(name)
        return found

    return _each(norm, names, threads)


def _sums() -> SumOfSquares:
    """The buffers of this thread."""
    if not hasattr(_own, "sums"):
        _own.sums = SumOfSquares()
    found: SumOfSquares = _own.sums
    return found


def _each(work: Callable[[Item], float], items: list[Item], threads: int) -> list[float]:
    """Call ``work`` on each item, in order; one tensor is one thread's."""
    threads = min(threads, os.cpu_count() or 1, len(items))
    with _one_thread_an_operation():
        if threads <= 1:
            return [work(item) for item in items]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, items))


@contextmanager
def _one_thread_an_operation() -> Iterator[None]:
    """Blocks are too small to be divided further: torch's own threads would only wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
