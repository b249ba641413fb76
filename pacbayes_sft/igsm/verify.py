"""Check any proposed solution against its problem, line by line."""

from __future__ import annotations

from dataclasses import dataclass

from pacbayes_sft.igsm.expressions import (
    Expression,
    Parameter,
    normal_form,
    operands,
    parameters_in,
    reductions,
    substitute,
)
from pacbayes_sft.igsm.problem import Problem, Step


@dataclass(frozen=True)
class Verdict:
    """Outcome of a check; truthy when the solution is right.

    Attributes:
        correct: Whether every line follows and the last one gives the query's value.
        reason: The first fault, naming the line; None when correct.
        unneeded: Parameters that were computed rightly but that the query does not need.
    """

    correct: bool
    reason: str | None = None
    unneeded: tuple[Parameter, ...] = ()

    def __bool__(self) -> bool:
        """Return ``correct``."""
        return self.correct


def verify(problem: Problem, steps: list[Step]) -> Verdict:
    """Decide whether ``steps`` derive the query's value from the problem's definitions.

    The order is free as long as nothing is used before it is known, and ``+`` and ``*`` commute.
    Every parameter is first stated by its definition and then computed, each once, with its
    operands restated as numbers and simplified by right arithmetic modulo 23.
    """
    if not steps:
        return Verdict(False, "the solution is empty")
    stated: dict[Parameter, Expression] = {}
    values: dict[Parameter, int] = {}
    for number, step in enumerate(steps, start=1):
        fault = (
            _compute(step, stated, values)
            if step.parameter in stated
            else _state(step, problem, stated, values)
        )
        if fault:
            return Verdict(False, f"line {number}: {fault}")
    if steps[-1].parameter != problem.query or problem.query not in values:
        return Verdict(False, f"line {len(steps)}: the last line must give the query's value")
    if missing := [p for p in stated if p not in values]:
        return Verdict(False, f"{len(missing)} stated parameter(s) never computed")
    return Verdict(True, unneeded=tuple(p for p in values if p not in problem.needed))


def _state(
    step: Step,
    problem: Problem,
    stated: dict[Parameter, Expression],
    values: dict[Parameter, int],
) -> str | None:
    try:
        definition = problem.definition(step.parameter)
    except KeyError:
        return "the problem has no such parameter"
    first, *rest = step.chain
    if normal_form(first) != normal_form(definition):
        return "that is not how the problem defines it"
    stated[step.parameter] = first
    if len(definition) == 1 and not parameters_in(definition):
        value = definition[0]
        assert isinstance(value, int)
        values[step.parameter] = value
        return "a given number needs no arithmetic" if rest else None
    return _compute(Step(step.parameter, tuple(rest)), stated, values) if rest else None


def _compute(
    step: Step, stated: dict[Parameter, Expression], values: dict[Parameter, int]
) -> str | None:
    if step.parameter in values:
        return "computed twice"
    definition = stated[step.parameter]
    if any(not isinstance(x, int) and x not in values for x in operands(definition)):
        return "an operand is not known yet"
    remaining = reductions(substitute(definition, values))
    first, *rest = step.chain
    if first != remaining[0]:
        return "the operands are not restated with their values"
    for expression in rest:
        if expression not in remaining[1:]:
            return "wrong arithmetic"
        remaining = remaining[remaining.index(expression, 1) :]
    if len(remaining) != 1:
        return "it stops before the value"
    value = remaining[0][0]
    assert isinstance(value, int)
    values[step.parameter] = value
    return None
