"""A progress bar on stderr for anything that lasts; silent where nobody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
_PATIENCE = 2.0  # seconds before a bar appears


def track(items: Sequence[T], label: str) -> Iterator[T]:
    """Yield the items; show a bar on stderr once the work has taken two seconds."""
    if not sys.stderr.isatty():
        yield from items
        return
    started = time.monotonic()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=True,
    ) as bar:
        task = bar.add_task(label, total=len(items), visible=False)
        for item in items:
            yield item
            bar.update(task, advance=1, visible=time.monotonic() - started > _PATIENCE)
