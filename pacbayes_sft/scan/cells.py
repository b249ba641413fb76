"""The cells of a scan: what each is made from, and the hash that names its record."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import asdict
from typing import Any

from pacbayes_sft.checkpoints.files import open_checkpoint
from pacbayes_sft.choices import Objective
from pacbayes_sft.models import local_directory, resolve_base
from pacbayes_sft.scan.config import Cell, Config, Igsm, Windows
from pacbayes_sft.scan.rows import Pool, open_pool

# Raised when the same inputs would give another record. It was not when CUDA's fine-tunes went from
# float32 to autocast (2026-11-28): the 35 GPU records of the map are of before (docs/map.md).
RECORD_VERSION = 1


def list_cells(config: Config) -> list[Cell]:
    """Return every cell, small sizes first, so that an unfinished scan shows a whole map early."""
    windows = config.windows
    if isinstance(windows, Windows):
        windows = _pool(config).windows(windows)
    return [
        Cell(size, window, seed, base, Objective(objective), method)
        for size, seed, base, objective, method, window in itertools.product(
            sorted(config.sizes),
            config.seeds,
            config.bases,
            config.objectives,
            config.methods,
            windows,
        )
    ]


class Keys:
    """Names cells by what they are made from: files by their content, bases by their weights."""

    def __init__(self, config: Config) -> None:
        """Hash what all cells share."""
        shared = config.model_dump(
            mode="json",
            include={
                "data",
                "loss",
                "delta",
                "fine_tune",
                "bounds",
                "batch_size",
                "dtype",
                "device",
            },
        )
        if not isinstance(config.data, Igsm):
            shared["data"] |= _pool(config).hashes()
        if config.cut_by_its_rows:  # other labels
            shared["cut_by_its_rows"] = True
        self._shared = shared | {"version": RECORD_VERSION}
        self._bases = {
            base: open_checkpoint(local_directory(resolve_base(base))).sha256()
            for base in config.bases
        }

    def of(self, cell: Cell) -> str:
        """Return the key of a cell: 16 hexadecimal digits."""
        return self._digest({"cell": asdict(cell) | {"base": self._bases[cell.base]}})

    def of_base(self, base: str) -> str:
        """Return the key of the base's own measurement."""
        return self._digest({"base": self._bases[base]})

    def shared(self) -> str:
        """Return a hash of what the records of one scan share, on whatever device they were made.

        The rows of a forward pass are the device's too.
        """
        what = {k: v for k, v in self._shared.items() if k not in ("device", "batch_size")}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]

    def _digest(self, what: dict[str, Any]) -> str:
        text = json.dumps(self._shared | what, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _pool(config: Config) -> Pool:
    if isinstance(config.data, Igsm):
        raise AssertionError("igsm has no pool")
    return open_pool(config.data)
