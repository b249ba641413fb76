"""Whether a trainer's data set is the file, row by row: told from the whole text, or unknown."""

import random

import pytest

from pacbayes_sft.data.rows import Row, Table
from pacbayes_sft.first_pass import append_drawn, begin_notes, read_notes
from pacbayes_sft.order import first_difference

HEAD = "Answer the following multiple choice question with the letter of the correct option only.\n"
RNG = random.Random(0)
CHOICES = [
    Row(prompt=f"{HEAD}Question {i}: {RNG.random()}?\nAnswer:", completion=f" {RNG.choice('ABCD')}")
    for i in range(300)
]
ONE_PROMPT = [Row(prompt="A letter of the alphabet:", completion=f" {c}") for c in "aeltrb" * 20]


class Decoder:
    """Tokens are the text itself."""

    def decode(self, ids, skip_special_tokens=True):
        return ids


def why(rows, given, cut=None):
    """What is said of a data set that holds the rows ``given``, each cut to so many characters."""
    dataset = [{"input_ids": f"user {r.prompt}\nassistant {r.completion}"[:cut]} for r in given]
    table = Table("train.jsonl", rows, "")
    return first_difference(dataset, table, list(range(len(rows))), Decoder())


def test_rows_in_the_order_of_the_file_are_known():
    assert why(CHOICES, CHOICES) == ""


def test_rows_that_begin_alike_and_end_shortly_are_found_out_when_shuffled():
    assert "does not hold the text" in why(CHOICES, RNG.sample(CHOICES, len(CHOICES)))


def test_a_text_that_a_trainer_cut_is_still_known():
    assert why(CHOICES, CHOICES, cut=len(HEAD) + 30) == ""
    assert "does not hold the text" in why(CHOICES, CHOICES[::-1], cut=len(HEAD) + 30)


def test_rows_that_a_cut_made_alike_are_not_known():
    assert "could not be told" in why(CHOICES, CHOICES, cut=len(HEAD))


@pytest.mark.parametrize("given", [ONE_PROMPT, ONE_PROMPT[::-1]])
def test_answers_that_every_row_holds_tell_nothing(given):
    assert "could not be told" in why(ONE_PROMPT, given)


def test_repeated_rows_are_no_other_order():
    assert why(CHOICES[:1] * 20, CHOICES[:1] * 20) == ""


def test_notes_go_on_behind_a_line_that_a_kill_cut(tmp_path):
    """What came before the cut and after it is known; a run resumed twice loses nothing."""
    file = tmp_path / "drawn"
    begin_notes(file, {"rows_a_step": 4})
    append_drawn(file, [1, 2])
    with file.open("a", encoding="utf-8") as notes:
        notes.write("[3, 4")
    assert read_notes(file) == ({"rows_a_step": 4}, [1, 2])
    append_drawn(file, [3, 4, 5])
    assert read_notes(file) == ({"rows_a_step": 4}, [1, 2, 3, 4, 5])
    assert read_notes(tmp_path / "none") == ({}, [])
