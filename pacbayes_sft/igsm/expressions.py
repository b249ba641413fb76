"""Parameters of an iGSM problem and the arithmetic on them, modulo 23.

The words are those of Ye et al. 2024 (*Physics of Language Models 2.1*): an **item** lives in a
layer of the structure graph; an **instance** parameter counts one lower item inside one upper
item; an **abstract** parameter counts everything of a lower category inside one upper item.

An :data:`Expression` is a flat tuple ``(operand, operator, operand, ...)`` read with the usual
precedence, where an operand is a parameter or a number. Flat tuples keep rendering, parsing,
counting and reducing down to one line each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

MODULUS = 23
OPERATORS = ("+", "-", "*")


class Item(NamedTuple):
    """One node of the structure graph: the ``place``-th item of ``layer`` (both from 0)."""

    layer: int
    place: int


class Instance(NamedTuple):
    """How many of ``lower`` each ``upper`` has; ``lower`` is one layer below ``upper``."""

    upper: Item
    lower: Item


class Abstract(NamedTuple):
    """How many things of the category ``layer`` each ``upper`` has, summed over its items."""

    upper: Item
    layer: int


Parameter = Instance | Abstract
Operand = Parameter | int
Expression = tuple[Operand | str, ...]


def operands(expression: Expression) -> list[Operand]:
    """Return the operands of ``expression`` from left to right.

    >>> operands((3, "*", 4, "+", 5))
    [3, 4, 5]
    """
    return [x for x in expression[::2] if not isinstance(x, str)]


def parameters_in(expression: Expression) -> list[Parameter]:
    """Return the parameters named in ``expression``, first mention first, each once."""
    return list(dict.fromkeys(x for x in operands(expression) if not isinstance(x, int)))


def count_operations(expression: Expression) -> int:
    """Return the number of binary operations: half the length, rounded down.

    >>> count_operations((3, "*", 4, "+", 5))
    2
    """
    return len(expression) // 2


def substitute(expression: Expression, values: Mapping[Parameter, int]) -> Expression:
    """Replace every parameter by its value; raises ``KeyError`` on an unknown one."""
    return tuple(x if isinstance(x, int | str) else values[x] for x in expression)


def apply(left: int, operator: str, right: int) -> int:
    """Apply one binary operation modulo 23.

    >>> apply(3, "-", 5)
    21
    """
    if operator == "+":
        return (left + right) % MODULUS
    if operator == "-":
        return (left - right) % MODULUS
    return (left * right) % MODULUS


def reductions(numeric: Expression) -> list[Expression]:
    """Return the successive simplifications of a number-only expression, itself first.

    All products go in one step, then one addition at a time from the left; the last entry is the
    value alone.

    >>> reductions((3, "*", 4, "+", 2, "*", 5))
    [(3, '*', 4, '+', 2, '*', 5), (12, '+', 10), (22,)]
    """
    chain = [numeric]
    if "*" in numeric:
        chain.append(_without_products(numeric))
    while len(chain[-1]) > 1:
        left, operator, right, *rest = chain[-1]
        assert isinstance(left, int) and isinstance(operator, str) and isinstance(right, int)
        chain.append((apply(left, operator, right), *rest))
    return chain


def evaluate(expression: Expression, values: Mapping[Parameter, int] | None = None) -> int:
    """Return the value of ``expression`` modulo 23.

    >>> evaluate((3, "*", 4, "+", 2, "*", 5))
    22
    """
    value = reductions(substitute(expression, values or {}))[-1][0]
    assert isinstance(value, int)
    return value


def normal_form(expression: Expression) -> tuple[object, ...]:
    """Return a key equal for two expressions that differ only by commuting ``+`` and ``*``.

    >>> normal_form((1, "+", 2, "*", 3)) == normal_form((3, "*", 2, "+", 1))
    True
    >>> normal_form((1, "-", 2)) == normal_form((2, "-", 1))
    False
    """
    terms: list[tuple[str, list[str]]] = []
    sign, factors = "+", [repr(expression[0])]
    for operator, operand in zip(expression[1::2], expression[2::2], strict=True):
        if operator == "*":
            factors.append(repr(operand))
        else:
            terms.append((sign, sorted(factors)))
            sign, factors = str(operator), [repr(operand)]
    return tuple(sorted((s, tuple(f)) for s, f in [*terms, (sign, sorted(factors))]))


def _without_products(numeric: Expression) -> Expression:
    reduced: list[Operand | str] = [numeric[0]]
    for operator, operand in zip(numeric[1::2], numeric[2::2], strict=True):
        if operator == "*":
            left = reduced[-1]
            assert isinstance(left, int) and isinstance(operand, int)
            reduced[-1] = apply(left, "*", operand)
        else:
            reduced += [operator, operand]
    return tuple(reduced)
