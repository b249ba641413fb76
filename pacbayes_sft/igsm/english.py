"""The English rendering, in the manner of Ye et al. 2024, for models that read English.

    prompt      The number of each Central High's Dance Studio equals 7. The number of each Dance
                Studio's Messenger Backpack equals the number of each Central High's Dance Studio
                times 4. How many Messenger Backpack does Dance Studio have?
    completion  Define Dance Studio's Messenger Backpack as Central High's Dance Studio * 4. Define
                Central High's Dance Studio as 7. So Dance Studio's Messenger Backpack
                = 7 * 4 = 5.

An abstract parameter names the category in place of the item: the total number of Backpack in each
Central High. The first line on a parameter reads ``Define``, any later one ``So``; the two in one
read ``Define ... as ...; so ... = ...``. A text is read back only if it keeps to this, so texts
and solutions correspond one to one (up to white space).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pacbayes_sft.igsm.expressions import Abstract, Expression, Instance, Operand, Parameter
from pacbayes_sft.igsm.grammar import ParseError, all_parameters, parse_expression
from pacbayes_sft.igsm.problem import Problem, Step

CATEGORIES = ("School", "Classroom", "Backpack", "Stationery")
ITEMS = (
    ("Central High", "Riverview High", "Lakeside Academy", "Northgate College"),
    ("Dance Studio", "Film Studio", "Science Lab", "Music Room"),
    ("Messenger Backpack", "Hiking Backpack", "Canvas Daypack", "Travel Duffel"),
    ("Colored Pencil", "Fountain Pen", "Glue Stick", "Sticky Note"),
)
OPERATOR_WORDS = {"+": "plus", "-": "minus", "*": "times"}


def render_prompt(problem: Problem) -> str:
    """Return the statement of the problem, ending in the question.

    Raises:
        IndexError: If it has an item beyond ``ITEMS``; no drawn problem does.
    """
    stated = (
        f"{_capital(_noun(edge))} equals {_worded(expression)}."
        for edge, expression in problem.definitions.items()
    )
    return " ".join([*stated, _question(problem.query)])


def render_steps(steps: list[Step]) -> str:
    """Return the completion for ``steps``, with the space that sets it off from a prompt.

    Raises:
        IndexError: If they have an item beyond ``ITEMS``; no drawn problem's do.
    """
    defined: set[Parameter] = set()
    lines = []
    for step in steps:
        name, chain = _name(step.parameter), list(map(_signed, step.chain))
        if step.parameter in defined:
            lines.append(f" So {' = '.join([name, *chain])}.")
        else:
            so = f"; so {' = '.join([name, *chain[1:]])}" if chain[1:] else ""
            lines.append(f" Define {name} as {chain[0]}{so}.")
        defined.add(step.parameter)
    return "".join(lines)


def parse_problem(prompt: str) -> Problem:
    """Read a problem back from its prompt.

    Raises:
        ParseError: If the text is not a rendered prompt.
    """
    *stated, question = re.split(r"(?<=\.) ", _single_spaced(prompt))
    definitions: dict[Instance, Expression] = {}
    for sentence in stated:
        match = re.fullmatch(r"The (.+) equals (.+)\.", sentence)
        edge = _look_up(_BY_NOUN, f"the {match[1]}") if match else None
        if not match or not isinstance(edge, Instance) or edge in definitions:
            raise ParseError(f"not a definition, or a second one: {sentence!r}")
        definitions[edge] = _parse_worded(match[2])
    return Problem(definitions, _look_up(_BY_QUESTION, question))


def parse_steps(completion: str) -> list[Step]:
    """Read the sentences of a proposed solution.

    Raises:
        ParseError: If a sentence is not in the grammar, or ``Define`` and ``So`` do not go by
            whether the parameter has been defined.
    """
    steps: list[Step] = []
    defined: set[Parameter] = set()
    for sentence in re.split(r"(?<=\.) ", _single_spaced(completion)):
        defines = sentence.startswith("Define ")
        step = _parse_define(sentence) if defines else _parse_so(sentence)
        if defines == (step.parameter in defined):
            raise ParseError(f"defined {'twice' if defines else 'nowhere before'}: {sentence!r}")
        defined.add(step.parameter)
        steps.append(step)
    return steps


def _parse_define(sentence: str) -> Step:
    match = re.fullmatch(r"Define ([^;]+) as ([^;]+)(?:; (so [^;]+))?\.", sentence)
    if not match:
        raise ParseError(f"not a sentence 'Define ... as ...': {sentence!r}")
    parameter = _look_up(_BY_NAME, match[1])
    rest: tuple[Expression, ...] = ()
    if match[3]:
        computed = _parse_so(_capital(match[3]) + ".")
        if computed.parameter != parameter:
            raise ParseError(f"defines one parameter and computes another: {sentence!r}")
        rest = computed.chain
    return Step(parameter, (_parse_signed(match[2]), *rest))


def _parse_so(sentence: str) -> Step:
    match = re.fullmatch(r"So (.+?) = (.+)\.", sentence)
    if not match:
        raise ParseError(f"not a sentence 'So ... = ...': {sentence!r}")
    chain = tuple(map(_parse_signed, match[2].split(" = ")))
    return Step(_look_up(_BY_NAME, match[1]), chain)


def _of(parameter: Parameter) -> tuple[str, str]:
    """Return what is counted and in what: ``("Dance Studio", "Central High")``."""
    upper = ITEMS[parameter.upper.layer][parameter.upper.place]
    if isinstance(parameter, Abstract):
        return CATEGORIES[parameter.layer], upper
    return ITEMS[parameter.lower.layer][parameter.lower.place], upper


def _name(parameter: Parameter) -> str:
    counted, upper = _of(parameter)
    return f"{upper}'s {counted}"


def _noun(parameter: Parameter) -> str:
    if isinstance(parameter, Abstract):
        counted, upper = _of(parameter)
        return f"the total number of {counted} in each {upper}"
    return f"the number of each {_name(parameter)}"


def _question(parameter: Parameter) -> str:
    counted, upper = _of(parameter)
    return f"How many {counted} does {upper} have?"


def _table(phrase: Callable[[Parameter], str]) -> dict[str, Parameter]:
    return {phrase(parameter): parameter for parameter in all_parameters()}


_BY_NAME, _BY_NOUN, _BY_QUESTION = _table(_name), _table(_noun), _table(_question)


def _look_up(table: Mapping[str, Parameter], phrase: str) -> Parameter:
    if phrase not in table:
        raise ParseError(f"names no parameter: {phrase!r}")
    return table[phrase]


def _worded(expression: Expression) -> str:
    return " ".join(OPERATOR_WORDS[x] if isinstance(x, str) else _say(x, _noun) for x in expression)


def _signed(expression: Expression) -> str:
    return " ".join(x if isinstance(x, str) else _say(x, _name) for x in expression)


def _say(operand: Operand, phrase: Callable[[Parameter], str]) -> str:
    return str(operand) if isinstance(operand, int) else phrase(operand)


def _parse_worded(text: str) -> Expression:
    signs = {word: sign for sign, word in OPERATOR_WORDS.items()}
    parts = re.split(rf" ({'|'.join(signs)}) ", text)
    signed = [signs[part] if i % 2 else part for i, part in enumerate(parts)]
    return parse_expression(signed, lambda phrase: _look_up(_BY_NOUN, phrase))


def _parse_signed(text: str) -> Expression:
    return parse_expression(re.split(r" ([-+*]) ", text), lambda name: _look_up(_BY_NAME, name))


def _single_spaced(text: str) -> str:
    return " ".join(text.split())


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
