"""What every rendering of a problem shares: the parameters to name, and how expressions read."""

from __future__ import annotations

import re
from collections.abc import Callable

from pacbayes_sft.igsm.expressions import (
    MODULUS,
    OPERATORS,
    Abstract,
    Expression,
    Instance,
    Item,
    Operand,
    Parameter,
)
from pacbayes_sft.igsm.generate import ITEMS_PER_LAYER, LAYERS


class ParseError(ValueError):
    """The text is not in the grammar of its rendering."""


def all_parameters() -> list[Parameter]:
    """Return every parameter that a drawn problem may name, instances first, in a fixed order."""
    items = [Item(layer, i) for layer in range(LAYERS) for i in range(ITEMS_PER_LAYER)]
    instances = [Instance(u, v) for u in items for v in items if v.layer == u.layer + 1]
    abstracts = [Abstract(u, layer) for u in items for layer in range(u.layer + 1, LAYERS)]
    return [*instances, *abstracts]


def parse_expression(parts: list[str], parse_parameter: Callable[[str], Parameter]) -> Expression:
    """Read ``[operand, operator, operand, ...]``, operators as ``+``, ``-`` or ``*``.

    Args:
        parts: The operands and operators, as text.
        parse_parameter: Reads an operand that is not a number.

    Raises:
        ParseError: If operands and operators do not alternate or an operand cannot be read.
    """
    if len(parts) % 2 == 0 or any(part not in OPERATORS for part in parts[1::2]):
        raise ParseError(f"not an expression: {' '.join(parts)!r}")

    def operand(text: str) -> Operand:
        number = re.fullmatch(r"0|[1-9][0-9]?", text) and int(text) < MODULUS
        return int(text) if number else parse_parameter(text)

    return tuple(part if i % 2 else operand(part) for i, part in enumerate(parts))
