"""Two learning problems whose every risk is known in closed form, many repetitions at once.

Shapes: ``r`` repetitions, ``d`` parameters, ``k`` draws. A Gaussian is ``mean`` (r, d) and
``scale`` (r, 1). All in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Arms:
    """A number θ picks one of K arms on a line; arm k errs with probability ``risks[k]``.

    The losses are Bernoulli, for which Maurer's moment is met with equality: nothing is harder
    for a PAC-Bayes bound. With many arms of one risk all learning is overfitting.
    """

    risks: Tensor
    reach: float = 3.0
    dimension = 1

    @classmethod
    def flat(cls, arms: int, risk: float) -> Arms:
        return cls(torch.full((arms,), risk, dtype=torch.float64))

    @classmethod
    def varied(cls) -> Arms:
        order = torch.randperm(32, generator=torch.Generator().manual_seed(1))
        return cls(torch.linspace(0.25, 0.55, 32, dtype=torch.float64)[order])

    @property
    def edges(self) -> Tensor:
        """The inner edges; the outermost arms reach to infinity."""
        return torch.linspace(-self.reach, self.reach, len(self.risks) + 1).double()[1:-1]

    def draw(self, n: int, repeats: int, generator: torch.Generator) -> tuple[Tensor, int]:
        """Return how often each arm erred, (r, K), and n."""
        rate = self.risks.expand(repeats, -1)
        return torch.binomial(torch.full_like(rate, n), rate, generator=generator), n

    def join(self, one: tuple[Tensor, int], two: tuple[Tensor, int]) -> tuple[Tensor, int]:
        return one[0] + two[0], one[1] + two[1]

    def finished(self, sample: tuple[Tensor, int]) -> Tensor:
        """The fine-tune: the centre of the arm that erred least."""
        best = sample[0].argmin(1)
        width = 2 * self.reach / len(self.risks)
        return (-self.reach + width * (best + 0.5))[:, None].double()

    def empirical_gibbs(self, sample: tuple[Tensor, int], mean: Tensor, scale: Tensor) -> Tensor:
        return (self._mass(mean, scale) * sample[0]).sum(1) / sample[1]

    def empirical(self, sample: tuple[Tensor, int], theta: Tensor) -> Tensor:
        """Of draws (r, k, 1): (r, k)."""
        return sample[0].gather(1, self._arm(theta)) / sample[1]

    def excess(
        self,
        sample: tuple[Tensor, int],
        mean: Tensor,
        scale: Tensor,
        centre: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """E_Q of the positive and negative parts of the loss over that at ``centre`` (r, 1).

        Arms err independently, so given how often two erred their common errors are hypergeometric.
        """
        errors, n = sample[0].numpy().astype(int), sample[1]
        at = self._arm(centre)[:, None]
        theirs = np.take_along_axis(errors, at.numpy(), 1)
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        both = rng.hypergeometric(theirs, n - theirs, errors)
        np.put_along_axis(both, at.numpy(), theirs, 1)  # an arm agrees with itself
        mass = self._mass(mean, scale)
        more, less = torch.from_numpy(errors - both), torch.from_numpy(theirs - both)
        return (mass * more).sum(1) / n, (mass * less).sum(1) / n

    def gibbs(self, mean: Tensor, scale: Tensor) -> Tensor:
        return self._mass(mean, scale) @ self.risks

    def risk(self, theta: Tensor) -> Tensor:
        return self.risks[self._arm(theta)]

    def _arm(self, theta: Tensor) -> Tensor:
        return torch.bucketize(theta[..., 0].contiguous(), self.edges)

    def _mass(self, mean: Tensor, scale: Tensor) -> Tensor:
        below = torch.special.ndtr((self.edges - mean) / scale)
        ends = torch.zeros_like(below[:, :1]), torch.ones_like(below[:, :1])
        return torch.cat([ends[0], below, ends[1]], 1).diff(dim=1)


@dataclass(frozen=True)
class Plane:
    """x ~ N(0, I₂), y = sign(x₁) flipped with probability ``noise``; the predictor is sign(θ·x).

    A sample is kept as z = y·x, (r, n, 2): the loss is 1{θ·z <= 0}.
    """

    noise: float = 0.1
    dimension = 2

    def draw(self, n: int, repeats: int, generator: torch.Generator) -> Tensor:
        x = torch.randn(repeats, n, 2, generator=generator, dtype=torch.float64)
        flip = torch.rand(repeats, n, generator=generator) < self.noise
        return x * (x[..., 0].sign() * torch.where(flip, -1.0, 1.0))[..., None]

    def join(self, one: Tensor, two: Tensor) -> Tensor:
        return torch.cat([one, two], 1)

    def finished(self, sample: Tensor) -> Tensor:
        """The fine-tune: the best of 64 directions, of unit length."""
        angle = torch.arange(64, dtype=torch.float64) * (2 * math.pi / 64)
        directions = torch.stack([angle.cos(), angle.sin()], 1)
        return directions[(sample @ directions.T <= 0).double().mean(1).argmin(1)]

    def unit_errors(self, sample: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """P_{θ~Q}(θ errs) for each unit, (r, n)."""
        margin = (sample * mean[:, None]).sum(-1) / (scale * sample.norm(dim=-1))
        return torch.special.ndtr(-margin)

    def empirical_gibbs(self, sample: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        return self.unit_errors(sample, mean, scale).mean(1)

    def excess(
        self,
        sample: Tensor,
        mean: Tensor,
        scale: Tensor,
        centre: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """E_Q of the positive and negative parts of the loss over that at ``centre`` (r, 2)."""
        errors = self.unit_errors(sample, mean, scale)
        theirs = (torch.einsum("rnd,rd->rn", sample, centre) <= 0).double()
        return (errors * (1 - theirs)).mean(1), ((1 - errors) * theirs).mean(1)

    def empirical(self, sample: Tensor, theta: Tensor) -> Tensor:
        return (sample @ theta.transpose(1, 2) <= 0).double().mean(1)

    def gibbs(self, mean: Tensor, scale: Tensor) -> Tensor:
        """Average of Φ(-μ·u/σ) over directions u on the side of x₁ > 0, by quadrature.

        400 midpoints leave less than 2e-5 for the σ >= 0.02 |μ| of the procedures.
        """
        angle = (torch.arange(400, dtype=torch.float64) + 0.5) * (math.pi / 400) - math.pi / 2
        u = torch.stack([angle.cos(), angle.sin()])
        wrong = torch.special.ndtr(-(mean @ u) / scale).mean(1)
        return self.noise + (1 - 2 * self.noise) * wrong

    def risk(self, theta: Tensor) -> Tensor:
        angle = torch.atan2(theta[..., 1], theta[..., 0]).abs() / math.pi
        return self.noise + (1 - 2 * self.noise) * angle


Problem = Arms | Plane


def kl(mean: Tensor, scale: Tensor, prior_mean: Tensor, prior_scale: Tensor | float) -> Tensor:
    """KL of N(mean, scale²I) from the prior, (r,), differentiable."""
    ratio = (scale / prior_scale) ** 2
    shift = ((mean - prior_mean) / prior_scale) ** 2
    return 0.5 * (shift + ratio - 1 - ratio.log()).sum(1)


def log_ratio(
    theta: Tensor,
    mean: Tensor,
    scale: Tensor,
    prior_mean: Tensor,
    prior_scale: Tensor | float,
) -> Tensor:
    """ln dQ/dP of draws (r, k, d): (r, k)."""
    zq = (theta - mean[:, None]) / scale[:, None]
    wide = prior_scale[:, None] if isinstance(prior_scale, Tensor) else prior_scale
    zp = (theta - prior_mean[:, None]) / wide
    spread = (wide / scale[:, None]).log()
    return (spread + 0.5 * (zp**2 - zq**2)).sum(-1)


def draws(mean: Tensor, scale: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Return k draws from each posterior, (r, k, d)."""
    noise = torch.randn(len(mean), k, mean.shape[1], generator=generator, dtype=torch.float64)
    return mean[:, None] + scale[:, None] * noise


def refine(
    problem: Problem,
    sample: object,
    start: tuple[Tensor, Tensor],
    prior: tuple[Tensor, Tensor | float],
    n: int,
    delta: float,
    steps: int = 40,
    rate: float = 0.05,
) -> tuple[Tensor, Tensor]:
    """Minimise the objective of `estimators.posteriors.refined`, every repetition by itself.

    Adam acts entry by entry, so one optimiser serves all repetitions.
    """
    mean = start[0].clone().requires_grad_()
    log_scale = start[1].log().clone().requires_grad_()
    optimizer = torch.optim.Adam([mean, log_scale], lr=rate, betas=(0.9, 0.99))
    epsilon = math.log(2 * math.sqrt(n) / delta)
    for _ in range(steps):
        scale = log_scale.exp()
        risk = problem.empirical_gibbs(sample, mean, scale)
        objective = risk + ((kl(mean, scale, *prior) + epsilon) / (2 * n)).sqrt()
        optimizer.zero_grad()
        objective.sum().backward()
        optimizer.step()
    return mean.detach(), log_scale.detach().exp()
