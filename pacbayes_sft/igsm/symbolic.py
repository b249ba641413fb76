"""The symbolic rendering: one token a parameter, short enough for a model of under 1 M weights.

    prompt      a0b1 = 7 ; b0c1 = a0b1 * 4 ; a1b0 = b0c1 - a0b1 ; ? a1b0 :
    completion  a1b0 = b0c1 - a0b1 ; b0c1 = a0b1 * 4 ; a0b1 = 7 ; b0c1 = 7 * 4 = 5 ;
                a1b0 = 5 - 7 = 21

``a0b1`` is an instance parameter (how many ``b1`` each ``a0`` has), ``a0C`` an abstract one (how
many things of category C each ``a0`` has in all).
"""

from __future__ import annotations

import functools
import re

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
from pacbayes_sft.igsm.grammar import ParseError, all_parameters, parse_expression
from pacbayes_sft.igsm.problem import Problem, Step

LETTERS = "abcdefgh"
PUNCTUATION = ("=", ";", "?", ":")
PAD, BOS, EOS, UNKNOWN = "<pad>", "<bos>", "<eos>", "<unk>"


def render_prompt(problem: Problem) -> str:
    """Return the statement of the problem, ending in ``? query :``."""
    stated = (f"{_word(edge)} = {_words(expr)} ;" for edge, expr in problem.definitions.items())
    return " ".join([*stated, "?", _word(problem.query), ":"])


def render_steps(steps: list[Step]) -> str:
    """Return the completion for ``steps``, with the space that sets it off from a prompt."""
    lines = (" = ".join([_word(s.parameter), *map(_words, s.chain)]) for s in steps)
    return " " + " ; ".join(lines)


def parse_problem(prompt: str) -> Problem:
    """Read a problem back from its prompt.

    Raises:
        ParseError: If the text is not a rendered prompt.
    """
    head, mark, tail = prompt.strip().partition("?")
    if not mark or not tail.strip().endswith(":"):
        raise ParseError("a prompt ends in '? parameter :'")
    definitions: dict[Instance, Expression] = {}
    for line in filter(None, (part.strip() for part in head.split(";"))):
        step = parse_step(line)
        if not isinstance(step.parameter, Instance) or len(step.chain) != 1:
            raise ParseError(f"not a definition: {line!r}")
        definitions[step.parameter] = step.chain[0]
    return Problem(definitions, _parse_parameter(tail.strip()[:-1].strip()))


def parse_steps(completion: str) -> list[Step]:
    """Read the lines of a proposed solution.

    Raises:
        ParseError: If a line is not ``parameter = expression = ...``.
    """
    return [parse_step(line) for line in completion.split(";")]


def parse_step(line: str) -> Step:
    """Read one line ``parameter = expression = ...``.

    Raises:
        ParseError: If it is not one.
    """
    name, *chain = (part.split() for part in line.split("="))
    if len(name) != 1 or not chain:
        raise ParseError(f"not a line 'parameter = expression': {line.strip()!r}")
    return Step(
        _parse_parameter(name[0]),
        tuple(parse_expression(words, _parse_parameter) for words in chain),
    )


def vocabulary() -> list[str]:
    """Return every word of the rendering, special tokens first, in a fixed order."""
    numbers = map(str, range(MODULUS))
    names = map(_word, all_parameters())
    return [PAD, BOS, EOS, UNKNOWN, *PUNCTUATION, *OPERATORS, *numbers, *names]


@functools.cache  # a few hundred words, asked for a hundred times a problem
def _word(operand: Operand) -> str:
    if isinstance(operand, int):
        return str(operand)
    upper = f"{LETTERS[operand.upper.layer]}{operand.upper.place}"
    if isinstance(operand, Abstract):
        return upper + LETTERS[operand.layer].upper()
    return f"{upper}{LETTERS[operand.lower.layer]}{operand.lower.place}"


def _words(expression: Expression) -> str:
    return " ".join(x if isinstance(x, str) else _word(x) for x in expression)


def _parse_parameter(word: str) -> Parameter:
    match = re.fullmatch(r"([a-h])(\d)(?:([a-h])(\d)|([A-H]))", word)
    if not match:
        raise ParseError(f"not a parameter: {word!r}")
    upper = Item(LETTERS.index(match[1]), int(match[2]))
    if match[5]:
        target, layer = None, LETTERS.index(match[5].lower())
    else:
        target = Item(LETTERS.index(match[3]), int(match[4]))
        layer = target.layer
    if target is None and layer > upper.layer:
        return Abstract(upper, layer)
    if target is not None and layer == upper.layer + 1:
        return Instance(upper, target)
    raise ParseError(f"{word!r} does not point down the layers")
