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


def is_at_base(model: Any, base: TensorFiles) -> bool:
    """Return whether what is to be trained adds nothing to the base yet, as far as weights tell.

    An adapter whose factors begin at something by design (PiSSA, ``init_lora_weights=False``)
    cannot tell, nor can a tensor that the base stores under another name or shape: both pass.

    Args:
        model: The model as it is before the first step.
        base: The base's files; a tensor is compared as it is after rounding to the model's dtype.
    """
    parameters = dict(model.named_parameters())
    if hasattr(model, "peft_config"):
        configs = model.peft_config.values()
        if not all(begins_at_nothing(getattr(c, "init_lora_weights", True)) for c in configs):
            return True
        partners = {name: _FIRST_FACTOR.sub(r"\1B", name) for name in parameters}
        return all(
            adds_nothing(parameters[name], parameters[partner])
            for name, partner in partners.items()
            if partner != name and partner in parameters
        )
    return all(
        torch.equal(parameter.detach().cpu(), base.view(name).to(parameter.dtype))
        for name, parameter in parameters.items()
        if parameter.requires_grad and base.shape_of.get(name) == tuple(parameter.shape)
    )
