"""The command as a user runs it: JSON alone on stdout, exit code 2 and one sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest


def run(*words, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "pacbayes_sft", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=240,
        check=False,
    )


def answer(*words):
    done = run(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def complaint(*words):
    done = run(*words)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr and done.stdout == ""
    return " ".join(done.stderr.split())


def test_help_names_every_command():
    done = run("--help")
    assert done.returncode == 0
    for command in ("demo", "bound", "kl", "tv", "risk", "igsm", "sft"):
        assert command in done.stdout
        one = run(command, "--help")
        assert one.returncode == 0 and "Example: pacbayes-sft" in " ".join(one.stdout.split())


def test_kl(lora_run):
    weights = answer("kl", "--base", "strong", "--finetuned", lora_run, "--sigma", 0.1)
    assert weights["kl"]["guarantee"] == "exact" and weights["kl"]["unit"] == "nats"
    assert weights["kl"]["value"] == pytest.approx(weights["squared_distance"] / 0.02)
    factors = answer(
        "kl", "--base", "strong", "--finetuned", lora_run, "--sigma", 0.1, "--space", "factors"
    )
    assert factors["parameters"] < weights["parameters"]


def test_tv_and_igsm(tmp_path):
    for name, ops, seed in (("a", "1:8", 1), ("b", "5:12", 2)):
        answer(
            "igsm", "--ops", ops, "--size", 30, "--seed", seed, "--out", tmp_path / f"{name}.jsonl"
        )
    result = answer("tv", "--train", tmp_path / "a.jsonl", "--test", tmp_path / "b.jsonl")
    assert result["tv"]["value"] == pytest.approx(0.5) and result["tv"]["guarantee"] == "exact"
    by_column = answer(
        "tv",
        "--train",
        tmp_path / "a.jsonl",
        "--test",
        tmp_path / "b.jsonl",
        "--attribute",
        "difficulty",
    )
    assert by_column["tv"]["guarantee"] == "upper" and by_column["tv"]["upper"] >= 0.5


def test_risk_with_slices(rows_dir, tmp_path):
    out = tmp_path / "risk.json"
    result = answer(
        "risk",
        "--base",
        "strong",
        "--test",
        rows_dir / "test.jsonl",
        "--slice-by",
        "difficulty",
        "--device",
        "cpu",
        "--out",
        out,
    )
    assert json.loads(out.read_text()) == result
    assert list(result["slices"]) == ["3", "4", "5"]
    assert 0 <= result["risk"]["lower"] <= result["risk"]["value"] <= result["risk"]["upper"] <= 1


def test_bound_writes_its_files_and_prints_json_alone(lora_run, rows_dir, tmp_path):
    result = answer(
        "bound",
        "--base",
        "strong",
        "--finetuned",
        lora_run,
        "--train",
        rows_dir / "train.jsonl",
        "--test",
        rows_dir / "test.jsonl",
        "--out",
        tmp_path,
        "--device",
        "cpu",
    )
    assert json.loads((tmp_path / "bound.json").read_text()) == result
    assert (tmp_path / "bound.png").is_file()


def test_bound_prints_a_table(lora_run, rows_dir, tmp_path):
    done = run(
        "bound",
        "--base",
        "strong",
        "--finetuned",
        lora_run,
        "--train",
        rows_dir / "train.jsonl",
        "--test",
        rows_dir / "test.jsonl",
        "--out",
        tmp_path,
    )
    assert done.returncode == 0
    for words in ("Proposition 4.1", "proposition_4_1", "not covered", "assumes:"):
        assert words in done.stdout


@pytest.fixture
def bound_words(lora_run, rows_dir, tmp_path):
    return {
        "--base": "strong",
        "--finetuned": lora_run,
        "--train": rows_dir / "train.jsonl",
        "--test": rows_dir / "test.jsonl",
        "--out": tmp_path / "out",
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--delta": 0}, "--delta must lie strictly between 0 and 1"),
        ({"--delta": 1.5}, "--delta must lie strictly between 0 and 1"),
        ({"--finetuned": "nowhere"}, "no such"),
        ({"--base": "nowhere"}, "no such model directory"),
        ({"--train": "nowhere.jsonl"}, "no such file"),
        ({"--shift": "colour"}, "column 'colour'"),
        ({"--prior": "nowhere"}, "no such"),
        ({"--device": "abacus"}, "--device abacus"),
        ({"--dtype": "int3"}, "--dtype int3"),
        ({"--posterior": "cubist"}, "isotropic"),
    ],
)
def test_bad_input_is_one_sentence(change, says, bound_words):
    words = bound_words | change
    assert says in complaint("bound", *(part for pair in words.items() for part in pair))
    assert not words["--out"].exists()


def test_bad_rows_name_file_and_line(bound_words, tmp_path):
    for content, says in (
        ("", "holds no rows"),
        ('{"prompt": "a"}', "line 1: the column"),
        ('{"prompt": "a", "completion": "b"}\nnot json', "line 2: not JSON"),
    ):
        bad = tmp_path / "bad.jsonl"
        bad.write_text(content)
        words = bound_words | {"--test": bad}
        text = complaint("bound", *(part for pair in words.items() for part in pair))
        assert says in text and "bad.jsonl" in text


def test_a_truncated_or_foreign_checkpoint(bound_words, lora_run, tmp_path):
    broken = shutil.copytree(lora_run, tmp_path / "broken")
    weights = broken / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    words = bound_words | {"--finetuned": broken}
    assert "truncated" in complaint("bound", *(p for pair in words.items() for p in pair))
    from transformers import LlamaConfig, LlamaForCausalLM

    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=106,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    ).save_pretrained(tmp_path / "other")
    assert "not for the base" in complaint(
        "kl", "--base", tmp_path / "other", "--finetuned", lora_run, "--sigma", 0.1
    )
    words = bound_words | {"--base": tmp_path / "other"}
    assert "names another base" in complaint("bound", *(p for pair in words.items() for p in pair))
