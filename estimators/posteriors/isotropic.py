"""The isotropic Gaussian posterior: one σ for every weight, around the fine-tuned weights."""

from __future__ import annotations

from estimators.gaussian import DiagonalGaussian, NamedTensors


def fit(mean: NamedTensors, sigma: float) -> DiagonalGaussian:
    """Return N(mean, σ²I).

    Args:
        mean: Named tensors: the fine-tuned weights for a posterior, the pre-trained (or initial)
            ones for a prior.
        sigma: The one standard deviation, > 0.

    Raises:
        ValueError: If sigma is not positive and finite.
    """
    return DiagonalGaussian(dict(mean), dict.fromkeys(mean, float(sigma)))
