"""The final answer of a solution, and whether two answers mean the same."""

from __future__ import annotations

import logging
import re
import threading
from fractions import Fraction

_NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:/\d+)?"


def extract_answer(solution: str) -> str | None:
    r"""Return the final answer of a solution, or None if there is nothing that could be one.

    The first rule that finds something wins: the last ``\boxed{…}``; what follows the last
    ``####``; what follows the last "answer is" or "answer:"; what follows the last ``=``, if it
    is one number or word; the last number; the text itself, if it is a single word.

    >>> extract_answer("a0b1 = 7 ; b0c1 = 7 * 4 = 5")
    '5'
    >>> extract_answer(r"so \\boxed{\\frac{1}{2}} it is")
    '\\\\frac{1}{2}'
    """
    text = solution.strip()
    if (boxed := _last_boxed(text)) is not None:
        return boxed
    if "####" in text:
        return _tidy(text.rsplit("####", 1)[1].split("\n")[0])
    if stated := re.findall(r"answer(?:\s+is|\s*:)\s*([^\n]+)", text, re.IGNORECASE):
        return _tidy(stated[-1])
    tail = _tidy(text.rsplit("=", 1)[1]) if "=" in text else None
    if tail is not None and len(tail.split()) == 1:
        return tail
    if numbers := re.findall(_NUMBER, text):
        return _tidy(str(numbers[-1]))
    return text if len(text.split()) == 1 else None


def same_answer(left: str, right: str) -> bool:
    """Return whether two answers are mathematically equivalent.

    Equal strings and equal numbers are settled here; the rest goes to ``math-verify``, which is
    given time limits only in the main thread, where the alarm that it uses can ring.
    """
    a, b = _tidy(left), _tidy(right)
    if a is None or b is None:
        return a == b
    if a == b:
        return True
    x, y = _number(a), _number(b)
    if x is not None and y is not None:
        return x == y
    from math_verify import parse, verify

    limit = 5 if threading.current_thread() is threading.main_thread() else None
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    parsed = [parse(f"${word}$", parsing_timeout=limit) for word in (a, b)]
    return all(parsed) and bool(verify(*parsed, timeout_seconds=limit))


def _number(text: str) -> Fraction | None:
    if not re.fullmatch(_NUMBER, text):
        return None
    try:
        return Fraction(text.replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return None


def _tidy(text: str) -> str | None:
    """Strip what surrounds an answer: spaces, dollar signs, a full stop at the end."""
    stripped = text.strip(" \t\r\n.$")
    return stripped or None


def _last_boxed(text: str) -> str | None:
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 1, start + len("\\boxed{")
    for i in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return _tidy(text[begin:i])
    return None
