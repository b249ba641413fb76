"""A gradient selector in the manner of LESS (Xia et al. 2024): rows that pull as the target does.

Simplified, and named so: plain gradients at the base instead of Adam's along a warm-up run, and one
checkpoint. A row's gradient of its mean negative log-likelihood with respect to the B factors of a
fresh LoRA (A's gradient is zero while B is) is projected by random signs; a row scores by its
cosine with the mean gradient of the target rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pacbayes_sft.advise.selectors.simple import Rows
from pacbayes_sft.data.encode import collate, encode
from pacbayes_sft.data.rows import Table
from pacbayes_sft.losses import mean_nll
from pacbayes_sft.models import context_length, load_model, load_tokenizer, resolve_base
from pacbayes_sft.progress import track

DIMENSIONS = 512


def row_gradients(
    table: Table,
    base: str,
    *,
    rank: int = 8,
    dimensions: int = DIMENSIONS,
    seed: int = 0,
    device: str = "cpu",
) -> NDArray[np.float32]:
    """Return every row's projected gradient, shape (rows, dimensions).

    Args:
        table: Rows.
        base: The model to differentiate at.
        rank: Rank of the LoRA.
        dimensions: Of the projection.
        seed: Of the LoRA's A factors and the projection; equal seeds give comparable gradients.
        device: Device of the model.
    """
    from peft import LoraConfig, get_peft_model

    source = resolve_base(base)
    tokenizer = load_tokenizer(source)
    plain = load_model(source, device=device)
    rows = encode(table, tokenizer, context_length(plain))
    torch.manual_seed(seed)
    config = LoraConfig(task_type="CAUSAL_LM", r=rank, target_modules="all-linear")
    model = get_peft_model(plain, config).eval()  # type: ignore[arg-type]
    factors = [p for name, p in model.named_parameters() if "lora_B" in name]
    stream = torch.Generator().manual_seed(seed)
    size = sum(p.numel() for p in factors)
    signs = torch.randint(0, 2, (size, dimensions), generator=stream, dtype=torch.int8) * 2 - 1
    found = np.zeros((len(rows), dimensions), dtype=np.float32)
    projection = signs.float().to(device) / dimensions**0.5
    for i in track(range(len(rows)), "gradients"):
        inputs = collate([rows[i]], tokenizer.pad_token_id, torch.device(device))
        labels = inputs.pop("labels")
        loss = mean_nll(model(**inputs, use_cache=False).logits, labels).sum()
        gradients = torch.autograd.grad(loss, factors)
        flat = torch.cat([g.reshape(-1) for g in gradients])
        found[i] = (flat @ projection).cpu().numpy()
    return found


def by_influence(
    pool: NDArray[np.float32],
    target: NDArray[np.float32],
    count: int,
    weights: Sequence[float] | None = None,
) -> Rows:
    """Take the rows whose gradients have the largest cosine with the target's mean: a ranking.

    Args:
        pool: Gradients of the pool's rows.
        target: Gradients of labelled rows like the test's.
        count: How many.
        weights: Of the target rows; equal without.
    """
    direction = np.average(target, axis=0, weights=weights)
    norms = np.linalg.norm(pool, axis=1) * np.linalg.norm(direction)
    cosine = (pool @ direction) / np.maximum(norms, 1e-12)
    return np.argsort(-cosine, kind="stable")[:count]
