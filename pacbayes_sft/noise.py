"""Evaluate a model under a Gaussian posterior: fresh noise as often as the space allows.

In ``factors`` space every example of a batch gets its own draw of A and B, for about the price
of one pass: the layers see their own mean plus a batched low-rank term. In ``weights`` space a
draw costs as much memory as the weights, so one draw serves one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from estimators import DiagonalGaussian
from pacbayes_sft.choices import Space
from pacbayes_sft.slots import Slots

Redraw = Callable[[int], None]
_CHOSEN: ContextVar[list[int] | None] = ContextVar("places of the batch", default=None)

# the KL is that of θ = μ + σε; a row sees μ·x + (σε)·x, and float32 alone makes the two one number
APART = (
    "in {dtype} the mean and the noise of a draw are rounded apart; losses are taken to be those "
    "of their sum"
)


@contextmanager
def posterior_noise(
    slots: Slots, posterior: DiagonalGaussian, generator: torch.Generator
) -> Iterator[Redraw]:
    """Put the posterior's mean into the model and yield a function that draws anew.

    Call it with the batch size before each forward pass. On leaving, the mean is in the model
    and no noise is left.

    Args:
        slots: Where the tensors live.
        posterior: The Gaussian; one σ a tensor, or one an entry.
        generator: Source of all noise, on the CPU (so that devices agree on the draws).
    """
    slots.put(posterior.mean)
    if slots.space is Space.FACTORS:
        with example_noise(slots) as noise:

            def redraw(batch: int) -> None:
                drawn = draw_noise(slots, posterior.scale, batch, generator)
                noise.update({k: posterior.out_of_basis(k, drawn[k]) for k in drawn})

            yield redraw
    else:

        def redraw_weights(_: int) -> None:
            slots.put(posterior.sample(generator))

        try:
            yield redraw_weights
        finally:
            slots.put(posterior.mean)


@contextmanager
def example_noise(slots: Slots) -> Iterator[dict[str, torch.Tensor]]:
    """Yield a dict: what is put in it is added, row by row, to the factor of that name.

    An entry has shape (B, *shape of the factor); every forward pass inside sees it.
    """
    noise: dict[str, torch.Tensor] = {}

    def hook(name: str) -> Callable[..., torch.Tensor]:
        def add(
            _: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor
        ) -> torch.Tensor:
            own, chosen = noise[name], _CHOSEN.get()
            own = own if chosen is None else own[chosen]
            return output + torch.bmm(inputs[0].to(own.dtype), own.mT)

        return add

    handles = [module.register_forward_hook(hook(name)) for name, module in slots.modules.items()]
    try:
        yield noise
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def rows_of_batch(places: Sequence[int]) -> Iterator[None]:
    """Inside, the model reads only the rows at these places of its batch, each with its noise.

    For whoever must part a batch that `example_noise` was drawn for; without noise it does nothing.
    """
    outer = _CHOSEN.get()
    token = _CHOSEN.set([*places] if outer is None else [outer[i] for i in places])
    try:
        yield
    finally:
        _CHOSEN.reset(token)


def draw_noise(
    slots: Slots,
    scale: Mapping[str, float | torch.Tensor],
    batch: int,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """Return σ·ε for each factor, (B, *shape), in the model's dtype; differentiable in σ."""
    return {
        name: (
            torch.randn((batch, *parameter.shape), generator=generator)
            * torch.as_tensor(scale[name], dtype=torch.float32)
        ).to(parameter.device, parameter.dtype)
        for name, parameter in slots.parameters.items()
    }
