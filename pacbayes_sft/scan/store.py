"""Records on disk: one immutable file a cell, named by the hash of what it was made from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pacbayes_sft.atomic import replacing
from pacbayes_sft.errors import InputError
from pacbayes_sft.reading import read_json
from pacbayes_sft.scan.shape import MEND, check_record


class Store:
    """The records of one scan, under ``DIR/records``."""

    def __init__(self, directory: Path) -> None:
        """Open a directory; it is made when the first record is written."""
        self.directory = Path(directory)
        self.records = self.directory / "records"

    def has(self, key: str) -> bool:
        """Return whether a record is there."""
        return self._file(key).is_file()

    def put(self, record: dict[str, Any]) -> None:
        """Write a record whole or not at all; one that is there already stays."""
        file = self._file(record["key"])
        if file.exists():
            return
        self.records.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial:
            text = json.dumps(record, indent=1, allow_nan=False, sort_keys=True)
            partial.write_text(text + "\n", encoding="utf-8")

    def get(self, key: str) -> dict[str, Any]:
        """Return a record.

        Raises:
            InputError: If it is not there, damaged, or a cell's of another shape.
        """
        file = self._file(key)
        try:
            record: dict[str, Any] = read_json(file)
        except InputError as error:
            raise InputError(f"{error}; {MEND}" if file.is_file() else str(error)) from None
        if record.get("key") != key:
            raise InputError(f"{file}: not the record of {key}; remove it")
        check_record(record, file)
        return record

    def all(self) -> Iterator[dict[str, Any]]:
        """Yield every record, those of other configurations included, by key."""
        for file in sorted(
            self.records.glob("[!.]*.json")
        ):  # a kill may leave a hidden part of one
            yield self.get(file.stem)

    def work(self, key: str) -> Path:
        """Return the folder in which an unfinished cell works."""
        return self.directory / "work" / key

    def _file(self, key: str) -> Path:
        return self.records / f"{key}.json"
