"""`survey`: what runs, what it pays, what it says."""

import json
from dataclasses import replace

import numpy as np
import pytest

from estimators import Guarantee
from estimators.total_variation.mixture import DRAWS
from pacbayes_sft.choices import Duplicates, Features, View
from pacbayes_sft.data.leaks import leaks
from pacbayes_sft.data.metadata import Metadata
from pacbayes_sft.data.rows import Row, Table, read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.report.shift import shift_sentence
from pacbayes_sft.shift.asked import Asked
from pacbayes_sft.shift.differs import differs
from pacbayes_sft.shift.disjoint import disjoint_by, said_disjoint
from pacbayes_sft.shift.findings import COPIES, FROM_MANY_ROWS, UNSEEN_BY_BASE
from pacbayes_sft.shift.identical import AS_RECORDED
from pacbayes_sft.shift.pictures import draw_survey
from pacbayes_sft.shift.survey import survey
from pacbayes_sft.shift.term import UNIT_LAW

WORDS = [f"w{i}" for i in range(60)]


def sums(generator, n, low, high, **columns):
    """Rows "a + b + ... = " with low..high terms, as chain_sum has them."""
    rows = []
    for i in range(n):
        terms = generator.integers(10, 100, generator.integers(low, high + 1))
        text = " + ".join(map(str, terms))
        rows.append(
            Row(f"What is {text}?", f" {terms.sum()}", difficulty=float(len(terms)),
                attributes={k: f(i, generator) for k, f in columns.items()})
        )  # fmt: skip
    return rows


def files(n=400, train=(2, 4), test=(3, 5), seed=0, **columns):
    generator = np.random.default_rng(seed)
    sides = [sums(generator, n, *r, **columns) for r in (train, test)]
    return [Table(name, rows, name) for name, rows in zip(("a", "b"), sides, strict=True)]


def bare(table):
    return replace(table, rows=[replace(r, difficulty=None) for r in table.rows])


def test_all_that_the_data_allow_at_one_delta():
    """U{2,3,4} against U{3,4,5}: TV = 1/3, limited from both sides."""
    found = survey(*files(n=300), 0.1)
    tv = found.best.tv
    assert [f.view.split(" (")[0] for f in found.findings] == [
        "difficulty", "text of the prompt", "text of the full row", "attributes",
    ]  # fmt: skip
    assert 0.08 < tv.lower < 1 / 3 < tv.upper < 0.55 and tv.guarantee is Guarantee.UPPER
    assert sum(1 - f.tv.confidence for f in found.findings) == pytest.approx(0.1)
    assert tv.confidence == pytest.approx(0.9) and found.view == "difficulty"
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert {"tv", "view", "detection_floor", "rows", "reason"} <= set(record)
    assert record["tv"]["upper"] == tv.upper and 0 < record["detection_floor"] < 0.2
    assert any(c["name"] == "'+' signs" for c in record["differs"])
    tested = [f.p_value for f in found.findings if f.p_value is not None]
    assert len(tested) == 3 and record["p_value"] == found.p_value == 3 * min(tested)
    assert record["against_gamma"]["d_plus"]["value"] == pytest.approx(1 / 3, abs=0.1)


def test_a_limit_through_a_column_that_nobody_named_is_doubted_aloud():
    """A third of the test rows are of a topic that training never had, at the same difficulty."""
    train, same = files(n=100)[0], files(n=100, seed=7)[0]
    rows = [
        row if i % 3 else replace(row, prompt="Recall, dear friend, a capital city by heart")
        for i, row in enumerate(same.rows)
    ]
    test = Table("b", rows, "b")
    found = survey(train, test, 0.05)
    said = " ".join(found.warnings)
    assert found.best.tv.upper < 1 / 3  # which no certificate of so few rows refutes
    assert "assumed because both files have that column" in said and "looks wrong" in said
    assert "differ only through 'difficulty'" in shift_sentence(found)
    asked = survey(train, test, 0.05, Asked(attributes=("difficulty",), views=()))
    assert not any("assumed because" in sentence for sentence in asked.warnings)


def test_what_rests_on_a_refuted_assumption_is_not_drawn(tmp_path):
    train = files(n=400)[0]
    rows = [replace(r, prompt="Recall a capital " + r.prompt) for r in files(n=400, seed=3)[0].rows]
    found = survey(train, Table("b", rows, "b"), 0.05)
    assert found.best.refuted and found.profile is None
    (tmp_path / "gamma.png").write_text("of another pair")
    assert draw_survey(found, tmp_path) and not (tmp_path / "gamma.png").exists()


def test_conversations_against_plain_prompts_are_said():
    train, test = files(n=60)
    turns = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
    talks = Table("b", [replace(row, messages=turns) for row in test.rows], "b")
    said = "one file holds conversations"
    assert any(said in w for w in survey(train, talks, 0.05).warnings)
    assert not any(said in w for w in survey(train, test, 0.05).warnings)


def test_names_say_which_of_them_differs_most():
    pair = files(topic=lambda i, g: "code" if i % 4 else "math")
    other = files(topic=lambda i, g: "code" if i % 2 else "math", seed=5)
    (carrier,) = (c for c in differs(pair[0], other[0], ("topic",)) if c.name == "topic")
    assert carrier.largest == "'math' 0.25 → 0.5"


def test_the_curve_against_gamma_needs_one_value_a_unit_and_says_whose_delta_it_spends():
    """Units with rows (1, 5) against (9, 5): their last rows are alike."""

    def twice(name, first):
        rows = [
            Row(f"{name} {i} {d}", " yes", difficulty=d, unit=f"{name}{i}")
            for i in range(30)
            for d in (first, 5.0)
        ]
        return Table(name, rows, name)

    asked = Asked(attributes=("difficulty",), views=())
    found = survey(twice("a", 1.0), twice("b", 9.0), 0.05, asked)
    assert found.profile is None and found.to_dict()["against_gamma"] is None
    assert any("no bound against γ" in w and "several values" in w for w in found.warnings)
    single = survey(*files(n=60), 0.05, asked)
    written = single.to_dict()["against_gamma"]
    assert written["delta"] == 0.05 and "a further δ = 0.05" in written["note"]


def test_without_a_column_it_says_what_would_give_an_upper_limit():
    found = survey(*map(bare, files(n=60)), 0.1)
    assert found.best.tv.guarantee is Guarantee.LOWER and found.best.tv.upper == 1.0
    assert "no finite-sample upper limit exists here" in found.best.reasons[-1]
    assert found.profile is None


def test_known_laws_are_enough_and_a_text_that_contradicts_them_is_believed(tmp_path):
    from pacbayes_sft.data.rows import read_table
    from pacbayes_sft.igsm import OpLaw
    from pacbayes_sft.igsm.files import write_problems

    pair = []
    for seed, low in ((1, 2), (2, 3)):
        write_problems(tmp_path / f"{seed}.jsonl", OpLaw.uniform(low, low + 2), size=96, seed=seed)
        pair.append(read_table(tmp_path / f"{seed}.jsonl"))
    found = survey(*pair, 0.05)
    assert found.best.tv.guarantee is Guarantee.EXACT and len(found.findings) == 1
    assert found.best.tv.value == pytest.approx(1 / 3)
    lying = [
        replace(t, rows=[replace(r, prompt=f"{w} " * 40 + r.prompt) for r in t.rows])
        for t, w in zip(pair, ("left", "right"), strict=True)
    ]
    refuted = survey(*lying, 0.05, Asked(texts_too=True))
    assert "refuted" in refuted.best.refuted and refuted.best.tv.lower > 0.5
    assert refuted.best.tv.guarantee is Guarantee.LOWER


def test_several_views_and_features_each_named():
    asked = Asked(
        views=(View.PROMPT, View.FULL),
        features=(Features.COUNTS, Features.WORDS, Features.CHARACTERS, lengths),
        attributes=(),
    )
    found = survey(*files(n=60), 0.1, asked)
    assert len({f.view for f in found.findings}) == len(found.findings) == 8
    assert any("lengths of the text of the prompt" in f.view for f in found.findings)
    assert all(f.tv.confidence == pytest.approx(1 - 0.1 / 8) for f in found.findings)
    with pytest.raises(InputError, match="one finite vector a text"):
        survey(*files(n=30), 0.1, replace(asked, features=(len,)))
    with pytest.raises(InputError, match="needs --base"):
        survey(*files(n=30), 0.1, replace(asked, features=(Features.HIDDEN,)))


def sentences(train, test):
    return [leak.sentence for leak in leaks(train, test)]


def lengths(texts):
    return [[len(t), t.count("+")] for t in texts]


def test_one_file_twice_is_zero_with_its_floor():
    table = files()[0]
    found = survey(table, replace(table, source="copy"))
    assert found.best.tv.value == found.best.tv.lower == 0 and found.best.tv.upper == 1
    assert found.to_dict()["detection_floor"] == pytest.approx(1.96 / np.sqrt(800), rel=0.01)
    assert "the same rows" in found.best.reasons[0]
    shuffled = replace(table, rows=table.rows[::-1], sha256="other")
    assert survey(table, shuffled).best.tv.value == 0


def test_one_file_twice_with_its_law_on_record_is_zero_if_the_record_is_true(rows_dir):
    table = read_table(rows_dir / "train.jsonl")
    tv = survey(table, replace(table, source="copy")).best.tv
    assert tv.value == tv.upper == 0 and tv.assumptions == (AS_RECORDED,)


def test_too_few_rows_give_the_trivial_limit_or_a_refusal():
    few = [bare(replace(t, rows=t.rows[:5])) for t in files()]
    assert survey(*few).best.tv.upper == 1.0
    with pytest.raises(InputError, match="at least 10 independent units a side, got"):
        survey(*few, 0.05, Asked(views=(View.FULL,)))


def test_a_labelled_mixture_limits_from_above():
    train, test = map(bare, files(foreign=lambda i, _: i % 10 == 0))
    found = survey(train, test, 0.05, Asked(foreign="foreign", views=(), attributes=()))
    assert found.best.tv.guarantee is Guarantee.UPPER and 0.1 < found.best.tv.upper < 0.14
    with pytest.raises(InputError, match="true or false"):
        survey(train, test, 0.05, Asked(foreign="answer"))


class TestDuplicates:
    def copied(self):
        """Fifty texts eight times over on either side, lightly edited: nothing shifts."""
        generator = np.random.default_rng(1)
        base = [" ".join(generator.choice(WORDS, 40)) for _ in range(50)]
        sides = [[Row(f"{t} {s}{k}", " yes") for t in base for k in range(4)] for s in "ab"]
        return [Table(s, rows, s) for s, rows in zip("ab", sides, strict=True)]

    def test_clusters_stay_whole_when_grouped(self):
        asked = Asked(views=(View.FULL,), duplicates=Duplicates.GROUP)
        found = survey(*self.copied(), 0.05, asked)
        assert sum(found.findings[0].rows) == 50  # half of 50 clusters, one row a side each
        assert found.contamination.train_clusters == 50
        assert len(found.contamination.across) == 200
        counted = survey(*self.copied(), 0.05, Asked(views=(View.FULL,)))
        assert sum(counted.findings[0].rows) == 200
        assert any("reads like" in w or "read like" in w for w in counted.warnings)

    def test_what_is_found_on_clusters_assumes_copies_and_refutes_nothing(self):
        """Both sides iid from one law, 60 texts of which have 80 %: no shift, no copies."""
        generator = np.random.default_rng(3)
        common = ["common " + " ".join(generator.choice(WORDS, 20)) for _ in range(60)]

        def drawn(name, n):
            texts = [
                common[generator.integers(60)]
                if generator.random() < 0.8
                else " ".join(generator.choice(WORDS, 20))
                for _ in range(n)
            ]
            return Table(name, [Row(t, " yes", difficulty=1.0) for t in texts], name)

        pair = drawn("a", 3000), drawn("b", 300)
        asked = Asked(views=(View.FULL,), duplicates=Duplicates.GROUP)
        found = survey(*map(bare, pair), 0.05, asked)
        (finding,) = found.findings
        assert finding.tv.lower > 0.1  # of the law of clusters, whose sizes differ
        assert COPIES in finding.tv.assumptions and COPIES in finding.plug_in.assumptions
        assert COPIES in found.best.tv.assumptions and COPIES in shift_sentence(found)
        limited = survey(*pair, 0.05, replace(asked, attributes=("difficulty",)))
        assert limited.best.refuted is None and limited.best.tv.upper < 0.1
        assert limited.best.tv.guarantee is Guarantee.UPPER
        assert COPIES not in shift_sentence(limited) and "was dropped" in limited.best.reasons[-1]
        counted = survey(*map(bare, pair), 0.05, replace(asked, duplicates=Duplicates.COUNT))
        assert COPIES not in counted.findings[0].tv.assumptions and counted.best.tv.lower == 0

    def test_they_can_be_left_alone(self):
        asked = Asked(views=(View.FULL,), duplicates=Duplicates.OFF)
        assert survey(*self.copied(), 0.05, asked).contamination is None


class TestUnits:
    """Rows that name their unit, when it was rows that were drawn."""

    def popular(self, name, n, seed):
        generator = np.random.default_rng(seed)
        shares = 1 / np.arange(1, 601) ** 1.2
        units = generator.choice(600, n, p=shares / shares.sum())
        texts = {u: " ".join(["word"] * (1 + u // 20)) for u in range(600)}
        rows = [Row(texts[u], " yes", difficulty=1.0, unit=f"t{u}") for u in units]
        return Table(name, rows, name)

    def test_frequent_names_refute_no_recorded_law(self):
        """One law, 8,000 and 300 rows: the law of distinct names is another one in each file."""
        common = {"generator": "g", "attribute": "difficulty", "law": {"1": 1.0}}
        pair = [
            replace(table, metadata=Metadata(**common, seed=k, rows=1, data_sha256=""))
            for k, table in enumerate((self.popular("a", 8000, 1), self.popular("b", 300, 2)))
        ]
        asked = Asked(features=(Features.COUNTS,), texts_too=True)
        found = survey(*pair, 0.05, asked)
        texts = [f for f in found.findings if f.view.startswith("text")]
        assert max(f.tv.lower for f in texts) > 0.02  # of distinct names, as the sentence says
        assert all(FROM_MANY_ROWS in f.tv.assumptions for f in texts)
        assert found.best.refuted is None and found.best.tv.guarantee is Guarantee.EXACT
        assert found.best.tv.value == 0 and "was dropped" in found.best.reasons[-1]
        bare = [replace(table, metadata=None) for table in pair]
        alone = survey(*bare, 0.05, replace(asked, views=(View.FULL,), attributes=()))
        assert FROM_MANY_ROWS in shift_sentence(alone)

    def test_units_of_one_row_in_one_file_need_no_such_words(self):
        pair = [
            replace(t, rows=[replace(r, unit=f"{t.source}{i}") for i, r in enumerate(t.rows)])
            for t in files(n=100)
        ]
        asked = Asked(views=(View.FULL,))
        for tables in (pair, files(n=100)):
            found = survey(*tables, 0.05, asked).findings
            assert all(FROM_MANY_ROWS not in f.tv.assumptions for f in found)

    def test_units_of_one_row_that_are_in_both_files_do(self):
        pair = [
            replace(t, rows=[replace(r, unit=f"u{i}") for i, r in enumerate(t.rows)])
            for t in files(n=100)
        ]
        found = survey(*pair, 0.05, Asked(views=(View.FULL,), attributes=())).findings
        assert FROM_MANY_ROWS in found[0].tv.assumptions

    def test_a_law_of_units_says_so(self):
        train, test = (
            Table(n, [Row(f"{n} {i // k}", " y", difficulty=float(i % 2), unit=f"{n}{i // k}")
                      for i in range(40)], n)
            for n, k in (("a", 1), ("b", 1))
        )  # fmt: skip
        single = survey(train, test, 0.05, Asked(attributes=("difficulty",)))
        doubled = replace(train, rows=[*train.rows, *train.rows])
        several = survey(doubled, test, 0.05, Asked(attributes=("difficulty",)))
        assert (
            UNIT_LAW in several.best.tv.assumptions and UNIT_LAW in several.profile[1].assumptions
        )
        assert UNIT_LAW not in single.best.tv.assumptions
        marked = replace(test, rows=[replace(r, attributes={"new": False}) for r in test.rows] * 2)
        mixed = survey(train, marked, 0.05, Asked(foreign="new", attributes=())).findings[0].tv
        assert {UNIT_LAW, DRAWS} <= set(mixed.assumptions) and mixed.guarantee is Guarantee.UPPER


class TestColumnsTogether:
    def test_several_columns_give_their_joint_law(self):
        """Each alone does not shift: equal in training, opposite in the test."""
        generator = np.random.default_rng(0)

        def drawn(name, flip):
            bits = generator.integers(0, 2, 500)
            rows = [Row(f"{name}{i}", " y", attributes={"a": int(b), "b": int(b ^ flip)})
                    for i, b in enumerate(bits)]  # fmt: skip
            return Table(name, rows, name)

        found = survey(drawn("x", 0), drawn("y", 1), 0.05, Asked(attributes=("a", "b")))
        finding = found.findings[0]
        assert finding.tv.upper == 1 and finding.view == "'a' and 'b'"
        assert "attribute 'a' and 'b'" in finding.tv.assumptions[0]
        one = survey(drawn("x", 0), drawn("y", 1), 0.05, Asked(attributes=("a",)))
        assert "attribute 'a' (" in one.findings[0].tv.assumptions[0]

    def test_no_curve_is_drawn_through_a_column_that_nobody_named(self):
        pair = files(n=40, topic=lambda i, g: int(g.integers(2)), foreign=lambda i, g: i < 9)
        for asked in (Asked(attributes=("topic",)), Asked(foreign="foreign")):
            assert survey(*pair, 0.05, asked).profile is None
        assert survey(*pair, 0.05, Asked(attributes=("difficulty",))).profile is not None


def test_the_same_rows_under_two_recorded_laws_are_as_far_apart_as_those():
    rows = sums(np.random.default_rng(0), 40, 2, 2)
    common = {"generator": "g", "attribute": "difficulty", "rows": 40, "data_sha256": ""}

    def table(name, law, seed):
        return Table(name, rows, "same", Metadata(**common, law=law, seed=seed))

    one = survey(table("a", {"2": 1.0}, 0), table("b", {"2": 1.0}, 1), 0.05)
    two = survey(table("a", {"2": 1.0}, 0), table("b", {"2": 0.5, "3": 0.5}, 1), 0.05)
    assert one.best.tv.value == 0 and one.best.tv.guarantee is Guarantee.EXACT
    assert two.best.tv.value == 0.5 and two.best.tv.guarantee is Guarantee.EXACT


def test_hidden_states_rest_on_a_base_that_had_not_learnt_the_rows():
    asked = Asked(views=(View.PROMPT,), features=(Features.HIDDEN,), base="weak")
    found = survey(*files(n=40), 0.05, asked).findings
    assert all(UNSEEN_BY_BASE in f.tv.assumptions for f in found if f.view.startswith("text"))


class TestDisjoint:
    def test_no_gap_is_seen_around_what_is_no_number(self):
        """`min` and `max` pass over a nan that is not the first."""
        generator = np.random.default_rng(0)

        def drawn(name, value):
            rows = sums(generator, 60, 2, 2, x=lambda i, g: value if i % 2 == 0 else float("nan"))
            return Table(name, rows, name)

        found = disjoint_by(drawn("a", 1.0), drawn("b", 5.0), ["x"])
        assert not [d for d in found if d.by == "x"]

    def test_thirds_by_length_are_recognised_with_the_view_that_can_rank(self):
        generator = np.random.default_rng(2)

        def rows(low, high):
            return [
                Row(" ".join(generator.choice(WORDS, 10)),
                    " " + " ".join(generator.choice(WORDS, generator.integers(low, high))))
                for _ in range(120)
            ]  # fmt: skip

        pair = Table("a", rows(5, 30), "a"), Table("b", rows(60, 90), "b")
        found = survey(*pair, 0.05)
        assert any("no overlap in these rows: words of the full" in s for s in found.disjoint)
        assert not any("TV = 1" in s for s in found.disjoint)
        alone = survey(*pair, 0.05, Asked(views=(View.FULL,)))
        assert "try --view prompt or" in alone.disjoint[-1]
        assert "text of the prompt" in found.disjoint[-1] and "cannot rank" in found.disjoint[-1]

    def test_a_split_by_template_is_recognised(self):
        pair = files(template=lambda i, g: "t" + str(g.integers(5)))
        other = files(template=lambda i, g: "u" + str(g.integers(5)))
        found = disjoint_by(pair[0], other[1], ("template",))
        assert [d.sentence for d in found] == ["column 'template': no value occurs in both files"]

    def test_a_gap_in_few_rows_is_no_fact_and_its_limit_holds(self):
        """Laws whose TV is 0.9 leave a gap between twenty rows a side in two files of five."""
        gaps, limits = 0, []
        for seed in range(150):
            generator = np.random.default_rng(seed)
            pair = [
                Table(name, [Row("q", " a", difficulty=x) for x in low + generator.random(20)], "x")
                for name, low in (("a", 0.0), ("b", 0.9))
            ]
            for found in disjoint_by(*pair, ("difficulty",), 0.5):
                gaps += 1
                limits.append(float(found.sentence.split("TV >= ")[1].split(" ")[0]))
        assert 30 < gaps < 100 and 0.3 < max(limits) <= 0.9

    def test_units_of_other_names_are_no_shift_of_the_text(self):
        """Two files of problems with two rows each, of one law."""
        pair = [
            Table(name, [Row("same", " s", unit=f"{name}{i // 2}") for i in range(40)], name)
            for name in ("a", "b")
        ]
        (said,) = said_disjoint(disjoint_by(*pair, ()), [])
        assert "names are no text" in said and "TV =" not in said and "TV >=" not in said

    def test_overlapping_supports_are_not(self):
        assert disjoint_by(*files(), ("difficulty",)) == []


class TestLeaks:
    def test_a_column_that_names_the_side_is_left_out_and_said(self):
        train, test = files()
        marked = [
            replace(t, rows=[replace(r, attributes={"split": t.source}) for r in t.rows])
            for t in (train, test)
        ]
        found = survey(*marked, 0.05, Asked(views=(View.ATTRIBUTES,)))
        assert any("it names the side" in w for w in found.warnings)
        assert not any("split" in f.view for f in found.findings)

    def test_ids_and_line_numbers(self):
        columns = {"key": lambda i, g: f"x{g.integers(1 << 40)}", "line": lambda i, _: i}
        found = survey(*files(**columns), 0.05, Asked(views=(View.ATTRIBUTES,)))
        assert {leak.where for leak in found.leaks} == {"key", "line"}
        assert found.findings[-1].view == "attributes (difficulty)"

    def test_a_number_that_runs_on_within_the_text(self):
        pair = files(n=100)
        numbered = [
            replace(
                t, rows=[replace(r, prompt=f"{i + k}. {r.prompt}") for i, r in enumerate(t.rows)]
            )
            for t, k in zip(pair, (1, 101), strict=True)
        ]  # fmt: skip
        assert any("runs on with the rows" in w for w in sentences(*numbered))
        ids = [
            replace(t, rows=[
                replace(r, prompt=f"#{t.source}-{i}x {r.prompt}", id=f"{t.source}-{i}x")
                for i, r in enumerate(t.rows)
            ])
            for t in pair
        ]  # fmt: skip
        assert any("contain their own ids" in w for w in sentences(*ids))

    def test_a_sorted_file(self):
        train, test = files()
        ordered = replace(train, rows=sorted(train.rows, key=lambda r: r.difficulty))
        assert any("sorted by difficulty" in w for w in sentences(ordered, test))
        assert not any("sorted" in w for w in sentences(train, test))


def test_equal_texts_of_other_columns_are_not_the_same_rows():
    rows = sums(np.random.default_rng(0), 60, 2, 2)
    a, b = (Table(n, [replace(r, difficulty=d) for r in rows], n) for n, d in (("a", 1), ("b", 9)))
    found = survey(a, b, 0.05, Asked(attributes=("difficulty",)))
    assert found.best.tv.value == 1 and not any("nothing differs" in r for r in found.best.reasons)
    assert any("60 rows that stand in both" in s for s in found.best.tv.assumptions)
    with pytest.raises(InputError, match="nosuch"):
        survey(a, a, 0.05, Asked(attributes=("nosuch",)))


def test_the_p_value_says_what_it_rests_on():
    asked = Asked(views=(View.PROMPT,), features=(Features.HIDDEN,), base="weak")
    hidden = survey(*files(n=40), 0.05, asked)
    assert hidden.p_value_assumes == (UNSEEN_BY_BASE,)
    assert hidden.to_dict()["p_value_assumes"] == [UNSEEN_BY_BASE]
    plain = survey(*files(n=40), 0.05, Asked(views=(View.PROMPT,)))
    assert plain.p_value is not None and plain.p_value_assumes == ()
