"""The risk that a posterior is refined through: fresh noise, a fresh batch, gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.func import functional_call

from estimators.posteriors import refined
from pacbayes_sft.choices import Space, Start
from pacbayes_sft.data.encode import collate
from pacbayes_sft.errors import InputError
from pacbayes_sft.gibbs import Evaluator, Rows, stream_of
from pacbayes_sft.losses import SURROGATES
from pacbayes_sft.noise import draw_noise, example_noise
from pacbayes_sft.slots import Slots, full_names

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Refinement:
    """How a posterior is refined.

    Attributes:
        schedule: Steps, rates, radius and time budget.
        batch_size: Rows a step.
        state_file: Where an interrupted fit is kept, to go on from; None: nowhere. The last state
            stays: remove the file when the certificate is written.
        start: Where it begins; with a radius, which is one around them, the finished weights.
    """

    schedule: refined.Schedule = field(default_factory=refined.Schedule)
    batch_size: int = 32
    state_file: Path | None = None
    start: Start = Start.AUTO

    def __post_init__(self) -> None:
        """Refuse no rows, and a radius around the finished weights for a fit from elsewhere."""
        if self.batch_size < 1:
            raise InputError(f"a refinement step needs at least one row, got {self.batch_size}")
        start = Start(self.start)
        if self.schedule.radius is not None:
            if start is Start.PRIOR:
                raise InputError(
                    "--radius holds the mean near the finished weights; use another "
                    "--start than prior"
                )
            start = Start.FINISHED
        object.__setattr__(self, "start", start)


def surrogate_risk(
    evaluator: Evaluator, slots: Slots, rows: Rows, batch_size: int
) -> refined.Surrogate:
    """Return the stochastic surrogate of E_Q R̂_S for `refined.fit`.

    Rows come in a new random order each epoch; batch and noise depend on the step alone. In
    ``factors`` space every row has noise of its own, in ``weights`` space a batch shares a draw.

    Args:
        evaluator: The model and the loss of the bound.
        slots: Where the tensors live.
        rows: The certified rows.
        batch_size: Rows a step.
    """
    names = full_names(evaluator.model, slots)
    device = next(evaluator.model.parameters()).device
    score = SURROGATES[evaluator.loss]
    size = min(batch_size, len(rows.encoded))
    steps_an_epoch = len(rows.encoded) // size
    root = stream_of(evaluator.seed, "refinement")

    def batch_of(step: int) -> dict[str, torch.Tensor]:
        epoch, place = divmod(step, steps_an_epoch)
        order = np.random.default_rng([root, epoch]).permutation(len(rows.encoded))
        chosen = order[place * size : (place + 1) * size]
        return collate([rows.encoded[i] for i in chosen], evaluator.tokenizer.pad_token_id, device)

    def weights(tensors: Tensors) -> dict[str, torch.Tensor]:
        return {
            names[name]: t.to(slots.parameters[name].device, slots.parameters[name].dtype)
            for name, t in tensors.items()
        }

    def surrogate(mean: Tensors, scale: Tensors, step: int) -> torch.Tensor:
        batch = batch_of(step)
        labels = batch.pop("labels")
        generator = torch.Generator().manual_seed(stream_of(root, f"step {step}"))
        inputs = {**batch, "use_cache": False}
        if slots.space is Space.FACTORS:
            with example_noise(slots) as noise:
                noise.update(draw_noise(slots, scale, len(labels), generator))
                logits = functional_call(evaluator.model, weights(mean), (), inputs).logits
        else:
            drawn = {
                name: m + scale[name].to(m.dtype) * torch.randn(m.shape, generator=generator)
                for name, m in mean.items()
            }
            logits = functional_call(evaluator.model, weights(drawn), (), inputs).logits
        return score(logits, labels).mean()

    return surrogate
