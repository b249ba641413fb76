"""The KFAC Laplace posterior: Laplace's σ in the eigenbasis of Kronecker-factored curvature.

For a matrix W (out, in) KFAC writes the curvature as G ⊗ A (Martens & Grosse 2015): G (out, out)
from the gradients at the layer's output, A (in, in) from its input. With G = L diag(g) Lᵀ and
A = R diag(a) Rᵀ the entries of LᵀWR have curvature g_i·a_j and no cross terms, so the derivation of
`estimators.posteriors.laplace` holds there entry by entry:

    σ_ij² = 1 / (1/σ_p² + n·c·g_i·a_j).

An isotropic prior looks alike from every basis; so KL and density ratio stay those of independent
entries. Unlike the diagonal, noise along a direction that the layer never reads costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from estimators.gaussian import DiagonalGaussian
from estimators.named_tensors import NamedTensors
from estimators.posteriors import laplace

Factors = tuple[torch.Tensor, torch.Tensor]


def fit(
    mean: NamedTensors,
    curvature: Mapping[str, torch.Tensor | Factors],
    *,
    sigma: float,
    n: int,
    temperature: float,
) -> DiagonalGaussian:
    """Return the Gaussian around ``mean`` with Laplace's variances in KFAC's eigenbasis.

    Args:
        mean: Named tensors: the fine-tuned weights.
        curvature: For each name the pair (G, A) with G ⊗ A the curvature of one row, in nats per
            squared unit of the weight; or its diagonal, for what has no Kronecker factors.
        sigma: The prior's one standard deviation, > 0; no σ exceeds it by more than rounding.
        n: Independent units behind the risk.
        temperature: c >= 0; 0 gives the isotropic N(mean, sigma²I).

    Raises:
        ValueError: If names or shapes differ, a factor is not symmetric, or a number is out of its
            range.

    >>> g, a = torch.tensor([[4.0]]), torch.diag(torch.tensor([0.0, 1.0]))
    >>> q = fit({"w": torch.zeros(1, 2)}, {"w": (g, a)}, sigma=1.0, n=6, temperature=1.0)
    >>> q.scale["w"].tolist()
    [[1.0, 0.20000000298023224]]
    """
    diagonal: dict[str, torch.Tensor] = {}
    basis: dict[str, Factors] = {}
    for name, found in curvature.items():
        if isinstance(found, torch.Tensor):
            diagonal[name] = found
            continue
        sides = []
        for factor in found:
            if factor.ndim != 2 or not torch.allclose(factor, factor.mT, rtol=1e-3, atol=1e-12):
                raise ValueError(f"a Kronecker factor of {name!r} is not symmetric")
            values, vectors = torch.linalg.eigh(factor.double())
            sides.append((values.clamp(min=0), vectors.float()))
        (g, left), (a, right) = sides
        diagonal[name], basis[name] = g[:, None] * a, (left, right)
    fitted = laplace.fit(mean, diagonal, sigma=sigma, n=n, temperature=temperature)
    return DiagonalGaussian(fitted.mean, fitted.scale, basis)
