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
_STATED = r"answer(?:\s+is\b(?!\s*:)|\s+is\s*:|\s*:)\s*(\S.*)"
_MIXED = r"(?<![\w.])(\d+) (\d+/\d+)"
# what stands before a unit: "18 dollars", "\\frac{1}{2} \\text{ cup}", "72 cm^2"
_VALUE = r"(\S(?:.*?[\d})$%])?)\s*(?:\\(?:text|mathrm)\s*\{[^{}]*\}[\d^]*|[A-Za-z][A-Za-z .^/\d]*)$"
SECONDS = 5
# a dash is a minus where it opens a number: "−5", "-$5"; in "3–5" it is none
_MINUS = r"(?<![\w.)\]}])[-−–]\\?\$?(?=\.?\d)"


def extract_answer(solution: str) -> str | None:
    r"""Return the final answer of a solution, or None if there is nothing that could be one.

    The first rule that finds something wins: the last ``\boxed{…}``; what follows the last
    ``####``; what follows the last "answer is" or "answer:"; what follows the last ``=``; the last
    number; the text itself, if it is a single word. What follows "answer is" or ``=`` ends with
    its sentence; where words come with it, the answer is what it opens with if that is a formula
    (``\\frac{1}{2} of it``, ``$2\\sqrt{3}$ units``) or a choice ("(B) because"), else its first
    number ("24 dollars", "2 1/2 cups").

    >>> extract_answer("a0b1 = 7 ; b0c1 = 7 * 4 = 5")
    '5'
    >>> extract_answer(r"so \\boxed{\\frac{1}{2}} it is")
    '\\\\frac{1}{2}'
    """
    text = _signed(solution.strip())
    if (found := marked_answer(text)) is not None:
        return found
    stated = re.findall(_STATED, text, re.IGNORECASE)
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
    """Return whether two answers are mathematically equivalent, or the same words.

    Equal strings and numbers are settled here, exactly, and so are words, to which mathematics is
    blind ("no" and "on" are one product): two answers with words have to be equal but for case and
    spaces, and beside a bare value a unit may be left out ("18 dollars" for "18"). The rest goes to
    ``math-verify``. It is not symmetric: "x = 5" is a way to give the true answer "5". To it "5%"
    is 5 and 0.05, and a list without brackets is a set.

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
    if _has_words(a) or _has_words(b):
        return _same_words(a, b)
    if (x is None) != (y is None) and re.search(_LIST, b if y is None else a):
        return False  # math-verify would read the comma of "1,2" away
    if re.search(r"[-+*/^=]$", b):
        return False  # an expression that breaks off, of which it would read what is there
    return _equivalent(a, b)


def _has_words(text: str) -> bool:
    """Whether it is, or has beside its formula, letters that are no product of variables."""
    said = re.sub(r"\\(?:text|mathrm|textbf)\s*\{([^{}]*)\}", r" \1 ", text)
    plain = re.sub(rf"\\[A-Za-z]+\s*|\b(?:{_FUNCTIONS})\b\s*", "", said)
    alone = re.fullmatch(r"[\W_]*[A-Za-z]{2,}[\W_]*", plain)
    return bool(alone or re.search(r"\s[A-Za-z]{2,}|[A-Za-z]{2,}\s+\S", plain))


def _same_words(a: str, b: str) -> bool:
    values = [None if re.match(r"[A-Za-z]", text) else re.match(_VALUE, text) for text in (a, b)]
    if values[1] and not values[0] and not _has_words(a):
        return same_answer(a, values[1][1])
    if values[0] and not values[1] and not _has_words(b):
        return same_answer(values[0][1], b)
    left, right = (re.sub(r"[\s{}]+|\\(?:text|mathrm|textbf)", "", t).casefold() for t in (a, b))
    return left == right


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
    if mixed := re.fullmatch(_MIXED, text):
        part = _number(mixed[2])
        return None if part is None else int(mixed[1]) + part
    if not re.fullmatch(_NUMBER, text):
        return None
    try:
        return Fraction(text.replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return None


def _head(tail: str) -> str | None:
    """Return the expression that a tail of text opens with; among words, its first number."""
    clause = re.split(_SENTENCE_END, tail.strip(), maxsplit=1)[0].strip()
    clause = _signed(re.sub(r"^([-−–])\s+", r"\1", clause))  # "- 5 dollars"
    if not re.search(_PROSE, clause):
        return _tidy(clause)
    if formula := re.match(r"\$([^$]+)\$|(\S*[\\^]\S*)|(\([A-Za-z]\))(?!\S)", clause):
        return _tidy(formula[0])
    number = re.search(rf"{_MIXED}|{_NUMBER}", clause)
    return _tidy(number[0]) if number else None


def _signed(text: str) -> str:
    """Write every minus sign as one, right before its number."""
    return re.sub(_MINUS, "-", text)


def _tidy(text: str) -> str | None:
    r"""Strip what surrounds an answer: spaces, ``$``, ``\(…\)``, ``**``, a full stop at the end."""
    bare = _signed(text).replace("{,}", ",").replace(r",\!", ",").strip(" \t\r\n$").rstrip(" .$")
    for opening, closing in (("**", "**"), (r"\(", r"\)"), (r"\[", r"\]")):
        bare = bare.removeprefix(opening).removesuffix(closing)
    return bare.strip(" $") or None
