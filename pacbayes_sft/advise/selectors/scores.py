"""Rules by what the base makes of each row: drop what it solves, or stay close to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pacbayes_sft.advise.selectors.simple import Rows
from pacbayes_sft.data.encode import encode
from pacbayes_sft.data.rows import Table
from pacbayes_sft.losses import exact_match, mean_nll, score_with
from pacbayes_sft.models import context_length, load_model, load_tokenizer, resolve_base
from pacbayes_sft.risk import by_length, row_losses


@dataclass(frozen=True)
class BaseScores:
    """What the base makes of every row.

    Attributes:
        nll: Mean negative log-likelihood of the completion, nats a token: ln of the perplexity.
        solved: Whether the whole completion is the arg-max (teacher-forced).
    """

    nll: NDArray[np.float64]
    solved: NDArray[np.bool_]


def base_scores(
    table: Table, base: str, *, device: str = "cpu", dtype: str = "float32", batch_size: int = 64
) -> BaseScores:
    """Score every row of a table with the base.

    Raises:
        InputError: If the base or a row cannot be used.
    """
    source = resolve_base(base)
    tokenizer = load_tokenizer(source)
    model = load_model(source, device=device, dtype=dtype)
    rows = encode(table, tokenizer, context_length(model))
    blocks = by_length(rows, batch_size)
    wrong: list[torch.Tensor] = []

    def both(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """One pass for two scores: the second is kept aside."""
        wrong.append(exact_match(logits, labels))
        return mean_nll(logits, labels)

    nll = row_losses(model, rows, score_with(both, tokenizer), blocks=blocks, label="loss")
    solved = np.zeros(len(rows), dtype=bool)
    solved[[i for block in blocks for i in block]] = torch.cat(wrong).cpu().numpy() == 0
    return BaseScores(nll, solved)


def unsolved(scores: BaseScores, count: int, seed: int) -> Rows:
    """Drop what the base already solves (the LIMO and s1 rule), take the rest at random.

    Where too few are left, solved rows fill up, also at random. Per-row and without ranking: the
    rows that are left stay independent draws of the pool's law given unsolved.
    """
    generator = np.random.default_rng(seed)
    left, rest = np.flatnonzero(~scores.solved), np.flatnonzero(scores.solved)
    order = np.concatenate([generator.permutation(left), generator.permutation(rest)])
    return order[:count]


def closest(scores: BaseScores, count: int) -> Rows:
    """Take the rows of the least perplexity under the base (BERTIN, Anchored-SFT): a ranking."""
    return np.argsort(scores.nll, kind="stable")[:count]
