"""Read training and test rows, with the line to blame when one is wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from pacbayes_sft.data.messages import Message, as_text, conversation
from pacbayes_sft.data.metadata import Metadata, read_metadata
from pacbayes_sft.errors import InputError
from pacbayes_sft.reading import not_utf8, sha256_of

NAMES = ("unit", "answer", "id")
OWN = {"prompt", "completion", "messages", "difficulty", *NAMES}  # columns with a meaning
MOST = 1e300  # beyond it a difficulty is no float; not a number fails the comparison too


def is_number(value: object) -> bool:
    """Return whether a value of a row is a number that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -MOST < value < MOST


@dataclass(frozen=True)
class Row:
    """One example.

    Attributes:
        prompt: What the model is given.
        completion: What it is trained and judged on.
        difficulty: A number, if known.
        unit: Problem, template or cluster; rows of one unit are not independent of each other.
        answer: The final answer, if known.
        id: A name, if given.
        attributes: Further columns.
        messages: The conversation behind prompt and completion, if the row is one; it ends in the
            assistant turn that is judged.
    """

    prompt: str
    completion: str
    difficulty: float | None = None
    unit: str | None = None
    answer: str | None = None
    id: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] | None = None

    def as_record(self, unit: str | None = None) -> dict[str, Any]:
        """Return the row as it stands in a file.

        Args:
            unit: The unit to name; the row's own if left out.
        """
        fields = {
            "difficulty": self.difficulty,
            "answer": self.answer,
            "id": self.id,
            "unit": self.unit if unit is None else unit,
        }
        known = {k: v for k, v in fields.items() if v is not None}
        return self.for_trl() | known | dict(self.attributes)

    def for_trl(self) -> dict[str, Any]:
        """Return prompt and completion as TRL wants them: strings, or lists of messages."""
        if self.messages is None:
            return {"prompt": self.prompt, "completion": self.completion}
        return {"prompt": list(self.messages[:-1]), "completion": [self.messages[-1]]}

    def sha256(self) -> str:
        """Return a hash of the text alone."""
        return hashlib.sha256(f"{self.prompt}\x00{self.completion}".encode()).hexdigest()

    def value_of(self, column: str) -> Any:
        """Return the value of a named column, None if the row lacks it."""
        if column in ("difficulty", "unit", "answer", "id", "prompt", "completion"):
            return getattr(self, column)
        return self.attributes.get(column)


@dataclass(frozen=True)
class Table:
    """The rows of one file.

    Attributes:
        source: The file or data-set id they came from.
        rows: The rows, in order.
        sha256: Hash of the file (of the rows, for a data-set id).
        metadata: What the file's sidecar says of the law of the rows, if there is one.
    """

    source: str
    rows: list[Row]
    sha256: str
    metadata: Metadata | None = None

    @property
    def units(self) -> list[str]:
        """The unit of each row; a row without one is a unit of its own."""
        named = {row.unit for row in self.rows}
        own = "row"
        while any(name is not None and name.startswith(f"{own} ") for name in named):
            own = f"unnamed {own}"  # or two units would be one
        return [
            row.unit if row.unit is not None else f"{own} {i}" for i, row in enumerate(self.rows)
        ]

    def has(self, column: str) -> bool:
        """Return whether every row has a value in ``column``."""
        return all(row.value_of(column) is not None for row in self.rows)


def read_table(source: str | Path) -> Table:
    """Read a JSON-lines or Parquet file, or the train split of a `datasets` id.

    Raises:
        InputError: If the source is missing, empty or malformed; the line is named.
    """
    refuse_missing(source)
    path = Path(source)
    if not path.exists():
        return _read_hub(str(source))
    if path.is_dir():
        raise InputError(f"{source}: a directory, not a file of rows")
    if not path.is_file():  # it could be read once, and its hash would be that of nothing
        raise InputError(f"{source}: a pipe or device, no regular file; write the rows to a file")
    records = _parquet_records(path) if path.suffix == ".parquet" else json_records(path)
    rows = [row_of(record, f"{path}, {where}") for where, record in records]
    if not rows:
        raise InputError(f"{path}: holds no rows")
    _refuse_mixture(rows, str(path))
    digest = sha256_of(path)
    return Table(str(source), rows, digest, read_metadata(path, digest))


def refuse_missing(*sources: str | Path | None) -> None:
    """Refuse sources that are files by their names and are not there; None is skipped.

    Commands ask this before they load torch, so that a slip of the finger costs no seconds.

    Raises:
        InputError: For the first one that is missing.
    """
    for source in sources:
        path = Path(source) if source is not None else None
        if path is None or path.exists():
            continue
        if path.suffix in (".jsonl", ".json", ".parquet") or len(path.parts) > 2:
            raise InputError(f"{source}: no such file")


def json_records(path: Path) -> Iterator[tuple[str, Any]]:
    """Read JSON lines one by one; yield where each stands (``line 3``) and what it holds.

    Raises:
        InputError: If the file cannot be read, or a line is not UTF-8 or not JSON.
    """
    for number, line in text_lines(path):
        try:
            yield f"line {number}", json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}, line {number}: not JSON ({error.msg}, column {error.colno}); "
                "one object a line is read"
            ) from None
        except (ValueError, RecursionError):  # thousands of digits, of brackets in brackets
            raise InputError(
                f"{path}, line {number}: holds a number too long or nested too deep to be read"
            ) from None


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of every line that is not blank; a byte-order mark is skipped.

    Only ends of lines part lines: what else Unicode calls one may stand inside a JSON string.

    Raises:
        InputError: If the file cannot be read, or a line is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _parquet_records(path: Path) -> Iterator[tuple[str, Any]]:
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except Exception as error:
        raise InputError(f"{path}: not a readable Parquet file ({error})") from None
    plain = frame.astype(object).where(frame.notna(), None)
    records = plain.to_dict(orient="records")
    return _numbered({k: _as_json(k, v) for k, v in record.items()} for record in records)


def _as_json(column: str, value: Any) -> Any:
    """The value as a JSON-lines file has it."""
    if column in NAMES and isinstance(value, float) and value.is_integer():
        return int(value)  # a whole number that pandas made a float, since others are null
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_as_json("", v) for v in value]
    if isinstance(value, dict):
        return {k: _as_json("", v) for k, v in value.items()}
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _read_hub(source: str) -> Table:
    from datasets import load_dataset

    name, _, revision = source.partition("@")
    try:
        dataset = load_dataset(name, split="train", revision=revision or None)
    except Exception as error:
        raise InputError(
            f"{source}: neither a file here nor a data set that can be loaded ({error})"
        ) from None
    plain = ({k: _as_json(k, v) for k, v in record.items()} for record in dataset)
    rows = [row_of(record, f"{source}, {where}") for where, record in _numbered(plain)]
    _refuse_mixture(rows, source)
    digest = hashlib.sha256("".join(row.sha256() for row in rows).encode()).hexdigest()
    return Table(source, rows, digest)


def _refuse_mixture(rows: list[Row], source: str) -> None:
    """Refuse strings among conversations: TRL treats all rows as it does the first."""
    for number, row in enumerate(rows, start=1):
        if (row.messages is None) != (rows[0].messages is None):
            kind = "a conversation" if row.messages else "not a conversation"
            raise InputError(f"{source}, row {number}: {kind}, unlike row 1; keep one kind a file")


def _numbered(records: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for number, record in enumerate(records, start=1):
        yield f"row {number}", record


def row_of(record: Any, where: str) -> Row:
    """Return one record as a row.

    Raises:
        InputError: If a column is missing or wrong; ``where`` is named.
    """
    if not isinstance(record, dict):
        raise InputError(f"{where}: a JSON {type(record).__name__}, not an object")
    messages = conversation(record, where)
    if messages is not None:
        record |= {"prompt": as_text(messages[:-1]), "completion": messages[-1]["content"]}
    texts: dict[str, str] = {}
    for column in ("prompt", "completion"):
        text = record.pop(column, None)
        if not isinstance(text, str):
            if text is not None:
                found = f"is a {type(text).__name__}; it must be a string"
            else:
                there = ", ".join(map(repr, sorted(map(str, {*record, *texts})))) or "none"
                found = (
                    f"is missing or null (columns: {there}); a row needs the strings 'prompt' and "
                    "'completion', or 'messages'"
                )
            raise InputError(f"{where}: the column {column!r} {found}")
        texts[column] = text
    if not texts["completion"].strip():
        raise InputError(f"{where}: the completion is empty, there is nothing to judge")
    difficulty = record.pop("difficulty", None)
    if difficulty is not None and not is_number(difficulty):
        raise InputError(f"{where}: the difficulty {difficulty!r} is not a number")
    attributes = take_attributes(record, where)
    names = {k: str(v) for k in NAMES if (v := record.pop(k, None)) is not None}
    if not names.get("unit", "-").strip():
        raise InputError(f"{where}: the unit is empty; leave it out where a row is its own")
    columns = {**record, **attributes}
    _refuse_unwritable({**texts, **names, **columns, "messages": messages}, where)
    return Row(**texts, difficulty=difficulty, **names, attributes=columns, messages=messages)


def take_attributes(record: dict[str, Any], where: str) -> dict[str, Any]:
    """Take the further columns that a record holds under ``attributes`` out of it.

    Raises:
        InputError: If they are no object, or one is a column of the row itself.
    """
    attributes = record.pop("attributes", None) or {}
    if not isinstance(attributes, dict):
        raise InputError(f"{where}: 'attributes' must be an object")
    if twice := {*attributes} & {*OWN, *record}:
        raise InputError(
            f"{where}: 'attributes' holds {min(twice)!r}, which is a column of the row itself"
        )
    return attributes


def _refuse_unwritable(columns: Mapping[str, Any], where: str) -> None:
    """Refuse what no line of JSON in UTF-8 can hold: half a character, bytes, an image."""
    for column, value in columns.items():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InputError(f"{where}: the column {column!r} is not encodable text") from None
        except (TypeError, ValueError):
            kind = type(value).__name__
            raise InputError(
                f"{where}: the column {column!r} holds a {kind}, which no JSON line can; drop it"
            ) from None
