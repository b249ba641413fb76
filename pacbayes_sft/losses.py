"""Losses in [0, 1], one per example, from logits and labels.

Labels are aligned as transformers aligns them (position t is predicted from t-1) with -100 where
nothing is supervised. What is supervised is what TRL supervises, end of sequence included.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from pacbayes_sft.choices import Loss
from pacbayes_sft.data.encode import IGNORED

TokenLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def exact_match(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return 0. where the whole completion is the arg-max (teacher-forced), else 1.

    Args:
        logits: Shape (B, T, V).
        labels: Shape (B, T).

    Returns:
        Shape (B,), in {0, 1}.
    """
    wrong, supervised = _wrong_tokens(logits, labels)
    return (wrong & supervised).any(dim=1).double()


def token_error(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the share of supervised tokens that are not the arg-max (teacher-forced).

    Args:
        logits: Shape (B, T, V).
        labels: Shape (B, T).

    Returns:
        Shape (B,), in [0, 1].
    """
    wrong, supervised = _wrong_tokens(logits, labels)
    return (wrong & supervised).sum(dim=1).double() / supervised.sum(dim=1)


def _wrong_tokens(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    targets = labels[:, 1:]
    return logits[:, :-1].argmax(dim=-1) != targets, targets != IGNORED


BY_NAME: dict[Loss, TokenLoss] = {Loss.EXACT_MATCH: exact_match, Loss.TOKEN_ERROR: token_error}
