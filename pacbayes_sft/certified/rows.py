"""The certified rows, by what they hold: listed beside the certificate, found again in a file."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from pacbayes_sft.data.rows import Row, Table
from pacbayes_sft.errors import InputError
from pacbayes_sft.risk import Losses


@dataclass(frozen=True)
class Unit:
    """One independent unit behind the empirical risk.

    Attributes:
        name: Its name in the training file.
        rows: Hash of each of its rows.
        loss: The deployed draw's loss on it, in [0, 1].
    """

    name: str
    rows: tuple[str, ...]
    loss: float


def row_sha256(row: Row) -> str:
    """Return a hash of all that a loss can depend on: texts, turns, answer and room to write it."""
    content = [row.prompt, row.completion, row.answer, row.messages, row.value_of("max_new_tokens")]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def rows_sha256(table: Table) -> str:
    """Return one hash of the units of a table and their rows, in order of first mention."""
    return hashlib.sha256(json.dumps(list(_members(table).items())).encode()).hexdigest()


def write_units(table: Table, losses: Losses, file: Path) -> None:
    """Write one line a unit: its name, its rows' hashes and its loss.

    Args:
        table: The certified rows.
        losses: Shape (number of units,), units in order of first mention.
        file: Where.
    """
    lines = [
        json.dumps({"unit": name, "rows": rows, "loss": float(loss)})
        for (name, rows), loss in zip(_members(table).items(), losses, strict=True)
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_units(file: Path) -> list[Unit]:
    """Read what `write_units` wrote.

    Raises:
        InputError: If the file is missing or holds something else.
    """
    try:
        records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        units = [Unit(r["unit"], tuple(r["rows"]), float(r["loss"])) for r in records]
        if not units or not all(unit.rows and 0 <= unit.loss <= 1 for unit in units):
            raise ValueError("no units, or one without rows or with a loss outside [0, 1]")
        return units
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: not a list of certified units ({error}); copy the adapter again"
        ) from None


def find_rows(train: Table, units: list[Unit]) -> tuple[Table | None, str]:
    """Find the certified rows in a file, wherever they stand in it.

    Returns:
        The certified rows under the units' recorded names, or None if one is missing or the file
        groups them into other units; and what was found, in words.
    """
    places: dict[str, list[int]] = {}
    for i, row in enumerate(train.rows):
        places.setdefault(row_sha256(row), []).append(i)
    wanted = Counter(digest for unit in units for digest in unit.rows)
    missing = sum(max(0, n - len(places.get(digest, []))) for digest, n in wanted.items())
    if missing:
        return None, f"{missing:,} of {wanted.total():,} are missing from {train.source} or changed"
    names = train.units
    found: list[tuple[int, str]] = []
    for unit in units:
        for digest in unit.rows:
            candidates = places[digest]  # equal rows: the one in the unit of that name, if any
            here = next((i for i in candidates if names[i] == unit.name), candidates[0])
            candidates.remove(here)
            found.append((here, unit.name))
    pairs = {(names[i], name) for i, name in found}
    if not len(pairs) == len({left for left, _ in pairs}) == len({right for _, right in pairs}):
        return None, f"{train.source} groups them into other units"
    rows = [replace(train.rows[i], unit=name) for i, name in found]
    return replace(train, rows=rows), f"all {len(rows):,} are in {train.source}"


def _members(table: Table) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    for unit, row in zip(table.units, table.rows, strict=True):
        members.setdefault(unit, []).append(row_sha256(row))
    return members
