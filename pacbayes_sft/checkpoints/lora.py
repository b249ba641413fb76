"""Read the factors of a plain LoRA directory; what is more than factors is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pacbayes_sft.checkpoints.adapter_files import AdapterFiles, sort_adapter
from pacbayes_sft.checkpoints.base_weights import BaseWeights
from pacbayes_sft.checkpoints.files import ADAPTER, TensorFiles
from pacbayes_sft.checkpoints.peft_config import CONFIG
from pacbayes_sft.checkpoints.precision import quantisation
from pacbayes_sft.errors import InputError
from pacbayes_sft.reading import read_json

ROUNDING = 1e-10  # of ‖BA‖² beside ‖A‖²‖B‖²: factors made orthogonal in float32 leave 1e-14


@dataclass(frozen=True)
class LoraLayer:
    """One adapted matrix: W = W₀ + scaling·BA (transposed where the base stores W so).

    Attributes:
        module: Module path in the base model, e.g. ``model.layers.0.self_attn.q_proj``.
        a: Shape (r, in).
        b: Shape (out, r).
        scaling: lora_alpha/r, or lora_alpha/√r under rsLoRA.
    """

    module: str
    a: torch.Tensor
    b: torch.Tensor
    scaling: float

    @property
    def weight_name(self) -> str:
        """Name of the base tensor that it changes."""
        return f"{self.module}.weight"


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter as stored.

    Attributes:
        directory: Where it lies.
        config: The parsed ``adapter_config.json``.
        layers: Its adapted matrices, by module path.
        files: The tensor file behind it.
    """

    directory: Path
    config: Mapping[str, Any]
    layers: dict[str, LoraLayer]
    files: TensorFiles

    @property
    def parameters(self) -> int:
        """Number of entries of all factors."""
        return sum(layer.a.numel() + layer.b.numel() for layer in self.layers.values())


def read_adapter(directory: Path) -> Adapter:
    """Read the factors of an adapter whose factors are all there is to it.

    Plain LoRA on linear layers, also with rsLoRA, rank and alpha patterns, transposed layers, or
    made by ``add_weighted_adapter``.

    Raises:
        InputError: If a file is missing or broken, or the adapter changes the weights otherwise
            too; the feature is named.
    """
    found = sort_adapter(directory)
    if feature := beyond_factors(found):
        raise InputError(
            f"{directory / CONFIG}: {feature}, so a Gaussian around A and B alone is not this "
            "fine-tune's; use --space weights"
        )
    settings = found.settings
    layers = {}
    for module, kinds in sorted(found.modules.items()):
        where = f"{directory / ADAPTER}: module {module!r}"
        if kinds.keys() != {"lora_A", "lora_B"}:
            raise InputError(f"{where} has only one of lora_A and lora_B")
        a, b = (found.files.tensor(kinds[kind]) for kind in ("lora_A", "lora_B"))
        rank = a.shape[0]
        if b.shape[1] != rank:
            raise InputError(f"{where}: lora_A has rank {rank}, lora_B rank {b.shape[1]}")
        if (stated := settings.rank_of(module)) != rank:
            raise InputError(f"{where} has rank {rank}, but {CONFIG} says {stated}")
        layers[module] = LoraLayer(module, a, b, settings.scaling_of(module, rank))
    return Adapter(directory, read_json(directory / CONFIG), layers, found.files)


def beyond_factors(adapter: AdapterFiles) -> str | None:
    """Return what an adapter is besides A and B of linear layers, in words; None if nothing."""
    settings = adapter.settings
    init = settings.init_lora_weights
    kinds = {kind for found in adapter.modules.values() for kind in found}
    nested = any(module.endswith(".base_layer") for module in adapter.modules)
    said = {
        "use_dora also trains magnitudes": settings.use_dora or "magnitude" in kinds,
        "lora_bias also trains biases": settings.lora_bias or "lora_bias" in kinds,
        f"bias={settings.bias!r} also trains biases": settings.bias != "none",
        "modules_to_save also trains whole modules": settings.modules_to_save,
        "trainable_token_indices also trains rows of the embedding": (
            settings.trainable_token_indices or "tokens" in kinds
        ),
        "target_parameters change bare parameters": settings.target_parameters or nested,
        "layer_replication makes another model of the base": settings.layer_replication,
        f"init_lora_weights={init!r} also changes the base": settings.residual_init,
        "init_lora_weights='eva' chose A and the ranks from training rows": init == "eva",
        "init_lora_weights='mica' freezes B": init == "mica",
        "it also changes the embedding": kinds & {"embedding_A", "embedding_B"},
        "it also stores whole tensors": adapter.copies,
        f"its tensors carry the adapter name {adapter.adapter_names}, which PEFT leaves out": (
            adapter.adapter_names
        ),
    }
    return next((words for words, there in said.items() if there), None)


def begins_at_nothing(init: object) -> bool:
    """Return whether an ``init_lora_weights`` gives factors whose product is 0."""
    return init in (True, None, "gaussian", "orthogonal", "eva")


def adds_nothing(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether BA is 0, up to the rounding of factors that are orthogonal to each other.

    Args:
        a: Shape (r, in), or more axes behind r.
        b: Shape (out, r), or more axes of size 1 behind.
    """
    right, left = a.detach().flatten(1).double(), b.detach().flatten(1).double()
    inner, outer = right @ right.T, left.T @ left
    most = float(inner.trace() * outer.trace())
    return float((inner * outer).sum()) <= ROUNDING * most


def check_base(adapter: Adapter, base: TensorFiles) -> None:
    """Refuse a base whose tensors the adapter does not fit.

    Codes of a quantised base have shapes of their own: there only the modules' names are compared.

    Raises:
        InputError: Naming the first tensor that is missing or has another shape.
    """
    stored_as_codes = bool(quantisation(base.directory))
    weights = BaseWeights(base)
    for layer in adapter.layers.values():
        if stored_as_codes and any(name.startswith(f"{layer.module}.") for name in base.shape_of):
            continue
        expected = (layer.b.shape[0], layer.a.shape[1])  # GPT-2's Conv1D stores it transposed
        stored = weights.find(layer.weight_name)
        found = stored.shape if stored else None
        if found not in (expected, expected[::-1]):
            problem = "is missing there" if found is None else f"has shape {found} there"
            raise InputError(
                f"{adapter.directory}: this adapter is not for the base {base.directory}: it "
                f"changes {layer.weight_name!r} of shape {expected}, which {problem}; it was "
                f"made for {adapter.config.get('base_model_name_or_path')!r}"
            )


def other_base(finetuned: Path, base: str) -> str | None:
    """Return the base that an adapter's config names, if it is not the one given.

    Names are compared by their last part alone, since directories move.
    """
    file = finetuned / CONFIG
    named = read_json(file).get("base_model_name_or_path") if file.is_file() else None
    if not isinstance(named, str) or not named.strip("/"):
        return None
    last = named.strip("/").split("/")[-1]
    parts = {part.split("--")[-1] for part in base.partition("@")[0].split("/")}
    return None if last in parts else named
