"""Shared runs: two tiny fine-tunes of the shipped base, made once a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

BASE = "strong"


@pytest.fixture(scope="session")
def rows_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train (ops 2..4), held-out and test (ops 3..5) rows with their laws on record."""
    from pacbayes_sft.igsm import OpLaw
    from pacbayes_sft.igsm.files import write_problems

    folder = tmp_path_factory.mktemp("rows")
    write_problems(folder / "train.jsonl", OpLaw.uniform(2, 4), size=64, seed=1)
    write_problems(folder / "heldout.jsonl", OpLaw.uniform(2, 4), size=48, seed=2)
    write_problems(folder / "test.jsonl", OpLaw.uniform(3, 5), size=64, seed=3)
    return folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 4,000 weights with the shipped tokenizer, for what takes its time per weight."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from pacbayes_sft.models import resolve_base

    folder = tmp_path_factory.mktemp("tiny") / "strong"
    tokenizer = AutoTokenizer.from_pretrained(resolve_base(BASE))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def lora_run(rows_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA fine-tune with a half-data checkpoint, through `pacbayes_sft.sft`."""
    from pacbayes_sft.sft import Settings, run_sft

    out = tmp_path_factory.mktemp("lora") / "run"
    settings = Settings(steps=4, batch_size=16, lora_rank=4, prior_fraction=0.5, device="cpu")
    run_sft(BASE, rows_dir / "train.jsonl", out, settings)
    return out


@pytest.fixture(scope="session")
def small_run(tiny_base: Path, rows_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA fine-tune of `tiny_base`, for what must go the whole way more than once."""
    from pacbayes_sft.sft import Settings, run_sft

    out = tmp_path_factory.mktemp("small") / "run"
    settings = Settings(steps=4, batch_size=16, lora_rank=4, prior_fraction=0.5, device="cpu")
    run_sft(str(tiny_base), rows_dir / "train.jsonl", out, settings)
    return out


@pytest.fixture(scope="session")
def full_run(rows_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tune of all weights under DFT."""
    from pacbayes_sft.choices import Objective
    from pacbayes_sft.sft import Settings, run_sft

    out = tmp_path_factory.mktemp("full") / "run"
    settings = Settings(
        steps=3,
        batch_size=16,
        lora_rank=0,
        learning_rate=1e-3,
        objective=Objective.DFT,
        device="cpu",
    )
    run_sft(BASE, rows_dir / "train.jsonl", out, settings)
    return out
