"""Count and make the draws of a fine-tune: each that could be kept must be paid for.

A disintegrated bound holds for one draw, made after all that its event depends on was settled.
Whoever draws again and keeps the better one has made two: the best of 10,000 uncharged draws
breaks a 5 % bound most of the time (design §4). So

* every draw is written down beside the fine-tune **before** its risk is known;
* K draws declared before the first get δ/K each, and a declaration cannot be changed later (draws
  at δ/1, δ/2, δ/3, ... would add up to more than δ); undeclared, the k-th gets 6δ/(π²k²);
* the noise of a draw has a stream of its own for everything its event depends on, so that a
  posterior, loss or dtype chosen after looking at one draw meets fresh noise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from estimators import DiagonalGaussian
from pacbayes_sft.atomic import replacing
from pacbayes_sft.checkpoints.record import RECORD_DIR
from pacbayes_sft.errors import InputError
from pacbayes_sft.gibbs import stream_of
from pacbayes_sft.reading import read_json

DRAWS = "draws.json"
MADE, DECLARED = "draws", "declared"

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Numbered:
    """Which draw from a fine-tune this is.

    Attributes:
        k: Counted from 1 over all draws ever made from the fine-tune.
        declared: K, declared before the first draw; None: nothing was.
    """

    k: int
    declared: int | None


def event_sha256(event: Event) -> str:
    """Return one hash of all that a draw's event depends on."""
    return hashlib.sha256(json.dumps(dict(event), sort_keys=True).encode()).hexdigest()


def draw_from(posterior: DiagonalGaussian, event: Event) -> dict[str, torch.Tensor]:
    """Draw θ ~ Q from the event's own stream: the same event gives the same draw.

    Args:
        posterior: Q, as `load_gaussian` reads it (the order of its names decides the noise).
        event: What the certificate will speak of, its ``seed`` included.

    Returns:
        The draw, float32, by name of the posterior's tensors.
    """
    purpose = f"certified draw {event_sha256(event)}"
    generator = torch.Generator().manual_seed(stream_of(int(event["seed"]), purpose))
    return {name: t.float().contiguous() for name, t in posterior.sample(generator).items()}


def count_draw(finetuned: Path, event: Event, declared: int | None) -> Numbered:
    """Return the number of a draw, and write it down if it is new; the same again has the same k.

    Args:
        finetuned: Directory of the fine-tune, that keeps the count in ``pacbayes_sft/draws.json``.
        event: What the certificate will speak of.
        declared: How many draws were declared before the first; None: what the count says.

    Raises:
        InputError: If the declaration contradicts the count, all declared draws were made, or the
            count cannot be kept.
    """
    file = finetuned / RECORD_DIR / DRAWS
    try:
        file.parent.mkdir(exist_ok=True)
        with FileLock(f"{file}.lock"):  # two runs at once must not share a number
            return _counted(file, {**event, "event_sha256": event_sha256(event)}, declared)
    except OSError as error:
        raise InputError(
            f"{file}: the number of draws cannot be kept there ({error.strerror}), and a draw "
            "that is not counted cannot be certified; make the directory writable"
        ) from None


def agreed_number(finetuned: Path, declared: int | None) -> int | None:
    """Return how many draws were declared for a fine-tune, by its count or now.

    Raises:
        InputError: If draws were made already and the count says otherwise.
    """
    file = finetuned / RECORD_DIR / DRAWS
    return _agreed(file, *_read(file), declared)


def _counted(file: Path, event: dict[str, Any], declared: int | None) -> Numbered:
    made, recorded = _read(file)
    declared = _agreed(file, made, recorded, declared)
    if event not in made:
        if declared is not None and len(made) >= declared:
            raise InputError(
                f"{file}: all {declared} draws that were declared have been made; use one of "
                "these, or fine-tune on fresh rows"
            )
        made.append(event)
        text = json.dumps({DECLARED: declared, MADE: made}, indent=1)
        with replacing(file) as partial:
            partial.write_text(text + "\n", encoding="utf-8")
    return Numbered(made.index(event) + 1, declared)


def _read(file: Path) -> tuple[list[Any], int | None]:
    if not file.is_file():
        return [], None
    record = read_json(file)
    made, declared = record.get(MADE), record.get(DECLARED)
    if not isinstance(made, list) or not (declared is None or isinstance(declared, int)):
        raise InputError(f"{file}: not a count of draws; restore it, it must not start anew")
    return made, declared


def _agreed(file: Path, made: list[Any], recorded: int | None, declared: int | None) -> int | None:
    if not made:
        return declared
    if declared is not None and declared != recorded:
        before = f"{recorded} were declared" if recorded else "none were declared"
        raise InputError(
            f"{file}: {before} before the first draw was made, so --declared-draws {declared} "
            "comes too late; leave the flag out"
        )
    return recorded
