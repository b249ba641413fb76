"""The first pass over the rows: watched at the sampler, noted, so that a kill loses no order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Sampler

from pacbayes_sft.atomic import replacing
from pacbayes_sft.order import batches_of

RESUMED_WITHOUT_NOTES = "the run was resumed, and its order before that is not on record"
RESUMED_OTHERWISE = (
    "the run was resumed with other rows, rows a step or prior_fraction than it had begun with"
)


class FirstPass:
    """Which places of the data set a training reads in its first pass, in which order.

    Attributes:
        unknown: Why the order of a resumed training cannot be known; empty where it can.
    """

    def __init__(
        self,
        loader: Any,
        notes: Path,
        reading: Mapping[str, Any],
        *,
        places: int,
        rows_a_step: int,
        steps_done: int,
    ) -> None:
        """Begin the record, or take it up again where the training goes on.

        Args:
            loader: The training loader; its sampler is replaced by a watched one.
            notes: Where the record lies until the training ends.
            reading: What is read and how; a training that goes on must read the same.
            places: Rows of the data set.
            rows_a_step: How many a step reads.
            steps_done: Steps of an earlier call.
        """
        self.unknown = ""
        self._notes, self._places, self._rows_a_step = notes, places, rows_a_step
        self._watched = watch(loader)
        self._begun_at, self._before, self._noted = steps_done, list[int](), 0
        if steps_done == 0:
            begin_notes(notes, reading)
            return
        then, self._before = read_notes(notes)
        self._noted = len(self._before)
        if then != reading:
            self.unknown = RESUMED_OTHERWISE if then else RESUMED_WITHOUT_NOTES

    @property
    def drawn(self) -> list[int]:
        """What the sampler yielded in the first pass, be that now or before the run was resumed."""
        if self._begun_at * self._rows_a_step >= self._places:
            return self._before
        return self._watched.drawn

    def read_by(self, step: int) -> list[int]:
        """Return what the steps up to this one read, as far as it is known yet."""
        known = self.drawn or self._before  # of a resumed run the sampler has yielded nothing yet
        return known[: step * self._rows_a_step]

    def note(self) -> None:
        """Write down what was drawn since the last note."""
        drawn = self.drawn
        append_drawn(self._notes, drawn[self._noted :])
        self._noted = max(self._noted, len(drawn))

    def order(self) -> list[int]:
        """Return all places in the order of their first sight; what was never drawn comes last.

        Empty, with the reason in ``unknown``, where the notes do not tell.
        """
        drawn, seen = self.drawn, min(self._begun_at * self._rows_a_step, self._places)
        if len(self._before) < seen or drawn[:seen] != self._before[:seen]:
            self.unknown = RESUMED_WITHOUT_NOTES
            return []
        return list(dict.fromkeys([*drawn, *range(self._places)]))


class WatchedSampler(Sampler[int]):
    """A sampler that notes what it yields in its first pass; otherwise the one it stands for."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler
        self.drawn: list[int] = []
        self._passes = 0

    def __iter__(self) -> Iterator[int]:
        first = self._passes == 0
        self._passes += 1
        for index in self._sampler:
            if first:
                self.drawn.append(int(index))
            yield index

    def __len__(self) -> int:
        return len(self._sampler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)


def watch(dataloader: Any) -> WatchedSampler:
    """Put a watched sampler in the place of a data loader's own and return it."""
    batches = batches_of(dataloader)
    batches.sampler = watched = WatchedSampler(batches.sampler)
    return watched


def append_drawn(file: Path, drawn: Sequence[int]) -> None:
    """Add what was drawn since to a run's notes, so that a killed run knows its order.

    A line that a kill cut short is taken off first: it was not counted as drawn when it was read.
    """
    if not drawn:
        return
    with file.open("a+b") as notes:
        end = notes.tell()
        notes.seek(max(0, end - 1))
        if notes.read() not in (b"", b"\n"):
            notes.seek(0)
            notes.truncate(notes.read().rfind(b"\n") + 1)
        notes.write(json.dumps(list(drawn)).encode() + b"\n")


def begin_notes(file: Path, reading: Mapping[str, Any]) -> None:
    """Begin a run's notes with what it reads and how; whoever goes on must read the same."""
    with replacing(file) as partial:
        partial.write_text(json.dumps(reading) + "\n", encoding="utf-8")


def read_notes(file: Path) -> tuple[dict[str, Any], list[int]]:
    """Return what a run set out to read and what it had drawn.

    A line cut short by a kill is left out; without a file both are empty.
    """
    whole = file.read_bytes().split(b"\n")[:-1] if file.is_file() else []
    reading, *drawn = map(json.loads, whole or [b"{}"])
    return reading, [place for line in drawn for place in line]
