"""Norms of low-rank products BA from their factors, and the gauge that balances them."""

from __future__ import annotations

import torch


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


def balanced_factors(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (A', B') with B'A' = BA and the least ‖A'‖² + ‖B'‖² = 2‖BA‖_* (nuclear norm).

    The gauge BA = (BR)(R⁻¹A) is free; this is its minimiser for priors centred on zero. A rank
    above both sides of BA leaves directions without a use: they are zero.

    Args:
        a: Shape (r, in).
        b: Shape (out, r).

    >>> a, b = balanced_factors(torch.full((1, 4), 100.0), torch.full((9, 1), 0.01))
    >>> torch.allclose(b @ a, torch.ones(9, 4)), round(float((a**2).sum() + (b**2).sum()), 4)
    (True, 12.0)
    """
    qb, rb = torch.linalg.qr(b.double())
    qa, ra = torch.linalg.qr(a.double().T)
    u, s, vt = torch.linalg.svd(rb @ ra.T, full_matrices=False)
    root, unused = s.sqrt(), len(a) - len(s)
    left, right = qb @ (u * root), root[:, None] * (vt @ qa.T)
    pad = torch.nn.functional.pad
    return pad(right, (0, 0, 0, unused)).to(a.dtype), pad(left, (0, unused)).to(b.dtype)


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
