"""Out of core: the same promise, and memory that does not grow."""

import json
import tracemalloc

import numpy as np
import pytest

from estimators import Guarantee
from pacbayes_sft.errors import InputError
from pacbayes_sft.shift.streamed import stream_two_sample


def write(file, n, low, high, seed):
    generator = np.random.default_rng(seed)
    with file.open("w") as lines:
        for _ in range(n):
            terms = generator.integers(10, 100, generator.integers(low, high + 1))
            row = {"prompt": " + ".join(map(str, terms)), "completion": f" = {terms.sum()}"}
            lines.write(json.dumps(row) + "\n")
    return file


def test_it_finds_a_known_shift(tmp_path):
    """U{2,3,4} against U{3,4,5}, files of different lengths."""
    a, b = write(tmp_path / "a.jsonl", 3000, 2, 4, 1), write(tmp_path / "b.jsonl", 2000, 3, 5, 2)
    found = stream_two_sample(a, b, 0.05)
    assert found.tv.value == pytest.approx(1 / 3, abs=0.05)
    assert 0.2 < found.tv.lower < 1 / 3 and found.tv.guarantee is Guarantee.LOWER
    assert found.rows == (3000, 2000) and 2300 < sum(found.held_out) < 2700
    again = stream_two_sample(a, b, 0.05, chunk=700)
    assert again.held_out == found.held_out  # the coins do not depend on the chunks


def test_no_shift(tmp_path):
    a, b = write(tmp_path / "a.jsonl", 800, 2, 4, 3), write(tmp_path / "b.jsonl", 800, 2, 4, 4)
    found = stream_two_sample(a, b, 0.05)
    assert found.tv.lower == 0 and found.tv.value < 0.1


def test_memory_is_that_of_a_chunk(tmp_path):
    peaks = []
    for n in (150, 600):
        a, b = (write(tmp_path / f"{s}{n}.jsonl", n, 2, 4, k) for k, s in enumerate("ab"))
        if not peaks:
            stream_two_sample(a, b, chunk=100)  # everything is imported
        tracemalloc.start()
        stream_two_sample(a, b, chunk=100)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_bad_files_are_named(tmp_path):
    good, short = write(tmp_path / "a.jsonl", 60, 2, 4, 1), write(tmp_path / "s.jsonl", 5, 2, 4, 1)
    with pytest.raises(InputError, match=r"s\.jsonl: 5 rows"):
        stream_two_sample(good, short)
    bad = tmp_path / "b.jsonl"
    bad.write_text(good.read_text() + '{"prompt": 1}\n')
    with pytest.raises(InputError, match=r"b\.jsonl, line 61"):
        stream_two_sample(good, bad)
    with pytest.raises(InputError, match="no such file"):
        stream_two_sample(good, tmp_path / "c.jsonl")


def test_files_are_read_as_by_every_other_command(tmp_path):
    """A byte-order mark and blank lines of any kind are no rows; other encodings are refused."""
    good = write(tmp_path / "a.jsonl", 60, 2, 4, 1)
    marked = tmp_path / "m.jsonl"
    marked.write_text("\n\u00a0\n" + good.read_text(), encoding="utf-8-sig")
    assert stream_two_sample(marked, good).rows == (60, 60)
    latin = tmp_path / "l.jsonl"
    latin.write_bytes(good.read_bytes() + '{"prompt": "é"}\n'.encode("latin-1"))
    with pytest.raises(InputError, match=r"l\.jsonl, line 61, column 13: not UTF-8"):
        stream_two_sample(good, latin)


def test_rows_of_one_unit_are_refused(tmp_path):
    write(tmp_path / "a.jsonl", 60, 2, 4, 0)
    write(tmp_path / "b.jsonl", 60, 2, 4, 1)
    lines = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    named = [json.dumps(line | {"unit": f"t{i // 2}"}) + "\n" for i, line in enumerate(lines)]
    (tmp_path / "b.jsonl").write_text("".join(named))
    with pytest.raises(InputError, match="line 2: unit 't0' has several rows"):
        stream_two_sample(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
