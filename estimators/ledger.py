"""The ledger: which events may fail, and with what probability each."""

from __future__ import annotations

from dataclasses import dataclass, field

from estimators.concentration import check_delta


@dataclass
class Ledger:
    """Leaf events whose δ's sum to at most ``delta``; each formula gets its leaf's δ.

    >>> ledger = Ledger(0.05)
    >>> ledger.spend("PAC-Bayes", 0.04), round(ledger.left, 4)
    (0.04, 0.01)
    """

    delta: float
    events: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a δ outside (0, 1)."""
        check_delta(self.delta)

    @property
    def spent(self) -> float:
        """Sum of the leaves."""
        return sum(self.events.values())

    @property
    def left(self) -> float:
        """What may still be spent."""
        return self.delta - self.spent

    def spend(self, event: str, delta: float) -> float:
        """Enter a leaf and return its δ.

        Raises:
            ValueError: If the event was entered before or the ledger would be overdrawn.
        """
        if event in self.events:
            raise ValueError(f"the event {event!r} is in the ledger already")
        if not 0 < delta <= self.left * (1 + 1e-9):
            raise ValueError(f"{event!r} asks for δ={delta}, only {self.left} is left")
        self.events[event] = min(delta, self.left)
        return self.events[event]

    def share(self, leaves: int) -> float:
        """Return an equal share of what is left for so many leaves, rounded down."""
        return self.left / leaves * (1 - 1e-12)

    def rows(self) -> list[dict[str, float | str]]:
        """Return the leaves as ``{"event", "delta"}`` records."""
        return [{"event": event, "delta": delta} for event, delta in self.events.items()]
