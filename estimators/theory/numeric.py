"""Expressions as functions of floats, for the tests and for pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy as sp


def numeric(expression: Any) -> Callable[..., float]:
    """Return the expression as a function of keywords named like its symbols.

    Raises:
        TypeError: When called without a symbol's value.

    >>> from estimators.theory import KL, n
    >>> round(numeric(sp.sqrt(KL / (2 * n)))(K=8.0, n=100), 12)
    0.2
    """
    symbols = sorted(expression.free_symbols, key=str)
    of = sp.lambdify([symbols], expression, modules="math")

    def call(**values: float) -> float:
        missing = {str(s) for s in symbols} - set(values)
        if missing:
            raise TypeError(f"no value for {', '.join(sorted(missing))}")
        return float(of([values[str(s)] for s in symbols]))

    return call
