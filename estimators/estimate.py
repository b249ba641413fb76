"""`Estimate`: a number together with what it promises."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from estimators import display


class Guarantee(StrEnum):
    """What an `Estimate` promises about the true quantity.

    Attributes:
        EXACT: Known by construction: a closed form, a known law, a deterministic full pass.
        UPPER: The truth is at most ``upper`` with the stated confidence, under the assumptions.
        LOWER: The truth is at least ``lower`` with the stated confidence, under the assumptions.
        ESTIMATE: A point value without a one-sided promise.

    >>> Guarantee("upper") is Guarantee.UPPER, str(Guarantee.EXACT)
    (True, 'exact')
    """

    EXACT = "exact"
    UPPER = "upper"
    LOWER = "lower"
    ESTIMATE = "estimate"


@dataclass(frozen=True)
class Estimate:
    """An estimated quantity and its promise.

    Attributes:
        value: The point value.
        lower: Lower limit (``-inf`` if none is claimed).
        upper: Upper limit (``inf`` if none is claimed).
        confidence: Probability with which the claimed side holds, in [0, 1]; 1 when exact, 0
            where a point value claims nothing. Of an estimate, that of its limits if the
            assumptions that nobody tested hold.
        guarantee: What is claimed, see `Guarantee`.
        method: How the number was made, in a few words.
        assumptions: Sentences that must be true for the promise to hold.
        unit: Unit of the value ("nats", "probability", ...), if it has one.

    Raises:
        ValueError: If the limits are not ordered around the value, are NaN, or the confidence is
            no probability.

    >>> print(Estimate.exactly(0.25, method="closed form", unit="nats"))
    0.25 nats (exact; closed form)
    """

    value: float
    lower: float
    upper: float
    confidence: float
    guarantee: Guarantee
    method: str
    assumptions: tuple[str, ...] = ()
    unit: str | None = None

    def __post_init__(self) -> None:
        """Refuse limits that contradict the value."""
        object.__setattr__(self, "guarantee", Guarantee(self.guarantee))
        object.__setattr__(self, "assumptions", tuple(self.assumptions))
        if not self.lower <= self.value <= self.upper:
            raise ValueError(
                f"limits must enclose the value: {self.lower} <= {self.value} <= {self.upper}"
            )
        if not 0.0 <= self.confidence <= 1.0:
            raise ValueError(f"confidence is a probability, got {self.confidence}")

    @classmethod
    def exactly(
        cls, value: float, *, method: str, assumptions: Iterable[str] = (), unit: str | None = None
    ) -> Estimate:
        """Return an exact quantity: both limits are the value, the confidence is one."""
        value = float(value)
        return cls(value, value, value, 1.0, Guarantee.EXACT, method, tuple(assumptions), unit)

    @property
    def delta(self) -> float:
        """The probability of failure that the promise spends: 1 - confidence."""
        return 1.0 - self.confidence

    def as_upper(self) -> tuple[float, Guarantee]:
        """Return what may stand where an upper limit is asked for, and the label it gives.

        An exact or upper-labelled quantity gives its upper limit, an estimate the limit that it
        has under untested assumptions, if it has one. Anything else has no valid upper limit: its
        point value stands in. In both cases the result is only an estimate.
        """
        if self.guarantee in (Guarantee.EXACT, Guarantee.UPPER):
            return self.upper, Guarantee.UPPER
        conditional = self.guarantee is Guarantee.ESTIMATE and self.confidence > 0
        return self.upper if conditional else self.value, Guarantee.ESTIMATE

    def without_promise(self, why: str) -> Estimate:
        """Return it as a point estimate: an assumption of its promise is known to be broken.

        Args:
            why: The sentence that says which; it joins the assumptions.
        """
        return replace(
            self, guarantee=Guarantee.ESTIMATE, confidence=0.0, assumptions=(*self.assumptions, why)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object; an infinite number becomes null with a reason beside it."""
        numbers = {name: getattr(self, name) for name in ("value", "lower", "upper")}
        record: dict[str, Any] = {k: v if math.isfinite(v) else None for k, v in numbers.items()}
        record |= {
            "confidence": self.confidence,
            "guarantee": str(self.guarantee),
            "method": self.method,
            "assumptions": list(self.assumptions),
            "unit": self.unit,
        }
        infinite = {k: f"{k} is {v}" for k, v in numbers.items() if not math.isfinite(v)}
        if infinite:
            record["null_reason"] = infinite
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Estimate:
        """Read back what `to_dict` wrote.

        >>> e = Estimate(1.0, 0.0, math.inf, 0.9, Guarantee.LOWER, "test")
        >>> Estimate.from_dict(e.to_dict()) == e
        True
        """
        reasons: Mapping[str, str] = record.get("null_reason", {})

        def number(name: str) -> float:
            stored = record[name]
            return float(reasons[name].rsplit(" ", 1)[1]) if stored is None else float(stored)

        return cls(
            number("value"),
            number("lower"),
            number("upper"),
            float(record["confidence"]),
            Guarantee(record["guarantee"]),
            record["method"],
            tuple(record["assumptions"]),
            record.get("unit"),
        )

    def __str__(self) -> str:
        """One line: the value, the claimed limit, the label."""
        unit = f" {self.unit}" if self.unit else ""
        at = f"at {display.confidence(self.confidence)}"
        claim = {
            Guarantee.EXACT: "exact",
            Guarantee.UPPER: f"upper: <= {display.rounded_up(self.upper)} {at}",
            Guarantee.LOWER: f"lower: >= {display.rounded_down(self.lower)} {at}",
            Guarantee.ESTIMATE: "estimate, no one-sided promise",
        }[self.guarantee]
        return f"{display.value(self)}{unit} ({claim}; {self.method})"

    def __rich__(self) -> str:
        """One line in colour, where `rich` prints it."""
        return display.terminal(self)

    def _repr_html_(self) -> str:
        """A small block, where a notebook shows it."""
        return display.notebook(self)


def weakest(labels: Iterable[Guarantee]) -> Guarantee:
    """Return the label of an upper bound made of these parts: `UPPER` only if all are.

    >>> str(weakest([Guarantee.EXACT, Guarantee.UPPER]))
    'upper'
    >>> str(weakest([Guarantee.UPPER, Guarantee.LOWER]))
    'estimate'
    """
    sound = all(label in (Guarantee.EXACT, Guarantee.UPPER) for label in labels)
    return Guarantee.UPPER if sound else Guarantee.ESTIMATE
