"""Gaussian posteriors around fine-tuned weights: one file a family, each with a `fit`."""

from estimators.posteriors import isotropic

__all__ = ["isotropic"]
