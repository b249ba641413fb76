"""Kronecker-factored curvature of the training loss, through `curvlinops`.

`curvlinops.KFACLinearOperator` gives the shape of G ⊗ A for every linear layer. Its size is set
here: KFAC treats a sequence's positions as independent, which is wrong by a factor that differs
from layer to layer, so each G is scaled until the trace is that of `curvature.diagonal_fisher`,
which has no such error. Its gradients are of labels sampled from the model, so that at a confident
fine-tune the pattern of G hangs on few of them. What is no linear layer keeps its diagonal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from pacbayes_sft.curvature import CURVATURE_ROWS, diagonal_fisher
from pacbayes_sft.data.encode import IGNORED, collate
from pacbayes_sft.errors import InputError
from pacbayes_sft.gibbs import Evaluator, Rows, stream_of
from pacbayes_sft.slots import Slots, full_names

FACTOR_ROWS = 64
SAMPLED_LABELS = 4
MISSING = (
    "--posterior kfac: needs curvlinops; install it with `pip install --no-deps "
    "curvlinops-for-pytorch backpack-for-pytorch unfoldNd` and `pip install einconv einops "
    "linear_operator opt-einsum`, or choose another posterior"
)


def kronecker_curvature(
    evaluator: Evaluator,
    slots: Slots,
    weights: Mapping[str, torch.Tensor],
    rows: Rows,
    limit: int = CURVATURE_ROWS,
) -> dict[str, torch.Tensor | tuple[torch.Tensor, torch.Tensor]]:
    """Return (G, A) for each matrix behind a linear layer, the diagonal for every other tensor.

    Args:
        evaluator: The model.
        slots: Where the tensors live.
        weights: The point; it is in the model afterwards.
        rows: Rows, of which at most ``limit`` give the size and fewer the factors.
        limit: How many.

    Raises:
        InputError: If curvlinops is not installed, or the curvature is not finite.
    """
    try:
        from curvlinops import KFACLinearOperator
    except ImportError:
        raise InputError(MISSING) from None
    diagonal = diagonal_fisher(evaluator, slots, weights, rows, limit)
    slots.put(weights)
    names = full_names(evaluator.model, slots)
    layers = dict(evaluator.model.named_modules())
    linear = {
        name: full.removesuffix(".weight")
        for name, full in names.items()
        if isinstance(layers.get(full.removesuffix(".weight")), torch.nn.Linear)
        and sum(f == full for f in names.values()) == 1
    }
    root = stream_of(evaluator.seed, "Kronecker factors")
    chosen = np.random.default_rng(root).permutation(len(rows.encoded))[: min(limit, FACTOR_ROWS)]
    data = [_datum(evaluator, rows, int(i)) for i in chosen]
    parameters = [slots.parameters[name] for name in linear]
    with _differentiable(parameters):
        operator: Any = KFACLinearOperator(
            _Completion(evaluator.model),
            torch.nn.CrossEntropyLoss(reduction="sum"),
            parameters,
            data,
            check_deterministic=False,
            seed=root % 2**63,
            fisher_type="mc",
            mc_samples=SAMPLED_LABELS,
            num_data=sum(len(labels) for _, labels in data),
            num_per_example_loss_terms=1,
            batch_size_fn=lambda x: int(x["supervised"].sum()),
        )
        operator.compute_kronecker_factors()
        state = operator.state_dict()
    found: dict[str, torch.Tensor | tuple[torch.Tensor, torch.Tensor]] = dict(diagonal)
    for name, layer in linear.items():
        g = state["gradient_covariances"][f"model.{layer}"].double().cpu()
        a = state["input_covariances"][f"model.{layer}"].double().cpu()
        size = float(torch.trace(g) * torch.trace(a))
        if size > 0:
            found[name] = (g * (float(diagonal[name].sum()) / size), a)
    return found


class _Completion(torch.nn.Module):
    """The logits at the supervised positions of one row, (T, V): a batch of T predictions."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, row: Mapping[str, torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=row["input_ids"], use_cache=False).logits
        return logits[0, :-1][row["supervised"]]


def _datum(
    evaluator: Evaluator, rows: Rows, i: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    device = next(evaluator.model.parameters()).device
    batch = collate([rows.encoded[i]], evaluator.tokenizer.pad_token_id, device)
    labels = batch["labels"][0, 1:]
    supervised = labels != IGNORED
    return {"input_ids": batch["input_ids"], "supervised": supervised}, labels[supervised]


@contextmanager
def _differentiable(parameters: list[torch.nn.Parameter]) -> Iterator[None]:
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)
