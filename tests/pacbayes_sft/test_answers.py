import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

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
from pacbayes_sft.models import load_model, load_tokenizer, resolve_base
from pacbayes_sft.noise import posterior_noise
from pacbayes_sft.risk import by_length, row_losses
from pacbayes_sft.slots import find_slots
from tests.pacbayes_sft.checkpoints import tiny

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
        (r"\boxed{1} and \boxed{2", "1"),
        ("The answer is 3.5. I hope it is correct.", "3.5"),
        ("The answer is: **42**.", "42"),
        ("The answer is 12 because 3*4=12.", "12"),
        (r"so the answer is \(x+1\).", "x+1"),
        ("So Lakeside Academy's Pen = 3. So Music Room's Bag = 7 + 14 = 21.", "21"),
        ("that makes 2 * 12 = 24 dollars in 3 days", "24"),
        ("y = 3 + x", "3 + x"),
        ("a1b0 = a2b3 ; a0b0 = a1b0", "a1b0"),
        ("it costs 3-5", "5"),
        ("The answer is:\n7", "7"),
        ("The answer is -$5 in total", "-5"),
        ("The answer is −5 dollars.", "-5"),  # U+2212
        ("The answer is - 5 dollars", "-5"),
        ("so we get –5", "-5"),  # an en dash
        (r"x = - \$5", "-5"),
        ("pages 3–5", "5"),
        ("The answer is 12 - 5", "12 - 5"),
        ("The answer is:\n\n$5$", "5"),
        ("The answer is: ", None),
        (r"The answer is $2\sqrt{3}$ units", r"2\sqrt{3}"),
        (r"The answer is \frac{1}{2} of the cake", r"\frac{1}{2}"),
        ("The answer is 10^6 dollars", "10^6"),
        ("The answer is 2 1/2 cups", "2 1/2"),
        ("The answer is (B) because 3 > 2", "(B)"),
        ("####", None),
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
        (".5", "1/2", True),
        ("1,2", "12", False),
        ("12,34", "1234", False),
        ("1{,}000", "1000", True),
        ("x = 5", "5", True),
        ("b2c1", "1", False),
        (r"\sqrt{8}", r"2\sqrt{2}", True),
        ("AB", "BA", False),
        ("no", "on", False),
        ("Paris", "paris", True),
        ("New York", "York New", False),
        ("2 hours", "2 minutes", False),
        ("3 km", "3 m", False),
        ("5 pm", "5 am", False),
        ("18", "18 dollars", True),
        (r"72 \text{ cm}^2", "72", True),
        ("2 1/2", "2.5", True),
        ("2xy", "2yx", True),
        (r"\frac{ab}{c}", "ab/c", True),
        (r"\text{yes}", "Yes", True),
    ],
)
def test_which_answers_mean_the_same(left, right, same):
    assert same_answer(left, right) is same
    assert same_answer(right, left) is same


def test_a_broken_off_or_named_answer():
    assert not same_answer("7", "7 *")
    assert same_answer("20", "a3b1 = 20")


def test_equivalence_is_settled_off_the_main_thread_too():
    """No alarm can ring there, so none may be set."""
    found = []
    thread = threading.Thread(target=lambda: found.append(same_answer("x + 2", "2 + x")))
    thread.start()
    thread.join()
    assert found == [True]


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


def test_no_solution_goes_beyond_the_positions_that_a_model_has(tmp_path):
    """GPT-2 looks its positions up, and a row writes on while a longer one of its batch does."""
    model = tiny.load(tiny.make_base("gpt2", tmp_path), torch.float32).eval()
    with torch.no_grad():  # it writes token 7 for ever
        norm, words = model.transformer.ln_f, model.transformer.wte.weight
        words[7] *= 10
        norm.weight.zero_()
        norm.bias.copy_(words[7])
    long, short = Encoded(tuple(range(3, 33)), 29), Encoded(tuple(range(3, 15)), 11, None, 1000)
    for rows in ([long], [long, short], [short, long]):
        assert generate(model, rows, load_tokenizer(BASE)) == [None] * len(rows)


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


def test_what_a_model_recommends_does_not_change_its_arg_max(rows):
    """A shipped repetition penalty or sampling temperature is not the greedy solution."""
    model, tokenizer = load_model(BASE), load_tokenizer(BASE)
    plain = generate(model, rows.encoded[:6], tokenizer)
    model.generation_config.update(repetition_penalty=3.0, do_sample=True, min_new_tokens=60)
    assert generate(model, rows.encoded[:6], tokenizer) == plain
    assert model.generation_config.repetition_penalty == 3.0
    model.generation_config.eos_token_id = [2, tokenizer.convert_tokens_to_ids("=")]
    assert all("=" not in text for text in generate(model, rows.encoded[:6], tokenizer))


@pytest.mark.parametrize("fits", [True, False])
def test_each_row_is_written_by_the_model_with_its_own_draw(fits, lora_run, rows):
    """Replay the hooks' noise as plain weights, one row at a time: the solutions agree.

    Also where the model has positions for each row, and not for all of them together.
    """
    pair = factor_pair(read_adapter(lora_run), "base")
    model, tokenizer = load_model(BASE, lora_run), load_tokenizer(BASE)
    slots = find_slots(model, Space.FACTORS, list(pair.posterior))
    few = list(rows.encoded[:4])
    if not fits:  # the one with the longest prompt may write less than the others
        ordered = sorted(rows.encoded, key=lambda row: row.prompt_length)
        few = [
            replace(r, new_tokens=k)
            for r, k in zip((*ordered[:3], ordered[-1]), (140, 140, 140, 30), strict=True)
        ]
        least = max(r.prompt_length + r.new_tokens for r in few)
        assert few[-1].prompt_length + 140 > least
        model.config.max_position_embeddings = least
    quiet = generate(model, few, tokenizer)
    with posterior_noise(
        slots, isotropic.fit(pair.posterior, 0.2), torch.Generator().manual_seed(4)
    ) as redraw:
        redraw(len(few))
        together = generate(model, few, tokenizer)
    generator = torch.Generator().manual_seed(4)
    noise = {
        name: torch.randn((len(few), *p.shape), generator=generator) * 0.2
        for name, p in slots.parameters.items()
    }
    for i, row in enumerate(few):
        slots.put({name: pair.posterior[name] + noise[name][i] for name in noise})
        assert generate(model, [row], tokenizer) == [together[i]]
    assert together != quiet


def test_a_draw_serves_the_whole_of_a_generation(lora_run, rows):
    """With hardly any noise the Gibbs predictor writes what the finished model writes."""
    pair = factor_pair(read_adapter(lora_run), "base")
    model = load_model(BASE, lora_run)
    slots = find_slots(model, Space.FACTORS, list(pair.posterior))
    evaluator = Evaluator(model, Loss.ANSWER, load_tokenizer(BASE), 12, 0)
    plain = evaluator.finished(rows, "plain")
    quiet = evaluator.gibbs(slots, isotropic.fit(pair.posterior, 1e-6), rows, "quiet")
    assert np.array_equal(plain, quiet.units)
    few = Rows(rows.encoded[:12], rows.units[:12])  # loud ones never end by themselves
    loud = evaluator.gibbs(slots, isotropic.fit(pair.posterior, 1.0), few, "loud")
    assert loud.units.mean() > 0.9


def test_rows_without_any_answer_are_refused():
    table = Table("t.jsonl", [Row("a0b1 = 7 ; ? a0b1 :", " a b c")], "")
    with pytest.raises(InputError, match=r"t.jsonl, row 1: no column 'answer'"):
        encode(table, load_tokenizer(BASE), None, need_answers=True)
    assert encode(table, load_tokenizer(BASE), None)[0].answer is None


def test_an_answer_column_may_hold_a_whole_marked_solution():
    rows = [Row("q :", " x = 7", answer=a) for a in ("3 + 4 = 7\n#### 7", "7", " ")]
    encoded = encode(Table("t.jsonl", rows, ""), load_tokenizer(BASE), None, need_answers=True)
    assert [row.answer for row in encoded] == ["7", "7", "7"]
