"""A merged checkpoint is not the adapter: how far rounding moved it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pacbayes_sft.checkpoints.adapter_weights import adapter_changes
from pacbayes_sft.checkpoints.base_weights import BaseWeights, Stored
from pacbayes_sft.checkpoints.files import TensorFiles, open_checkpoint
from pacbayes_sft.checkpoints.full_weights import full_changes
from pacbayes_sft.checkpoints.tensor_change import TensorChange
from pacbayes_sft.errors import InputError

_SAME = 2.0**-20  # of the entry: as far as a merge in float32 may round


@dataclass(frozen=True)
class MergeDrift:
    """How far a merged checkpoint lies from its base plus the adapter.

    Attributes:
        distance: ‖merged − (W₀ + ΔW)‖ over all tensors.
        change: ‖ΔW‖.
        elsewhere: ‖merged − W₀‖ over the tensors that the adapter leaves alone.
        entries: Entries of the tensors that the adapter changes.
        moved: How many of them the merge rounded to something else than W₀ + ΔW.
        lost: How many the adapter changes, and the merge holds the base's value still.
    """

    distance: float
    change: float
    elsewhere: float
    entries: int
    moved: int
    lost: int

    @property
    def relative(self) -> float:
        """Distance relative to ‖ΔW‖; infinite for an adapter that changes nothing."""
        return self.distance / self.change if self.change else math.inf

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object."""
        return {
            "distance": self.distance,
            "change": self.change,
            "relative": self.relative if self.change else None,
            "elsewhere": self.elsewhere,
            "entries": self.entries,
            "share_moved": self.moved / self.entries,
            "share_lost": self.lost / self.entries,
        }


def merge_drift(base: TensorFiles, adapter: Path, merged: Path) -> MergeDrift:
    """Measure how far a merged checkpoint lies from its base plus the adapter, block by block.

    Raises:
        InputError: If the three do not fit together.
    """
    changes = adapter_changes(base, adapter)
    tensors = changes.tensors
    before, stored = BaseWeights(base), BaseWeights(open_checkpoint(merged))
    compared: set[str] = set()
    squares, change, moved, lost = 0.0, 0.0, 0, 0
    for name, tensor in tensors.items():
        found = stored.find(name)
        if found is None or found.shape != tensor.shape:
            shape = found.shape if found else None
            raise InputError(
                f"{merged}: not a merge of {adapter}: tensor {name!r} has shape {shape} there, not "
                f"{tensor.shape}"
            )
        compared |= {piece for pieces in found.pieces for piece in pieces}
        one = _compare(tensor, found)
        squares, change = squares + one[0], change + one[1]
        moved, lost = moved + one[2], lost + one[3]
    rest = [
        t.squared_norm()
        for t in full_changes(base, merged).tensors.values()
        if t.copy is not None and t.copy.name not in compared
    ]
    if changes.untied and before.embedding:  # the adapter may change one, the merge both
        if not any(map(before.is_head, tensors)):
            rest.append(_between(before, stored, changes.untied[0], compared))
        if not any(map(before.is_embedding, tensors)):
            rest.append(_between(before, stored, before.embedding, compared))
    return MergeDrift(
        math.sqrt(squares + sum(rest)),
        math.sqrt(change),
        math.sqrt(sum(rest)),
        sum(t.parameters for t in tensors.values()),
        moved,
        lost,
    )


def _between(before: BaseWeights, merged: BaseWeights, name: str, compared: set[str]) -> float:
    """Return ‖merged − W₀‖² of one of a tied pair, where the merge holds both as one tensor."""
    left, right = before.find(name), merged.find(name)
    if left is None or right is None or left.shape != right.shape or right.name not in compared:
        return 0.0
    blocks = list(left.blocks())
    return math.fsum(float((right.rows(*b) - left.rows(*b)).square().sum()) for b in blocks)


def _compare(tensor: TensorChange, merged: Stored) -> tuple[float, float, int, int]:
    """Return ‖merged − W‖², ‖ΔW‖², and how many entries were moved and lost."""
    squares, change, moved, lost = 0.0, 0.0, 0, 0
    for rows, after, before in tensor.blocks():
        there = merged.rows(rows.start, rows.stop)
        delta, off = after - before, (there - after).abs()
        squares += float(off.square().sum())
        change += float(delta.square().sum())
        moved += int((off > _SAME * (before.abs() + delta.abs())).sum())
        lost += int(((there == before) & (delta != 0)).sum())
    return squares, change, moved, lost
