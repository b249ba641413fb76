"""A column of numbers, and what is none."""

import json

import pytest

from pacbayes_sft.data.levels import levels_of, numbers
from pacbayes_sft.data.metadata import read_metadata, sidecar
from pacbayes_sft.data.rows import is_number, read_table
from pacbayes_sft.errors import InputError


def table(tmp_path, values):
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": "p", "completion": f"c{i}", "length": v} for i, v in enumerate(values)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_table(file)


@pytest.mark.parametrize(
    "value", [None, "x", True, float("nan"), float("inf"), 10**400, [1], -(10**400)]
)
def test_what_no_float_holds_is_no_number(value, tmp_path):
    assert not is_number(value)
    with pytest.raises(InputError, match=r"rows\.jsonl, row 2: 'length' is not a number"):
        numbers(table(tmp_path, [1, value]), "length")


def test_numbers_come_row_by_row_and_levels_unit_by_unit(tmp_path):
    rows = table(tmp_path, [3, 2.5, 3])
    assert numbers(rows, "length").tolist() == [3, 2.5, 3]
    assert list(levels_of(rows, "length").values()) == [3, 2.5, 3]


@pytest.mark.parametrize("law", [{"2": 0.333, "3": 0.333, "4": 0.333}, {"2": 1.5, "3": -0.5}, {}])
def test_a_sidecar_whose_law_is_none_is_refused(law, tmp_path):
    file = tmp_path / "rows.jsonl"
    sidecar(file).write_text(
        json.dumps({"generator": "g", "attribute": "length", "law": law, "seed": 0, "rows": 1,
                    "data_sha256": "0"})
    )  # fmt: skip
    with pytest.raises(InputError, match="not data metadata"):
        read_metadata(file, "0")
