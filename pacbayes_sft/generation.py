"""Losses of what the model writes by itself: greedy solutions, judged by their final answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from pacbayes_sft.answers import extract_answer, same_answer
from pacbayes_sft.data.encode import Encoded
from pacbayes_sft.models import context_length
from pacbayes_sft.noise import rows_of_batch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SLACK = 16


def token_limit(row: Encoded) -> int:
    """Return how many tokens a row's solution may take: half as many again as the true one, + 16.

    A row's column ``max_new_tokens`` says otherwise, where true solutions are of another kind than
    those the model was trained to write. A rule per row, so that the loss of a row does not depend
    on which others share its batch.
    """
    if row.new_tokens is not None:
        return row.new_tokens
    true = len(row.ids) - row.prompt_length
    return true + true // 2 + SLACK


def generate(
    model: torch.nn.Module,
    rows: Sequence[Encoded],
    tokenizer: PreTrainedTokenizerBase,
    *,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[str | None]:
    """Return a continuation of every prompt; None where it did not end within its limit.

    No solution goes beyond the positions that the model has: what did not end there did not end.
    A solution ends with the tokenizer's end of sequence, or another token that the model's
    generation config ends with (chat models name the end of a turn there).

    Args:
        model: A causal language model that can ``generate`` (through PEFT or plain).
        rows: Encoded rows; their prompts are what is continued.
        tokenizer: The base's tokenizer.
        temperature: 0 writes greedily; above it, tokens are sampled.
        seed: Seed of the samples of this batch.
    """
    device = next(model.parameters()).device
    pad = int(tokenizer.pad_token_id)
    longest = max(row.prompt_length for row in rows)
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):  # padding on the left: the last column is where writing begins
        ids[i, longest - row.prompt_length :] = torch.tensor(row.ids[: row.prompt_length])
        mask[i, longest - row.prompt_length :] = 1
    limits = [token_limit(row) for row in rows]
    if (most := context_length(model)) is not None:
        limits = [min(k, most - r.prompt_length) for k, r in zip(limits, rows, strict=True)]
        if len(rows) > 1 and longest + max(limits) > most:  # a row writes on while another does
            alone: list[str | None] = []
            for i, row in enumerate(rows):
                with rows_of_batch([i]):
                    alone += generate(
                        model, [row], tokenizer, temperature=temperature, seed=seed * 1_000_003 + i
                    )
            return alone
    how = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {}
    with _without_advice(model) as (plain, advised), torch.random.fork_rng():
        torch.manual_seed(seed)
        ends = {int(tokenizer.eos_token_id), *advised}
        written = plain.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=max(limits),
            **{"do_sample": False, **how},
            use_cache=True,
            eos_token_id=sorted(ends),
            pad_token_id=pad,
        )[:, longest:]
    texts: list[str | None] = []
    for tokens, limit in zip(written.tolist(), limits, strict=True):
        end = next((t for t, token in enumerate(tokens[:limit]) if token in ends), None)
        done = end is not None
        texts.append(
            str(tokenizer.decode(tokens[:end], skip_special_tokens=True)) if done else None
        )
    return texts


@contextmanager
def _without_advice(model: torch.nn.Module) -> Iterator[tuple[Any, list[int]]]:
    """Yield the model without its generation config, and the end tokens that this named.

    What a model recommends (a repetition penalty, banned words) would be merged into every call,
    and what it then writes is not its arg-max.
    """
    from transformers import GenerationConfig

    wrapped: Any = model
    plain = wrapped.get_base_model() if hasattr(model, "get_base_model") else wrapped
    kept = plain.generation_config
    ends = kept.eos_token_id if kept.eos_token_id is not None else []
    plain.generation_config = GenerationConfig()
    try:
        yield plain, [ends] if isinstance(ends, int) else list(ends)
    finally:
        plain.generation_config = kept


def answer_loss(
    model: torch.nn.Module, rows: Sequence[Encoded], tokenizer: PreTrainedTokenizerBase
) -> torch.Tensor:
    """Return 0. where the greedy solution ends in an answer equivalent to the true one, else 1.

    Returns:
        Shape (B,), in {0, 1}.
    """
    losses = torch.ones(len(rows), dtype=torch.float64)
    for i, (text, row) in enumerate(zip(generate(model, rows, tokenizer), rows, strict=True)):
        found = extract_answer(text) if text is not None else None
        if found is not None and row.answer is not None:
            losses[i] = float(not same_answer(row.answer, found))
    return losses
