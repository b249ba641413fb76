"""Whether a record holds what its readers look up: a file may be of another version, or by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from estimators.estimate import Guarantee
from pacbayes_sft.errors import InputError
from pacbayes_sft.scan.windows import edges

MEND = "remove it and scan again"
OBJECT, FULL = "an object", "an object that holds something"
TEXT, NUMBER = "text", "a number"
COUNT, WINDOW, GUARANTEE = "a whole number", "a window LO:HI", "a guarantee"
UNKNOWN = "a number or null"
# what every reader of a cell looks up; a * stands for every key, a ? after what may be missing
CELL = {
    "cell.size": COUNT,
    "cell.window": WINDOW,
    "cell.seed": COUNT,
    "cell.base": TEXT,
    "cell.objective": TEXT,
    "cell.method": TEXT,
    "measured.test_risk.value": NUMBER,
    "measured.slices.*.value": NUMBER,
    "measured.slices.*.lower?": UNKNOWN,
    "measured.slices.*.upper?": UNKNOWN,
    "measured.train_distribution_risk.value": NUMBER,
    "measured.train_risk": NUMBER,
    "bounds": FULL,
    "bounds.*.kl_nats": NUMBER,
    "bounds.*.terms.empirical_risk": NUMBER,
    "seconds.all": NUMBER,
}
# what a map needs besides
DRAWN = {
    "measured.generalization_gap": NUMBER,
    "measured.extrapolation_gap": NUMBER,
    "bounds.*.terms.*": UNKNOWN,
    "bounds.*.tv.value": NUMBER,
    "bounds.*.gibbs.test_risk.value": NUMBER,
    "bounds.*.gibbs.test_risk.lower": UNKNOWN,  # not kept by full fine-tunes of old
    "bounds.*.bounds.*.train_raw": UNKNOWN,  # null: infinite
    "bounds.*.shifts.*.upper": UNKNOWN,
    "bounds.*.shifts.*.guarantee": GUARANTEE,
}
BASE = {
    "base?": TEXT,
    "measured?.slices?.*.value": NUMBER,
    "measured?.slices?.*.lower?": UNKNOWN,
    "measured?.slices?.*.upper?": UNKNOWN,
}
BASE_DRAWN = BASE | {"base": TEXT, "measured.slices": OBJECT}
_MISSING = object()


def check_record(record: Mapping[str, Any], file: Path | str) -> None:
    """Refuse a record without what every reader looks up.

    Args:
        record: A cell's, or a base's own, of which a map alone needs the slices.
        file: Where it lies.

    Raises:
        InputError: Naming file and field.
    """
    _check(record, CELL if "cell" in record else BASE, file)


def check_drawn(record: Mapping[str, Any], file: Path | str) -> None:
    """Refuse a record, a base's too, without what frames and pictures look up.

    Raises:
        InputError: Naming file and field.
    """
    _check(record, CELL | DRAWN if "cell" in record else BASE_DRAWN, file)


def _check(record: Mapping[str, Any], fields: Mapping[str, str], file: Path | str) -> None:
    for field, kind in fields.items():
        for name, value, wanted in _found(record, field.split("."), kind):
            if value is _MISSING:
                raise InputError(f"{file}: {name} is missing; {MEND}")
            if not _is(value, wanted):
                raise InputError(f"{file}: {name} is not {wanted}; {MEND}")


def _found(value: Any, left: list[str], kind: str, at: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield (field, value, what it must be): of every key where a * stands, or what ends early."""
    if not left or value is _MISSING:
        yield at, value, kind
    elif not isinstance(value, Mapping):
        yield at, value, OBJECT
    else:
        for key in value if left[0] == "*" else [left[0].removesuffix("?")]:
            if left[0].endswith("?") and key not in value:
                continue
            name = f"{at}.{key}" if at else key
            yield from _found(value.get(key, _MISSING), left[1:], kind, name)


def _is(value: Any, kind: str) -> bool:
    if kind == WINDOW:
        try:
            edges(value)
        except (AttributeError, ValueError):  # no text, or no window
            return False
        return True
    if kind in (OBJECT, FULL):
        return isinstance(value, Mapping) and bool(value or kind == OBJECT)
    if kind == TEXT:
        return isinstance(value, str)
    if kind == GUARANTEE:
        return isinstance(value, str) and value in {g.value for g in Guarantee}
    if kind == UNKNOWN and value is None:
        return True
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if kind == COUNT:
        return whole
    return whole or (isinstance(value, float) and math.isfinite(value))
