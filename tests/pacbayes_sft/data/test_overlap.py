from pacbayes_sft.data.overlap import overlap_warnings, repeated_rows, shared_rows
from pacbayes_sft.data.rows import Row, Table
from pacbayes_sft.shift import shift_term


def table(name, *texts, units=None):
    units = units or [None] * len(texts)
    return Table(name, [Row(t, " yes", unit=u) for t, u in zip(texts, units, strict=True)], "")


def test_shared_rows_are_counted_shown_and_their_cost_is_named():
    train, test = table("train", "a", "b", "c"), table("test", "c", "x", "a" * 200, "b")
    assert shared_rows(train, test) == [(3, 1), (2, 4)]
    (warning,) = overlap_warnings(train, test, None)
    assert warning.startswith("2 of 4 rows of test stand in train too (row 1 = row 3: 'c yes'")
    for words in ("known laws stands", "only if these are coincidences", "optimistic"):
        assert words in warning
    assert overlap_warnings(train, table("test", "x"), None) == []
    assert "no bound uses them" in overlap_warnings(train, table("t", "x"), table("h", "a"))[0]
    (warning,) = overlap_warnings(train, table("t", "x"), None, table("l", "a"))
    assert "limits on slices do not hold" in warning
    others = table("t", "x"), table("h", "y", "z"), table("l", "z")
    (warning,) = overlap_warnings(train, *others)
    assert warning.startswith("1 rows of h stand in l too") and "take l alone" in warning


def test_repeats_within_training_matter_only_across_units():
    loose = table("train", "a", "a", "b", "a")
    assert repeated_rows(loose) == [(1, 2), (1, 4)]
    (warning,) = overlap_warnings(loose, table("test", "x"), None)
    assert "2 rows of train repeat" in warning and "n is too large" in warning
    assert repeated_rows(table("train", "a", "a", "b", units=["u", "u", "v"])) == []


def test_repeats_in_a_file_that_is_measured_on_are_told():
    train, once = table("train", "a"), table("once", "x", "y")
    twice = table("twice", "u", "v", "u", units=["p", "q", "r"])
    for place in range(3):
        others = [twice if place == k else once if k == 0 else None for k in range(3)]
        (warning,) = overlap_warnings(train, *others)
        assert warning.startswith("1 rows of twice repeat the text of another")
        assert "row 3 = row 1: 'u yes'" in warning and "too narrow" in warning
    one_unit = table("twice", "u", "v", "u", units=["p", "q", "p"])
    assert overlap_warnings(train, one_unit, None) == []


def test_a_limit_from_samples_that_share_rows_says_what_it_then_assumes():
    def with_level(source, values):
        rows = [Row(f"p{v}-{i}", " yes", difficulty=v) for i, v in enumerate(values)]
        return Table(source, rows, "")

    apart = shift_term(
        with_level("a", [1, 2] * 30), with_level("b", [3, 4] * 30), "difficulty", 0.1
    )
    assert not any("coincidences" in s for s in apart.tv.assumptions)
    same = shift_term(with_level("a", [1, 2] * 30), with_level("b", [1, 3] * 30), "difficulty", 0.1)
    assert any("the 30 rows that stand in both files" in s for s in same.tv.assumptions)


def test_rows_of_a_trained_unit_in_other_words_are_told():
    train = table("train", "a", "b", units=["u", "v"])
    test, labelled = table("t", "x", units=["v"]), table("l", "y", "z", units=["u", None])
    found = overlap_warnings(train, test, None, labelled)
    assert [w.split(",")[0] for w in found] == [
        "1 rows of t name a unit of train", "1 rows of l name a unit of train"
    ]  # fmt: skip
    assert not overlap_warnings(train, table("t", "x", units=["w"]), None)

    def with_level(source, words):
        rows = [Row(f"{words} {i}", " yes", difficulty=i % 2, unit=f"u{i}") for i in range(30)]
        return Table(source, rows, "")

    limit = shift_term(with_level("a", "one"), with_level("b", "another"), "difficulty", 0.1)
    assert any("the 30 rows that stand in both files" in s for s in limit.tv.assumptions)


def test_many_repeats_are_found_in_one_pass(monkeypatch):
    """Naming the units takes as long as the file is: once is enough."""
    names, looked = Table.units.fget, []
    monkeypatch.setattr(Table, "units", property(lambda t: looked.append(1) or names(t)))
    repeats = table("train", *["a"] * 50)
    assert len(repeated_rows(repeats)) == 49 and len(looked) == 1
