"""From a full checkpoint and its base to the change of each weight tensor."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch

from pacbayes_sft.checkpoints.base_weights import BaseWeights, Stored, same
from pacbayes_sft.checkpoints.changes import Changes
from pacbayes_sft.checkpoints.files import TensorFiles, open_checkpoint
from pacbayes_sft.checkpoints.precision import refuse_quantised
from pacbayes_sft.checkpoints.tensor_change import TensorChange
from pacbayes_sft.checkpoints.vocabulary import fit_rows
from pacbayes_sft.errors import InputError

# What training tools put before the names of a model that they wrapped.
_WRAPPERS = ("_orig_mod.", "module.", "base_model.model.")
WRAPPED = rf"^(?:{'|'.join(map(re.escape, _WRAPPERS))})+"
_BUFFER = re.compile(r"(position_ids|\.attn\.(masked_)?bias|attention\.(masked_)?bias)$")


def is_wrapped(files: TensorFiles) -> bool:
    """Return whether tensors carry the prefix of a wrapper (torch.compile, DDP, PEFT)."""
    return any(name.startswith(_WRAPPERS) for name in files.file_of)


def full_changes(base: TensorFiles, directory: Path) -> Changes:
    """Return what a full checkpoint makes of each tensor of its base.

    Dtypes may differ, tensors may be sharded otherwise or carry a wrapper's prefix; an embedding
    and a tied head are counted once where they are one tensor on both sides.

    Raises:
        InputError: If either is quantised, or a tensor of one has no counterpart in the other.
    """
    tuned = open_checkpoint(directory)
    refuse_quantised(base.directory)
    refuse_quantised(directory)
    before, after = BaseWeights(base), BaseWeights(tuned)
    names = _plain_names(tuned)
    tensors: dict[str, TensorChange] = {}
    notes: list[str] = []
    resized: list[str] = []
    used: set[str] = set()
    for name, stored in names.items():
        copy = Stored(tuned, ((stored,),), tuned.shape_of[stored])
        start = before.find(name)
        if start is None:
            _refuse(directory, base, name, copy.shape, None)
        assert start is not None
        used |= {piece for pieces in start.pieces for piece in pieces}
        start, note = fit_rows(start, copy, name, str(directory))
        if note:
            notes.append(note)
            resized.append(name)
        tensors[name] = TensorChange(name, start, copy=copy)
    renamed = sum(name != stored for name, stored in names.items())
    if renamed:
        notes.append(f"{renamed} tensors carry a wrapper's prefix in {directory}; it is left out")
    found = Changes(tensors, tuple(notes), resized=tuple(resized))
    return _settle_head(found, before, after, used)


def _plain_names(tuned: TensorFiles) -> dict[str, str]:
    """The stored name of each weight by its name in an unwrapped model."""
    found: dict[str, str] = {}
    for stored in tuned.file_of:
        name = stored
        while wrapper := next((w for w in _WRAPPERS if name.startswith(w)), None):
            name = name.removeprefix(wrapper)
        if _is_buffer(stored, tuned):
            continue
        if name in found:
            raise InputError(
                f"{tuned.directory}: tensors {found[name]!r} and {stored!r} are the same weight"
            )
        found[name] = stored
    return found


def _is_buffer(name: str, files: TensorFiles) -> bool:
    """Masks and frequencies that old checkpoints carry beside their weights."""
    if name.endswith("rotary_emb.inv_freq"):
        return True
    return bool(_BUFFER.search(name)) and len(files.shape_of[name]) != 1  # a bias has one dimension


def _settle_head(
    changes: Changes, before: BaseWeights, after: BaseWeights, used: set[str]
) -> Changes:
    """Count a tied head once; pair one that only one side stores with the other's embedding."""
    tensors, notes = dict(changes.tensors), list(changes.notes)
    missing = [
        n for n in before.files.shape_of if n not in used and not _is_buffer(n, before.files)
    ]
    directory = after.files.directory
    head = next((n for n in tensors if before.is_head(n)), None)
    embedding = next((n for n in tensors if before.is_embedding(n)), None)
    if head is None and len(missing) == 1 and before.is_head(missing[0]):
        head = missing.pop()
        if embedding is None or after.config.get("tie_word_embeddings", True) is False:
            missing.append(head)
        else:
            start, copy = before.find(head), tensors[embedding].copy
            assert start is not None and copy is not None
            start, _ = fit_rows(start, copy, head, str(directory))
            tensors[head] = TensorChange(head, start, copy=copy)
    if missing:
        _refuse(directory, before.files, missing[0], None, before.files.shape_of[missing[0]])
    if head is None or embedding is None or head not in tensors:
        return replace(changes, tensors=tensors)
    left, right = tensors[head], tensors[embedding]
    assert left.copy is not None and right.copy is not None
    alike = same(left.copy, right.copy)
    if not same(left.base, right.base):
        if alike:
            notes.append(
                f"{head} is {embedding} in the fine-tune, but a tensor of its own in the base: "
                "both are counted, each from its own mean"
            )
        return replace(changes, tensors=tensors, notes=tuple(notes), untied=(head,))
    if alike:
        del tensors[head]
        notes.append(f"{head} and {embedding} are one tensor on both sides: counted once")
        return replace(changes, tensors=tensors, notes=tuple(notes), tied=(head,))
    notes.append(
        f"the base ties {head} to {embedding}, the fine-tune parts them: both are counted, each "
        "from the base's one tensor"
    )
    return replace(changes, tensors=tensors, notes=tuple(notes), untied=(head,))


def _refuse(
    directory: Path,
    base: TensorFiles,
    name: str,
    there: tuple[int, ...] | None,
    in_base: tuple[int, ...] | None,
) -> None:
    hint = ""
    if there is not None and torch.Size(there).numel() > 0 and in_base is None:
        hint = (
            "; a new head has no pre-trained mean: put its initial values into the base and give "
            "that as --base"
        )
    raise InputError(
        f"{directory}: not a fine-tune of {base.directory}: tensor {name!r} has shape {there} "
        f"there and {in_base} in the base{hint}"
    )
