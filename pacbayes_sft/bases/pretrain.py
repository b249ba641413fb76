"""Pre-train a shipped base on symbolic iGSM: ``python -m pacbayes_sft.bases.pretrain --out DIR``.

The one training loop of this project that is not TRL's: it makes the *base*, before there is
anything to fine-tune. Data of step t depend on (seed, t) alone, so a run that was killed goes on
from its last saved step and ends in the same weights (same machine, one thread).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pacbayes_sft.igsm import OpLaw, draw_problem, problem_stream
from pacbayes_sft.igsm import symbolic as rendering

WIDTH, LAYERS = 128, 4
BATCH = 32
BATCHES_PER_CHUNK = 32  # problems are sorted by length within a chunk, to pad little
SAVE_EVERY = 500
EVALUATION_STREAM = 10**9  # problem indices of the accuracy table, never trained on


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return the word-level tokenizer of the symbolic rendering, as a plain fast tokenizer."""
    words = {word: i for i, word in enumerate(rendering.vocabulary())}
    backend = Tokenizer(models.WordLevel(words, unk_token=rendering.UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{rendering.BOS} $A", special_tokens=[(rendering.BOS, words[rendering.BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=rendering.PAD,
        bos_token=rendering.BOS,
        eos_token=rendering.EOS,
        unk_token=rendering.UNKNOWN,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def build_model(seed: int, width: int = WIDTH, layers: int = LAYERS) -> LlamaForCausalLM:
    """Return an untrained Llama; four layers of width 128 make about 0.8 M weights."""
    torch.manual_seed(seed)
    words = rendering.vocabulary()
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=width,
            intermediate_size=width * 11 // 4,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            pad_token_id=words.index(rendering.PAD),
            bos_token_id=words.index(rendering.BOS),
            eos_token_id=words.index(rendering.EOS),
        )
    )


def draw_rows(
    law: OpLaw, seed: int, indices: range, ids: dict[str, int], *, abstract: bool
) -> list[tuple[list[int], int]]:
    """Return (token ids, prompt length) of the problems ``indices`` of data set ``seed``."""
    rows = []
    for index in indices:
        stream = problem_stream(seed, index)
        problem = draw_problem(law.draw(stream), stream, abstract=abstract)
        prompt = [rendering.BOS, *rendering.render_prompt(problem).split()]
        solution = [*rendering.render_steps(problem.solution()).split(), rendering.EOS]
        rows.append(([ids[word] for word in prompt + solution], len(prompt)))
    return rows


def collate(rows: list[tuple[list[int], int]]) -> dict[str, torch.Tensor]:
    """Pad on the right to ``input_ids`` and ``labels`` (completion only), each (B, T).

    No attention mask: under causal attention no real token sees the padding.
    """
    longest = max(len(ids) for ids, _ in rows)
    input_ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full_like(input_ids, -100)
    for i, (ids, prompt) in enumerate(rows):
        input_ids[i, : len(ids)] = torch.tensor(ids)
        labels[i, prompt : len(ids)] = torch.tensor(ids[prompt:])
    return {"input_ids": input_ids, "labels": labels}


@torch.no_grad()
def whole_solution_accuracy(
    model: LlamaForCausalLM, op: int, size: int, seed: int, *, abstract: bool
) -> float:
    """Share of fresh problems of ``op`` operations whose every completion token is the arg-max."""
    ids = {word: i for i, word in enumerate(rendering.vocabulary())}
    indices = range(EVALUATION_STREAM + op * 10**6, EVALUATION_STREAM + op * 10**6 + size)
    rows = draw_rows(OpLaw.uniform(op, op), seed, indices, ids, abstract=abstract)
    right = 0
    for start in range(0, size, BATCH):
        batch = collate(rows[start : start + BATCH])
        labels = batch.pop("labels")[:, 1:]
        guesses = model(**batch).logits[:, :-1].argmax(-1)
        right += int(((guesses == labels) | (labels == -100)).all(dim=1).sum())
    return right / size


def build_optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.0),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def rate(step: int, steps: int, warmup: int = 100) -> float:
    """Learning-rate factor: linear warm-up, then a cosine down to 2 %."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def pretrain(
    out: Path,
    *,
    law: OpLaw,
    steps: int,
    seed: int,
    abstract: bool,
    width: int = WIDTH,
    layers: int = LAYERS,
    autocast: bool = True,
    report: int = 250,
) -> None:
    """Train, save the model, its tokenizer and its card to ``out``.

    Args:
        out: Directory to write; a ``.partial.pt`` inside it carries a run that was interrupted.
        law: Law of the operation count.
        steps: Optimiser steps of ``BATCH`` problems.
        seed: Fixes initial weights and data.
        abstract: Whether abstract parameters occur.
        width: Hidden size of the model.
        layers: Its depth.
        autocast: Whether products are taken in bfloat16; without, three times as fast on a
            processor that lacks bfloat16 arithmetic.
        report: Steps between progress lines.
    """
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    partial = out / ".partial.pt"
    ids = {word: i for i, word in enumerate(rendering.vocabulary())}
    model = build_model(seed, width, layers)
    model.set_attn_implementation("eager")  # twice as fast as sdpa backwards in bf16 on a CPU
    optimizers = build_optimizers(model)
    base_rates = [group["lr"] for o in optimizers for group in o.param_groups]
    start = 0
    if partial.exists():
        state: dict[str, Any] = torch.load(partial, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start = state["step"]
    batches: list[dict[str, torch.Tensor]] = []
    for step in range(start, steps):
        if step % BATCHES_PER_CHUNK == 0 or not batches:
            batches = _chunk(step // BATCHES_PER_CHUNK, law, seed, ids, abstract)
        batch = batches[step % BATCHES_PER_CHUNK]
        factor = rate(step, steps)
        groups = [group for o in optimizers for group in o.param_groups]
        for group, base_rate in zip(groups, base_rates, strict=True):
            group["lr"] = base_rate * factor
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = model(input_ids=batch["input_ids"], labels=batch["labels"]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if (step + 1) % report == 0:
            print(f"step {step + 1}/{steps} loss {loss.item():.4f}", flush=True)
        if (step + 1) % SAVE_EVERY == 0:
            model.eval()
            few = {
                k: whole_solution_accuracy(model, k, 128, seed, abstract=abstract)
                for k in (2, 4, 6, 8)
            }
            model.train()
            print("  accuracy on 128 problems per op:", few, flush=True)
            states = [o.state_dict() for o in optimizers]
            torch.save(
                {"model": model.state_dict(), "optimizers": states, "step": step + 1},
                partial.with_suffix(".tmp"),
            )
            partial.with_suffix(".tmp").replace(partial)
    facts = {"steps": steps, "seed": seed, "abstract_parameters": abstract, "autocast": autocast}
    save_base(model.eval(), out, law, facts)
    partial.unlink(missing_ok=True)


def save_base(model: LlamaForCausalLM, out: Path, law: OpLaw, made: dict[str, Any]) -> None:
    """Write weights, tokenizer and the model card with the measured accuracy per op."""
    model.save_pretrained(out)
    build_tokenizer().save_pretrained(out)
    size = 1000
    accuracy = {
        op: whole_solution_accuracy(
            model, op, size, made["seed"], abstract=made["abstract_parameters"]
        )
        for op in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14)
    }
    digest = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    facts = {
        "width": model.config.hidden_size,
        "layers": model.config.num_hidden_layers,
        **made,
        "op_law": {str(k): w for k, w in law.weights.items()},
        "problems_seen": made["steps"] * BATCH,
        "parameters": sum(p.numel() for p in model.parameters()),
        "model_safetensors_sha256": digest,
        "accuracy_problems_per_op": size,
        "whole_solution_accuracy": {str(op): a for op, a in accuracy.items()},
        "torch": torch.__version__,
    }
    (out / "pretraining.json").write_text(json.dumps(facts, indent=1) + "\n")
    (out / "README.md").write_text(_card(facts))


def _card(facts: dict[str, Any]) -> str:
    ops = sorted(map(int, facts["op_law"]))
    table = "\n".join(f"| {op} | {a:.3f} |" for op, a in facts["whole_solution_accuracy"].items())
    flag = "" if facts["abstract_parameters"] else " --instance-only"
    if (facts["width"], facts["layers"]) != (WIDTH, LAYERS):
        flag += f" --width {facts['width']} --layers {facts['layers']}"
    flag += "" if facts["autocast"] else " --float32"
    numbers = "bf16 autocast" if facts["autocast"] else "float32"
    kind = "instance and abstract" if facts["abstract_parameters"] else "instance"
    return f"""---
license: apache-2.0
tags: [igsm, llama]
---
# iGSM base, ops {ops[0]}-{ops[-1]}

A `LlamaForCausalLM` of {facts["parameters"]:,} weights, pre-trained from scratch on symbolic iGSM
problems ({kind} parameters, arithmetic mod 23), operation count uniform on {ops[0]}..{ops[-1]}.
It exists to be fine-tuned in experiments on a laptop; it knows nothing else.

Made by

    python -m pacbayes_sft.bases.pretrain --ops {ops[0]}:{ops[-1]} --steps {facts["steps"]} \\
        --seed {facts["seed"]}{flag} --out DIR

({facts["problems_seen"]:,} problems, loss on the solution only, Muon + AdamW, {numbers}, one
thread, torch {facts["torch"]}). SHA-256 of `model.safetensors`:
`{facts["model_safetensors_sha256"]}`. The same command on another processor or thread count
gives slightly different weights.

Whole-solution accuracy (teacher-forced: every completion token, end of sequence included, is the
arg-max), {facts["accuracy_problems_per_op"]} fresh problems per op:

| ops | accuracy |
|---|---|
{table}
"""


def _chunk(
    chunk: int, law: OpLaw, seed: int, ids: dict[str, int], abstract: bool
) -> list[dict[str, torch.Tensor]]:
    size = BATCH * BATCHES_PER_CHUNK
    rows = draw_rows(law, seed, range(chunk * size, (chunk + 1) * size), ids, abstract=abstract)
    rows.sort(key=lambda row: len(row[0]))
    order = np.random.default_rng([seed, chunk]).permutation(BATCHES_PER_CHUNK)
    return [collate(rows[b * BATCH : (b + 1) * BATCH]) for b in order]


def main() -> None:
    """Parse the command line and pre-train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ops", default="2:8", help="op law, LO:HI or k=w,k=w,...")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--instance-only", action="store_true", help="no abstract parameters")
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--float32", action="store_true", help="no bf16 autocast")
    asked = parser.parse_args()
    pretrain(
        asked.out,
        law=OpLaw.parse(asked.ops),
        steps=asked.steps,
        seed=asked.seed,
        abstract=not asked.instance_only,
        width=asked.width,
        layers=asked.layers,
        autocast=not asked.float32,
    )


if __name__ == "__main__":
    main()
