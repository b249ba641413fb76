"""Where the named tensors of a Gaussian live inside a loaded model, and how they are put there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pacbayes_sft.choices import Space
from pacbayes_sft.errors import InputError


@dataclass(frozen=True)
class Slots:
    """Where the named tensors of a Gaussian live inside a loaded model.

    Attributes:
        space: ``factors`` of an adapter or ``weights`` of the model.
        parameters: Parameter behind each name, to read and overwrite.
        modules: For ``factors``: the linear module behind each name, to add noise to its output.
    """

    space: Space
    parameters: Mapping[str, torch.nn.Parameter]
    modules: Mapping[str, torch.nn.Module]

    @torch.no_grad()
    def put(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Overwrite the model's weights with the named tensors."""
        for name, tensor in tensors.items():
            self.parameters[name].copy_(tensor)


def find_slots(model: torch.nn.Module, space: Space, names: list[str]) -> Slots:
    """Find the parameters that the names of a Gaussian speak of.

    Args:
        model: A PEFT model for ``factors``, a plain model for ``weights``.
        space: Which names these are: ``module.lora_A`` or ``module.weight``.
        names: The names.

    Raises:
        InputError: If the model lacks one.
    """
    parameters: dict[str, torch.nn.Parameter] = {}
    modules: dict[str, torch.nn.Module] = {}
    every: dict[str, Any] = dict(model.named_modules(remove_duplicate=False))
    for name in names:
        try:
            if space is Space.FACTORS:
                modules[name] = every[f"base_model.model.{name}.default"]
                parameters[name] = modules[name].weight  # type: ignore[assignment]
            else:
                owner, _, attribute = name.rpartition(".")
                parameters[name] = getattr(every[owner], attribute)
        except (KeyError, AttributeError):
            parameters.pop(name, None)
        if not isinstance(parameters.get(name), torch.nn.Parameter):
            raise InputError(
                f"the loaded model has no weight {name!r}: its files name or divide the weights "
                "otherwise, so only `kl` can be computed for it"
            )
    return Slots(space, parameters, modules)


def set_ties(model: torch.nn.Module, untied: Sequence[str], tied: Sequence[str]) -> None:
    """Make heads parameters of their own, or one with the input embedding.

    Args:
        model: A plain loaded model.
        untied: Weights of heads that must be apart from the embedding.
        tied: Weights of heads that must be the embedding's.
    """
    for name in untied:
        module: Any = model.get_submodule(name.rpartition(".")[0])
        module.weight = torch.nn.Parameter(module.weight.detach().clone(), requires_grad=False)
    for name in tied:
        module = model.get_submodule(name.rpartition(".")[0])
        embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
        module.weight = embedding.weight


def full_names(model: torch.nn.Module, slots: Slots) -> dict[str, str]:
    """Return, for each name of a Gaussian, the model's own name of that parameter."""
    name_of = {id(p): name for name, p in model.named_parameters()}
    return {name: name_of[id(p)] for name, p in slots.parameters.items()}
