"""The page: self-contained, whole, and nothing but text in it."""

import re
from itertools import pairwise

from pacbayes_sft.options import Options
from pacbayes_sft.report import render_report, reproduce, write_report
from pacbayes_sft.report.html import render_record
from pacbayes_sft.report.tables import tables
from pacbayes_sft.report.waterfall import waterfall


def test_the_page_is_self_contained_and_whole(certificate, record, tmp_path):
    picture = tmp_path / "p.png"
    picture.write_bytes(b"\x89PNG")
    command = reproduce("strong", tmp_path, "a b.jsonl", "t.jsonl", certificate.options)
    write_report(certificate, tmp_path / "report.html", picture=picture, command=command)
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "<script" not in page
    assert "&#39;a b.jsonl&#39;" in page
    plain = page.replace("&#39;", "'")
    cells = [cell for table in tables(record) for row in table.rows for cell in row]
    for words in (
        "does not speak of the finished checkpoint",
        "finished model (not covered)",
        "PAC-Bayes with prior scale",
        *cells,
        *certificate.bound.assumptions,
        *(table.title for table in tables(record)),
    ):
        assert words in plain, words


def test_the_command_names_all_that_changes_the_ledger(tmp_path):
    options = Options(profile="steps")
    command = reproduce("b", tmp_path, "a", "t", options, "h.jsonl", "l.jsonl")
    assert command.endswith("--train-heldout h.jsonl --labelled l.jsonl --profile steps")
    assert "--profile" not in reproduce("b", tmp_path, "a", "t", Options())


def test_hostile_names_stay_text(certificate, record):
    assert "<b>x" not in render_report(certificate, None, "<b>x")
    record["shift"]["reason"] = "<script>alert(1)</script>"
    assert "<script" not in render_record(record, None, "")


def test_an_infinite_bound_is_written(outcome):
    made = outcome(1.5)
    made["kl"]["value"] = made["terms"]["generalization"] = None
    for entry in made["bounds"].values():
        entry["raw"] = entry["train_raw"] = None
    assert "∞" in render_record(made, None, "")
    assert waterfall(made)[1].text == "∞ →"


def test_what_is_a_limit_is_rounded_up_wherever_it_stands(outcome):
    made = outcome(0.43214)
    made["bounds"]["proposition_4_1"]["raw"] = 0.51111
    made["terms"]["empirical_risk"] = 0.30001
    made["baselines"]["best"] = {"name": "held_out", "value": 0.21111, "confidence": 0.9}
    steps = {step.label: step.text for step in waterfall(made)}
    assert steps["empirical risk"] == "0.3001" and steps["= Proposition 4.1"] == "0.5112"
    assert next(text for label, text in steps.items() if "least bound" in label) == "0.4322"
    page = render_record(made, None, "x")
    assert "0.2112" in page and "0.2111" not in page


def test_the_waterfall_steps_join_and_stay_inside(outcome):
    made = outcome(1.24)
    made["terms"] = dict(zip(made["terms"], (0.3, 0.7, 0.2, 0.04), strict=True))
    bars = waterfall(made)
    for before, after in pairwise(bars[:4]):
        assert abs(before.left + before.width - after.left) < 1e-9
    assert abs(bars[3].left + bars[3].width - bars[4].width) < 1e-9
    assert "vacuous" in bars[4].text and abs(bars[0].one - 100 / 1.24) < 1e-9
    made["terms"]["generalization"] = 5.0
    cut = waterfall(made)
    assert max(b.left + b.width for b in cut) <= 100 + 1e-9 and cut[1].text.endswith("→")


def test_the_command_holds_every_digit(tmp_path):
    options = Options(delta=0.0123456789, prior_scales=(0.0212345678,))
    command = reproduce("b", tmp_path, "a", "t", options)
    assert "--delta 0.0123456789" in command and "--prior-scales 0.0212345678" in command
