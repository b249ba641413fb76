"""Diagonal Gaussians over named tensors, and the KL between them.

A Gaussian here is a mean and a standard deviation for each named tensor. Wherever tensors are
asked for, one tensor, a dict of them or an iterator of (name, tensor) pairs will do; an iterator
is read once, and by `squared_distance` in constant memory, so that it can be streamed over a
checkpoint that does not fit into memory. All sums run in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import torch

from estimators.estimate import Estimate
from estimators.sums import SumOfSquares

NamedTensors = Mapping[str, torch.Tensor]
Tensors = torch.Tensor | NamedTensors | Iterable[tuple[str, torch.Tensor]]
ALONE = "tensor"  # the name of a tensor that came without one


def named(tensors: Tensors) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, tensor) from one tensor, a dict of them, or an iterator of such pairs.

    Raises:
        ValueError: If it is none of these.

    >>> [(name, t.numel()) for name, t in named(torch.zeros(2))]
    [('tensor', 2)]
    >>> [name for name, _ in named(zip("ab", torch.zeros(2, 3)))]
    ['a', 'b']
    """
    if isinstance(tensors, torch.Tensor):
        tensors = {ALONE: tensors}
    pairs = tensors.items() if isinstance(tensors, Mapping) else tensors
    for pair in pairs:
        # a list of tensors would unpack into nonsense: a (2, n) tensor is a "pair" too
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], torch.Tensor)):
            raise ValueError("give a tensor, a dict of tensors, or pairs (name, tensor)")
        yield pair


def as_dict(tensors: Tensors) -> NamedTensors:
    """Return tensors by name; a dict is returned as it is.

    Raises:
        ValueError: If they are no tensors, or a name comes twice.

    >>> as_dict(torch.zeros(1))
    {'tensor': tensor([0.])}
    """
    if isinstance(tensors, Mapping):
        return tensors
    found: dict[str, torch.Tensor] = {}
    for name, tensor in named(tensors):
        if name in found:
            raise ValueError(f"{name!r} comes twice")
        found[name] = tensor
    return found


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
            s = torch.as_tensor(scale)
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
    _check_alike(posterior.mean, "posterior", prior.mean, "prior")
    _check_spheres(posterior, prior)
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
    _check_alike(theta, "draw", posterior.mean, "posterior")
    _check_alike(posterior.mean, "posterior", prior.mean, "prior")
    _check_spheres(posterior, prior)
    total = 0.0
    for name, draw in theta.items():
        if draw.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"{name!r} of the draw is {draw.dtype}: the density ratio is taken at the "
                f"unrounded draw, in float32 or float64"
            )
        sq = torch.as_tensor(posterior.scale[name], dtype=torch.float64)
        sp = torch.as_tensor(prior.scale[name], dtype=torch.float64)
        zq = _into_basis(posterior, name, draw.double() - posterior.mean[name].double()) / sq
        zp = _into_basis(posterior, name, draw.double() - prior.mean[name].double()) / sp
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


def kl_isotropic(
    squared_distance: float, parameters: int, sigma_posterior: float, sigma_prior: float
) -> Estimate:
    """Return the KL of N(μ_q, σ_q²I) from N(μ_p, σ_p²I), from ‖μ_q-μ_p‖² alone, exact, in nats.

    With equal sigmas it is ‖Δ‖²/(2σ²).

    Raises:
        ValueError: If a sigma is not positive, or the distance is negative or not finite.

    >>> kl_isotropic(2.0, 10, 0.5, 0.5).value
    4.0
    """
    if not (0 < sigma_posterior < math.inf and 0 < sigma_prior < math.inf):
        raise ValueError("sigma must be positive and finite (a point mass has infinite KL)")
    if not 0 <= squared_distance < math.inf:
        raise ValueError(f"a squared distance is finite and >= 0, got {squared_distance}")
    ratio = (sigma_posterior / sigma_prior) ** 2
    value = 0.5 * (squared_distance / sigma_prior**2 + parameters * (ratio - 1 - math.log(ratio)))
    return Estimate.exactly(value, method="KL of isotropic Gaussians", unit="nats")


def squared_distance(left: Tensors, right: Tensors) -> float:
    """Return Σ‖left[name] - right[name]‖², each tensor read once; see `SumOfSquares` for the error.

    Where both sides are iterators they must name the same tensors in the same order: of each side
    only one tensor is held at a time.

    Raises:
        ValueError: If the two name different tensors or shapes.

    >>> squared_distance(torch.ones(3), torch.zeros(3))
    3.0
    >>> squared_distance(((n, torch.ones(2)) for n in "ab"), {n: torch.zeros(2) for n in "ab"})
    4.0
    """
    if isinstance(right, Mapping):
        left, right = right, left  # a distance; any order will do for the side that is a dict
    sums, terms = SumOfSquares(), []
    for name, one, other in _side_by_side(left, right):
        if one.shape != other.shape:
            raise ValueError(f"the shapes of {name!r} differ")
        terms.append(sums(one, other))
    return math.fsum(terms)


def _side_by_side(
    left: Tensors, right: Tensors
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Yield (name, left, right); a dict on the left is looked into, iterators go in step."""
    if isinstance(left, Mapping):
        seen = set()
        for name, tensor in named(right):
            if name not in left or name in seen:
                raise ValueError(f"{name!r} has no counterpart")
            seen.add(name)
            yield name, left[name], tensor
        if missing := left.keys() - seen:
            raise ValueError(f"{min(missing)!r} has no counterpart")
        return
    for one, other in zip_longest(named(left), named(right)):
        if one is None or other is None or one[0] != other[0]:
            name = (one or other)[0]
            raise ValueError(f"{name!r} has no counterpart in the same place")
        yield one[0], one[1], other[1]


def low_rank_squared_norm(a: torch.Tensor, b: torch.Tensor, scaling: float) -> float:
    """Return ‖s·BA‖²_F = s²·tr((BᵀB)(AAᵀ)) in float64, never forming BA.

    Args:
        a: Shape (r, in).
        b: Shape (out, r).
        scaling: s.

    >>> low_rank_squared_norm(torch.ones(1, 2), torch.ones(3, 1), 2.0)
    24.0
    """
    a, b = a.double(), b.double()
    return scaling**2 * float(((b.T @ b) * (a @ a.T)).sum())


def _check_alike(left: NamedTensors, is_left: str, right: NamedTensors, is_right: str) -> None:
    """Refuse two sets of tensors that differ in names or shapes."""
    if left.keys() != right.keys():
        raise ValueError(f"{is_left} and {is_right} name different tensors")
    for name, tensor in left.items():
        if tensor.shape != right[name].shape:
            raise ValueError(
                f"{name!r} has shape {tuple(tensor.shape)} in the {is_left}, "
                f"{tuple(right[name].shape)} in the {is_right}"
            )


def _orthogonal(side: torch.Tensor) -> bool:
    unit = torch.eye(len(side), dtype=torch.float64)
    square = side.double().cpu()
    return side.ndim == 2 and bool(torch.allclose(square.mT @ square, unit, atol=1e-5))


def _into_basis(gaussian: DiagonalGaussian, name: str, change: torch.Tensor) -> torch.Tensor:
    if name not in gaussian.basis:
        return change
    left, right = (side.double() for side in gaussian.basis[name])
    return left.mT @ change @ right


def _check_spheres(posterior: DiagonalGaussian, prior: DiagonalGaussian) -> None:
    """Refuse a prior that is no sphere on a tensor for which the posterior has a basis."""
    for name in posterior.basis:
        if torch.as_tensor(prior.scale[name]).numel() != 1:
            raise ValueError(f"{name!r}: the posterior has a basis, so the prior needs one sigma")
    if prior.basis:
        raise ValueError("a prior has no basis of its own")


def balanced_factors(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (A', B') with B'A' = BA and the least ‖A'‖² + ‖B'‖² = 2‖BA‖_* (nuclear norm).

    The gauge BA = (BR)(R⁻¹A) is free; this is its minimiser for priors centred on zero.

    Args:
        a: Shape (r, in).
        b: Shape (out, r).
    """
    qb, rb = torch.linalg.qr(b.double())
    qa, ra = torch.linalg.qr(a.double().T)
    u, s, vt = torch.linalg.svd(rb @ ra.T)
    root = s.sqrt()
    return (root[:, None] * (vt @ qa.T)).to(a.dtype), (qb @ (u * root)).to(b.dtype)


def balanced_squared_norm(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return ‖A'‖² + ‖B'‖² = 2‖BA‖_* of the balanced gauge without forming it, in float64.

    Args:
        a: Shape (r, in).
        b: Shape (out, r).

    >>> balanced_squared_norm(torch.ones(1, 4), torch.ones(9, 1))
    12.0
    """
    left, right = (torch.linalg.qr(x.double(), mode="r").R for x in (b, a.T))
    return 2 * float(torch.linalg.svdvals(left @ right.T).sum())
