"""The sentence says what it may, no more; the tables say the same in every format."""

import io
import json
import re
from dataclasses import replace

import pandas as pd
import pytest

from estimators import Estimate, Guarantee
from pacbayes_sft import results_frame
from pacbayes_sft.bound_json import one_row_a_unit, warnings_of, write_bound_json
from pacbayes_sft.certified.card import certificate_sentence as card_sentence
from pacbayes_sft.cli.output import claim, interval
from pacbayes_sft.data.rows import Row, Table
from pacbayes_sft.empirical import SAMPLED
from pacbayes_sft.errors import InputError
from pacbayes_sft.report import certificate_sentence, write_tables
from pacbayes_sft.report.export import _latex, as_latex, as_markdown
from pacbayes_sft.report.html import render_record
from pacbayes_sft.report.sentence import percent, sentence, what_it_does_not_say
from pacbayes_sft.report.tables import tables


def test_the_sentence_says_what_it_may(outcome):
    good = sentence(outcome(0.43))
    assert good.startswith("With probability 95 % over the draw of the training set")
    assert "errs on at most 43.0 % of the examples" in good and "Gibbs" in good
    assert "(and of the Monte-Carlo noise)" in good
    assert sentence(outcome(1.2)).startswith("Vacuous: the bound")
    assert "at most 40.0 %" in sentence(outcome(1.2, train=0.4))
    guess = sentence(outcome(0.43, "estimate"))
    assert guess.startswith("No certificate") and "With probability" not in guess
    assert "even the estimate" in sentence(outcome(1.2, "estimate"))


def test_no_limit_is_rounded_down(outcome):
    """0.28049 is no promise of 0.280, in whatever place it is printed."""
    made = outcome(0.28049)
    by_file = {table.name: table for table in tables(made)}
    assert all("0.2805" in " ".join(row) for row in by_file["bounds"].rows)
    assert "at most 28.1 %" in sentence(made)
    limit = Estimate(0.28049, -float("inf"), 0.28049, 0.95, Guarantee.UPPER, "m")
    assert "<= 0.2805 " in str(limit) and "≤ 0.2805 " in claim(limit)
    assert interval(limit).endswith("0.281]") and "≤ 0.2805 " in limit._repr_html_()
    card = {"guarantee": "upper", "upper": 0.28049, "confidence": 0.95}
    said = card_sentence({"bound": card, "train_bound": card, "vacuous": False})
    assert "at most **0.281**" in said


def test_units_that_were_not_looked_at_are_part_of_the_chance(outcome):
    made = outcome(0.43)
    made["assumptions"] = [*made["assumptions"], SAMPLED]
    assert "of the choice of the units looked at" in sentence(made)
    assert "units looked at" not in sentence(outcome(0.43))


def test_a_mean_over_units_is_not_called_one_over_examples(outcome):
    over = "on average over units (problems), each counted once however many rows it has"
    made = outcome(0.43)
    assert made["one_row_a_unit"] is True and over not in sentence(made)
    assert over in sentence(made | {"one_row_a_unit": False})
    assert over in sentence(outcome(0.43, "estimate") | {"one_row_a_unit": False})
    del made["one_row_a_unit"]  # a record from before the key: the training file tells
    assert over not in sentence(made) and over in sentence(made | {"n_train": 32})


def test_a_table_of_rows_that_share_units_is_known():
    rows = [Row("a", "b", unit="u"), Row("c", "d", unit="u")]
    several, each = Table("t", rows, "t"), Table("t", [Row("a", "b"), Row("c", "d")], "t")
    assert one_row_a_unit(each, each) and not one_row_a_unit(each, several)


def test_the_headline_is_around_the_fine_tune_only_if_the_posterior_is(outcome):
    made = outcome(0.43)
    assert "posterior around run (the Gibbs predictor) errs" in sentence(made)
    made["drift"] |= {"distance": 2.4, "distance_to_prior": 0.7, "distance_finished_to_prior": 2.7}
    said = sentence(made)
    assert "posterior around" not in said and "nearer to the former (0.7 from it" in said
    assert said.endswith("beyond the base and the saved initial factors in part at most.")


def test_no_confidence_is_rounded_up(outcome):
    """δ = 5e-5 is no certainty, in whatever place it is printed."""
    level = 1 - 5e-5
    made = outcome(0.43)
    made["bound"]["confidence"] = level
    assert sentence(made).startswith("With probability 1 - 5e-05 over")
    for entry in made["bounds"].values():
        entry["confidence"] = level
    made["delta_ledger"] = [{"event": "one", "delta": 2e-7}]
    by_file = {table.name: table for table in tables(made)}
    assert all(row[-1] == "upper at 1 - 5e-05" for row in by_file["bounds"].rows)
    assert by_file["ledger"].rows == (("one", "2e-07"), ("all together", "2e-07"))
    limit = Estimate(0.3, -float("inf"), 0.3, level, Guarantee.UPPER, "m")
    assert "at 1 - 5e-05" in str(limit) and claim(limit).endswith("at 1 - 5e-05")
    assert "at 1 - 5e-05" in limit._repr_html_()
    card = {"guarantee": "upper", "upper": 0.3, "confidence": level}
    said = card_sentence({"bound": card, "train_bound": card, "vacuous": False})
    assert said.startswith("With probability 1 - 5e-05 over")


def test_shift_terms_stand_over_what_they_assume(outcome):
    made = outcome(0.43)
    entry = {"raw": 0.5, "vacuous": False, "guarantee": "upper", "confidence": 0.95}
    made["bounds_by_shift"] = {
        "column": "steps",
        "note": "name one",
        "tv": entry | {"assumptions": ["draws are fresh", "laws are right"]},
        "robust": entry | {"assumptions": ["draws are fresh", "nothing saw them"]},
    }
    (table,) = [table for table in tables(made) if table.name == "by-shift"]
    assert table.rows[1] == ("robust", "0.5000", "upper at 0.95")
    assert table.notes == (
        "All of them assume: draws are fresh.",
        "tv also assumes: laws are right.",
        "robust also assumes: nothing saw them.",
    )
    page = render_record(made, None, "command")
    for text in (as_markdown(made), as_latex(made), page):
        assert all(note in text for note in table.notes)
    del made["bounds_by_shift"]["robust"]["assumptions"]
    assert "before what these limits assume was kept" in as_markdown(made)


def test_a_refutation_pays_for_the_limit_too(certificate):
    shift = Estimate(0.0, 0.0, 0.1, 0.99, Guarantee.UPPER, "column")
    high = Estimate(0.9, 0.85051, 0.95, 0.95, Guarantee.ESTIMATE, "rows")
    low = Estimate(0.1, 0.05, 0.15, 0.95, Guarantee.ESTIMATE, "rows")
    measured = replace(certificate.measured, test_risk=high, train_distribution_risk=low)

    def said(tv):
        made = replace(certificate, measured=measured, shift=replace(certificate.shift, tv=tv))
        (found,) = [w for w in warnings_of(made) if w.startswith("refuted")]
        return found

    assert said(shift).startswith("refuted, at 89 % (two intervals of 95 % each, and the limit's")
    assert "δ = 0.01): the gap R_test - R_train is at least 0.700, above" in said(shift)
    assert said(Estimate.exactly(0.1, method="laws")).startswith("refuted, at 90 % (two inter")


@pytest.mark.parametrize("loss", ["exact_match", "answer", "token_error", "smoothed_nll"])
def test_every_loss_has_its_words(outcome, loss):
    made = outcome(0.43) | {"loss": loss}
    assert "43.0 %" in sentence(made)
    assert any(loss in item for item in what_it_does_not_say(made))


def test_the_sentence_of_a_certificate_is_that_of_its_record(certificate, record):
    assert certificate_sentence(certificate) == sentence(record)
    made = Estimate(0.3, -float("inf"), 0.3, 0.95, Guarantee.UPPER, "m")
    better = replace(certificate, bounds=dict.fromkeys(certificate.bounds, (made, made)))
    assert "at most 30.0 %" in certificate_sentence(better)


def test_a_limit_is_rounded_up():
    assert percent(0.43) == "43.0" and percent(0.43 + 1e-9) == "43.1" and percent(0.0) == "0.0"


def test_what_it_does_not_say_names_a_better_limit(record):
    record["baselines"]["best"] |= {"name": "held_out", "value": 0.1}
    assert any("held out gives 0.1000" in item for item in what_it_does_not_say(record))
    record["baselines"]["best"] |= {"name": "bound"}
    assert not any("held out" in item for item in what_it_does_not_say(record))


def test_markdown_and_latex_hold_every_cell(record, tmp_path):
    record["shift"]["reason"] = "50 % of a|b & c_d, --x > 1"
    record["warnings"] = ["it is odd,\n\\input{so}"]
    write_tables(record, tmp_path)
    markdown = (tmp_path / "tables.md").read_text()
    latex = (tmp_path / "tables.tex").read_text()
    assert (markdown, latex) == (as_markdown(record), as_latex(record))
    assert "\n* Warning: it is odd," in markdown and "\n% Warning: it is odd, \\input" in latex
    assert r"50 % of a\|b & c_d, --x > 1" in markdown
    assert r"50 \% of a|b \& c\_d, -{}-x $>$ 1" in latex
    for table in tables(record):
        assert table.title in markdown
        body = latex.split(f"tab:pacbayes-{table.name}}}")[1].split(r"\bottomrule")[0]
        assert body.count(r"\\") == len(table.rows) + 1
    outside = "".join(line for line in latex.splitlines() if not line.startswith("%"))
    assert outside.isascii(), set(re.findall(r"[^\x00-\x7f]", outside))


def test_markdown_tables_are_read_back(record):
    block = as_markdown(record).split("**Bounds on")[1].split("\n\n")[1]
    frame = pd.read_csv(io.StringIO(block), sep=r"\s*\|\s*", engine="python").iloc[1:, 1:-1]
    assert len(frame) == len(record["bounds"])


def test_a_certificate_becomes_a_tidy_frame(certificate, record, tmp_path):
    write_bound_json(certificate, tmp_path / "bound.json")
    frame = results_frame(certificate, tmp_path / "bound.json")
    numbers = [column for column in frame if column != "source"]
    halves = [half.reset_index(drop=True)[numbers] for _, half in frame.groupby("source")]
    pd.testing.assert_frame_equal(*halves)
    one = frame[frame["source"] == certificate.inputs.finetuned.name]
    assert not one.duplicated(["kind", "name", "target"]).any()
    kl = one[(one["kind"] == "bound") & (one["name"] == "kl")].set_index("target")["value"]
    assert kl["test_distribution"] == record["bounds"]["kl"]["raw"]
    assert kl["train_distribution"] == record["bounds"]["kl"]["train_raw"]
    terms = one[one["kind"] == "term"]["value"].sum()
    assert terms == pytest.approx(record["bounds"]["proposition_4_1"]["raw"])
    assert set(one["kind"]) == {"input", "term", "bound", "measured", "baseline"}
    labels = one[one["kind"] == "term"].set_index("name")["guarantee"]
    assert labels["generalization"] == labels["epsilon"] == "exact"
    assert labels["extrapolation"] == record["tv"]["guarantee"]
    assert (one[one["kind"] == "term"]["unit"] == "probability").all()
    for broken in ({}, [], {"bounds": {}, "terms": {}}, record | {"bounds": {"kl": None}}):
        (tmp_path / "no.json").write_text(json.dumps(broken))
        with pytest.raises(InputError, match=r"no\.json: no bound\.json"):
            results_frame(tmp_path / "no.json")


def test_a_certificate_shows_itself_in_a_notebook(certificate):
    page = certificate._repr_html_()
    assert certificate_sentence(certificate)[:40] in page and "Proposition 4.1" in page


def test_a_title_of_any_column_is_latex(record):
    text = _latex(replace(tables(record)[0], title=r"by 'a&b#1${x}~^\c%_'"))
    assert r"a\&b\#1\$\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{}c\%\_" in text
