"""Theory that runs: Proposition 4.1 and its relatives as sympy expressions.

What the numeric code computes is stated here once more, as symbols; optima are derived, not typed
in; and the tests hold the numeric code against these expressions. Needs sympy, which is loaded
with this package only.
"""

from estimators.theory.difficulty import (
    Statics,
    harder_with_n,
    informed_prior_ratio,
    solvable,
    statics,
)
from estimators.theory.expressions import (
    EXPRESSIONS,
    KL,
    RISK,
    SHIFT,
    catoni_expression,
    delta,
    kl_isotropic_expression,
    lambda_expression,
    mcallester_expression,
    n,
    proposition_4_1_expression,
    quadratic_expression,
    split_remainder,
)
from estimators.theory.latex import as_latex, latex_document
from estimators.theory.numeric import numeric
from estimators.theory.optima import (
    lambda_at_optimum,
    lambda_star,
    sigma_posterior_star,
    sigma_prior_star,
    sigma_shared_star,
)

__all__ = [
    "EXPRESSIONS",
    "KL",
    "RISK",
    "SHIFT",
    "Statics",
    "as_latex",
    "catoni_expression",
    "delta",
    "harder_with_n",
    "informed_prior_ratio",
    "kl_isotropic_expression",
    "lambda_at_optimum",
    "lambda_expression",
    "lambda_star",
    "latex_document",
    "mcallester_expression",
    "n",
    "numeric",
    "proposition_4_1_expression",
    "quadratic_expression",
    "sigma_posterior_star",
    "sigma_prior_star",
    "sigma_shared_star",
    "solvable",
    "split_remainder",
    "statics",
]
