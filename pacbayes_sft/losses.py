"""Losses in [0, 1], one per example, from logits and labels.

Labels are aligned as transformers aligns them (position t is predicted from t-1) with -100 where
nothing is supervised. What is supervised is what TRL supervises, end of sequence included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from pacbayes_sft.choices import Loss
from pacbayes_sft.data.encode import IGNORED, Encoded, collate
from pacbayes_sft.generation import answer_loss

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SMOOTHING = 0.1

TokenLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Score = Callable[[torch.nn.Module, Sequence[Encoded]], torch.Tensor]


def exact_match(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return 0. where the whole completion is the arg-max (teacher-forced), else 1.

    Args:
        logits: Shape (B, T, V).
        labels: Shape (B, T).

    Returns:
        Shape (B,), in {0, 1}.
    """
    wrong, _ = _wrong_tokens(logits, labels)
    return torch.where(wrong.isnan().any(dim=1), math.nan, (wrong > 0).any(dim=1).double())


def token_error(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the share of supervised tokens that are not the arg-max (teacher-forced).

    Args:
        logits: Shape (B, T, V).
        labels: Shape (B, T).

    Returns:
        Shape (B,), in [0, 1].
    """
    wrong, supervised = _wrong_tokens(logits, labels)
    return wrong.sum(dim=1) / supervised.sum(dim=1)


def smoothed_bits_per_token(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean of -log2((1-α)p + α/V) over the supervised tokens, α = 0.1, in bits.

    Prediction smoothing of Lotfi et al. 2024 with α fixed in advance: it bounds the loss, so that
    a bound for [0, 1] applies after rescaling.

    Args:
        logits: Shape (B, T, V).
        labels: Shape (B, T).

    Returns:
        Shape (B,), between `smoothed_range`'s ends.
    """
    targets = labels[:, 1:]
    supervised = targets != IGNORED
    bits = torch.zeros(len(labels), dtype=torch.float64, device=labels.device)
    for i, keep in enumerate(supervised):  # row by row: (B, T, V) in float64 would be large
        chosen = torch.log_softmax(logits[i, :-1][keep].double(), dim=-1)
        p = chosen.gather(1, targets[i][keep, None]).exp()
        smoothed = (1 - SMOOTHING) * p + SMOOTHING / logits.shape[-1]
        bits[i] = -smoothed.log2().mean()
    return bits


def smoothed_range(vocabulary: int) -> tuple[float, float]:
    """Return the least and the largest value of the smoothed loss, in bits."""
    floor = SMOOTHING / vocabulary
    return -math.log2(1 - SMOOTHING + floor), -math.log2(floor)


def smoothed_nll(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return `smoothed_bits_per_token` rescaled from its range to [0, 1].

    Args:
        logits: Shape (B, T, V).
        labels: Shape (B, T).

    Returns:
        Shape (B,), in [0, 1].
    """
    low, high = smoothed_range(logits.shape[-1])
    scaled = (smoothed_bits_per_token(logits, labels) - low) / (high - low)
    return scaled.clamp(0, 1)  # rounding alone can leave the range


def probability_of_error(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return 1 - p(completion | prompt): smooth, in [0, 1], what `exact_match` is refined through.

    Args:
        logits: Shape (B, T, V).
        labels: Shape (B, T).

    Returns:
        Shape (B,).
    """
    log_p, supervised = _log_likelihoods(logits, labels)
    return 1 - (log_p * supervised).sum(dim=1).exp()


def token_probability_of_error(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean of 1 - p over the supervised tokens, what `token_error` is refined through.

    Args:
        logits: Shape (B, T, V).
        labels: Shape (B, T).

    Returns:
        Shape (B,).
    """
    log_p, supervised = _log_likelihoods(logits, labels)
    return ((1 - log_p.exp()) * supervised).sum(dim=1) / supervised.sum(dim=1)


def mean_nll(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean of -ln p over the supervised tokens, in nats: a difficulty, not a loss here.

    Args:
        logits: Shape (B, T, V).
        labels: Shape (B, T).

    Returns:
        Shape (B,), >= 0.
    """
    log_p, supervised = _log_likelihoods(logits, labels)
    return -(log_p * supervised).sum(dim=1) / supervised.sum(dim=1)


def _log_likelihoods(
    logits: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    targets = labels[:, 1:]
    supervised = targets != IGNORED
    chosen = torch.log_softmax(logits[:, :-1].float(), dim=-1)
    return chosen.gather(2, targets.clamp(min=0)[..., None])[..., 0], supervised


def _wrong_tokens(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """1 where a supervised token is not the arg-max, NaN where its logits hold one; else 0."""
    targets = labels[:, 1:]
    supervised = targets != IGNORED
    largest, token = logits[:, :-1].max(dim=-1)
    wrong = ((token != targets) & supervised).double()
    return wrong.masked_fill_(largest.isnan() & supervised, math.nan), supervised


BY_NAME: dict[Loss, TokenLoss] = {
    Loss.EXACT_MATCH: exact_match,
    Loss.TOKEN_ERROR: token_error,
    Loss.SMOOTHED_NLL: smoothed_nll,
}  # `answer` needs more than logits: see generation.py


def scorer(loss: Loss, tokenizer: PreTrainedTokenizerBase) -> Score:
    """Return the function that judges a batch: ``score(model, rows)``, shape (B,), in [0, 1]."""
    if loss is Loss.ANSWER:
        return lambda model, rows: answer_loss(model, rows, tokenizer)
    return score_with(BY_NAME[loss], tokenizer)


def score_with(of_logits: TokenLoss, tokenizer: PreTrainedTokenizerBase) -> Score:
    """Return the function that runs a batch through a model and judges its logits."""

    def score(model: torch.nn.Module, rows: Sequence[Encoded]) -> torch.Tensor:
        inputs = collate(rows, tokenizer.pad_token_id, next(model.parameters()).device)
        labels = inputs.pop("labels")
        return of_logits(model(**inputs, use_cache=False).logits, labels)

    return score


# What a posterior is refined through: differentiable, in [0, 1], small where the loss is small.
SURROGATES: dict[Loss, TokenLoss] = {
    Loss.EXACT_MATCH: probability_of_error,
    Loss.TOKEN_ERROR: token_probability_of_error,
    Loss.SMOOTHED_NLL: smoothed_nll,
    Loss.ANSWER: probability_of_error,
}
