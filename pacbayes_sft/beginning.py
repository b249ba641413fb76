"""Whether a run begins at its base: judged by the weights, before the first step.

A second ``trainer.train()`` starts counting at step 0 on weights that have seen every row; what is
kept of it must not pass for an initial adapter or for a prior that saw half of the rows.
"""

from __future__ import annotations

import re
from typing import Any

import torch

from pacbayes_sft.checkpoints.files import TensorFiles
from pacbayes_sft.checkpoints.lora import adds_nothing, begins_at_nothing

TRAINED_BEFORE = (
    "the weights had left their base before this run's first step, through rows that are not on "
    "record"
)

_FIRST_FACTOR = re.compile(r"(\.lora_(?:embedding_)?)A\b")
_PEFT = re.compile(
    r"^base_model\.model\.|\.base_layer\b|\.modules_to_save\.[^.]+|\.original_module\b"
)
# a base may have been loaded in one of these and trained in another type
_ROUNDINGS = (torch.bfloat16, torch.float16)


def is_at_base(model: Any, base: TensorFiles) -> bool:
    """Return whether the model is its base yet, frozen weights included, as far as weights tell.

    An adapter whose factors begin at something by design (PiSSA, ``init_lora_weights=False``)
    cannot tell, nor can a tensor that the base stores under another name, shape or in eight bits,
    or that lies elsewhere (offloaded): they pass (`factor_pair` says of the first what is assumed).

    Args:
        model: The model as it is before the first step.
        base: The base's files; a tensor is compared as it is after rounding to the model's dtype
            or to 16 bits.
    """
    parameters = dict(model.named_parameters())
    if hasattr(model, "peft_config"):
        configs = model.peft_config.values()
        if not all(begins_at_nothing(getattr(c, "init_lora_weights", True)) for c in configs):
            return True
        partners = {name: _FIRST_FACTOR.sub(r"\1B", name) for name in parameters}
        if not all(
            adds_nothing(parameters[name], parameters[partner])
            for name, partner in partners.items()
            if partner != name and partner in parameters
        ):
            return False
        # a LoRA of before may have been merged into what is frozen now
        parameters = {_PEFT.sub("", name): parameter for name, parameter in parameters.items()}
    return all(
        _same(parameter.detach().cpu(), base.view(name))
        for name, parameter in parameters.items()
        if base.shape_of.get(name) == tuple(parameter.shape) and not parameter.is_meta
    )


def _same(here: torch.Tensor, stored: torch.Tensor) -> bool:
    """Compare a weight with the base's; of eight bits or integers nothing can be said."""
    if not (here.is_floating_point() and here.itemsize > 1 < stored.itemsize):
        return True
    return any(torch.equal(here.to(d), stored.to(d)) for d in (here.dtype, *_ROUNDINGS))
