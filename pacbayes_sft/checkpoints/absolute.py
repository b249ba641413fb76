"""What an adapter stores absolutely: whole tensors, and rows of an embedding."""

from __future__ import annotations

from dataclasses import replace

import torch

from pacbayes_sft.checkpoints.adapter_files import EMBEDDINGS, AdapterFiles
from pacbayes_sft.checkpoints.base_weights import BaseWeights, Stored, same
from pacbayes_sft.checkpoints.peft_config import CONFIG
from pacbayes_sft.checkpoints.tensor_change import TensorChange
from pacbayes_sft.checkpoints.vocabulary import fit_rows
from pacbayes_sft.errors import InputError


def copied_tensor(
    adapter: AdapterFiles, weights: BaseWeights, name: str, stored: str
) -> tuple[TensorChange | None, str | None]:
    """Return the change to a tensor that is stored whole, and what was done to its rows.

    None stands for a tensor that is the base's own, saved beside its factors.

    Raises:
        InputError: If the base has no such tensor, or one of another shape.
    """
    files = adapter.files
    copy = Stored(files, ((stored,),), files.shape_of[stored])
    base = weights.find(name)
    if base is None and name.endswith(".bias"):
        base = Stored(files, ((stored,),), copy.shape, zero=True)
    if base is None:
        raise InputError(
            f"{adapter.where}: stores {name!r}, which the base {weights.files.directory} does not "
            "have, so there is no pre-trained mean for it; put its initial values into the base "
            "and give that as --base"
        )
    base, note = fit_rows(base, copy, name, adapter.where)
    if ".base_layer." in stored and note is None and same(base, copy):
        return None, None
    return TensorChange(name, base, copy=copy), note


def token_rows(
    adapter: AdapterFiles,
    weights: BaseWeights,
    module: str,
    stored: str,
    known: dict[str, TensorChange],
) -> TensorChange:
    """Return the change to an embedding of which some rows were trained.

    They are stored as they are, not as differences, despite their name in the file.

    Raises:
        InputError: If the config does not say which rows they are, or the embedding lacks one.
    """
    values = adapter.files.tensor(stored)
    named = adapter.settings.trainable_token_indices
    if isinstance(named, dict):
        fitting = [v for key, v in named.items() if module == key or module.endswith(f".{key}")]
        indices = fitting[0] if len(fitting) == 1 else None
    else:
        indices = named if module.rpartition(".")[2] in EMBEDDINGS else None
    name = f"{module}.weight"
    base = known[name].base if name in known else weights.find(name)
    if indices is None or base is None:
        raise InputError(
            f"{adapter.where}: {stored!r} has no trainable_token_indices in {CONFIG}, or no tensor "
            f"{name!r} in the base {weights.files.directory}; save the adapter anew with PEFT"
        )
    if values.shape != (len(indices), base.shape[-1]) or len(set(indices)) != len(indices):
        raise InputError(
            f"{adapter.where}: {stored!r} has shape {tuple(values.shape)} for {len(indices)} "
            f"trainable_token_indices of {name!r} ({base.shape} in the base)"
        )
    if outside := [i for i in indices if not 0 <= i < base.shape[0]]:
        raise InputError(
            f"{adapter.directory / CONFIG}: trainable_token_indices names token {outside[0]}, "
            f"but {name!r} has {base.shape[0]} rows in the base; save the adapter with "
            "save_embedding_layers=True"
        )
    tokens = (torch.tensor(indices, dtype=torch.long), values)
    if name in known:
        return replace(known[name], tokens=tokens)
    return TensorChange(name, base, tokens=tokens)


def without_repeated_copies(tensors: dict[str, TensorChange]) -> dict[str, TensorChange]:
    """Return tensors of replicated layers, which share their biases, once each."""
    kept: dict[str, TensorChange] = {}
    for name, change in tensors.items():
        twin = any(
            change.copy is not None
            and other.copy is not None
            and change.addend is None
            and other.base.pieces == change.base.pieces
            and same(other.copy, change.copy)
            for other in kept.values()
        )
        if not twin:
            kept[name] = change
    return kept
