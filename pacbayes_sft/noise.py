"""Evaluate a model under a Gaussian posterior: fresh noise as often as the space allows.

In ``factors`` space every example of a batch gets its own draw of A and B, for about the price
of one pass: the layers see their own mean plus a batched low-rank term. In ``weights`` space a
draw costs as much memory as the weights, so one draw serves one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from estimators import DiagonalGaussian
from pacbayes_sft.choices import Space
from pacbayes_sft.models import Slots

Redraw = Callable[[int], None]


@contextmanager
def posterior_noise(
    slots: Slots, posterior: DiagonalGaussian, generator: torch.Generator
) -> Iterator[Redraw]:
    """Put the posterior's mean into the model and yield a function that draws anew.

    Call it with the batch size before each forward pass. On leaving, the mean is in the model
    and no noise is left.

    Args:
        slots: Where the tensors live.
        posterior: The Gaussian, isotropic within each tensor.
        generator: Source of all noise, on the CPU (so that devices agree on the draws).
    """
    slots.put(posterior.mean)
    if slots.space is Space.FACTORS:
        with _per_example(slots, posterior, generator) as redraw:
            yield redraw
    else:

        def redraw_weights(_: int) -> None:
            slots.put(posterior.sample(generator))

        try:
            yield redraw_weights
        finally:
            slots.put(posterior.mean)


@contextmanager
def _per_example(
    slots: Slots, posterior: DiagonalGaussian, generator: torch.Generator
) -> Iterator[Redraw]:
    noise: dict[str, torch.Tensor] = {}

    def redraw(batch: int) -> None:
        for name, parameter in slots.parameters.items():
            draw = torch.randn((batch, *parameter.shape), generator=generator)
            noise[name] = (draw * torch.as_tensor(posterior.scale[name])).to(
                parameter.device, parameter.dtype
            )

    def hook(name: str) -> Callable[..., torch.Tensor]:
        def add(
            _: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor
        ) -> torch.Tensor:
            return output + torch.bmm(inputs[0].to(noise[name].dtype), noise[name].mT)

        return add

    handles = [module.register_forward_hook(hook(name)) for name, module in slots.modules.items()]
    try:
        yield redraw
    finally:
        for handle in handles:
            handle.remove()
