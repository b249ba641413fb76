"""One process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pacbayes_sft.errors import InputError


@contextmanager
def alone(lock: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file while the block runs; whoever is killed lets go of it.

    Raises:
        InputError: With the words ``refusal``, if another process holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(lock, timeout=0).acquire()
    except Timeout:
        raise InputError(refusal) from None
    with held:
        yield
