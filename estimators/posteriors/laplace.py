"""The diagonal Laplace posterior: each weight's σ from the curvature of the loss there.

Near the finished weights μ, write c·h_i for the second derivative of the risk in weight i. Noise
of variance σ_i² then adds ½Σ c·h_i·σ_i² to it (to second order, off-diagonal terms aside, μ near a
stationary point). For N(μ, diag σ²) and the prior N(μ_p, σ_p²I), minimise over the variances

    n·risk + KL  =  const + ½Σ [n·c·h_i·σ_i² + σ_i²/σ_p² - ln(σ_i²/σ_p²)]

whose derivative in σ_i² is ½[n·c·h_i + 1/σ_p² - 1/σ_i²], zero at

    σ_i² = 1 / (1/σ_p² + n·c·h_i).

The second derivative 1/(2σ_i⁴) is positive: it is the minimum. A flat direction keeps σ_p and
costs nothing; a steep one gets 1/√(n·c·h_i) and pays ½ln(1 + σ_p²·n·c·h_i) - ½(1 - σ_i²/σ_p²) nats.
At c = 1 and h the curvature of the negative log-likelihood this is Laplace's approximation of the
Bayesian posterior (MacKay 1992). A PAC-Bayes bound asks for another weight between the two terms:
the λ bound (Thiemann et al. 2017) is R̂/(1-λ/2) + KL/(nλ(1-λ/2)) + ..., least where n·λ·R̂ + KL is,
so that the temperature c is λ times the ratio of the two losses' curvatures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from estimators.gaussian import DiagonalGaussian
from estimators.named_tensors import NamedTensors


def fit(
    mean: NamedTensors,
    curvature: Mapping[str, torch.Tensor],
    *,
    sigma: float,
    n: int,
    temperature: float,
) -> DiagonalGaussian:
    """Return N(mean, diag σ²) with σ_i² = 1/(1/sigma² + n·temperature·curvature_i).

    Q may depend on the sample in any way: neither the curvature nor the temperature costs
    confidence. ``sigma`` shapes the prior too, and must be paid for if it was chosen.

    Args:
        mean: Named tensors: the fine-tuned weights.
        curvature: For each name the diagonal of a Fisher or GGN matrix, >= 0, in nats per squared
            unit of the weight: of the mean's shape, or one number for the tensor.
        sigma: The prior's one standard deviation, > 0; no σ_i exceeds it, but for the rounding of
            its own type.
        n: Independent units behind the risk.
        temperature: c >= 0; 0 gives the isotropic N(mean, sigma²I).

    Returns:
        A σ for each entry (float32), or one for each tensor where the curvature is one number.

    Raises:
        ValueError: If names or shapes differ, or a number is out of its range.

    >>> q = fit({"w": torch.zeros(2)}, {"w": torch.tensor([0.0, 4.0])}, sigma=1.0, n=6,
    ...         temperature=1.0)
    >>> q.scale["w"].tolist()
    [1.0, 0.20000000298023224]
    """
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be positive and finite, got {sigma}")
    if n < 1 or not 0 <= temperature < math.inf:
        raise ValueError(
            f"n must be >= 1 and the temperature finite and >= 0, got {n, temperature}"
        )
    if mean.keys() != curvature.keys():
        raise ValueError("mean and curvature name different tensors")
    scale: dict[str, float | torch.Tensor] = {}
    for name, h in curvature.items():
        if h.ndim > 0 and h.shape != mean[name].shape:
            raise ValueError(
                f"{name!r} has shape {tuple(mean[name].shape)}, its curvature {tuple(h.shape)}"
            )
        if not bool((torch.isfinite(h) & (h >= 0)).all()):
            raise ValueError(f"the curvature of {name!r} must be finite and >= 0")
        # σ_p/√(1 + ...) and not 1/√(1/σ_p² + ...): σ_p itself where it is flat, before rounding
        s = sigma / (1 + sigma**2 * n * temperature * h.double()).sqrt()
        scale[name] = float(s) if h.ndim == 0 else s.float()
    return DiagonalGaussian(dict(mean), scale)
