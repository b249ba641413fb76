from itertools import combinations

import numpy as np
import pytest

from estimators import prequential_two_sample
from pacbayes_sft.choices import View
from pacbayes_sft.data.contamination import (
    bands,
    contamination,
    shingles,
)
from pacbayes_sft.data.rows import Row, Table
from pacbayes_sft.errors import InputError

WORDS = [f"w{i}" for i in range(400)]


def sentence(generator, length=60):
    return " ".join(generator.choice(WORDS, length))


def edited(text, at=30):
    words = text.split()
    words[at] = "EDITED"
    return " ".join(words)


def table(name, *prompts, units=None, answers=None):
    units = units or [None] * len(prompts)
    answers = answers or [" yes"] * len(prompts)
    rows = [Row(p, a, unit=u) for p, a, u in zip(prompts, answers, units, strict=True)]
    return Table(name, rows, "")


@pytest.fixture
def texts():
    generator = np.random.default_rng(0)
    return [sentence(generator) for _ in range(6)]


def test_exact_and_near_rows_are_told_apart(texts):
    a, b, c, d, e, f = texts
    train = table("train", a, b, c, a)
    test = table("test", d, edited(b), a, e, f)
    found = contamination(train, test)
    near, same = found.across
    assert (near.first, near.second, near.exact) == (2, 2, False) and 0.8 <= near.similarity < 1
    assert (same.first, same.second, same.exact) == (1, 3, True)
    (repeat,) = found.within_train
    assert (repeat.first, repeat.second, repeat.exact) == (1, 4, True)
    assert (found.train_units, found.train_clusters) == (4, 3)
    record = found.to_dict()
    assert record["across"]["exact"] == 1 and record["across"]["near"] == 1
    assert "n is at most 3, not 4" in found.effects["bound on the train distribution"]
    assert "2 of 5 test rows" in found.effects["measured test risk"]


def test_clean_files_have_no_effects(texts):
    found = contamination(table("train", *texts[:3]), table("test", *texts[3:]))
    assert found.across == found.within_train == found.within_test == () and found.effects == {}
    assert len({*found.train_groups, *found.test_groups}) == 6


def test_case_and_white_space_are_not_news(texts):
    found = contamination(table("train", texts[0]), table("test", texts[0].upper() + "\n "))
    (pair,) = found.across
    assert pair.similarity == 1.0 and not pair.exact


def test_one_question_with_another_solution_is_seen_on_the_prompt(texts):
    solutions = [" " + t for t in texts[1:3]]
    train, test = (table(n, texts[0], answers=[s]) for n, s in zip("ab", solutions, strict=True))
    assert contamination(train, test).across == ()
    (pair,) = contamination(train, test, view=View.PROMPT).across
    assert pair.exact


def test_rows_of_one_unit_are_no_repeats_and_stand_in_one_group(texts):
    train = table("train", texts[0], edited(texts[0]), texts[1], units=["u", "u", "v"])
    test = table("test", texts[2], texts[3], units=["v", None])
    found = contamination(train, test)
    assert found.within_train == () and found.train_clusters == 2
    assert found.train_groups[0] == found.train_groups[1] != found.train_groups[2]
    assert found.test_groups[0] == found.train_groups[2] != found.test_groups[1]


def test_a_chain_of_edits_is_one_group(texts):
    """Ends that read unlike are joined by what stands between, here in the other file."""
    ends = texts[0], edited(edited(texts[0], 10), 50)
    found = contamination(table("train", *ends), table("test", edited(texts[0], 10)))
    assert found.within_train == () and found.train_clusters == 1


def test_against_all_pairs():
    """Two hundred texts with up to three edits each: just the pairs that brute force finds."""
    generator = np.random.default_rng(1)
    seeds = [sentence(generator) for _ in range(50)]
    texts = []
    for i in range(200):
        text = seeds[i % 50]
        for at in generator.choice(60, generator.integers(0, 4), replace=False):
            text = edited(text, int(at))
        texts.append(text)
    sets = [shingles(t + " yes") for t in texts]
    alike = {
        (i, j)
        for i, j in combinations(range(200), 2)
        if len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.8
    }
    found = contamination(table("train", *texts), table("test", "none of it"))
    assert {p.second - 1 for p in found.within_train} == {j for _, j in alike}
    assert all((p.first - 1, p.second - 1) in alike for p in found.within_train)
    assert len(alike) > 20


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95, 1.0])
def test_few_pairs_at_the_threshold_are_missed(threshold):
    b, r = bands(threshold)
    assert b * r <= 128 and 1 - (1 - threshold**r) ** b >= 0.999


def test_the_groups_keep_a_copied_file_from_looking_like_a_shift():
    """Each test row is a training row lightly edited; in its group it proves nothing."""
    generator = np.random.default_rng(2)
    base = [sentence(generator) for _ in range(40)]
    train, test = table("train", *base * 3), table("test", *map(edited, base))
    found = contamination(train, test)
    assert len(found.across) == 40 and set(found.train_groups) == set(found.test_groups)
    result = prequential_two_sample(
        [[len(r.prompt)] for r in train.rows], [[len(r.prompt)] for r in test.rows], stump(), 0.05,
        train_groups=found.train_groups, test_groups=found.test_groups,
    )  # fmt: skip
    assert result.rows == (40, 40)


def stump():
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=1, class_weight="balanced", random_state=0)


def test_short_texts_are_one_shingle():
    assert shingles("Yes, I do") == {"yes , i do"} and shingles("") == {""}
    with pytest.raises(InputError, match="similarity threshold"):
        contamination(table("a", "x"), table("b", "y"), threshold=0)


def test_a_row_is_held_against_every_other_unit_not_the_first_of_its_text(texts):
    """Row 3 has the unit of row 1, whose text it nearly is, and reads like row 2 all the same."""
    a, near = texts[0], edited(texts[0])
    found = contamination(table("train", a, a, near, a, units=[*"ABAA"]), table("t", texts[1]))
    pairs = [(p.first, p.second, p.exact) for p in found.within_train]
    assert pairs == [(1, 2, True), (2, 3, False), (2, 4, True)]
    one = contamination(table("train", a, near, a, units=[*"ABA"]), table("t", near))
    assert [(p.first, p.second, p.exact) for p in one.within_train] == [
        (1, 2, False),
        (2, 3, False),
    ]
    assert [(p.first, p.second, p.exact) for p in one.across] == [(2, 1, True)]


def test_copies_within_the_test_file_are_counted_and_said(texts):
    a, b, c, d = texts[:4]
    test = table("test", b, edited(b), c, b, d, d, units=["u", "v", "w", "u", "x", "x"])
    found = contamination(table("train", a), test)
    # row 4 has the unit of row 1 and reads like row 2; rows 5 and 6 are one unit
    pairs = [(p.first, p.second, p.exact) for p in found.within_test]
    assert pairs == [(1, 2, False), (2, 4, False)]
    assert (found.test_units, found.test_clusters) == (4, 3)
    assert found.across == found.within_train == ()
    assert set(found.effects) == {"limits from test rows", "two-sample test"}
    assert "2 of 6 test rows read like an earlier" in found.effects["limits from test rows"]
    record = found.to_dict()
    assert record["within_test"]["near"] == 2 and record["within_test"]["exact"] == 0
    assert (record["test_units"], record["test_clusters"]) == (4, 3)
