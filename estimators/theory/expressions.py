"""The bounds as expressions, over shared symbols."""

from __future__ import annotations

from typing import Any

import sympy as sp

Expression = Any  # sympy ships no types

n = sp.Symbol("n", positive=True)  # units behind the empirical risk
delta = sp.Symbol("delta", positive=True)  # probability of failure, < 1
RISK = sp.Symbol("Rhat", nonnegative=True)  # E_Q R̂_S
KL = sp.Symbol("K", positive=True)  # KL(Q‖P), nats
SHIFT = sp.Symbol("V", nonnegative=True)  # an upper limit on R_test - R_train
lam = sp.Symbol("lambda", positive=True)  # λ of the λ bound, < 2
c = sp.Symbol("c", positive=True)  # Catoni's parameter
sigma_q = sp.Symbol("sigma_q", positive=True)  # posterior's standard deviation
sigma_p = sp.Symbol("sigma_p", positive=True)  # prior's
D = sp.Symbol("D", positive=True)  # squared distance ‖μ_q - μ_p‖²
m = sp.Symbol("m", positive=True)  # number of parameters

NAMES = {
    RISK: r"\hat R_S(Q)",
    KL: r"\mathrm{KL}(Q\|P)",
    SHIFT: r"\mathrm{TV}",
    D: r"\|\Delta\|^2",
}


def log_term() -> Expression:
    """Return ln(2√n/δ)."""
    return sp.log(2 * sp.sqrt(n) / delta)


def kl_isotropic_expression() -> Expression:
    """Return KL(N(μ_q, σ_q²I) ‖ N(μ_p, σ_p²I)) = ½[m(s - 1 - ln s) + ‖Δ‖²/σ_p²], s = σ_q²/σ_p²."""
    ratio = sigma_q**2 / sigma_p**2
    return (m * (ratio - 1 - sp.log(ratio)) + D / sigma_p**2) / 2


def mcallester_expression() -> Expression:
    """Return R̂ + √((KL + ln(2√n/δ))/2n)."""
    return RISK + sp.sqrt((KL + log_term()) / (2 * n))


def proposition_4_1_expression() -> Expression:
    """Return R̂ + √(KL/2n) + V + √(ln(2√n/δ)/2n), the four terms in the proposition's order."""
    return RISK + sp.sqrt(KL / (2 * n)) + SHIFT + sp.sqrt(log_term() / (2 * n))


def quadratic_expression() -> Expression:
    """Return (√(R̂+κ) + √κ)², κ = (KL + ln(2√n/δ))/2n."""
    kappa = (KL + log_term()) / (2 * n)
    return (sp.sqrt(RISK + kappa) + sp.sqrt(kappa)) ** 2


def lambda_expression() -> Expression:
    """Return R̂/(1-λ/2) + (KL + ln(2√n/δ))/(nλ(1-λ/2)), for any λ in (0, 2)."""
    return RISK / (1 - lam / 2) + (KL + log_term()) / (n * lam * (1 - lam / 2))


def catoni_expression() -> Expression:
    """Return [1 - exp(-cR̂ - (KL + ln(1/δ))/n)]/(1 - e⁻ᶜ)."""
    return (1 - sp.exp(-c * RISK - (KL - sp.log(delta)) / n)) / (1 - sp.exp(-c))


def split_remainder() -> Expression:
    """Return what the proposition's split of the root gives away: (√a + √b)² - (a + b) = 2√(ab).

    a = KL/2n and b = ln(2√n/δ)/2n; never negative, so the split is valid, and largest where a = b.
    """
    a, b = KL / (2 * n), log_term() / (2 * n)
    return sp.simplify(sp.expand((sp.sqrt(a) + sp.sqrt(b)) ** 2 - (a + b)))


EXPRESSIONS = {
    "kl_isotropic": kl_isotropic_expression,
    "mcallester": mcallester_expression,
    "proposition_4_1": proposition_4_1_expression,
    "quadratic": quadratic_expression,
    "lambda": lambda_expression,
    "catoni": catoni_expression,
}
