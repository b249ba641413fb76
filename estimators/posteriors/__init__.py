"""Gaussian posteriors around fine-tuned weights: one file a family, each with a `fit`."""

from estimators.posteriors import interpolated, isotropic, kfac, laplace, per_tensor, refined

__all__ = ["interpolated", "isotropic", "kfac", "laplace", "per_tensor", "refined"]
