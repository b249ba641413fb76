"""The Gibbs predictor on rows: losses under fresh posterior noise, grouped by independent draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from estimators import DiagonalGaussian
from pacbayes_sft.choices import Loss, Space
from pacbayes_sft.data.encode import Encoded
from pacbayes_sft.losses import scorer
from pacbayes_sft.noise import posterior_noise
from pacbayes_sft.risk import Losses, by_length, consecutive, row_losses, unit_means
from pacbayes_sft.slots import Slots

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROWS_PER_WEIGHT_DRAW = 8


@dataclass(frozen=True)
class Rows:
    """Encoded rows with the unit each belongs to."""

    encoded: Sequence[Encoded]
    units: Sequence[str]

    def first_units(self, count: int) -> Rows:
        """Return the rows of the first few units: a pilot."""
        return self._at(self.places_of_first(count))

    def places_of_first(self, count: int) -> list[int]:
        """Return which rows belong to the first few units."""
        few = set(list(dict.fromkeys(self.units))[:count])
        return [i for i, unit in enumerate(self.units) if unit in few]

    def sample(self, count: int | None, seed: int) -> Rows:
        """Return the rows of so many units, drawn without replacement and in the order drawn.

        Consecutive blocks of it are then disjoint random samples too. None, or more units than
        there are: all of them, as they are.
        """
        members: dict[str, list[int]] = {}
        for i, unit in enumerate(self.units):
            members.setdefault(unit, []).append(i)
        if count is None or count >= len(members):
            return self
        every = list(members)
        stream = np.random.default_rng(stream_of(seed, "which units are looked at"))
        chosen = stream.permutation(len(every))[:count]
        return self._at([i for k in chosen for i in members[every[k]]])

    def _at(self, places: list[int]) -> Rows:
        return Rows([self.encoded[i] for i in places], [self.units[i] for i in places])


@dataclass(frozen=True)
class Draws:
    """Losses of independent draws.

    Attributes:
        losses: Shape (m,): mean loss of the rows that shared a draw.
        weights: Shape (m,): share of the empirical risk that each stands for.
        units: Shape (number of units,): mean loss of each unit, for intervals over units.
        rows: Shape (repeats, number of rows): the loss of every row in every pass.
        entries: Takes row values (repeats, number of rows) to the mean of each draw's, (m,).
    """

    losses: Losses
    weights: Losses
    units: Losses
    rows: Losses
    entries: Callable[[Losses], Losses]


@dataclass(frozen=True)
class Evaluator:
    """A model to evaluate, and how.

    Attributes:
        model: A loaded model.
        loss: Which loss.
        tokenizer: The base's tokenizer.
        batch_size: Rows a forward pass.
        seed: Root of all noise; each purpose has a stream of its own.
    """

    model: torch.nn.Module
    loss: Loss
    tokenizer: PreTrainedTokenizerBase
    batch_size: int
    seed: int

    def finished(self, rows: Rows, label: str) -> Losses:
        """Return the mean loss of each unit under the weights now in the model."""
        return unit_means(self.row_by_row(rows, label), rows.units)

    def row_by_row(self, rows: Rows, label: str) -> Losses:
        """Return the loss of each row under the weights now in the model."""
        return row_losses(
            self.model,
            rows.encoded,
            scorer(self.loss, self.tokenizer),
            blocks=by_length(rows.encoded, self.batch_size),
            label=label,
        )

    def gibbs(
        self, slots: Slots, posterior: DiagonalGaussian, rows: Rows, purpose: str, repeats: int = 1
    ) -> Draws:
        """Return the losses under ``repeats`` fresh draws for every row.

        In ``factors`` space every row has draws of its own and a unit's rows form one entry; in
        ``weights`` space the rows of a small batch share one, and a batch is one entry.
        """
        generator = torch.Generator().manual_seed(stream_of(self.seed, purpose))
        shared = slots.space is Space.WEIGHTS
        if shared:
            blocks = consecutive(rows.units, min(self.batch_size, ROWS_PER_WEIGHT_DRAW))
        else:
            blocks = by_length(rows.encoded, self.batch_size)
        passes = []
        with posterior_noise(slots, posterior, generator) as redraw:
            for _ in range(repeats):
                passes.append(
                    row_losses(
                        self.model,
                        rows.encoded,
                        scorer(self.loss, self.tokenizer),
                        blocks=blocks,
                        redraw=redraw,
                        label=purpose,
                    )
                )
        every = np.array(passes)
        units = np.mean([unit_means(losses, rows.units) for losses in passes], axis=0)
        if not shared:
            weights = np.full(units.size * repeats, 1 / (units.size * repeats))

            def by_unit(values: Losses) -> Losses:
                return np.concatenate([unit_means(one, rows.units) for one in values])

            return Draws(by_unit(every), weights, units, every, by_unit)
        share = _row_shares(rows.units)

        def by_block(values: Losses) -> Losses:
            return np.array([np.average(v[b], weights=share[b]) for v in values for b in blocks])

        weights = np.array([share[b].sum() for _ in passes for b in blocks]) / repeats
        return Draws(by_block(every), weights, units, every, by_block)


def _row_shares(units: Sequence[str]) -> Losses:
    """The share of the mean over units that each row's loss has."""
    _, index, counts = np.unique(np.array(units), return_inverse=True, return_counts=True)
    return 1 / (counts[index] * len(counts))


def stream_of(seed: int, purpose: str) -> int:
    """A seed of its own for each purpose, so that no draw serves twice."""
    words = [ord(c) for c in purpose]
    return int(np.random.SeedSequence([seed, *words]).generate_state(1, np.uint64)[0] >> 1)
