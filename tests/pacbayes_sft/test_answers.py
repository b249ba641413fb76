import numpy as np
import pytest

from estimators.posteriors import isotropic
from pacbayes_sft.answers import extract_answer, same_answer
from pacbayes_sft.checkpoints.finetune import factor_pair
from pacbayes_sft.checkpoints.lora import read_adapter
from pacbayes_sft.choices import Loss, Space
from pacbayes_sft.data.encode import Encoded, encode
from pacbayes_sft.data.rows import Row, Table, read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.generation import generate, token_limit
from pacbayes_sft.gibbs import Evaluator, Rows
from pacbayes_sft.igsm import OpLaw
from pacbayes_sft.igsm.files import write_problems
from pacbayes_sft.losses import scorer
from pacbayes_sft.models import find_slots, load_model, load_tokenizer, resolve_base
from pacbayes_sft.risk import by_length, row_losses

BASE = resolve_base("strong")


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("a0b1 = 7 ; b0c1 = 7 * 4 = 5", "5"),
        (" 64", "64"),
        (" -12.", "-12"),
        (r"thus \boxed{\frac{1}{2}}, or \boxed{\sqrt{2}}.", r"\sqrt{2}"),
        ("3 + 4 = 7\n#### 1,234", "1,234"),
        ("The answer is $x+1$.", "x+1"),
        ("Final answer: 1/2", "1/2"),
        ("first 3 then 8 apples", "8"),
        ("yes", "yes"),
        ("no number in here", None),
        ("", None),
    ],
)
def test_what_the_final_answer_is(solution, answer):
    assert extract_answer(solution) == answer


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("7", "7", True),
        ("7", "8", False),
        ("1/2", "0.5", True),
        (r"\frac{1}{2}", "0.5", True),
        ("1,000", "1000", True),
        ("x + 1", "1 + x", True),
        ("x + 1", "x - 1", False),
        ("yes", "yes", True),
        ("yes", "no", False),
        ("1/0", "1/0", True),
        ("", "3", False),
    ],
)
def test_which_answers_mean_the_same(left, right, same):
    assert same_answer(left, right) is same
    assert same_answer(right, left) is same


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    file = tmp_path_factory.mktemp("answers") / "rows.jsonl"
    write_problems(file, OpLaw.uniform(2, 4), size=24, seed=77)
    table = read_table(file)
    return Rows(encode(table, load_tokenizer(BASE), None, need_answers=True), table.units)


def losses(loss, model, rows, size=12):
    score = scorer(loss, load_tokenizer(BASE))
    return row_losses(model, rows, score, blocks=by_length(rows, size))


def test_batched_generation_is_that_of_each_row_alone(rows):
    model, tokenizer = load_model(BASE), load_tokenizer(BASE)
    together = generate(model, rows.encoded[:8], tokenizer)
    assert together == [generate(model, [row], tokenizer)[0] for row in rows.encoded[:8]]
    true = [tokenizer.decode(r.ids[r.prompt_length : -1]) for r in rows.encoded[:8]]
    assert sum(a == b for a, b in zip(together, true, strict=True)) >= 6


def test_a_right_answer_counts_whatever_the_way(rows):
    """Whoever writes the whole canonical solution also has the answer, so the risk is no larger."""
    model = load_model(BASE)
    answer, exact = (losses(loss, model, rows.encoded) for loss in (Loss.ANSWER, Loss.EXACT_MATCH))
    assert (answer <= exact).all() and answer.mean() < 0.3
    wrong = [Encoded(row.ids, row.prompt_length, "99") for row in rows.encoded]
    assert losses(Loss.ANSWER, model, wrong).mean() == 1


def test_a_solution_that_does_not_end_is_wrong(rows, monkeypatch):
    monkeypatch.setattr("pacbayes_sft.generation.token_limit", lambda _: 3)
    assert losses(Loss.ANSWER, load_model(BASE), rows.encoded[:4]).mean() == 1
    assert token_limit(Encoded(tuple(range(30)), 10)) == 46


def test_a_draw_serves_the_whole_of_a_generation(lora_run, rows):
    """With hardly any noise the Gibbs predictor writes what the finished model writes."""
    pair = factor_pair(read_adapter(lora_run), "base")
    model = load_model(BASE, lora_run)
    slots = find_slots(model, Space.FACTORS, list(pair.posterior))
    evaluator = Evaluator(model, Loss.ANSWER, load_tokenizer(BASE), 12, 0)
    plain = evaluator.finished(rows, "plain")
    quiet = evaluator.gibbs(slots, isotropic.fit(pair.posterior, 1e-6), rows, "quiet")
    assert np.array_equal(plain, quiet.units)
    loud = evaluator.gibbs(slots, isotropic.fit(pair.posterior, 1.0), rows, "loud")
    assert loud.units.mean() > 0.9


def test_rows_without_any_answer_are_refused():
    table = Table("t.jsonl", [Row("a0b1 = 7 ; ? a0b1 :", " a b c")], "")
    with pytest.raises(InputError, match=r"t.jsonl, row 1: no column 'answer'"):
        encode(table, load_tokenizer(BASE), None, need_answers=True)
    assert encode(table, load_tokenizer(BASE), None)[0].answer is None
