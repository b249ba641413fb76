"""Tiny randomly initialised models of real architectures, and adapters on them made by PEFT."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
)

_SMALL = {
    "vocab_size": 40,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_EXPERTS = {
    "num_experts": 3,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 4,
    "shared_expert_intermediate_size": 12,
}
CONFIGS = {
    "llama": LlamaConfig(**_SMALL, tie_word_embeddings=False, attention_bias=True),
    "tied": LlamaConfig(**_SMALL, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**_SMALL, tie_word_embeddings=False),
    "qwen3": Qwen3Config(**_SMALL, tie_word_embeddings=True, head_dim=4),
    "gpt2": GPT2Config(
        vocab_size=40, n_positions=32, n_embd=8, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2
    ),
    "mixtral": MixtralConfig(**_SMALL, num_local_experts=3, num_experts_per_tok=2),
    "qwen2_moe": Qwen2MoeConfig(**_SMALL, **_EXPERTS),
}


def make_base(name: str, folder: Path) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name])
    with torch.no_grad():  # biases and norms of 0 and 1 would hide mistakes
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def load(base: Path, dtype: torch.dtype = torch.float64) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(base, dtype=dtype)


def disturb(model: torch.nn.Module, seed: int = 1) -> None:
    """Stand in for training: move everything that would be trained."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad or "lora_" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))


def make_adapter(base: Path, folder: Path, *, adapter_name: str = "default", **config) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(
            load(base, torch.float32), LoraConfig(**config), adapter_name=adapter_name
        )
        disturb(model)
        model.save_pretrained(folder)
    return folder


def attach(base: Path, folder: Path, dtype: torch.dtype = torch.float64) -> PeftModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message="Found missing adapter keys")
        return PeftModel.from_pretrained(load(base, dtype), folder)


def merged_distance(base: Path, folder: Path) -> float:
    """‖ΔW‖² by PEFT: load, merge in float64, subtract; a tied parameter once."""
    before = {k: v.clone() for k, v in load(base).state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = attach(base, folder).merge_and_unload()
    return sum(float((v.detach() - before[k]).square().sum()) for k, v in merged.named_parameters())


def unmerged_distance(base: Path, folder: Path) -> float:
    """‖ΔW‖² of what PEFT computes without merging, where merging would change shared tensors."""
    layers = [m for m in attach(base, folder).modules() if isinstance(m, LoraLayer)]
    return sum(float(m.get_delta_weight("default").square().sum()) for m in layers)


def residual_distance(base: Path, folder: Path) -> float:
    """‖ΔW‖² where loading changes the base (in float32, all that PEFT takes)."""
    before = load(base, torch.float32).state_dict()
    total = 0.0
    for name, layer in attach(base, folder, torch.float32).named_modules():
        if isinstance(layer, LoraLayer):
            a, b = (x["default"].weight.double() for x in (layer.lora_A, layer.lora_B))
            change = layer.scaling["default"] * b @ a
            change = change.T if layer.fan_in_fan_out else change
            after = layer.base_layer.weight.double() + change
            start = before[name.removeprefix("base_model.model.") + ".weight"].double()
            total += float((after - start).square().sum())
    return total
