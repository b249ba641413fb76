"""A problem, what its query needs, and the canonical solution.

The canonical solution is goal-directed: it states the definition of the query, then of each
operand it still lacks, left to right and depth first, and computes a parameter as soon as its
operands are known. Every needed parameter is stated once and computed once; nothing else is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from pacbayes_sft.igsm.expressions import (
    Abstract,
    Expression,
    Instance,
    Item,
    Parameter,
    count_operations,
    evaluate,
    parameters_in,
    reductions,
    substitute,
)


@dataclass(frozen=True)
class Step:
    """One line of a solution: ``parameter = expression = expression = ...``."""

    parameter: Parameter
    chain: tuple[Expression, ...]


@dataclass(frozen=True)
class Problem:
    """An iGSM problem.

    Attributes:
        definitions: What each instance parameter is, in the (shuffled) order in which the text
            states it. Its keys are the edges of the structure graph; abstract parameters are
            never stated, they follow from the edges.
        query: The parameter asked for.
    """

    definitions: dict[Instance, Expression]
    query: Parameter
    _children: dict[Item, list[Instance]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        """Index the edges by their upper item, lower items in order."""
        for edge in sorted(self.definitions):
            self._children.setdefault(edge.upper, []).append(edge)

    def definition(self, parameter: Parameter) -> Expression:
        """Return the expression of a parameter; abstract ones are derived from the edges.

        Raises:
            KeyError: If the problem has no such parameter.
        """
        if isinstance(parameter, Instance):
            return self.definitions[parameter]
        return abstract_definition(parameter, self._children)

    @cached_property
    def needed(self) -> dict[Parameter, Expression]:
        """The query and all it depends on, each with its definition, in order of statement."""
        found: dict[Parameter, Expression] = {}
        stack = [self.query]
        while stack:
            parameter = stack.pop()
            if parameter not in found:
                found[parameter] = self.definition(parameter)
                stack += reversed(parameters_in(found[parameter]))
        return found

    @property
    def operations(self) -> int:
        """The difficulty: binary operations in the canonical solution."""
        return sum(map(count_operations, self.needed.values()))

    @cached_property
    def values(self) -> dict[Parameter, int]:
        """The value modulo 23 of every needed parameter."""
        values: dict[Parameter, int] = {}
        for step in self._steps:
            if len(step.chain[-1]) == 1 and isinstance(step.chain[-1][0], int):
                values[step.parameter] = step.chain[-1][0]
        return values

    @property
    def answer(self) -> int:
        """The value of the query."""
        return self.values[self.query]

    def solution(self) -> list[Step]:
        """Return the canonical solution, line by line."""
        return list(self._steps)

    @cached_property
    def _steps(self) -> tuple[Step, ...]:
        return tuple(self._solve(self.query, {}))

    def _solve(self, goal: Parameter, known: dict[Parameter, int]) -> Iterator[Step]:
        stated = self.definition(goal)
        yield Step(goal, (stated,))
        for operand in parameters_in(stated):
            if operand not in known:
                yield from self._solve(operand, known)
        if len(stated) > 1 or parameters_in(stated):
            yield Step(goal, tuple(reductions(substitute(stated, known))))
        known[goal] = evaluate(stated, known)


def abstract_definition(parameter: Abstract, children: dict[Item, list[Instance]]) -> Expression:
    """Return ``Σ edge`` one layer down, or ``Σ edge * (what its lower item has)`` further down.

    Lower items come in order of index; those that have nothing of the category are left out.

    Raises:
        KeyError: If the item has nothing of that category.
    """
    terms: list[Expression] = []
    for edge in children.get(parameter.upper, []):
        if edge.lower.layer == parameter.layer:
            terms.append((edge,))
        elif reaches(edge.lower, parameter.layer, children):
            terms.append((edge, "*", Abstract(edge.lower, parameter.layer)))
    if not terms:
        raise KeyError(parameter)
    first, *rest = terms
    return sum((("+", *term) for term in rest), start=first)


def reaches(item: Item, layer: int, children: dict[Item, list[Instance]]) -> bool:
    """Return whether ``item`` has anything of the category ``layer``."""
    below = children.get(item, [])
    if item.layer + 1 == layer:
        return bool(below)
    return item.layer < layer and any(reaches(e.lower, layer, children) for e in below)
