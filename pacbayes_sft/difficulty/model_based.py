"""Difficulty that a model measures: its loss on a solution, and how often it finds one itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pacbayes_sft.answers import extract_answer, same_answer
from pacbayes_sft.data.encode import Encoded
from pacbayes_sft.generation import generate
from pacbayes_sft.gibbs import stream_of
from pacbayes_sft.losses import mean_nll, score_with
from pacbayes_sft.progress import track
from pacbayes_sft.risk import by_length, row_losses

Values = NDArray[np.float64]


def losses(model: Any, rows: Sequence[Encoded], tokenizer: Any, size: int) -> Values:
    """Return the mean negative log-likelihood of every completion, nats per token; shape (rows,).

    Args:
        model: The base.
        rows: Encoded rows.
        tokenizer: Its tokenizer.
        size: Rows a forward pass.
    """
    score, blocks = score_with(mean_nll, tokenizer), by_length(rows, size)
    return row_losses(model, rows, score, blocks=blocks, label="loss")


def pass_rates(
    model: Any,
    rows: Sequence[Encoded],
    tokenizer: Any,
    size: int,
    *,
    samples: int,
    temperature: float,
    seed: int,
) -> Values:
    """Return the share of sampled solutions that end in the row's answer; shape (rows,).

    The stream of a sample depends on the seed, on its number and on that of its batch, so that the
    same rows, seed and batch size give the same rates.

    Args:
        model: The base.
        rows: Encoded rows with their answers.
        tokenizer: Its tokenizer.
        size: Rows a batch.
        samples: Solutions a row.
        temperature: At which they are sampled.
        seed: Root of the streams.
    """
    passed = np.zeros(len(rows))
    work = [(k, block) for k in range(samples) for block in by_length(rows, size)]
    for number, (k, block) in enumerate(track(work, "sampled solutions")):
        stream = stream_of(seed, f"sample {k}, batch {number}")
        batch = [rows[i] for i in block]
        texts = generate(model, batch, tokenizer, temperature=temperature, seed=stream)
        for i, text in zip(block, texts, strict=True):
            answer, true = extract_answer(text) if text is not None else None, rows[i].answer
            passed[i] += answer is not None and true is not None and same_answer(true, answer)
    return passed / samples
