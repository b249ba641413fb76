"""Metrics of difficulty against what they must be on the shipped base."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pacbayes_sft.cli import app, main
from pacbayes_sft.data.rows import read_table
from pacbayes_sft.difficulty import measure_difficulty, plot_difficulty
from pacbayes_sft.errors import InputError
from pacbayes_sft.igsm import OpLaw
from pacbayes_sft.igsm.files import write_problems
from pacbayes_sft.models import load_model, load_tokenizer, resolve_base


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_problems(file, OpLaw.parse("2=0.5,11=0.5"), size=16, seed=5)
    return str(file)


def test_every_metric_ranks_long_problems_as_hard(rows, tmp_path):
    found = measure_difficulty(
        rows,
        "strong",
        ("difficulty", "cot_tokens", "base_loss", "pass_rate"),
        samples=2,
        batch_size=8,
    )
    ranks = found.correlations()["difficulty"]
    assert ranks["cot_tokens"] > 0.8 and ranks["base_loss"] > 0.3 > 0 > ranks["pass_rate"]
    assert set(found.columns["pass_rate"]) <= {0.0, 0.5, 1.0}
    assert "2 solutions sampled" in found.said["pass_rate"]
    again = measure_difficulty(rows, "strong", ("fail_rate",), samples=2, batch_size=8)
    assert np.array_equal(again.columns["fail_rate"], 1 - found.columns["pass_rate"])
    assert set(again.columns) == {"fail_rate"} and "do not end" in again.said["fail_rate"]
    found.write(tmp_path / "out.jsonl")
    back = read_table(tmp_path / "out.jsonl")
    assert back.has("base_loss") and back.units == read_table(rows).units
    assert [r.completion for r in back.rows] == [r.completion for r in read_table(rows).rows]


def test_the_loss_is_that_of_the_model(rows):
    found = measure_difficulty(rows, "strong", ("base_loss",)).columns["base_loss"]
    row = read_table(rows).rows[3]
    base = resolve_base("strong")
    tokenizer, model = load_tokenizer(base), load_model(base)
    prompt = tokenizer(row.prompt).input_ids
    ids = torch.tensor([*tokenizer(row.prompt + row.completion).input_ids, tokenizer.eos_token_id])
    labels = ids.clone()
    labels[: len(prompt)] = -100
    expected = model(input_ids=ids[None], labels=labels[None]).loss
    assert found[3] == pytest.approx(float(expected), rel=1e-3, abs=1e-6)


def test_a_column_needs_no_model(rows):
    assert measure_difficulty(rows, metrics=("difficulty",)).columns["difficulty"].max() == 11


def test_tokens_are_those_of_the_tokenizer_named(rows, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<e>", "<u>", *sorted(set(Path(rows).read_text()))]
    letters = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<u>"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    own = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<e>", unk_token="<u>")
    own.save_pretrained(tmp_path / "letters")
    name = str(tmp_path / "letters")
    found = measure_difficulty(rows, "strong", ("cot_tokens",), tokenizer=name)
    expected = [len(row.completion) + 1 for row in read_table(rows).rows]
    assert found.columns["cot_tokens"].tolist() == expected and name in found.said["cot_tokens"]


@pytest.mark.parametrize("metrics", [("hardness",), (), ("answer",)])
def test_an_unknown_metric_is_refused(metrics, rows):
    with pytest.raises(InputError, match="metric"):
        measure_difficulty(rows, "strong", metrics)


def column_of(file, values):
    rows = [{"prompt": "p", "completion": f"c{i}", "big": v} for i, v in enumerate(values)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.mark.parametrize(
    "values",
    [
        [0.3, 0.30000000000000004],
        [2**53, 2**53 + 2, 2**53 + 4],
        [2**60] * 3,
        [2**60, 2**60 + 5000],
        [-1e299, -1e299],
        [0, 0],
        [0.5, 1e-300],
    ],
)
def test_values_an_ulp_apart_are_drawn(values, tmp_path):
    """numpy finds too many bins for their range; the rows were written, and then a traceback."""
    found = measure_difficulty(column_of(tmp_path / "r.jsonl", values), metrics=("big",))
    plot_difficulty(found, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 5_000


def test_a_column_of_the_rows_stays_as_it_is(tmp_path):
    """As a float 2**53 + 1 is 2**53."""
    values = [2**53 + 1, 3, 0.5]
    found = measure_difficulty(column_of(tmp_path / "r.jsonl", values), metrics=("big",))
    found.write(tmp_path / "o.jsonl")
    assert (tmp_path / "o.jsonl").read_text() == (tmp_path / "r.jsonl").read_text()


@pytest.mark.parametrize(("read", "out"), [("r.jsonl", "x.svg"), ("x.svg", "o.jsonl")])
def test_the_svg_beside_a_picture_overwrites_no_rows(read, out, tmp_path, monkeypatch, capsys):
    file = column_of(tmp_path / read, [1, 2])
    before = Path(file).read_text()
    words = ["difficulty", file, "--metric", "big", "--out", str(tmp_path / out)]
    words += ["--picture", str(tmp_path / "x.png")]
    monkeypatch.setattr("sys.argv", ["pacbayes-sft", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and "x.svg" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == [read] and Path(file).read_text() == before


def test_the_command_writes_rows_and_picture(rows, tmp_path):
    words = ["difficulty", rows, "--base", "strong", "--metric", "cot_tokens"]
    words += ["--metric", "difficulty", "--out", str(tmp_path / "o.jsonl"), "--json"]
    run = CliRunner().invoke(app, [*words, "--picture", str(tmp_path / "p.png")])
    found = json.loads(run.stdout)
    assert found["rows"] == 16 and found["spearman"]["cot_tokens, difficulty"] > 0.8
    assert (tmp_path / "p.png").stat().st_size > 5_000 and (tmp_path / "p.svg").exists()
