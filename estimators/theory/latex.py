"""LaTeX of every expression, with the names the field uses."""

from __future__ import annotations

from typing import Any

import sympy as sp

from estimators.theory.difficulty import harder_with_n, informed_prior_ratio, solvable, statics
from estimators.theory.expressions import EXPRESSIONS, NAMES
from estimators.theory.optima import (
    lambda_star,
    sigma_posterior_star,
    sigma_prior_star,
    sigma_shared_star,
)

LEFT = {
    "kl_isotropic": r"\mathrm{KL}(Q\|P)",
    "mcallester": r"R(Q)\le",
    "proposition_4_1": r"R_\mathrm{test}(Q)\le",
    "quadratic": r"R(Q)\le",
    "lambda": r"R(Q)\le",
    "catoni": r"R(Q)\le",
    "sigma_prior_star": r"\sigma_p^*",
    "sigma_posterior_star": r"\sigma_q^*",
    "sigma_shared_star": r"\sigma^*",
    "lambda_star": r"\lambda^*",
    "first_order": r"0",
    "by_n": r"\frac{\partial d^*}{\partial n}",
    "by_mismatch": r"\frac{\partial d^*}{\partial s}",
    "harder_with_n": r"\operatorname{sign}\frac{\partial d^*}{\partial n}\ \text{of}\ ",
    "solvable_optimum": r"d^*",
    "informed_prior_ratio": r"\frac{s'}{s}",
}


def as_latex(expression: Any) -> str:
    """Return an expression in LaTeX."""
    return str(sp.latex(expression, symbol_names=NAMES))


def all_expressions() -> dict[str, Any]:
    """Return everything stated or derived, by name."""
    found: dict[str, Any] = {name: make() for name, make in EXPRESSIONS.items()}
    motion, (_, best, _) = statics(), solvable()
    return found | {
        "sigma_prior_star": sigma_prior_star(),
        "sigma_posterior_star": sigma_posterior_star(),
        "sigma_shared_star": sigma_shared_star(),
        "lambda_star": lambda_star(),
        "first_order": motion.first_order,
        "by_n": motion.by_n,
        "by_mismatch": motion.by_mismatch,
        "harder_with_n": harder_with_n(),
        "solvable_optimum": best,
        "informed_prior_ratio": informed_prior_ratio(),
    }


def latex_document() -> str:
    """Return a LaTeX document of every expression, ready for pdflatex."""
    lines = [r"\documentclass{article}", r"\usepackage{amsmath}", r"\begin{document}"]
    for name, expression in all_expressions().items():
        left = LEFT[name]
        relation = "" if left.endswith(("\\le", "of}\\ ")) else " ="
        lines += [
            rf"\paragraph{{{name.replace('_', ' ')}}}",
            rf"\[{left}{relation} {as_latex(expression)}\]",
        ]
    return "\n".join([*lines, r"\end{document}", ""])
