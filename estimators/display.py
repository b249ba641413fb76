"""How an `Estimate` shows itself: one line on a rich terminal, a small block in a notebook."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from estimators.estimate import Estimate

STYLES = {
    "exact": "bold green",
    "upper": "bold cyan",
    "lower": "bold yellow",
    "estimate": "magenta",
}


def rounded_up(limit: float, places: int | None = None) -> str:
    """Return an upper limit rounded up: a promise stays one when it is printed.

    Args:
        limit: What is promised not to be exceeded; may be infinite.
        places: Decimal places; four significant digits if None.

    >>> rounded_up(0.28041), rounded_up(0.28041, 3), rounded_up(0.25, 3)
    ('0.2805', '0.281', '0.250')
    """
    return _rounded(limit, places, ROUND_CEILING)


def rounded_down(limit: float, places: int | None = None) -> str:
    """Return a lower limit rounded down, as `rounded_up` does an upper one.

    >>> rounded_down(0.28049, 3), rounded_down(1234.56)
    ('0.280', '1234')
    """
    return _rounded(limit, places, ROUND_FLOOR)


def confidence(level: float) -> str:
    """Return a confidence rounded down, or as 1 - δ where four digits would make it certain.

    >>> confidence(0.95), confidence(0.97499), confidence(1 - 5e-5), confidence(1.0)
    ('0.95', '0.9749', '1 - 5e-05', '1')
    """
    return _confidence(level, 1)


def confidence_percent(level: float) -> str:
    """Return the same in words of a sentence: per cent, or as 1 - δ.

    >>> confidence_percent(0.95), confidence_percent(0.97499), confidence_percent(1 - 5e-5)
    ('95 %', '97.49 %', '1 - 5e-05')
    """
    said = _confidence(level, 100)
    return said if "-" in said else f"{said} %"


def failure(delta: float) -> str:
    """Return a probability of failure rounded up, never as 0 where it is none.

    >>> failure(0.0279999999999), failure(5e-7), failure(0.012345)
    ('0.028', '5e-07', '0.01235')
    """
    return rounded_up(float(f"{delta:.6g}"))


def _confidence(level: float, scale: int) -> str:
    """Binary digits beyond the twelfth are noise of 1 - (1 - δ): 0.95 must not become 0.9499."""
    if level < 1 and float(f"{level:.4g}") == 1:
        return f"1 - {failure(1 - level)}"
    return rounded_down(round(scale * level, 12))


def _rounded(limit: float, places: int | None, rounding: str) -> str:
    if not math.isfinite(limit):
        return f"{limit:g}"
    exact = Decimal(repr(float(limit)))
    if places is None:
        return f"{float(Context(prec=4, rounding=rounding).create_decimal(exact)):.4g}"
    enough = Context(prec=max(28, exact.adjusted() + 2 + places))  # the default has 28 digits
    return f"{exact.quantize(Decimal(1).scaleb(-places), rounding, enough):f}"


def value(estimate: Estimate) -> str:
    """Return the point value, rounded as the limit is where the two are one number."""
    if estimate.guarantee == "upper" and estimate.value == estimate.upper:
        return rounded_up(estimate.value)
    return f"{estimate.value:.4g}"


def terminal(estimate: Estimate) -> str:
    """Return rich markup: the value, its label in colour, the limit, the method dimmed.

    >>> from estimators import Estimate
    >>> terminal(Estimate.exactly(0.25, method="closed form", unit="nats"))
    '[bold]0.25[/] nats [bold green]exact[/] [dim](closed form)[/]'
    """
    label, limit = str(estimate.guarantee), _limit(estimate)
    unit = f" {_plain(estimate.unit)}" if estimate.unit else ""
    said = f" {limit}" if limit else ""
    return (
        f"[bold]{value(estimate)}[/]{unit} [{STYLES[label]}]{label}[/]{said} "
        f"[dim]({_plain(estimate.method)})[/]"
    )


def notebook(estimate: Estimate) -> str:
    """Return HTML that reads on light and on dark pages; the assumptions unfold.

    >>> from estimators import Estimate
    >>> "<summary>1 assumption</summary>" in notebook(
    ...     Estimate.exactly(0.25, method="closed form", assumptions=("a < b",))
    ... )
    True
    """
    label, limit = str(estimate.guarantee), escape(_limit(estimate))
    unit = f" {escape(estimate.unit)}" if estimate.unit else ""
    rest = ""
    if count := len(estimate.assumptions):
        sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in estimate.assumptions)
        plural = "" if count == 1 else "s"
        rest = (
            f"<details><summary>{count} assumption{plural}</summary><ul>{sentences}</ul></details>"
        )
    return (
        '<div style="border-left:.25em solid;padding:.1em .8em">'
        f"<strong>{value(estimate)}</strong>{unit} "
        '<span style="border:1px solid;border-radius:.6em;padding:0 .5em;font-size:.85em">'
        f"{label}</span> {limit} <small>{escape(estimate.method)}</small>{rest}</div>"
    )


def _limit(estimate: Estimate) -> str:
    """The limit that is claimed; a limit of 1 on a probability says nothing."""
    at = f"at {confidence(estimate.confidence)}"
    if estimate.guarantee == "upper":
        empty = estimate.unit == "probability" and not estimate.upper < 1
        return f"≤ {rounded_up(estimate.upper)} {at}" + (", vacuous" if empty else "")
    return f"≥ {rounded_down(estimate.lower)} {at}" if estimate.guarantee == "lower" else ""


def _plain(text: str) -> str:
    """The text with nothing in it that rich reads as markup."""
    return text.replace("[", r"\[")
