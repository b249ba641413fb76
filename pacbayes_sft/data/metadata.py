"""The sidecar of a generated data file: which law its rows were drawn from.

``train.jsonl`` has ``train.jsonl.meta.json``. It carries the hash of the file it speaks of, so
that it is not believed of a file that was edited afterwards.
"""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from pacbayes_sft.errors import InputError
from pacbayes_sft.reading import read_json


class Metadata(BaseModel):
    """What is known of the law of a generated file.

    Attributes:
        generator: Name, version and settings of the generator, except the law of the attribute:
            two files with equal generators differ in that law alone.
        attribute: The column whose law is known.
        law: Probability of each value of that attribute.
        seed: Seed of the draw.
        rows: Number of rows.
        data_sha256: Hash of the data file.
    """

    model_config = ConfigDict(extra="forbid")

    generator: str
    attribute: str
    law: dict[str, float]
    seed: int
    rows: int
    data_sha256: str

    @field_validator("law")
    @classmethod
    def _is_a_law(cls, law: dict[str, float]) -> dict[str, float]:
        if not all(0 <= p <= 1 for p in law.values()) or abs(sum(law.values()) - 1) > 1e-9:
            raise ValueError("law: no probabilities that sum to 1")
        written = {_written(value): weight for value, weight in law.items()}
        if len(written) < len(law):
            raise ValueError("law: one number is written in two ways")
        return written

    @property
    def law_of_numbers(self) -> dict[float, float] | None:
        """The law, its values as numbers; None if one of them is none."""
        numbers = {_number(value): weight for value, weight in self.law.items()}
        return None if None in numbers else numbers  # type: ignore[return-value]


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _written(value: str) -> str:
    """One way to write each number, so that "1" and "1.0" are one value."""
    number = _number(value)
    if number is None:
        return value
    return str(int(number)) if number.is_integer() else repr(number)


def sidecar(data: Path) -> Path:
    """Return where the sidecar of a data file lies."""
    return data.with_name(data.name + ".meta.json")


def read_metadata(data: Path, data_sha256: str) -> Metadata | None:
    """Return the sidecar's content; None if there is none or it speaks of another file.

    Raises:
        InputError: If it is there and malformed.
    """
    file = sidecar(data)
    if not file.is_file():
        return None
    try:
        metadata = Metadata.model_validate(read_json(file))
    except ValidationError as error:
        raise InputError(f"{file}: not data metadata ({error.errors()[0]['msg']})") from None
    return metadata if metadata.data_sha256 == data_sha256 else None
