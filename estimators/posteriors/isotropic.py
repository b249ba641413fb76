"""The isotropic Gaussian posterior: one σ for every weight, around the fine-tuned weights."""

from __future__ import annotations

from estimators.gaussian import DiagonalGaussian
from estimators.named_tensors import Tensors, as_dict


def fit(mean: Tensors, sigma: float) -> DiagonalGaussian:
    """Return N(mean, σ²I).

    Args:
        mean: A tensor, a dict of them or an iterator of pairs: the fine-tuned weights for a
            posterior, the pre-trained (or initial) ones for a prior.
        sigma: The one standard deviation, > 0.

    Raises:
        ValueError: If sigma is not positive and finite.

    >>> import torch
    >>> fit(torch.ones(3), 0.5).scale
    {'tensor': 0.5}
    """
    return DiagonalGaussian(dict(as_dict(mean)), sigma)  # type: ignore[arg-type]
