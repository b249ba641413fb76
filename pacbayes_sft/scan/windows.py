"""Windows of difficulty as they are written: ``LO:HI``, both included."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def quoted(value: Any) -> Any:
    """Return what stands in quotes: to YAML, 2:6 without them is a number of base 60.

    Raises:
        ValueError: If it is a number.
    """
    if isinstance(value, int | float):
        raise ValueError(f'{value} is a number to YAML; write windows and laws in quotes, "2:6"')
    return value


def edges(window: str) -> tuple[float, float]:
    """Read ``LO:HI``.

    Raises:
        ValueError: If it is no window.
    """
    low, _, high = window.partition(":")
    try:
        found = float(low), float(high)
    except ValueError:
        raise ValueError(f"windows: {window!r} is not LO:HI") from None
    if not found[0] <= found[1]:
        raise ValueError(f"windows: {window!r} runs from high to low")
    return found


def check_windows(windows: Iterable[str]) -> None:
    """Refuse what is no list of windows; two are one where their edges are, however written.

    Raises:
        ValueError: If so.
    """
    found: dict[tuple[float, float], str] = {}
    for window in windows:
        ends = edges(window)
        if ends in found:
            raise ValueError(f"windows: {found[ends]!r} and {window!r} are one; leave one out")
        found[ends] = window
    if not found:
        raise ValueError("windows: holds nothing")
