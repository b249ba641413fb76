"""What a checkpoint directory contains, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from pacbayes_sft.checkpoints.adapter_files import HEADS, AdapterFiles, without_wrappers
from pacbayes_sft.checkpoints.base_weights import BaseWeights
from pacbayes_sft.checkpoints.files import TensorFiles, open_checkpoint
from pacbayes_sft.checkpoints.peft_config import SEES_DATA, LoraSettings
from pacbayes_sft.checkpoints.precision import stored_precision

KNOWN_PEFT = (0, 21)  # whose features this version knows
_INITS = {
    "True": "B = 0, A at random: starts at the base",
    "False": "A and B at random: the start is not the base",
    "None": "not stated",
    "gaussian": "B = 0, A Gaussian: starts at the base",
    "orthogonal": "BA = 0 with A, B ≠ 0: starts at the base",
    "pissa": "the base's leading singular part, which is taken out of the base at every load",
    "olora": "a QR factor of the base, which is taken out of the base at every load",
    "eva": "A from an SVD of training activations, ranks spread by them",
    "mica": "A = 0, B frozen at the base's minor singular vectors",
}


def adapter_contents(adapter: AdapterFiles) -> Iterator[tuple[str, str]]:
    """Yield (label, words) on what an adapter directory contains."""
    settings, shapes = adapter.settings, adapter.files.shape_of
    made = f"LoRA, saved by PEFT {settings.peft_version or '(version not stated)'}"
    yield "type", made
    yield "made for", settings.base_model_name_or_path or "a base that it does not name"
    paths = [m for m, kinds in adapter.modules.items() if kinds.keys() - {"tokens"}]
    if paths:
        rank_words, scaling_words = _ranks(adapter, paths)
        yield "rank", rank_words
        yield "scaling", scaling_words
        leaves = Counter(without_wrappers(m).rpartition(".")[2] for m in paths)
        yield "targets", ", ".join(f"{n} × {leaf}" for leaf, n in leaves.items())
    init = str(settings.init_lora_weights)
    yield "initialisation", f"{init}: {_INITS.get(init, 'unknown')}"
    yield "features", ", ".join(features(adapter)) or "none beyond plain LoRA"
    entries = sum(int(torch.Size(shape).numel()) for shape in shapes.values())
    yield "stored", f"{len(shapes):,} tensors, {entries:,} parameters, {_dtypes(adapter.files)}"


def features(adapter: AdapterFiles) -> list[str]:
    """Name what an adapter uses beyond plain LoRA on linear layers."""
    settings = adapter.settings
    kinds = {kind for found in adapter.modules.values() for kind in found}
    found = {
        "rsLoRA": settings.use_rslora,
        "rank pattern": settings.rank_pattern,
        "alpha pattern": settings.alpha_pattern,
        "fan-in-fan-out": settings.fan_in_fan_out,
        "DoRA": settings.use_dora,
        "embedding": kinds & {"embedding_A", "embedding_B"},
        f"bias={settings.bias}": settings.bias != "none",
        "lora_bias": settings.lora_bias,
        f"modules_to_save {_list(settings.modules_to_save)}": settings.modules_to_save,
        f"{_rows(settings)} trained token rows": settings.trainable_token_indices,
        f"target_parameters {_list(settings.target_parameters)}": settings.target_parameters,
        f"layer_replication {settings.layer_replication}": settings.layer_replication,
    }
    return [words for words, there in found.items() if there]


def adapter_warnings(adapter: AdapterFiles) -> Iterator[str]:
    """Yield what is odd about an adapter, or costs more KL than one would think."""
    settings = adapter.settings
    saved = [n for n in settings.modules_to_save or [] if n.rpartition(".")[2] in HEADS]
    if saved:
        entries = sum(
            int(torch.Size(adapter.files.shape_of[stored]).numel())
            for name, stored in adapter.copies.items()
            if name.split(".")[-2] in saved
        )
        trl = " (TRL adds it by itself when it adds chat-template tokens)"
        why = trl if settings.trainable_token_indices else ""
        yield (
            f"modules_to_save has {_list(saved)}{why}: all its {entries:,} entries were trained "
            "and count in the KL"
        )
    if settings.init_lora_weights == "eva":
        yield SEES_DATA
    if settings.residual_init:
        yield (
            "the base is changed whenever this adapter is loaded: the KL is that of s(BA − B₀A₀), "
            "with B₀A₀ computed anew from the base; a base held in bfloat16 is then rounded too, "
            "which is not counted"
        )
    if adapter.adapter_names:
        yield (
            f"the keys carry the adapter name {_list(adapter.adapter_names)}, with which PEFT may "
            "not load them"
        )
    if _is_newer(settings.peft_version):
        yield (
            f"saved by PEFT {settings.peft_version}, newer than the {KNOWN_PEFT[0]}."
            f"{KNOWN_PEFT[1]} that this version knows; what it does not know it would have refused"
        )


def full_contents(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield (label, words) on what a full checkpoint contains."""
    files = open_checkpoint(directory)
    weights = BaseWeights(files)
    entries = sum(int(torch.Size(shape).numel()) for shape in files.shape_of.values())
    yield (
        "type",
        f"full checkpoint of {weights.config.get('model_type', 'an unnamed architecture')}",
    )
    yield "stored", f"{len(files.shape_of):,} tensors, {entries:,} parameters, {_dtypes(files)}"
    yield "files", f"{len(files.files)}"
    yield "weights", stored_precision(directory)
    yield "head", "tied to the embedding" if weights.ties_head else "a tensor of its own"


def _ranks(adapter: AdapterFiles, paths: list[str]) -> tuple[str, str]:
    settings = adapter.settings
    if settings.target_parameters:
        ranks = {settings.r, *(settings.rank_pattern or {}).values()}
        return _range(ranks), "alpha/√r" if settings.use_rslora else "alpha/r"
    found = {}
    for path in paths:
        kinds = adapter.modules[path]
        name = kinds.get("lora_A") or kinds.get("embedding_A")
        if name is not None:
            found[path] = adapter.files.shape_of[name][0]
    scalings = {settings.scaling_of(path, rank) for path, rank in found.items()}
    return _range(set(found.values())), _range(scalings)


def _range(values: Iterable[float]) -> str:
    found = sorted(values)
    if not found:
        return "none"
    return f"{found[0]:.4g}" if len(found) == 1 else f"{found[0]:.4g} to {found[-1]:.4g}"


def _dtypes(files: TensorFiles) -> str:
    found = {str(files.rows(n, 0, 1).dtype).removeprefix("torch.") for n in files.shape_of}
    return ", ".join(sorted(found))


def _rows(settings: LoraSettings) -> int:
    named = settings.trainable_token_indices or []
    return sum(map(len, named.values())) if isinstance(named, dict) else len(named)


def _list(words: Iterable[str] | None) -> str:
    return ", ".join(words or ())


def _is_newer(version: str | None) -> bool:
    parts = (version or "").split(".")
    if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        return False
    return (int(parts[0]), int(parts[1])) > KNOWN_PEFT
