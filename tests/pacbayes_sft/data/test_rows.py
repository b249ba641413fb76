import datetime
import json
import os
from decimal import Decimal

import pandas as pd
import pytest

from pacbayes_sft.data.metadata import Metadata
from pacbayes_sft.data.rows import Row, Table, read_table
from pacbayes_sft.errors import InputError

GOOD = {"prompt": "a", "completion": "b"}


def write(path, lines):
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return path


def test_columns_and_units(tmp_path):
    rows = [GOOD | {"difficulty": 3, "unit": "u"}, GOOD | {"unit": 7, "topic": "x"}, GOOD]
    table = read_table(write(tmp_path / "r.jsonl", rows))
    assert table.units == ["u", "7", "row 2"]
    assert table.rows[0].value_of("difficulty") == 3
    assert table.rows[1].value_of("topic") == "x"
    assert not table.has("difficulty")


def test_parquet_is_read_alike(tmp_path):
    pd.DataFrame([GOOD, GOOD]).to_parquet(tmp_path / "r.parquet")
    assert [r.completion for r in read_table(tmp_path / "r.parquet").rows] == ["b", "b"]
    gaps = [GOOD | {"unit": "u", "difficulty": 1.0}, GOOD, GOOD]
    pd.DataFrame(gaps).to_parquet(tmp_path / "g.parquet")
    table = read_table(tmp_path / "g.parquet")
    assert table.units == ["u", "row 1", "row 2"] and not table.has("difficulty")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no rows"),
        ([GOOD, "{nonsense"], "line 2: not JSON"),
        ([GOOD, "[1]"], "line 2: a JSON list"),
        ([GOOD, {"prompt": "a"}], "line 2: the column 'completion' is missing"),
        ([{"question": "a", "answer": "b"}], r"columns: 'answer', 'question'\); a row needs"),
        ([{"prompt": 3, "completion": "b"}], "line 1: the column 'prompt' is a int"),
        ([{"prompt": "a", "completion": " "}], "line 1: the completion is empty"),
        ([GOOD | {"difficulty": "hard"}], "line 1: the difficulty 'hard'"),
        (['{"prompt": "a", "completion": "b", "difficulty": NaN}'], "line 1: the difficulty nan"),
        (['{"prompt": "\\ud800", "completion": "b"}'], "line 1: .*not encodable"),
    ],
)
def test_bad_rows_name_their_line(lines, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_table(write(tmp_path / "r.jsonl", lines))


def test_a_byte_order_mark_is_no_row(tmp_path):
    (tmp_path / "r.jsonl").write_text(json.dumps(GOOD) + "\n", encoding="utf-8-sig")
    assert len(read_table(tmp_path / "r.jsonl").rows) == 1


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "none.jsonl")
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_table(tmp_path / "b.jsonl")


def test_a_byte_that_is_no_utf8_is_named_with_its_place(tmp_path):
    """Decoding reads ahead of the lines, so the place is looked for again."""
    file, good = tmp_path / "latin.jsonl", json.dumps(GOOD) + "\n"
    bad = '{"prompt": "a", "completion": "café"}\n'
    for before in (0, 1, 3000):
        file.write_bytes((good * before).encode() + bad.encode("latin-1") + good.encode())
        says = rf"latin\.jsonl, line {before + 1}, column 35: not UTF-8 text; save the file as"
        with pytest.raises(InputError, match=says):
            read_table(file)


def test_an_edited_file_loses_its_recorded_law(rows_dir, tmp_path):
    assert read_table(rows_dir / "train.jsonl").metadata is not None
    for name in ("train.jsonl", "train.jsonl.meta.json"):
        (tmp_path / name).write_text((rows_dir / name).read_text())
    with (tmp_path / "train.jsonl").open("a") as lines:
        lines.write(json.dumps(GOOD) + "\n")
    assert read_table(tmp_path / "train.jsonl").metadata is None


def talk(*roles):
    return [{"role": role, "content": f"turn {i}"} for i, role in enumerate(roles)]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"messages": talk("user", "assistant", "user", "assistant")}, "2 assistant turns"),
        ({"messages": talk("assistant", "user")}, "1 assistant turn; 'messages' must end in"),
        ({"messages": talk("user")}, "0 assistant turns"),
        ({"messages": "hello"}, "must be a list"),
        ({"messages": [{"role": "user"}]}, "must be a list"),
        ({"messages": talk("user", "assistant"), "prompt": "x"}, "keep one"),
        ({"messages": talk("assistant")}, "no message comes before"),
        ({"messages": []}, "0 assistant turns"),
        ({"prompt": [], "completion": talk("assistant")}, "no message comes before"),
        ({"prompt": talk("user"), "completion": talk("user")}, "one message, the assistant's"),
        ({"prompt": talk("user"), "completion": "x"}, "both be lists"),
        ({"messages": talk("user", "assistant"), "tools": "[]"}, "the column 'tools'"),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]},
            "holds 'tool_calls'",
        ),
    ],
)
def test_conversations_that_cannot_be_judged(record, says, tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps(record))
    with pytest.raises(InputError, match=f"x.jsonl, line 1: .*{says}"):
        read_table(tmp_path / "x.jsonl")


def test_strings_and_conversations_do_not_mix(tmp_path):
    lines = [{"prompt": "a", "completion": "b"}, {"messages": talk("user", "assistant")}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(InputError, match="row 2: a conversation, unlike row 1"):
        read_table(tmp_path / "x.jsonl")


def test_a_split_conversation_keeps_its_history_in_the_prompt(tmp_path):
    """What the refusal of two assistant turns tells one to do must work."""
    history = talk("user", "assistant", "user")
    record = {"prompt": history, "completion": talk("assistant"), "unit": "c1", "tools": None}
    (tmp_path / "x.jsonl").write_text(json.dumps(record))
    (row,) = read_table(tmp_path / "x.jsonl").rows
    assert row.for_trl() == {"prompt": history, "completion": talk("assistant")}
    assert row.prompt == "user: turn 0\nassistant: turn 1\nuser: turn 2\n"
    assert row.completion == "turn 0" and row.unit == "c1"


@pytest.mark.parametrize("kind", ["messages", "prompt and completion"])
def test_conversations_from_parquet_are_read_alike(kind, tmp_path):
    turns = talk("user", "assistant")
    record = {"messages": turns} if kind == "messages" else {}
    record = record or {"prompt": turns[:1], "completion": turns[1:]}
    pd.DataFrame([record, record]).to_parquet(tmp_path / "r.parquet")
    (tmp_path / "r.jsonl").write_text(json.dumps(record))
    found, expected = (read_table(tmp_path / f"r.{end}").rows[0] for end in ("parquet", "jsonl"))
    assert found.messages == expected.messages and found.sha256() == expected.sha256()


def test_a_null_messages_column_is_no_conversation(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps(GOOD | {"messages": None}))
    (row,) = read_table(tmp_path / "x.jsonl").rows
    assert row.messages is None and "messages" not in row.attributes


def test_a_row_without_a_unit_is_none_that_another_names():
    rows = [Row("a", " b", unit="row 1"), Row("a", " b"), Row("a", " b", unit="unnamed row 2"),
            Row("a", " b")]  # fmt: skip
    assert len(set(Table("t", rows, "").units)) == 4


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"prompt": "a", "completion": "b", "unit": ""}', "the unit is empty"),
        ('{"prompt": "a", "completion": "b", "x": ' + "1" * 5000 + "}", "too long or nested"),
        ("[" * 200_000, "too long or nested"),
        ('{"prompt": "a", "completion": "b", "difficulty": 1' + "0" * 400 + "}", "not a number"),
    ],
)
def test_what_python_cannot_read_ends_in_a_sentence(line, says, tmp_path):
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=f"line 1: .*{says}"):
        read_table(tmp_path / "a.jsonl")


def test_parquet_reads_as_json_lines_would(tmp_path):
    """A whole number beside a null is a float to pandas, and a time no JSON."""
    when = [datetime.datetime(2026, 1, day) for day in (1, 2)]
    columns = {"prompt": ["a", "b"], "completion": [" c", " d"], "unit": [1, None], "when": when}
    pd.DataFrame(columns).to_parquet(tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet")
    assert table.units == ["1", "row 1"]
    assert [row.value_of("when") for row in table.rows] == [t.isoformat() for t in when]
    json.dumps([row.as_record() for row in table.rows])


def test_a_pipe_is_refused_since_its_hash_would_be_that_of_nothing(tmp_path):
    """Read once, it is empty: two unlike pipes had one hash, and passed for one file."""
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(InputError, match=r"rows.jsonl: a pipe or device.*write the rows to a file"):
        read_table(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("column", ["prompt", "unit", "difficulty", "mine"])
def test_attributes_may_not_say_what_a_column_says(column, tmp_path):
    """They would have overwritten it in every file written from the rows."""
    row = GOOD | {"mine": 1, "attributes": {column: 9}}
    with pytest.raises(InputError, match=f"line 1: 'attributes' holds '{column}'"):
        read_table(write(tmp_path / "r.jsonl", [row]))


def test_values_that_no_line_can_hold_name_their_column(tmp_path):
    half = '{"prompt": "a", "completion": "b", "topic": {"deep": ["\\ud83d"]}}'
    with pytest.raises(InputError, match="line 1: the column 'topic' is not encodable"):
        read_table(write(tmp_path / "r.jsonl", [half]))
    frame = pd.DataFrame([GOOD | {"price": Decimal("1.5")}])
    frame.to_parquet(tmp_path / "price.parquet")
    (row,) = read_table(tmp_path / "price.parquet").rows
    assert row.value_of("price") == 1.5 and json.dumps(row.as_record())
    pd.DataFrame([GOOD | {"image": b"png"}]).to_parquet(tmp_path / "image.parquet")
    with pytest.raises(InputError, match=r"row 1: the column 'image' holds a bytes.*drop it"):
        read_table(tmp_path / "image.parquet")


@pytest.mark.parametrize(
    ("law", "says"), [({"1": 0.5, "1.0": 0.5}, "two ways"), ({"1": float("nan")}, "sum to 1")]
)
def test_what_is_no_law_is_refused(law, says):
    common = {"generator": "g", "attribute": "d", "seed": 0, "rows": 1, "data_sha256": ""}
    with pytest.raises(ValueError, match=says):
        Metadata(**common, law=law)
    found = Metadata(**common, law={"2.0": 0.5, "2.50": 0.5})
    assert found.law == {"2": 0.5, "2.5": 0.5} and found.law_of_numbers == {2.0: 0.5, 2.5: 0.5}
    assert Metadata(**common, law={"easy": 1.0}).law_of_numbers is None
