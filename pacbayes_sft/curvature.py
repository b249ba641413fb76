"""The curvature of the training loss at given weights: the diagonal of its Fisher matrix.

For a row with supervised positions t, logits z_t and p_t = softmax(z_t), the Fisher matrix of its
negative log-likelihood is the generalised Gauss-Newton matrix (Martens 2020, §9.2)

    F = Σ_t J_tᵀ H_t J_t,    J_t = ∂z_t/∂w,    H_t = diag(p_t) - p_t p_tᵀ = S_t S_tᵀ,

with S_t = diag(√p_t) - p_t √p_tᵀ. For independent random signs ε_t, g = Σ_t J_tᵀ S_t ε_t is one
backward pass, and E g gᵀ = F: its squared entries are an unbiased diagonal. Labels drawn from p_t
would be unbiased too, but at the confident predictions of a finished fine-tune all of F hangs on
the few draws that miss the arg-max. The given labels would make the *empirical* Fisher, which
vanishes on rows learnt by heart, though noise hurts there too (Kunstner et al. 2019).

Why no library: `curvlinops` 3.0.1 has products with F and estimates a diagonal by random probes
(Hutchinson, XDiag) over all *weights*: the error at entry i is the norm of F's other entries in
row i, and of either sign. The probes above are over one row's *outputs*, and the rows average.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch.func import functional_call

from pacbayes_sft.data.encode import IGNORED, collate
from pacbayes_sft.errors import InputError
from pacbayes_sft.gibbs import Evaluator, Rows, stream_of
from pacbayes_sft.progress import track
from pacbayes_sft.slots import Slots, full_names

CURVATURE_ROWS = 256


def diagonal_fisher(
    evaluator: Evaluator,
    slots: Slots,
    weights: Mapping[str, torch.Tensor],
    rows: Rows,
    limit: int = CURVATURE_ROWS,
) -> dict[str, torch.Tensor]:
    """Return the mean over rows of the diagonal of the Fisher matrix, for each named tensor.

    The loss is -ln p(completion | prompt), the sum over a row's supervised tokens, in nats; the
    result has its unit over the weight's squared. Rows go one at a time, so that neither padding
    nor the batch size enters; the choice of rows and the signs depend on the seed alone.

    Args:
        evaluator: The model.
        slots: Where the tensors live.
        weights: The point at which to differentiate, by name.
        rows: Rows, of which at most ``limit`` (a random choice) are used.
        limit: How many.

    Returns:
        By name a float64 tensor on the CPU, >= 0, of the weight's shape.

    Raises:
        InputError: If a gradient is not finite.
    """
    names = full_names(evaluator.model, slots)
    device = next(evaluator.model.parameters()).device
    root = stream_of(evaluator.seed, "curvature")
    chosen = np.random.default_rng(root).permutation(len(rows.encoded))[:limit]
    point = {
        name: w.detach().to(slots.parameters[name].device, slots.parameters[name].dtype, copy=True)
        for name, w in weights.items()
    }
    for leaf in point.values():
        leaf.requires_grad_()
    inputs_of = {names[name]: leaf for name, leaf in point.items()}
    total = {name: torch.zeros(w.shape, dtype=torch.float64) for name, w in weights.items()}
    for i in track(chosen.tolist(), "curvature"):
        batch = collate([rows.encoded[i]], evaluator.tokenizer.pad_token_id, device)
        supervised = batch.pop("labels")[0, 1:] != IGNORED
        inputs = {**batch, "use_cache": False}
        logits = functional_call(evaluator.model, inputs_of, (), inputs).logits[0, :-1][supervised]
        probe = _probe(logits.detach(), stream_of(root, f"row {i}"))
        for name, gradient in zip(
            point, torch.autograd.grad(logits, list(point.values()), probe), strict=True
        ):
            total[name] += gradient.double().square().cpu()
    if not all(bool(torch.isfinite(t).all()) for t in total.values()):
        raise InputError("the curvature is not finite: the model's logits or gradients overflow")
    return {name: t / len(chosen) for name, t in total.items()}


def _probe(logits: torch.Tensor, seed: int) -> torch.Tensor:
    """Return S_t ε_t for each position, (T, V); the signs are made on the CPU (as all noise)."""
    generator = torch.Generator().manual_seed(seed)
    signs = 2 * torch.randint(2, logits.shape, generator=generator) - 1
    p = torch.softmax(logits.float(), dim=-1)
    root = p.sqrt() * signs.to(logits.device)
    return (root - p * root.sum(dim=-1, keepdim=True)).to(logits.dtype)
