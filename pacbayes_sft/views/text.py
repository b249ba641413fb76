"""What of a row is looked at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pacbayes_sft.choices import View
from pacbayes_sft.data.rows import Row, Table

TEXT_COLUMNS = ("prompt", "completion", "answer")
NAMING_COLUMNS = ("id", "unit")  # name a row or a problem, so they are no property of it


def text_of(row: Row, view: View, columns: Sequence[str] = ()) -> str:
    """Return the text of a row under a view; of the attributes, one ``column=value`` a line."""
    if view is View.PROMPT:
        return row.prompt
    if view is View.FULL:
        return row.prompt + row.completion
    return "\n".join(f"{k}={_plain(v)}" for k, v in attributes_of(row, columns).items())


def attributes_of(row: Row, columns: Sequence[str]) -> dict[str, Any]:
    """Return the values of chosen columns; one that the row lacks is None."""
    return {column: row.value_of(column) for column in columns}


def common_columns(train: Table, test: Table) -> tuple[str, ...]:
    """Return the columns, sorted, in which every row of both files has a value.

    Text and names of rows are none.
    """
    first = train.rows[0]
    names = {"difficulty", *first.attributes} - {*TEXT_COLUMNS, *NAMING_COLUMNS}
    return tuple(sorted(c for c in names if train.has(c) and test.has(c)))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
