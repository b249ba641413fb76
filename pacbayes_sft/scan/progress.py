"""What a scan shows while it runs: cells done, time left, the best difficulty so far."""

from __future__ import annotations

import re
import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console

from pacbayes_sft.scan.frame import GROUP

Group = tuple[str, ...]
_FIGURES = re.compile(r"\d[\d,.]*|\(.*?\)")  # what differs from cell to cell


class Watch:
    """Print a line a finished cell to stderr, rewritten in place on a terminal."""

    def __init__(self, done: int, total: int) -> None:
        """Begin at ``done`` of ``total``."""
        self.done, self.total = done, total
        self.began, self.new = time.monotonic(), 0
        self.risks: dict[Group, dict[tuple[int, str], list[float]]] = {}
        self.warned: set[str] = set()
        self.console = Console(stderr=True, highlight=False, markup=False, emoji=False)

    def __enter__(self) -> Watch:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say where an interrupted scan goes on."""
        if sys.stderr.isatty() and self.new:
            self.console.print()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.console.print(
                f"stopped: {self.done} of {self.total} are kept; the same command goes on"
            )

    def saw(self, record: dict[str, Any], *, finished: bool) -> None:
        """Take in a record, new or from an earlier run."""
        if "cell" in record:
            cell = record["cell"]
            group = tuple(str(cell[part]) for part in GROUP)
            points = self.risks.setdefault(group, {})
            risk = record["measured"]["test_risk"]["value"]
            points.setdefault((cell["size"], cell["window"]), []).append(risk)
        if finished:
            self.done, self.new = self.done + 1, self.new + 1
            self.warn(record)
            end = "\r" if sys.stderr.isatty() else "\n"
            self.console.print(self.line(), end=end, soft_wrap=True)

    def warn(self, record: dict[str, Any]) -> None:
        """Print each kind of warning of a cell's bounds once: most come again in every cell."""
        for bound in record.get("bounds", {}).values():
            for sentence in bound.get("warnings", ()):
                kind = _FIGURES.sub("", sentence)
                if kind not in self.warned:
                    self.warned.add(kind)
                    where = ", ".join(
                        f"{k} {record['cell'][k]}" for k in ("size", "window", "seed")
                    )
                    self.console.print(
                        f"warning (first in the cell of {where}): {sentence}", soft_wrap=True
                    )

    def line(self) -> str:
        """Return the line."""
        seconds = (time.monotonic() - self.began) / max(1, self.new) * (self.total - self.done)
        left = f"{-(-seconds // 60):.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
        several = len(self.risks) > 1
        best = "; ".join(
            f"{', '.join(group)}, n={n}: {window}" if several else f"n={n}: {window}"
            for group in self.risks
            for n, window in sorted(self.best(group).items())
        )
        so_far = f"; least test risk so far: {best}" if best else ""
        return f"{self.done} of {self.total} done, about {left} left{so_far}"

    def best(self, group: Group) -> dict[int, str]:
        """Return for every size of a group the window with the least mean test risk."""
        found: dict[int, tuple[float, str]] = {}
        for (size, window), risks in self.risks[group].items():
            mean = sum(risks) / len(risks)
            found[size] = min(found.get(size, (mean, window)), (mean, window))
        return {size: window for size, (_, window) in found.items()}
