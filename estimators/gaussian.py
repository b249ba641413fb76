"""Diagonal Gaussians over named tensors, and the KL between them. All sums run in float64."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from estimators.estimate import Estimate
from estimators.named_tensors import NamedTensors, as_dict, check_alike


@dataclass(frozen=True)
class DiagonalGaussian:
    """Independent normal entries: ``mean[name]`` with standard deviation ``scale[name]``.

    Attributes:
        mean: Named mean tensors; also given as one tensor or as an iterator of pairs.
        scale: Standard deviation of each named tensor, a positive float or a tensor that
            broadcasts against the mean; also given as one number for all, or as tensors.
        basis: For some matrices (out, in) a pair of orthogonal matrices L (out, out), R (in, in):
            the entries of Lᵀ(θ - mean)R are independent with ``scale``, not those of θ - mean.

    Raises:
        ValueError: If names differ, a scale is not positive and finite (a point mass has
            infinite KL to any Gaussian), or a basis is not orthogonal.

    >>> DiagonalGaussian(torch.zeros(3), 0.1).parameters
    3
    """

    mean: NamedTensors
    scale: Mapping[str, float | torch.Tensor]
    basis: Mapping[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Name what came without names; refuse names without scale and point masses."""
        object.__setattr__(self, "mean", as_dict(self.mean))
        if isinstance(self.scale, int | float):
            object.__setattr__(self, "scale", dict.fromkeys(self.mean, float(self.scale)))
        elif not isinstance(self.scale, Mapping):
            object.__setattr__(self, "scale", as_dict(self.scale))
        if self.mean.keys() != self.scale.keys():
            raise ValueError(
                f"mean and scale name different tensors: "
                f"{sorted(self.mean.keys() ^ self.scale.keys())[:3]}"
            )
        for name, scale in self.scale.items():
            s = (
                scale
                if isinstance(scale, torch.Tensor)
                else torch.tensor(scale, dtype=torch.float64)
            )
            if not bool((torch.isfinite(s) & (s > 0)).all()):
                raise ValueError(f"the scale of {name!r} must be positive and finite")
        for name, sides in self.basis.items():
            shape = tuple(self.mean[name].shape) if name in self.mean else ()
            if tuple(len(side) for side in sides) != shape or not all(map(_orthogonal, sides)):
                raise ValueError(f"the basis of {name!r} is not orthogonal, or not of its shape")

    @property
    def parameters(self) -> int:
        """Number of Gaussian entries."""
        return sum(m.numel() for m in self.mean.values())

    def sample(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Draw every tensor once, in the dtype of its mean, from ``generator``.

        >>> g = DiagonalGaussian({"w": torch.zeros(2)}, {"w": 1.0})
        >>> g.sample(torch.Generator().manual_seed(0))["w"].shape
        torch.Size([2])
        """
        drawn = {}
        for name, mean in self.mean.items():
            noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
            noise *= torch.as_tensor(self.scale[name], dtype=mean.dtype)
            drawn[name] = mean + self.out_of_basis(name, noise)
        return drawn

    def out_of_basis(self, name: str, entries: torch.Tensor) -> torch.Tensor:
        """Return L·entries·Rᵀ for a tensor with a basis, else ``entries``; (..., out, in)."""
        if name not in self.basis:
            return entries
        left, right = (side.to(entries.device, entries.dtype) for side in self.basis[name])
        return left @ entries @ right.mT


def typical_scale(gaussian: DiagonalGaussian) -> float:
    """Return the geometric mean of the tensors' (geometric mean) standard deviations.

    A description, not a parameter of any formula: the natural unit of a step in these weights.

    >>> round(typical_scale(DiagonalGaussian({"w": torch.zeros(2)}, {"w": 0.5})), 3)
    0.5
    """
    logs = [torch.as_tensor(s, dtype=torch.float64).log().mean() for s in gaussian.scale.values()]
    return float(torch.stack(logs).mean().exp())


def noise_norm(gaussian: DiagonalGaussian) -> float:
    """Return √E‖θ - mean‖² = √Σσ², the typical length of a draw's noise.

    >>> noise_norm(DiagonalGaussian({"w": torch.zeros(4)}, {"w": 0.5}))
    1.0
    """
    total = 0.0
    for name, mean in gaussian.mean.items():
        variance = torch.as_tensor(gaussian.scale[name], dtype=torch.float64).square()
        total += float(variance.expand(mean.shape).sum())
    return math.sqrt(total)


def kl_divergence(posterior: DiagonalGaussian, prior: DiagonalGaussian) -> Estimate:
    """Return KL(posterior‖prior) = ½Σ[(σ_q²+(μ_q-μ_p)²)/σ_p² - 1 - ln(σ_q²/σ_p²)], exact, in nats.

    A basis of the posterior does not enter: a tensor that has one needs one σ_p, and a sphere looks
    alike from every basis.

    Raises:
        ValueError: If the two name different tensors or shapes, or the prior is no sphere where
            the posterior has a basis.

    >>> q = DiagonalGaussian({"w": torch.ones(3)}, {"w": 1.0})
    >>> p = DiagonalGaussian({"w": torch.zeros(3)}, {"w": 1.0})
    >>> kl_divergence(q, p).value
    1.5
    """
    check_alike(posterior.mean, "posterior", prior.mean, "prior")
    check_spheres(posterior, prior)
    total = float(kl_nats(posterior.mean, posterior.scale, prior))
    return Estimate.exactly(total, method="KL of diagonal Gaussians", unit="nats")


def kl_nats(
    mean: NamedTensors, scale: Mapping[str, float | torch.Tensor], prior: DiagonalGaussian
) -> torch.Tensor:
    """Return KL(N(mean, scale²)‖prior) in nats as a float64 scalar that can be differentiated.

    The one implementation behind `kl_divergence` and the refinement; names and shapes unchecked.
    """
    total = torch.zeros((), dtype=torch.float64)
    for name, m in mean.items():
        sq = torch.as_tensor(scale[name], dtype=torch.float64)
        sp = torch.as_tensor(prior.scale[name], dtype=torch.float64)
        ratio = (sq / sp) ** 2
        shift = ((m.double() - prior.mean[name].double()) / sp) ** 2
        entry = shift + (ratio - 1 - torch.log(ratio))
        total = total + 0.5 * entry.expand(m.shape).sum().to(total.device)
    return total


def kl_isotropic(
    squared_distance: float, parameters: int, sigma_posterior: float, sigma_prior: float
) -> Estimate:
    """Return the KL of N(μ_q, σ_q²I) from N(μ_p, σ_p²I), from ‖μ_q-μ_p‖² alone, exact, in nats.

    With equal sigmas it is ‖Δ‖²/(2σ²).

    Raises:
        ValueError: If a sigma is not positive, its square or that of the sigmas' ratio is no float,
            or the distance is negative or not finite.

    >>> kl_isotropic(2.0, 10, 0.5, 0.5).value
    4.0
    """
    if not (0 < sigma_posterior < math.inf and 0 < sigma_prior < math.inf):
        raise ValueError("sigma must be positive and finite (a point mass has infinite KL)")
    if not 0 <= squared_distance < math.inf:
        raise ValueError(f"a squared distance is finite and >= 0, got {squared_distance}")
    quotient = sigma_posterior / sigma_prior
    for root in (sigma_prior, quotient):
        if not sys.float_info.min <= root * root < math.inf:
            raise ValueError(
                f"sigmas {sigma_posterior:g} (posterior) and {sigma_prior:g} (prior): a square of "
                "theirs, or of their ratio, is too small or too large for a float"
            )
    ratio = quotient**2
    value = 0.5 * (squared_distance / sigma_prior**2 + parameters * (ratio - 1 - math.log(ratio)))
    return Estimate.exactly(value, method="KL of isotropic Gaussians", unit="nats")


def _orthogonal(side: torch.Tensor) -> bool:
    unit = torch.eye(len(side), dtype=torch.float64)
    square = side.double().cpu()
    return side.ndim == 2 and bool(torch.allclose(square.mT @ square, unit, atol=1e-5))


def into_basis(gaussian: DiagonalGaussian, name: str, change: torch.Tensor) -> torch.Tensor:
    """Return Lᵀ·change·R for a tensor with a basis, else ``change``; (out, in), in float64."""
    if name not in gaussian.basis:
        return change
    left, right = (side.double() for side in gaussian.basis[name])
    return left.mT @ change @ right


def check_spheres(posterior: DiagonalGaussian, prior: DiagonalGaussian) -> None:
    """Refuse a prior that is no sphere on a tensor for which the posterior has a basis."""
    for name in posterior.basis:
        if torch.as_tensor(prior.scale[name]).numel() != 1:
            raise ValueError(f"{name!r}: the posterior has a basis, so the prior needs one sigma")
    if prior.basis:
        raise ValueError("a prior has no basis of its own")
