"""Small named problems whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class NoisyThreshold:
    """x ~ U(0,1), y = 1{x > 1/2} flipped with probability ``noise``; predictor 1{x > θ}.

    For θ ~ N(m, s²) both the empirical and the true Gibbs risk have closed forms, so a coverage
    simulation needs no Monte Carlo.
    """

    noise: float = 0.1

    def draw(self, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = generator.random(n)
        y = (x > 0.5) ^ (generator.random(n) < self.noise)
        return x, y

    def empirical_gibbs(self, x: np.ndarray, y: np.ndarray, m: float, s: float) -> float:
        says_one = stats.norm.cdf((x - m) / s)
        return float(np.where(y, 1 - says_one, says_one).mean())

    def true_gibbs(self, m: float, s: float) -> float:
        grid = (np.arange(20_000) + 0.5) / 20_000
        says_one = stats.norm.cdf((grid - m) / s)
        wrong = np.where(grid > 0.5, 1 - says_one, says_one)
        return float((wrong * (1 - self.noise) + (1 - wrong) * self.noise).mean())
