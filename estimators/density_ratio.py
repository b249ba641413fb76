"""The log density ratio of two Gaussians at one draw: what a disintegrated bound charges."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from estimators.gaussian import DiagonalGaussian, check_spheres, into_basis
from estimators.named_tensors import Tensors, as_dict, check_alike


def log_density_ratio(
    theta: Tensors, posterior: DiagonalGaussian, prior: DiagonalGaussian
) -> float:
    """Return ln(dQ/dP)(θ) in nats, in float64: what the disintegrated bound charges for one draw.

    Its mean over θ ~ Q is KL(Q‖P). θ is the draw itself: taken at rounded weights the bound fails,
    so half-precision tensors are refused.

    Args:
        theta: The draw: names and shapes of the mean.
        posterior: Q, that θ was drawn from.
        prior: P.

    Raises:
        ValueError: If names or shapes differ, or θ was rounded below float32.

    >>> q = DiagonalGaussian({"w": torch.ones(1)}, {"w": 1.0})
    >>> p = DiagonalGaussian({"w": torch.zeros(1)}, {"w": 1.0})
    >>> log_density_ratio({"w": torch.tensor([3.0])}, q, p)
    2.5
    """
    theta = as_dict(theta)
    check_alike(theta, "draw", posterior.mean, "posterior")
    check_alike(posterior.mean, "posterior", prior.mean, "prior")
    check_spheres(posterior, prior)
    total = 0.0
    for name, draw in theta.items():
        if draw.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"{name!r} of the draw is {draw.dtype}: the density ratio is taken at the "
                f"unrounded draw, in float32 or float64"
            )
        sq = torch.as_tensor(posterior.scale[name], dtype=torch.float64)
        sp = torch.as_tensor(prior.scale[name], dtype=torch.float64)
        zq = into_basis(posterior, name, draw.double() - posterior.mean[name].double()) / sq
        zp = into_basis(posterior, name, draw.double() - prior.mean[name].double()) / sp
        entry = torch.log(sp / sq) + 0.5 * (zp - zq) * (zp + zq)
        total += float(entry.expand(draw.shape).sum())
    return total


def log_density_ratio_mixture(
    theta: Tensors,
    posterior: DiagonalGaussian,
    priors: Sequence[DiagonalGaussian],
    weights: Sequence[float] | None = None,
) -> float:
    """Return ln q(θ) - ln Σ_k w_k p_k(θ) in nats: the prior is a grid of Gaussians.

    At most ``log_density_ratio`` to any single prior plus ln(1/w_k), so a grid costs no more than
    its union bound.

    Args:
        theta: The unrounded draw.
        posterior: Q.
        priors: The grid, fixed in advance.
        weights: w_k > 0, summing to at most 1; equal if None.

    Raises:
        ValueError: As `log_density_ratio`, or if the weights are no sub-probability.

    >>> q = DiagonalGaussian({"w": torch.ones(1)}, {"w": 1.0})
    >>> grid = [DiagonalGaussian({"w": torch.zeros(1)}, {"w": sigma}) for sigma in (1.0, 2.0)]
    >>> theta = {"w": torch.tensor([3.0])}
    >>> paid = log_density_ratio_mixture(theta, q, grid)
    >>> round(paid, 4), paid < log_density_ratio(theta, q, grid[0]) + math.log(2)
    (0.4451, True)
    """
    theta = as_dict(theta)
    if not priors:
        raise ValueError("a grid of priors must hold at least one")
    shares = [1 / len(priors)] * len(priors) if weights is None else list(weights)
    if len(shares) != len(priors):
        raise ValueError(f"each prior must have a weight: {len(shares)} for {len(priors)} priors")
    if not all(w > 0 for w in shares) or sum(shares) > 1 + 1e-9:
        raise ValueError("the weights of the priors must be positive and sum to at most 1")
    terms = [
        math.log(w) - log_density_ratio(theta, posterior, p)
        for w, p in zip(shares, priors, strict=True)
    ]
    return -float(torch.logsumexp(torch.tensor(terms, dtype=torch.float64), 0))
