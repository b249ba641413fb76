"""The shape of the prior: how its scale is divided among the tensors, from the base alone.

Every scale of the grid multiplies one fixed pattern of relative scales (geometric mean one), so a
shape costs no δ beyond the grid's. What may make the pattern must not have seen the certified
rows (design §4): the base's weights, or the curvature of its loss on text that the base itself
wrote, or on the rows that a checkpoint prior had already seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pacbayes_sft.checkpoints.files import open_checkpoint
from pacbayes_sft.choices import PriorShape, Space
from pacbayes_sft.curvature import diagonal_fisher
from pacbayes_sft.data.encode import Encoded
from pacbayes_sft.errors import InputError
from pacbayes_sft.gibbs import Evaluator, Rows, stream_of
from pacbayes_sft.inputs import Inputs
from pacbayes_sft.models import local_directory
from pacbayes_sft.slots import Slots

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WRITTEN_TEXTS, LONGEST_TEXT = 64, 256
DAMPING = 0.01  # of the mean curvature: a flat tensor gets at most ten times the typical scale


@dataclass(frozen=True)
class Shape:
    """Relative scales of the prior.

    Attributes:
        kind: Which.
        relative: By name a positive number, geometric mean one; empty for all equal.
        assumptions: What must be true for it to be legal.
    """

    kind: PriorShape
    relative: Mapping[str, float]
    assumptions: tuple[str, ...] = ()

    def scales(self, names: Sequence[str], sigma: float) -> dict[str, float]:
        """Return the scale of every tensor at scale ``sigma`` of the whole."""
        return {name: sigma * self.relative.get(name, 1.0) for name in names}


def prior_shape(
    kind: PriorShape, inputs: Inputs, evaluator: Evaluator, slots: Slots, seen: Rows | None
) -> Shape:
    """Return the shape asked for.

    Args:
        kind: Which.
        inputs: Checkpoints; their certified rows are not looked at.
        evaluator: The model; it holds the finished weights before and after.
        slots: Where the tensors live in it.
        seen: The rows that a checkpoint prior was trained on, by the record or as listed;
            None under the base prior.

    Raises:
        InputError: If the base has no weights to take magnitudes from, or writes nothing.
    """
    if kind is PriorShape.MAGNITUDES:
        return Shape(kind, _normalised(_magnitudes(inputs)))
    if kind is PriorShape.ISOTROPIC:
        return Shape(kind, {})
    slots.put(inputs.pair.prior)
    rows = seen or written_by(evaluator, WRITTEN_TEXTS)
    curvature = diagonal_fisher(evaluator, slots, inputs.pair.prior, rows)
    slots.put(inputs.pair.posterior)
    mean = {name: float(h.mean()) for name, h in curvature.items()}
    floor = DAMPING * sum(mean.values()) / len(mean)
    if not floor > 0:
        raise InputError(f"{inputs.base}: no curvature at the prior's centre; use another shape")
    relative = {name: 1 / math.sqrt(h + floor) for name, h in mean.items()}
    return Shape(kind, _normalised(relative), what_shape_assumes(kind, seen=seen is not None))


def what_shape_assumes(kind: PriorShape, *, seen: bool) -> tuple[str, ...]:
    """Return what must be true for a prior of that shape to be legal.

    Args:
        kind: Which shape.
        seen: Whether the prior is a checkpoint, whose own training rows are known.
    """
    if kind is not PriorShape.CURVATURE:
        return ()
    source = "rows that the prior had seen" if seen else "text that the prior's own centre wrote"
    return (f"the prior's shape is its curvature on {source}",)


def written_by(evaluator: Evaluator, texts: int) -> Rows:
    """Return texts that the model now in the evaluator writes from its first token, sampled.

    Raises:
        InputError: If the tokenizer names no token to begin with, or nothing is written.
    """
    from transformers import GenerationConfig

    tokenizer: PreTrainedTokenizerBase = evaluator.tokenizer
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if first is None:
        raise InputError(f"{tokenizer.name_or_path}: names no first token; use another prior shape")
    model: Any = evaluator.model
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    device = next(model.parameters()).device
    kept, plain.generation_config = plain.generation_config, GenerationConfig()
    state = torch.random.get_rng_state()
    torch.manual_seed(stream_of(evaluator.seed, "text written by the prior's centre"))
    try:
        written = plain.generate(
            input_ids=torch.full((texts, 1), int(first), device=device),
            attention_mask=torch.ones(texts, 1, dtype=torch.long, device=device),
            max_new_tokens=LONGEST_TEXT,
            do_sample=True,
            top_k=0,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=int(tokenizer.pad_token_id),
        )
    finally:
        plain.generation_config = kept
        torch.random.set_rng_state(state)
    encoded = []
    for ids in written.tolist():
        ends = [t for t, token in enumerate(ids) if t and token == tokenizer.eos_token_id]
        whole = ids[: ends[0] + 1] if ends else ids
        if len(whole) > 1:
            encoded.append(Encoded(tuple(whole), 1))
    return Rows(encoded, [str(i) for i in range(len(encoded))])


def _magnitudes(inputs: Inputs) -> dict[str, float]:
    """Root mean square of the base's weight behind every tensor."""
    base = open_checkpoint(local_directory(inputs.base))
    found = {}
    for name in inputs.pair.prior:
        weight = name
        if inputs.pair.space is Space.FACTORS:
            weight = f"{name.rpartition('.')[0]}.weight"
        size = float(base.tensor(weight).double().square().mean().sqrt())
        if not size > 0:
            raise InputError(f"{inputs.base}: {weight!r} is all zero; use another prior shape")
        found[name] = size
    return found


def _normalised(relative: Mapping[str, float]) -> dict[str, float]:
    """Divide by the geometric mean over tensors, as `estimators.gaussian.typical_scale` does."""
    unit = math.exp(sum(math.log(r) for r in relative.values()) / len(relative))
    return {name: r / unit for name, r in relative.items()}
