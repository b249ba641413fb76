import re
from dataclasses import replace

import pytest

from estimators import Estimate, Guarantee
from pacbayes_sft.certify import bound
from pacbayes_sft.options import Options
from pacbayes_sft.report import certificate_sentence, render_report, reproduce, write_report


@pytest.fixture(scope="module")
def certificate(lora_run, rows_dir):
    files = [str(rows_dir / name) for name in ("train.jsonl", "test.jsonl")]
    return bound("strong", lora_run, *files, Options(posterior="isotropic", sigmas=(0.05,)))


def with_bound(certificate, value, guarantee=Guarantee.UPPER):
    made = Estimate(value, -float("inf"), value, 0.95, guarantee, "m")
    return replace(certificate, bounds=dict.fromkeys(certificate.bounds, (made, made)))


def test_the_sentence_says_what_it_may(certificate):
    good = certificate_sentence(with_bound(certificate, 0.43))
    assert "With probability 0.95" in good and "at most 0.430" in good and "Gibbs" in good
    assert certificate_sentence(with_bound(certificate, 1.2)).startswith("Vacuous: ")
    guess = certificate_sentence(with_bound(certificate, 0.43, Guarantee.ESTIMATE))
    assert guess.startswith("No certificate") and "With probability" not in guess


def test_the_page_is_self_contained_and_whole(certificate, tmp_path):
    picture = tmp_path / "p.png"
    picture.write_bytes(b"\x89PNG")
    command = reproduce("strong", tmp_path, "a b.jsonl", "t.jsonl", certificate.options)
    write_report(certificate, tmp_path / "report.html", picture=picture, command=command)
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "<script" not in page
    for words in (
        "Proposition 4.1",
        "finished model (not covered)",
        "PAC-Bayes with prior scale",
        "does <strong>not</strong> speak of the finished checkpoint",
        "Assumptions",
    ):
        assert words in page
    for sentence in certificate.bound.assumptions:
        assert sentence in page.replace("&#39;", "'")
    assert "&#39;a b.jsonl&#39;" in page


def test_hostile_names_stay_text(certificate):
    assert "<b>x" not in render_report(certificate, None, "<b>x")
