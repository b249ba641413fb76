"""What a scan measures, each with the name of its record: the bases, then the cells."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pacbayes_sft.checkpoints.files import settings_sha256
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import local_directory, resolve_base
from pacbayes_sft.scan.cells import Keys, list_cells
from pacbayes_sft.scan.config import Cell, Config, Files
from pacbayes_sft.scan.measure import Record, measure_base, measure_cell
from pacbayes_sft.scan.rows import open_pool
from pacbayes_sft.scan.shape import MEND

FEWEST_CERTIFIED = 2


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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what trainers and loaders print off the terminal; warnings still come through."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        yield
