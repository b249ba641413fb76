"""What a fine-tune changes, as a whole: its tensors, and which of them are one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pacbayes_sft.checkpoints.base_weights import BaseWeights, same
from pacbayes_sft.checkpoints.streaming import paired_distances
from pacbayes_sft.checkpoints.tensor_change import TensorChange
from pacbayes_sft.errors import InputError


@dataclass(frozen=True)
class Changes:
    """The tensors that a fine-tune changes.

    Attributes:
        tensors: By the loaded model's name; of tensors that are one, only one.
        notes: What was decided on the way, in words: for the reader of the KL.
        untied: Heads that the base ties and the fine-tune does not: parameters of their own.
        tied: Heads that are one tensor with the embedding after the fine-tune, and were before.
        resized: Tensors with more or fewer rows than the base's.
        replicated: Whether the model has copies of the base's layers.
    """

    tensors: dict[str, TensorChange]
    notes: tuple[str, ...] = ()
    untied: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    replicated: bool = False

    @property
    def parameters(self) -> int:
        """Number of Gaussian entries."""
        return sum(change.parameters for change in self.tensors.values())

    def squared_distance(self) -> float:
        """Return ‖W − W₀‖² over all tensors.

        Raises:
            InputError: If it is too large for a number.
        """
        return math.fsum(self.squared_distances().values())

    def squared_distances(self) -> dict[str, float]:
        """Return ‖W − W₀‖² of every tensor; plain copies stream from mapped files.

        Raises:
            InputError: If one is too large for a number.
        """
        plain = {name: pair for name, t in self.tensors.items() if (pair := t.plain_copy())}
        found = dict(zip(plain, paired_distances(list(plain.values())), strict=True))
        for name, change in self.tensors.items():
            if name not in found:
                found[name] = change.squared_norm()
            if not math.isfinite(found[name]):
                raise InputError(f"{name}: ‖ΔW‖² is beyond every number; the weights are broken")
        return {name: found[name] for name in self.tensors}


def settle_ties(changes: Changes, base: BaseWeights) -> Changes:
    """Count an embedding and its tied head once where they are one before and after.

    Trained token rows follow the tie (PEFT ties their adapters); any other change of one of the
    two alone, or different changes of both, part them.
    """
    tensors = changes.tensors
    heads = [name for name in tensors if base.is_head(name)]
    embeddings = [name for name in tensors if base.is_embedding(name)]
    if not (heads or embeddings) or not base.ties_head:
        return changes
    if heads and embeddings:
        head, embedding = tensors[heads[0]], tensors[embeddings[0]]
        if embedding.tokens is not None and head.tokens is None and head.factors is not None:
            raise InputError(
                f"{embeddings[0]} has trained token rows and {heads[0]}, which the base ties to "
                "it, a LoRA: PEFT puts the rows under both, which is not read here; merge the "
                "adapter and give the full checkpoint"
            )
        if _one_copy(head, embedding):
            kept = {name: t for name, t in tensors.items() if name != heads[0]}
            note = f"{heads[0]} and {embeddings[0]} hold the same values: one tensor, counted once"
            return replace(changes, tensors=kept, notes=(*changes.notes, note), tied=(heads[0],))
        note = (
            f"the base ties {heads[0]} to {embeddings[0]}, the fine-tune parts them: both are "
            "counted, each from the base's one tensor"
        )
        return replace(changes, notes=(*changes.notes, note), untied=(heads[0],))
    name = (heads or embeddings)[0]
    change = tensors[name]
    if not heads and change.tokens is not None and change.factors is None:
        return changes
    other = "its embedding" if heads else "its head"
    note = (
        f"the base ties {name} to {other}, which the fine-tune leaves alone: the two part, and "
        "merging the adapter would change both"
    )
    apart = heads[0] if heads else "lm_head.weight"
    return replace(changes, notes=(*changes.notes, note), untied=(apart,))


def _one_copy(left: TensorChange, right: TensorChange) -> bool:
    """Whether two changed tensors hold the same values, both stored absolutely and nothing else."""
    copies = left.copy, right.copy
    if copies[0] is None or copies[1] is None or left.factors or right.factors:
        return False
    if left.tokens is not None or right.tokens is not None:
        return False
    return same(copies[0], copies[1])
