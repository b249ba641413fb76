"""Comparative statics of the best difficulty d*: which way it moves, when, and when not.

The bound on the test risk after training at difficulty d with n units, ε apart (it does not know
d), is B(d, n) = R̂(d, n) + √(s·κ(d, n)/2n) + T(d): empirical risk, the KL at prior mismatch s (a
wider or better placed prior has a smaller s; for one isotropic σ, s = 1/σ² and κ = ‖Δ‖²/2), and
the shift term, which data alone decide. An interior minimum d* has B_d = 0 and B_dd > 0, and by
the implicit function theorem ∂d*/∂x = -B_dx/B_dd: its sign is that of -B_dx.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from estimators.theory.expressions import Expression, n

d = sp.Symbol("d", real=True)  # difficulty
s = sp.Symbol("s", positive=True)  # prior mismatch
a = sp.Symbol("a", real=True)  # how the KL grows: κ(d, n) = κ(d)·n^a


@dataclass(frozen=True)
class Statics:
    """How the optimum moves.

    Attributes:
        bound: B(d, n), without ε.
        first_order: B_d, zero at d*.
        curvature: B_dd, positive at d*.
        by_n: ∂d*/∂n.
        by_mismatch: ∂d*/∂s.
    """

    bound: Expression
    first_order: Expression
    curvature: Expression
    by_n: Expression
    by_mismatch: Expression


def statics(bound: Expression | None = None) -> Statics:
    """Return the first-order condition of a bound in d and the motion of its optimum.

    Args:
        bound: An expression in ``d``, ``n`` and ``s``; by default B with functions R̂, κ and T
            left open.
    """
    if bound is None:
        risk, kappa, shift = sp.Function("R"), sp.Function("kappa"), sp.Function("T")
        bound = risk(d, n) + sp.sqrt(s * kappa(d, n) / (2 * n)) + shift(d)
    slope, curvature = sp.diff(bound, d), sp.diff(bound, d, 2)
    by_n, by_s = (-sp.diff(slope, x) / curvature for x in (n, s))
    return Statics(bound, slope, curvature, sp.simplify(by_n), sp.simplify(by_s))


def harder_with_n() -> Expression:
    """Return the expression whose sign is that of ∂d*/∂n at an interior optimum.

    With κ(d, n) = κ(d)·n^a it is (1 - a)·κ'(d)·√(2s/κ(d))·n^{(a-3)/2}/8 - R̂_dn. So ∂d*/∂n > 0 under
    three conditions together: (1) complexity rises with difficulty, κ' > 0; (2) it grows slower
    than n, a < 1; (3) the empirical risk of harder data does not rise faster with n, R̂_dn <= 0, or
    at least by less than the first part. Each can fail: `solvable`.
    """
    risk, kappa = sp.Function("R"), sp.Function("kappa", positive=True)
    bound = risk(d, n) + sp.sqrt(s * kappa(d) * n**a / (2 * n))
    return sp.factor(sp.simplify(-sp.diff(bound, d, n)))


def solvable() -> tuple[Expression, Expression, Statics]:
    """Return a family that can be solved: its bound, its d*, and how that moves.

    R̂ = ρ·d·ln n, √(κ/2n) = d·√(k·s·n^{a-1}/2), T = τ(t - d)²/2 for d <= t (t the test's own
    difficulty). B_dd = τ, so the one stationary point is the minimum:
    d* = t - [√(k·s·n^{a-1}/2) + ρ·ln n]/τ.

    * ρ = 0, a < 1: moves harder with n, towards t.
    * ρ = 0, a > 1 (the KL grows faster than n, as where every new row moves the weights):
      **easier** with n.
    * k·d replaced by k·(t - d), i.e. √k negative (hard rows move the weights less): easier too.
    * a = 0, ρ > 0 (hard rows are memorised at small n and no longer at large): harder until
      n = k·s/(8ρ²), then easier.
    * wherever √k is positive: a larger mismatch s moves d* easier, a stronger base (smaller s)
      harder.
    """
    k, rho, tau, t = (sp.Symbol(x, positive=True) for x in ("k", "rho", "tau", "t"))
    bound = rho * d * sp.log(n) + d * sp.sqrt(k * s * n ** (a - 1) / 2) + tau * (t - d) ** 2 / 2
    (best,) = sp.solve(sp.diff(bound, d), d)
    return bound, sp.simplify(best), statics(bound)


def informed_prior_ratio() -> Expression:
    """Return s'/s at which a checkpoint prior that saw the share f of the units leaves d* alone.

    Without R̂_dn, B_d knows s and n only through s·n^{a-1}; the checkpoint leaves (1-f)n certified
    units and the mismatch s'. Solved from equality: (1 - f)^{1-a}. A checkpoint nearer than that
    moves the best difficulty harder, a farther one easier.
    """
    f, other = sp.Symbol("f", positive=True), sp.Symbol("s'", positive=True)
    rest = sp.Symbol("g", positive=True)  # 1 - f
    before, after = s * n ** (a - 1), other * (rest * n) ** (a - 1)
    (found,) = sp.solve(sp.expand_power_base(after, force=True) - before, other)
    return sp.simplify(found / s).subs(rest, 1 - f)
