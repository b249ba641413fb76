"""The directory of a fine-tune while it is made: whose it is, and whether it is finished."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from pacbayes_sft.alone import alone
from pacbayes_sft.atomic import replacing
from pacbayes_sft.checkpoints.record import RECORD_DIR, RUN
from pacbayes_sft.errors import InputError
from pacbayes_sft.processes import Team

PARTIAL = ".partial"
DONE = ".done"
NOTE = "asked.json"
LOCK = ".lock"


@contextmanager
def claimed(out: Path, asked: Any) -> Iterator[None]:
    """Keep a directory for one run of these settings; it is finished if the block ends well.

    Raises:
        InputError: If another run is at work there or came to its end meanwhile.
    """
    with alone(
        out / PARTIAL / LOCK,
        f"{out}: another sft is at work there; wait for it, or give another --out",
    ):
        _claim(out, asked)
        yield
        # at once: a run that is killed while its notes go is finished, not broken
        (out / PARTIAL).rename(out / DONE)
    shutil.rmtree(out / DONE)


def refusal(team: Team, out: Path, asked: Any) -> InputError | None:
    """Return why the directory cannot be used, as the first process sees it."""
    try:
        if team.first:
            refuse_other_use(out, asked)
    except InputError as error:
        return error
    return None


@contextmanager
def claimed_by_first(team: Team, out: Path, asked: Any) -> Iterator[None]:
    """Keep the directory for this run; all of the processes go on from one checkpoint, or none."""
    with ExitStack() as stack:
        why = None
        try:
            if team.first:
                stack.enter_context(claimed(out, asked))
        except InputError as error:
            why = error
        team.agree({}, why)
        places = [last_whole_checkpoint(out / PARTIAL / name) for name in ("1", "2")]
        team.agree({"directory": [(out / PARTIAL).is_dir(), *places]})
        yield


def last_whole_checkpoint(work: Path) -> str | None:
    """Return the last checkpoint that was written to its end; a kill may leave a later one half."""
    from transformers.trainer import TRAINER_STATE_NAME

    def steps(folder: Path) -> int:
        return int(folder.name.rpartition("-")[2])

    for folder in sorted(work.glob("checkpoint-*"), key=steps, reverse=True):
        try:  # the state is what the trainer writes last; of several processes each has its own
            json.loads((folder / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if all(is_zipfile(file) for file in folder.glob("rng_state*.pth")):
            return str(folder)
    return None


def is_finished(out: Path) -> bool:
    """Return whether a directory holds a fine-tune that `run_sft` brought to its end."""
    return (out / RECORD_DIR / RUN).is_file() and not (out / PARTIAL).exists()


def refuse_other_use(out: Path, asked: Any) -> None:
    """Refuse a directory that holds anything but this very run, unfinished.

    Raises:
        InputError: Naming what it holds.
    """
    note = out / PARTIAL / NOTE
    if note.is_file():
        try:
            before = json.loads(note.read_text(encoding="utf-8"))
        except ValueError:
            raise InputError(
                f"{note}: cut short, so nobody can say what the unfinished fine-tune there was; "
                "remove its directory, or give another --out"
            ) from None
        if before != asked:
            raise InputError(
                f"{out}: holds an unfinished fine-tune with other settings; give the same settings "
                "to finish it, or another --out"
            )
    elif out.is_file() or any(p not in (note.parent, note.parent / LOCK) for p in out.rglob("*")):
        raise InputError(f"{out}: not empty; give another --out (nothing was overwritten)")


def _claim(out: Path, asked: Any) -> None:
    """Note what is asked, unless another run came to its end here since that was looked at."""
    try:
        refuse_other_use(out, asked)
    except InputError:
        if not (out / PARTIAL / NOTE).is_file():  # nothing but this run's lock
            shutil.rmtree(out / PARTIAL)
        raise
    _note_what_was_asked(out, asked)


def _note_what_was_asked(out: Path, asked: Any) -> None:
    """Leave what a resumed run must match; the first thing written."""
    with replacing(out / PARTIAL / NOTE) as partial:
        partial.write_text(json.dumps(asked), encoding="utf-8")
