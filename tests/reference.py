"""Fifty-digit references."""

import mpmath

mpmath.mp.dps = 50


def binary_kl(q, p):
    q, p = mpmath.mpf(q), mpmath.mpf(p)
    if (p == 0 and q > 0) or (p == 1 and q < 1):
        return mpmath.inf
    first = q * mpmath.log(q / p) if q else mpmath.mpf(0)
    return first + ((1 - q) * (mpmath.log1p(-q) - mpmath.log1p(-p)) if q < 1 else 0)


def kl_root(q, budget, end):
    """The root of kl(q‖·) = budget between q and ``end`` (0 or 1)."""
    inside, outside = mpmath.mpf(q), mpmath.mpf(end)
    for _ in range(200):
        middle = (inside + outside) / 2
        if binary_kl(q, middle) > budget:
            outside = middle
        else:
            inside = middle
    return inside
