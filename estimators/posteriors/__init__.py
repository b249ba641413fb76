"""Gaussian posteriors around fine-tuned weights: one file a family, each with a `fit`."""

from estimators.posteriors import isotropic, kfac, laplace, per_tensor

__all__ = ["isotropic", "kfac", "laplace", "per_tensor"]
