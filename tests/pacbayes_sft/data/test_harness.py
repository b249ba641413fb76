"""Sample logs of lm-evaluation-harness: written as its code writes them, read back as risks."""

import hashlib
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from estimators import clopper_pearson
from pacbayes_sft.cli import app, main
from pacbayes_sft.data.harness import change, read_samples
from pacbayes_sft.errors import InputError


def log(file, right, filters=("strict-match", "flexible-extract"), metric="exact_match"):
    """Write a log the way EvaluationTracker.save_results_samples does: filter by filter."""
    lines = []
    for name in filters:
        for i, score in enumerate(right):
            doc = {"problem": f"problem {i}", "level": 1 + i % 2}
            hashed = hashlib.sha256(json.dumps(doc, indent=2).encode()).hexdigest()
            answer = "[invalid]" if name == "strict-match" and not score else str(i)
            line = {
                "doc_id": i,
                "doc": doc,
                "target": str(i),
                "arguments": {"gen_args_0": {"arg_0": doc["problem"], "arg_1": {"until": []}}},
                "resps": [["..."]],
                "filtered_resps": [answer],
                "filter": name,
                "metrics": [metric],
                "doc_hash": hashed,
                "prompt_hash": hashed,
                "target_hash": hashed,
                metric: score,
            }
            lines.append(json.dumps(line) + "\n")
    file.write_text("".join(lines))
    return file


def test_one_filter_is_taken_so_that_n_does_not_double(tmp_path):
    file = log(tmp_path / "samples_gsm8k.jsonl", [1.0, 0.0, 1.0, 1.0])
    with pytest.raises(InputError, match=r"strict-match, flexible-extract.*n would double"):
        read_samples(file)
    found = read_samples(file, filter="strict-match")
    expected = clopper_pearson(1, 4, 0.05)
    assert found.risk().value == 0.25 and found.risk().upper == pytest.approx(expected.upper)
    slices = found.slices("level")
    assert {k: e.value for k, e in slices.items()} == {"1": 0.0, "2": 0.5}
    with pytest.raises(InputError, match="no filter 'none'"):
        read_samples(file, filter="none")
    with pytest.raises(InputError, match="no 'subject'"):
        found.slices("subject")


def test_a_line_separator_inside_a_string_ends_no_line(tmp_path):
    """Unicode calls U+2028 and U+0085 ends of lines; in JSON lines they are text."""
    file = log(tmp_path / "a.jsonl", [1.0, 0.0], filters=("none",))
    file.write_text(file.read_text().replace("...", "a\u2028b\u0085c"), encoding="utf-8-sig")
    assert read_samples(file).risk().value == 0.5
    file.write_bytes("é".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_samples(file)
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read"):
        read_samples(tmp_path / "none.jsonl")


def test_a_document_that_is_there_twice_is_one_unit(tmp_path):
    file = log(tmp_path / "a.jsonl", [1.0, 0.0], filters=("none",))
    first = file.read_text().splitlines()[0]
    again = json.loads(first) | {"doc_id": 2, "exact_match": 0.0}
    file.write_text(file.read_text() + json.dumps(again) + "\n")
    found = read_samples(file)
    assert found.risk().value == pytest.approx((0.5 + 1) / 2)
    assert "2 units" in found.risk().method


def test_two_logs_in_one_file_are_refused(tmp_path):
    """Their mean was the risk of no model: 0.5 of two that have 0 and 1."""
    both = tmp_path / "both.jsonl"
    logs = [log(tmp_path / f"{score}.jsonl", [score] * 3) for score in (1.0, 0.0)]
    both.write_text("".join(file.read_text() for file in logs))
    says = "line 7: document 0 under the filter 'strict-match' is on line 1 already.*one log at a"
    for name in ("strict-match", None):
        with pytest.raises(InputError, match=says):
            read_samples(both, filter=name)


@pytest.mark.parametrize("metric", ["mse", "MAE", "brier_score", "wer_norm", "cer", "asr-loss"])
def test_what_counts_errors_is_no_success(metric, tmp_path):
    file = log(tmp_path / "a.jsonl", [0.25, 0.0], filters=("none",), metric=metric)
    with pytest.raises(InputError, match=f"--metric {metric}: not a success"):
        read_samples(file, metric=metric)


def test_a_metric_of_an_unknown_name_is_taken_when_asked_for(tmp_path):
    file = log(tmp_path / "a.jsonl", [0.25, 0.75], filters=("none",), metric="merit_answer")
    assert read_samples(file, metric="merit_answer").risk().value == 0.5


def test_two_logs_are_joined_on_the_document_not_on_the_place(tmp_path):
    after = log(tmp_path / "a.jsonl", [1.0] * 30 + [0.0] * 10, filters=("none",))
    before = log(tmp_path / "b.jsonl", [1.0] * 20 + [0.0] * 20, filters=("none",))
    lines = before.read_text().splitlines()
    before.write_text("\n".join(reversed(lines)) + "\n")
    moved = change(read_samples(after), read_samples(before))
    assert moved.value == pytest.approx(-0.25) and moved.lower < -0.25 < moved.upper < 0.2
    before.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(InputError, match="1 documents are in one alone"):
        change(read_samples(after), read_samples(before))


def test_the_interval_of_a_change_covers(tmp_path):
    rng = np.random.default_rng(0)
    right = [rng.random(60) < p for p in (0.8, 0.5)]
    missed = 0
    for _ in range(40):
        logs = [[float(x) for x in rng.permutation(r)] for r in right]
        a, b = (log(tmp_path / f"{k}.jsonl", r, filters=("none",)) for k, r in enumerate(logs))
        moved = change(read_samples(a), read_samples(b))
        missed += not moved.lower <= right[1].mean() - right[0].mean() <= moved.upper
    assert missed == 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 1: not JSON"),
        ("[1]", "line 1: no 'doc_hash'"),
        ('{"doc_hash": "a"}', "no 'filter'"),
        ("", "no samples"),
        ('{"doc_hash": "a", "filter": "none", "metrics": []}', "choose one"),
        ('{"doc_hash": "a", "filter": "none", "metrics": ["ter"], "ter": 0.3}', "choose one"),
        ('{"doc_hash": "a", "filter": "none", "metrics": ["wer"], "wer": 1.0}', "succeeds: wer"),
        ('{"doc_hash": "a", "filter": "none", "metrics": ["mine"], "mine": 0.5}', "choose one"),
        ('{"doc_hash": "a", "filter": "none", "metrics": 3, "acc": 1.0}', "'metrics' is 3"),
    ],
)
def test_what_is_no_log_is_refused(line, says, tmp_path):
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=says):
        read_samples(tmp_path / "a.jsonl")


def test_a_score_outside_the_unit_interval_is_refused_with_its_line(tmp_path):
    file = log(tmp_path / "a.jsonl", [1.0, 7.0], filters=("none",))
    with pytest.raises(InputError, match=r"line 2: 'exact_match' is 7\.0"):
        read_samples(file)
    with pytest.raises(InputError, match="no metric 'acc'"):
        read_samples(file, metric="acc")
    with pytest.raises(InputError, match="no metric 'doc_id'"):
        read_samples(file, metric="doc_id")  # a number of the line, and no metric of its


def test_the_command_needs_no_model(tmp_path):
    after = log(tmp_path / "a.jsonl", [1.0, 1.0, 0.0])
    before = log(tmp_path / "b.jsonl", [1.0, 0.0, 0.0])
    words = ["risk", "--samples", str(after), "--filter", "strict-match", "--slice-by", "level"]
    found = json.loads(CliRunner().invoke(app, [*words, "--against", str(before), "--json"]).stdout)
    assert found["risk"]["value"] == pytest.approx(1 / 3) and set(found["slices"]) == {"1", "2"}
    assert found["change"]["value"] == pytest.approx(-1 / 3) and found["documents"] == 3
    assert CliRunner().invoke(app, words).exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["risk"],
        ["risk", "--base", "strong"],
        ["risk", "--samples", "nowhere.jsonl"],
        ["risk", "--samples", "a.jsonl", "--base", "strong"],
        ["risk", "--base", "strong", "--test", "t.jsonl", "--filter", "none"],
    ],
)
def test_a_wrong_choice_ends_in_a_sentence(words, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["pacbayes-sft", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and "error:" in capsys.readouterr().err


def test_answers_taken_by_two_filters_are_not_compared(tmp_path):
    """The change between two models would have held the change of the filter."""
    after = log(tmp_path / "a.jsonl", [1.0] * 20, filters=("strict-match",))
    before = log(tmp_path / "b.jsonl", [0.0] * 20, filters=("flexible-extract",))
    with pytest.raises(InputError, match="by the filters strict-match and flexible-extract"):
        change(read_samples(after), read_samples(before))
