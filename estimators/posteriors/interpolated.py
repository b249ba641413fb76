"""The interpolated posterior: one σ, the mean on the line from the prior's to the finished weights.

    Q = N(μ_P + t(θ − μ_P), σ²I),  KL(Q‖P) = t²‖θ − μ_P‖²/2σ²  for P = N(μ_P, σ²I)

A refinement with one parameter: what the rows taught is bought at t² of its price. t = 1 is the
isotropic posterior around the finished weights, t = 0 the prior itself. t may be chosen in any
way that the rows suggest: Q is free.
"""

from __future__ import annotations

import torch

from estimators.gaussian import DiagonalGaussian


def fit(finished: DiagonalGaussian, prior: DiagonalGaussian, t: float) -> DiagonalGaussian:
    """Return Q at a point of the line, with the noise of ``finished``.

    Args:
        finished: Noise around the finished weights.
        prior: P, over the same names and shapes.
        t: Place on the line, in [0, 1].

    Raises:
        ValueError: If t lies outside [0, 1], or names or shapes differ.

    >>> finished = DiagonalGaussian({"w": torch.tensor([2.0])}, {"w": 0.1})
    >>> prior = DiagonalGaussian({"w": torch.tensor([1.0])}, {"w": 0.1})
    >>> fit(finished, prior, 0.5).mean["w"].item()
    1.5
    """
    if not 0 <= t <= 1:
        raise ValueError(f"t must lie in [0, 1], got {t}")
    if set(finished.mean) != set(prior.mean):
        raise ValueError("the finished weights and the prior have other tensors")
    mean = {
        name: torch.lerp(prior.mean[name].to(weights.dtype), weights, t)
        for name, weights in finished.mean.items()
    }
    return DiagonalGaussian(mean, dict(finished.scale))
