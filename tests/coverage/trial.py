"""Many samples of one problem, and the posteriors that the procedures certify."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tests.coverage.simulation import Problem, refine

PRIOR_SCALE, START_SCALE, CHECKPOINT_SCALE = 1.0, 0.3, 0.3


@dataclass
class Trial:
    """Independent samples of n units, half of them for a checkpoint, and what is fitted to them."""

    problem: Problem
    n: int
    repeats: int
    delta: float
    seed: int

    def __post_init__(self) -> None:
        generator = self.stream("sample")
        self.first = self.problem.draw(self.n // 2, self.repeats, generator)
        self.unseen = self.problem.draw(self.n - self.n // 2, self.repeats, generator)
        self.sample = self.problem.join(self.first, self.unseen)
        self.zero = torch.zeros(self.repeats, self.problem.dimension, dtype=torch.float64)
        self.one = torch.ones(self.repeats, 1, dtype=torch.float64)

    def stream(self, purpose: str) -> torch.Generator:
        """A generator for one purpose only: the draw's is used nowhere in fitting."""
        root = np.random.SeedSequence([self.seed, *purpose.encode()])
        return torch.Generator().manual_seed(int(root.generate_state(1, np.uint64)[0] >> 1))

    @cached_property
    def finished(self) -> Tensor:
        return self.problem.finished(self.sample)

    @cached_property
    def refined(self) -> tuple[Tensor, Tensor]:
        start = self.finished, START_SCALE * self.one
        return refine(
            self.problem, self.sample, start, (self.zero, PRIOR_SCALE), self.n, self.delta
        )

    @cached_property
    def checkpoint(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, float], int]:
        """A posterior that saw all n, the prior that saw the first half, units unseen by it."""
        prior = self.problem.finished(self.first), CHECKPOINT_SCALE
        left = self.n - self.n // 2
        start = self.finished, CHECKPOINT_SCALE * self.one
        return refine(self.problem, self.unseen, start, prior, left, self.delta), prior, left
