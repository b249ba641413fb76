"""What a pilot fine-tune showed: the records of a scan, reduced to what advice needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pacbayes_sft.errors import InputError
from pacbayes_sft.scan.shape import MEND

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """A measured risk.

    Attributes:
        value: Mean loss.
        error: Its standard error from the rows. Of a record from before 2026-11-29 whose losses are
            not 0 or 1, a number 1.4 to 3 times as large.
    """

    value: float
    error: float


@dataclass(frozen=True)
class Pilot:
    """One pilot fine-tune.

    Attributes:
        window: Difficulty window, ``LO:HI``.
        objective: Training objective.
        size: Training units n.
        seed: Its seed.
        train_risk: Of the finished model on its own rows.
        heldout: Its risk on rows of its window that nothing was fitted on.
        profile: Its risk by difficulty level, on rows that nothing was fitted on.
        empirical: Gibbs risk on the certified units, with its limit.
        kl: KL(Q‖P), nats.
        certified: Units behind ``empirical``, as a share of n.
        seconds: What it took.
    """

    window: str
    objective: str
    size: int
    seed: int
    train_risk: float
    heldout: Measured
    profile: Mapping[float, Measured]
    empirical: float
    kl: float
    certified: float
    seconds: float

    @property
    def arm(self) -> tuple[str, str]:
        """What advice chooses between: window and objective."""
        return self.window, self.objective


def read_pilots(
    records: Iterable[Record],
    *,
    bound: str | None = None,
    base: str | None = None,
    method: str = "lora",
) -> list[Pilot]:
    """Return the cells of one base and method among the records of a scan.

    Args:
        records: As `run_scan` returns them; those of bases themselves are passed over.
        bound: Which bound's KL and empirical risk; None takes the first by name.
        base: Which base; None takes the only one.
        method: ``lora`` or ``full``.

    Raises:
        InputError: If the records mix bases, lack the bound or a field, or a slice is not a number.
    """
    cells = [r for r in records if "cell" in r and r["cell"]["method"] == method]
    bases = sorted({r["cell"]["base"] for r in cells})
    if base is None and len(bases) > 1:
        raise InputError(f"the pilots are of several bases ({', '.join(bases)}); name one")
    chosen = [r for r in cells if base is None or r["cell"]["base"] == base]
    if not chosen:
        raise InputError("no record is a pilot of this base and method")
    found = []
    for record in chosen:
        with _refusing(record):
            found.append(_pilot(record, bound))
    return found


def read_base_profile(
    records: Iterable[Record], base: str | None = None
) -> dict[float, Measured] | None:
    """Return the risk by level of a base before any fine-tune, on the rows that judge its pilots.

    Args:
        records: As `run_scan` returns them.
        base: Which base; None takes the first.

    Returns:
        None if no record is a base's.

    Raises:
        InputError: If a slice is not a number.
    """
    own = (r for r in records if "cell" not in r and base in (None, r.get("base")))
    found = next((r for r in own if r.get("measured", {}).get("slices")), None)
    if found is None:
        return None
    with _refusing(found):
        return _profile(found)


def falls_with_difficulty(pilots: Sequence[Pilot]) -> bool:
    """Return whether the risk falls along the levels: high values of the column are the easy rows.

    Of the largest pilots, on average over them: the slope over the levels' ranks lies three
    standard errors (of the rows, which are the same for all) below 0. What a single window forgets
    of the easy rows is no such sign.
    """
    largest = max(p.size for p in pilots)
    profiles = [p.profile for p in pilots if p.size == largest]
    levels = sorted(set.intersection(*map(set, profiles)))
    rank = np.arange(len(levels)) - (len(levels) - 1) / 2
    risks = np.mean([[profile[v].value for v in levels] for profile in profiles], axis=0)
    errors = np.mean([[profile[v].error for v in levels] for profile in profiles], axis=0)
    return bool(rank @ risks < -3 * np.sqrt(np.sum((rank * errors) ** 2)))


def _profile(record: Record) -> dict[float, Measured]:
    slices = record["measured"]["slices"]
    try:
        levels = [float(level) for level in slices]
    except ValueError:
        raise InputError(
            f"record {record['key']}: a slice is not a number ({', '.join(slices)})"
        ) from None
    return dict(zip(levels, map(_measured, slices.values()), strict=True))


@contextlib.contextmanager
def _refusing(record: Record) -> Iterator[None]:
    """Refuse a record of another shape; a store has looked at what all its readers need."""
    try:
        yield
    except InputError:  # a ValueError too
        raise
    except KeyError as error:
        raise InputError(f"record {record['key']}: {error.args[0]} is missing; {MEND}") from None
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"record {record['key']}: of another shape ({error}); {MEND}") from None


def _pilot(record: Record, bound: str | None) -> Pilot:
    cell, measured, bounds = record["cell"], record["measured"], record["bounds"]
    name = min(bounds) if bound is None else bound
    if name not in bounds:
        raise InputError(f"record {record['key']}: holds no bound {name!r} ({', '.join(bounds)})")
    found = bounds[name]
    empirical = found.get("empirical_risk") or {"upper": found["terms"]["empirical_risk"]}
    return Pilot(
        cell["window"],
        cell["objective"],
        int(cell["size"]),
        int(cell["seed"]),
        float(measured["train_risk"]),
        _measured(measured["train_distribution_risk"]),
        _profile(record),
        float(empirical["upper"]),
        float(found["kl_nats"]),
        float(found.get("n", cell["size"])) / float(found.get("n_train", cell["size"])),
        float(record.get("seconds", {}).get("all", 0.0)),
    )


def _measured(estimate: Mapping[str, Any]) -> Measured:
    """Records of old hold no standard error: half an interval over 1.96, near it for 0/1 losses."""
    value, error = float(estimate["value"]), estimate.get("standard_error")
    if error is not None:
        return Measured(value, max(float(error), 1e-4))
    width = float(estimate["upper"]) - float(estimate["lower"])
    return Measured(value, max(width / 3.92, 1e-4))
