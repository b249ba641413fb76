from dataclasses import replace

import pytest

from estimators import Guarantee, kl_bound, with_shift
from pacbayes_sft.choices import View
from pacbayes_sft.data.metadata import Metadata
from pacbayes_sft.data.rows import Row, Table, read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.shift import auto_warnings, method_for, shift_term, spends_delta


@pytest.fixture
def pair(rows_dir):
    return read_table(rows_dir / "train.jsonl"), read_table(rows_dir / "test.jsonl")


def test_known_laws_give_the_exact_distance(pair):
    shift = shift_term(*pair, "auto", 0.01)
    assert shift.tv.guarantee is Guarantee.EXACT
    assert shift.tv.value == pytest.approx(1 / 3)  # U{2,3,4} against U{3,4,5}
    assert not spends_delta(method_for(*pair, "auto"))


def test_without_the_record_the_column_gives_an_upper_limit(pair):
    train, test = (replace(t, metadata=None) for t in pair)
    shift = shift_term(train, test, "auto", 0.01)
    assert shift.tv.guarantee is Guarantee.UPPER and shift.view == "difficulty"
    assert shift.tv.lower <= 1 / 3 <= shift.tv.upper and spends_delta(
        method_for(train, test, "auto")
    )
    with pytest.raises(InputError, match="no matching record"):
        shift_term(train, test, "known", 0.01)


def test_auto_says_where_it_assumed_attribute_shift(pair):
    bare = [replace(t, metadata=None) for t in pair]
    (said,) = auto_warnings(*bare, "auto")
    assert "assumed for you" in said and "--shift difficulty" in said
    assert auto_warnings(*bare, "difficulty") == auto_warnings(*pair, "auto") == []
    assert auto_warnings(*bare, "no such column") == []


def test_without_a_column_only_the_trivial_limit_is_left():
    bare = [Table(name, [Row("a", "b")], name) for name in ("x", "y")]
    assert shift_term(*bare, "auto", 0.01).tv.upper == 1.0
    assert not spends_delta(method_for(*bare, "auto"))
    with pytest.raises(InputError, match="column 'topic'"):
        shift_term(*bare, "topic", 0.01)


def test_without_law_and_column_a_classifier_makes_it_an_estimate(pair):
    train, test = (
        replace(t, metadata=None, rows=[replace(r, difficulty=None) for r in t.rows]) for t in pair
    )
    shift = shift_term(train, test, "auto", 0.05)
    assert shift.tv.guarantee is Guarantee.LOWER and shift.detection_floor is not None
    assert shift.tv.lower <= 1 / 3 and spends_delta(method_for(train, test, "auto"))
    assert "no distribution-free upper limit" in shift.reason
    on_prompt = shift_term(train, test, "classifier", 0.05, view=View.PROMPT)
    assert on_prompt.view == "text of the prompt"


def test_rows_of_one_unit_count_once():
    rows = [Row("a", "b", difficulty=1, unit=u) for u in "uuvw"]
    shift = shift_term(Table("x", rows, "x"), Table("y", rows, "y"), "difficulty", 0.01)
    assert shift.rows == (3, 3)


def test_declared_sameness_is_an_assumption_and_may_not_contradict_the_record(pair):
    with pytest.raises(InputError, match=r"recorded laws are 0\.333 apart"):
        shift_term(*pair, "none", 0.01)
    shift = shift_term(*(replace(t, metadata=None) for t in pair), "none", 0.01)
    assert shift.tv.value == 0 and "one and the same law" in shift.tv.assumptions[0]
    assert shift.tv.guarantee is Guarantee.UPPER


def test_equal_numbers_are_equal_however_written():
    ints = Table("x", [Row("a", "b", difficulty=d) for d in (1, 2) * 20], "x")
    floats = Table("y", [Row("a", "c", difficulty=d) for d in (1.0, 2.0) * 20], "y")
    assert shift_term(ints, floats, "difficulty", 0.05).tv.value == 0


def test_rows_that_read_alike_are_still_draws():
    """An atom of 99 % and a true TV of 0.01: dropping repeats would certify far more."""
    rows = {
        side: [Row("p", f" {side} {i}" if i % 100 == 0 else " common") for i in range(2000)]
        for side in ("alpha", "beta")
    }
    shift = shift_term(*(Table(s, r, s) for s, r in rows.items()), "classifier", 0.05)
    assert shift.tv.lower <= 0.01 and sum(shift.rows) == 2000


def test_one_seed_and_law_twice_is_no_sample(pair):
    with pytest.raises(InputError, match="one seed and one law"):
        shift_term(pair[0], pair[0], "auto", 0.01)


def test_monotone_is_d_plus_and_an_estimate(pair):
    """U{2,3,4} against the harder U{3,4,5} costs the same; the other way round nothing."""
    shift = shift_term(*pair, "monotone", 0.01)
    assert shift.tv.guarantee is Guarantee.ESTIMATE and shift.tv.value == pytest.approx(1 / 3)
    assert not spends_delta(method_for(*pair, "monotone"))
    back = shift_term(pair[1], pair[0], "monotone", 0.01)
    assert back.tv.value == 0 and "plain TV at γ = 1" in back.reason
    train, test = (replace(t, metadata=None) for t in pair)
    sampled = shift_term(train, test, "monotone", 0.01)
    assert sampled.view == "difficulty" and sampled.tv.upper > sampled.tv.value > 0.2
    assert spends_delta(method_for(train, test, "monotone"))
    carried = with_shift(kl_bound(0.1, 1.0, 1000, 0.01), sampled.tv)  # the limit, not the plug-in
    assert carried.upper == pytest.approx(kl_bound(0.1, 1.0, 1000, 0.01).upper + sampled.tv.upper)
    assert carried.guarantee is Guarantee.ESTIMATE
    bare = [Table(name, [Row("a", "b")], name) for name in ("x", "y")]
    with pytest.raises(InputError, match="number in the column 'depth'"):
        shift_term(*bare, "monotone:depth", 0.01)


def test_a_column_whose_name_begins_with_a_reserved_word_is_a_column(pair):
    tables = [
        replace(t, rows=[replace(r, attributes={"monotone_q": r.difficulty}) for r in t.rows])
        for t in pair
    ]
    shift = shift_term(*tables, "monotone_q", 0.01)
    assert shift.view == "monotone_q" and shift.tv.guarantee is Guarantee.UPPER


def test_a_recorded_law_of_names_has_no_order():
    common = {"generator": "g", "attribute": "level", "rows": 2, "data_sha256": ""}

    def table(name, law, seed):
        rows = [Row(f"{name} {i}", " a", attributes={"level": "easy"}) for i in range(2)]
        return Table(name, rows, name, Metadata(**common, law=law, seed=seed))

    names = table("a", {"easy": 1.0}, 0), table("b", {"easy": 0.5, "hard": 0.5}, 1)
    assert shift_term(*names, "known", 0.05).tv.value == 0.5
    with pytest.raises(InputError, match=r"a: the law on record.*names.*--shift known"):
        shift_term(*names, "monotone", 0.05)
    numbers = table("a", {"1": 1.0}, 0), table("b", {"1.0": 1.0}, 1)
    assert shift_term(*numbers, "known", 0.05).tv.value == 0  # one value, however written
