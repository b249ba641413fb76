"""One σ a tensor, from the tensor's mean curvature.

The derivation of `estimators.posteriors.laplace` with one variance s shared by the d entries of a
tensor: ½[n·c·Σh_i·s + d·s/σ_p² - d·ln(s/σ_p²)] is least at s = 1/(1/σ_p² + n·c·h̄), with h̄ = Σh_i/d
the plain mean. So it is Laplace's formula at h̄.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from estimators.gaussian import DiagonalGaussian
from estimators.named_tensors import NamedTensors
from estimators.posteriors import laplace


def fit(
    mean: NamedTensors,
    curvature: Mapping[str, torch.Tensor],
    *,
    sigma: float,
    n: int,
    temperature: float,
) -> DiagonalGaussian:
    """Return N(mean, σ_t²I on tensor t) with σ_t² = 1/(1/sigma² + n·temperature·h̄_t).

    Args:
        mean: Named tensors: the fine-tuned weights.
        curvature: As in `estimators.posteriors.laplace.fit`.
        sigma: The prior's one standard deviation, > 0; no σ_t exceeds it.
        n: Independent units behind the risk.
        temperature: c >= 0; 0 gives the isotropic N(mean, sigma²I).

    Raises:
        ValueError: If names differ, or a number is out of its range.

    >>> fit({"w": torch.zeros(2)}, {"w": torch.tensor([0.0, 8.0])}, sigma=1.0, n=6,
    ...     temperature=1.0).scale
    {'w': 0.2}
    """
    means = {name: h.double().mean() for name, h in curvature.items()}
    return laplace.fit(mean, means, sigma=sigma, n=n, temperature=temperature)
