"""The final answer of a solution, and whether two answers mean the same."""

from __future__ import annotations

import logging
import re
import threading
from fractions import Fraction
from functools import lru_cache

# commas group thousands or nothing: "1,2" is two numbers; "a0b1" holds none, "3-5" no minus
_NUMBER = r"(?<![\w.])[-+]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:/\d+)?"
_LIST = r",(?!\d{3}(?!\d))"
_FUNCTIONS = "sin|cos|tan|log|ln|exp|sqrt|pi|mod"
_PROSE = rf"[\w)}}$%]\s+(?!(?:{_FUNCTIONS})\b)[A-Za-z]{{2,}}"
_SENTENCE_END = r"[;\n]|[.!?](?=\s|$)"
SECONDS = 5


def extract_answer(solution: str) -> str | None:
    r"""Return the final answer of a solution, or None if there is nothing that could be one.

    The first rule that finds something wins: the last ``\boxed{…}``; what follows the last
    ``####``; what follows the last "answer is" or "answer:"; what follows the last ``=``; the last
    number; the text itself, if it is a single word. What follows "answer is" or ``=`` ends with
    its sentence; where words come with it ("24 dollars"), the answer is its first number.

    >>> extract_answer("a0b1 = 7 ; b0c1 = 7 * 4 = 5")
    '5'
    >>> extract_answer(r"so \\boxed{\\frac{1}{2}} it is")
    '\\\\frac{1}{2}'
    """
    text = solution.strip()
    if (found := marked_answer(text)) is not None:
        return found
    stated = re.findall(r"answer(?:\s+is\b\s*:?|\s*:)(.+)", text, re.IGNORECASE)
    if stated and (found := _head(stated[-1])) is not None:
        return found
    if "=" in text and (found := _head(text.rsplit("=", 1)[1])) is not None:
        return found
    if numbers := re.findall(_NUMBER, text):
        return _tidy(str(numbers[-1]))
    return _tidy(text) if re.fullmatch(r"\S*\w\S*", text) else None


def marked_answer(text: str) -> str | None:
    r"""Return what the last complete ``\boxed{…}`` holds or the last ``####`` precedes, if any."""
    for opening in reversed(list(re.finditer(r"\\boxed\s*\{", text))):
        depth = 1
        for i in range(opening.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[i], 0)
            if depth == 0:
                return _tidy(text[opening.end() : i])
    if "####" in text:
        return _tidy(text.rsplit("####", 1)[1].split("\n")[0])
    return None


def same_answer(true: str, given: str) -> bool:
    """Return whether two answers are mathematically equivalent.

    Equal strings and numbers are settled here, exactly; the rest goes to ``math-verify``. It is
    not symmetric: "x = 5" is a way to give the true answer "5".

    Args:
        true: The row's answer.
        given: The model's.
    """
    a, b = _tidy(true), _tidy(given)
    if a is None or b is None:
        return a == b
    if a == b:
        return True
    x, y = _number(a), _number(b)
    if x is not None and y is not None:
        return x == y
    if (x is None) != (y is None) and re.search(_LIST, b if y is None else a):
        return False  # math-verify would read the comma of "1,2" away
    if re.search(r"[-+*/^=]$", b):
        return False  # an expression that breaks off, of which it would read what is there
    return _equivalent(a, b)


@lru_cache(maxsize=4096)  # noisy models repeat few answers, and one question takes milliseconds
def _equivalent(true: str, given: str) -> bool:
    from math_verify import parse, verify

    # Generated text can ask for 9^{9^9}, so the library is given time limits; its alarm can ring
    # in the main thread only. What it cannot settle in time is not equivalent.
    limit = SECONDS if threading.current_thread() is threading.main_thread() else None
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    parsed = [parse(f"${word}$", parsing_timeout=limit) for word in (true, given)]
    return all(parsed) and bool(verify(*parsed, timeout_seconds=limit))


def _number(text: str) -> Fraction | None:
    if not re.fullmatch(_NUMBER, text):
        return None
    try:
        return Fraction(text.replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return None


def _head(tail: str) -> str | None:
    """Return the expression that a tail of text opens with; among words, its first number."""
    clause = re.split(_SENTENCE_END, tail.strip(), maxsplit=1)[0]
    if not re.search(_PROSE, clause):
        return _tidy(clause)
    number = re.search(_NUMBER, clause)
    return _tidy(number[0]) if number else None


def _tidy(text: str) -> str | None:
    r"""Strip what surrounds an answer: spaces, ``$``, ``\(…\)``, ``**``, a full stop at the end."""
    bare = text.replace("{,}", ",").replace(r",\!", ",").strip(" \t\r\n$").rstrip(" .$")
    for opening, closing in (("**", "**"), (r"\(", r"\)"), (r"\[", r"\]")):
        bare = bare.removeprefix(opening).removesuffix(closing)
    return bare.strip(" $") or None
