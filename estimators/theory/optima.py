"""σ* and λ*, derived: where a derivative is zero, and a minimum."""

from __future__ import annotations

import sympy as sp

from estimators.theory.expressions import (
    KL,
    RISK,
    D,
    Expression,
    kl_isotropic_expression,
    lam,
    lambda_expression,
    log_term,
    m,
    n,
    sigma_p,
    sigma_q,
)

h = sp.Symbol("h", positive=True)  # mean curvature of the risk per weight
beta = sp.Symbol("beta", positive=True)  # nats per unit of risk: the bound weighs R̂ + KL/β


def _stationary(expression: Expression, variable: Expression) -> Expression:
    """Return the positive point at which the derivative vanishes; exactly one must be a minimum.

    Raises:
        ArithmeticError: If there is none, or more than one.
    """
    slope = sp.together(sp.diff(expression, variable))
    roots = sp.solve(sp.numer(slope), variable)
    positive = [r for r in roots if r.is_positive]
    if len(positive) != 1:
        raise ArithmeticError(f"{len(positive)} positive stationary points in {variable}: {roots}")
    return sp.simplify(positive[0])


def sigma_prior_star() -> Expression:
    """Return the σ_p that minimises the isotropic KL: √(σ_q² + ‖Δ‖²/m).

    A prior may not use it (it has seen ‖Δ‖); it is what a charged grid of scales looks for.
    """
    return _stationary(kl_isotropic_expression(), sigma_p)


def sigma_posterior_star() -> Expression:
    """Return the σ_q that minimises R̂ + ½·h·m·σ_q² + KL/β: 1/√(1/σ_p² + βh).

    R̂ grows by half the trace of the risk's curvature times σ_q² under isotropic noise. β is nβ'
    in the λ bound's or Catoni's reading. With h = 0 it is σ_p: noise that costs no risk is best
    left as wide as the prior.
    """
    return _stationary(h * m * sigma_q**2 / 2 + kl_isotropic_expression() / beta, sigma_q)


def sigma_shared_star() -> Expression:
    """Return the σ = σ_q = σ_p that minimises R̂ + ½·h·m·σ² + ‖Δ‖²/(2βσ²): (‖Δ‖²/(βhm))^¼.

    The command ``kl`` uses one σ for both; alone, its KL falls in σ without end, so only the risk
    that noise costs makes an optimum. As a prior scale it has seen the data: a grid must pay.
    """
    objective = h * m * sigma_q**2 / 2 + kl_isotropic_expression().subs(sigma_p, sigma_q) / beta
    return _stationary(sp.simplify(objective), sigma_q)


def lambda_star() -> Expression:
    """Return the λ in (0, 2) that minimises the λ bound: 2/(√(2nR̂/C + 1) + 1), C = KL + ln(2√n/δ).

    Of the two stationary points of the rational function one lies in (0, 2); the derivation keeps
    the one that tends to 1, not to infinity, as R̂ goes to 0.
    """
    total = sp.Symbol("C", positive=True)
    expression = lambda_expression().subs(KL, total - log_term())
    slope = sp.numer(sp.together(sp.diff(sp.simplify(expression), lam)))
    roots = sp.solve(slope, lam)
    inside = [r for r in roots if sp.limit(r, RISK, 0, "+") == 1]
    if len(inside) != 1:
        raise ArithmeticError(f"{len(inside)} roots of {roots} tend to 1")
    return sp.simplify(inside[0]).subs(total, KL + log_term())


def lambda_at_optimum() -> Expression:
    """Return the λ bound at λ*."""
    return lambda_expression().subs(lam, lambda_star())


__all__ = [
    "D",
    "beta",
    "h",
    "lambda_at_optimum",
    "lambda_star",
    "n",
    "sigma_posterior_star",
    "sigma_prior_star",
    "sigma_shared_star",
]
