"""Read a PEFT LoRA directory: its factors, its scaling, and which base weights it changes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pacbayes_sft.checkpoints.files import ADAPTER, TensorFiles, open_checkpoint, read_json
from pacbayes_sft.checkpoints.precision import quantisation
from pacbayes_sft.errors import InputError

CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."

# Fields of adapter_config.json that leave the meaning of the stored factors alone.
_HARMLESS = {
    "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path",
    "revision", "inference_mode", "r", "target_modules", "exclude_modules", "lora_alpha",
    "lora_dropout", "fan_in_fan_out", "bias", "use_rslora", "init_lora_weights",
    "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "megatron_core",
    "qalora_group_size", "runtime_config",
}  # fmt: skip
_PLAIN_INITS = (True, False, "gaussian", "orthogonal", None)


@dataclass(frozen=True)
class LoraLayer:
    """One adapted matrix: W = W₀ + scaling·BA (transposed where ``transposed``).

    Attributes:
        module: Module path in the base model, e.g. ``model.layers.0.self_attn.q_proj``.
        a: Shape (r, in).
        b: Shape (out, r).
        scaling: lora_alpha/r, or lora_alpha/√r under rsLoRA.
        transposed: Whether the base stores the weight as (in, out) (GPT-2's Conv1D).
    """

    module: str
    a: torch.Tensor
    b: torch.Tensor
    scaling: float
    transposed: bool

    @property
    def weight_name(self) -> str:
        """Name of the base tensor that it changes."""
        return f"{self.module}.weight"

    def delta(self) -> torch.Tensor:
        """Return s·BA in the orientation of the base weight, float64."""
        change = self.scaling * (self.b.double() @ self.a.double())
        return change.T if self.transposed else change


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


def is_adapter(directory: Path) -> bool:
    """Return whether a directory is meant as a PEFT adapter rather than a full checkpoint."""
    return (directory / CONFIG).exists() or (directory / ADAPTER).exists()


def read_adapter(directory: Path) -> Adapter:
    """Read a plain LoRA adapter.

    Raises:
        InputError: If a file is missing or broken, or the adapter uses a feature whose change of
            the weights this version cannot compute; the feature is named.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: no such adapter directory")
    config = read_json(directory / CONFIG)
    _refuse_unsupported(config, directory / CONFIG)
    files = open_checkpoint(directory)
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in files:
        match = re.fullmatch(rf"{re.escape(_PREFIX)}(.+)\.lora_([AB])\.weight", name)
        if not match:
            raise InputError(
                f"{directory / ADAPTER}: tensor {name!r} is not a lora_A or lora_B weight; "
                "only plain LoRA on linear layers can be read"
            )
        if tensor.ndim != 2:
            raise InputError(
                f"{directory / ADAPTER}: tensor {name!r} has {tensor.ndim} dimensions, not 2; "
                "a sharded (FSDP, DeepSpeed) adapter must be gathered before saving"
            )
        pairs.setdefault(match[1], {})[match[2]] = tensor
    if not pairs:
        raise InputError(f"{directory / ADAPTER}: holds no LoRA factors")
    layers = {m: _layer(m, p, config, directory) for m, p in sorted(pairs.items())}
    return Adapter(directory, config, layers, files)


def check_base(adapter: Adapter, base: TensorFiles) -> None:
    """Refuse a base whose tensors the adapter does not fit.

    Codes of a quantised base have shapes of their own: there only the modules' names are compared.

    Raises:
        InputError: Naming the first tensor that is missing or has another shape.
    """
    stored_as_codes = bool(quantisation(base.directory))
    for layer in adapter.layers.values():
        if stored_as_codes and any(name.startswith(f"{layer.module}.") for name in base.shape_of):
            continue
        out_in = (layer.b.shape[0], layer.a.shape[1])
        expected = out_in[::-1] if layer.transposed else out_in
        found = base.shape_of.get(layer.weight_name)
        if found != expected:
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


def _layer(
    module: str, pair: dict[str, torch.Tensor], config: Mapping[str, Any], directory: Path
) -> LoraLayer:
    where = f"{directory / ADAPTER}: module {module!r}"
    if pair.keys() != {"A", "B"}:
        raise InputError(f"{where} has only one of lora_A and lora_B")
    a, b = pair["A"], pair["B"]
    rank = a.shape[0]
    if b.shape[1] != rank:
        raise InputError(f"{where}: lora_A has rank {rank}, lora_B rank {b.shape[1]}")
    stated = _pattern_value(module, config.get("rank_pattern"), config.get("r"))
    if stated != rank:
        raise InputError(f"{where} has rank {rank}, but {CONFIG} says {stated}")
    alpha = _pattern_value(module, config.get("alpha_pattern"), config.get("lora_alpha"))
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise InputError(f"{directory / CONFIG}: lora_alpha of {module!r} is {alpha!r}, no number")
    scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return LoraLayer(module, a, b, scaling, bool(config.get("fan_in_fan_out")))


def _pattern_value(module: str, patterns: Any, default: Any) -> Any:
    """PEFT's rule: the first pattern that matches the end of the module path wins."""
    for key, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({key})", module):
            return value
    return default


def _refuse_unsupported(config: Mapping[str, Any], file: Path) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise InputError(f"{file}: peft_type {kind!r} cannot be read, only LORA")
    if config.get("bias", "none") != "none":
        raise InputError(f"{file}: bias={config['bias']!r} also trains biases; not supported yet")
    init = config.get("init_lora_weights", True)
    if init not in _PLAIN_INITS:
        raise InputError(
            f"{file}: init_lora_weights={init!r} changes the base or reads training data; "
            "convert it to plain LoRA (PEFT: path_initial_model_for_weight_conversion)"
        )
    for field, value in config.items():
        if field not in _HARMLESS and value not in (None, False, {}, []):
            raise InputError(
                f"{file}: {field}={value!r} is not supported; without it this version would "
                "compute the change of the weights wrongly"
            )
