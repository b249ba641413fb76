"""The command as a user runs it: JSON alone on stdout, exit code 2 and one sentence."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from unittest import mock

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from estimators import Estimate
from pacbayes_sft.advise.predict import Extra, Train
from pacbayes_sft.checkpoints.record import RunRecord
from pacbayes_sft.cli import app, main
from pacbayes_sft.cli.output import emit, new_table
from pacbayes_sft.models import resolve_base
from pacbayes_sft.shift.methods import RESERVED

COMMANDS = dict(typer.main.get_command(app).commands)


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def run(*words):
    """Run the command in this process, as `main` does."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["pacbayes-sft", *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as stopped,
    ):
        main()
        raise SystemExit(0)
    return Done(int(stopped.value.code or 0), out.getvalue(), err.getvalue())


def in_a_shell(*words):
    """Run it as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pacbayes_sft", *map(str, words)],
        capture_output=True,
        text=True,
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
    for command in ("demo", "bound", "kl", "tv", "risk", "igsm", "sft", "verify", "inspect"):
        assert command in done.stdout
        one = run(command, "--help")
        assert one.returncode == 0 and "Example: pacbayes-sft" in " ".join(one.stdout.split())


def test_as_a_process_of_its_own(lora_run):
    """Nothing but the answer on stdout, even where libraries print; the exit code on bad input."""
    done = in_a_shell("kl", "--base", "strong", "--finetuned", lora_run, "--sigma", 0.1, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["parameters"] > 0
    bad = in_a_shell("kl", "--base", "strong", "--finetuned", lora_run, "--sigma", -1)
    assert bad.returncode == 2 and bad.stdout == "" and "Traceback" not in bad.stderr
    assert len(bad.stderr.strip().splitlines()) == 1


def test_the_kl_path_loads_neither_transformers_nor_peft(lora_run):
    code = (
        "import sys; from pathlib import Path; from pacbayes_sft.terms import kl_term;"
        f"kl_term('strong', Path({str(lora_run)!r}), sigma=0.1);"
        "assert not {'transformers', 'peft', 'trl', 'datasets'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_help_is_quick_because_nothing_heavy_is_loaded():
    code = (
        "import sys; import pacbayes_sft.cli;"
        "assert not {'torch', 'transformers', 'scipy', 'matplotlib'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_missing_file_is_refused_before_torch_is_loaded(tmp_path):
    """Seconds for a slip of the finger are seconds in which one wonders what goes on."""
    commands = [
        "bound --base strong --finetuned run --train gone.jsonl --test test.jsonl",
        "sft --base strong --train gone.jsonl --out run",
        "tv --train gone.jsonl --test test.jsonl",
        "tv --stream --train gone.jsonl --test test.jsonl",
        "risk --base strong --test gone.jsonl",
        "verify run --train gone.jsonl",
        "difficulty gone.jsonl --base strong --out out.jsonl",
        "advise --base strong --pool gone.jsonl --test test.jsonl --budgets 900",
    ]
    code = (
        "import sys; from pacbayes_sft.cli import main\n"
        f"for words in {commands!r}:\n"
        "    sys.argv = ['pacbayes-sft', *words.split()]\n"
        "    try: main()\n"
        "    except SystemExit as left: assert left.code == 2, words\n"
        "    assert 'torch' not in sys.modules, words\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    said = ["error: gone.jsonl: no such file"] * len(commands)
    assert done.returncode == 0 and done.stderr.splitlines() == said, done.stderr


def test_kl(lora_run):
    weights = answer("kl", "--base", "strong", "--finetuned", lora_run, "--sigma", 0.1)
    assert weights["kl"]["guarantee"] == "exact" and weights["kl"]["unit"] == "nats"
    assert weights["kl"]["value"] == pytest.approx(weights["squared_distance"] / 0.02)
    factors = answer(
        "kl", "--base", "strong", "--finetuned", lora_run, "--sigma", 0.1, "--space", "factors"
    )
    assert factors["parameters"] < weights["parameters"]


def test_kl_says_where_it_moved(lora_run, tmp_path):
    words = ("kl", "--base", "strong", "--finetuned", lora_run, "--sigma", 0.1)
    picture = tmp_path / "moved.png"
    result = answer(*words, "--by", "module", "--picture", picture)
    assert {r["name"] for r in result["by"]["module"]} >= {"q_proj", "up_proj"}
    assert picture.read_bytes().startswith(b"\x89PNG")
    done = run(*words, "--by", "layer")
    assert done.returncode == 0 and "layer 3" in done.stdout and "share" in done.stdout


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
    english = tmp_path / "english.jsonl"
    answer(
        "igsm",
        "--ops",
        "5:12",
        "--size",
        30,
        "--seed",
        2,
        "--rendering",
        "english",
        "--out",
        english,
    )
    assert json.loads(english.read_text().splitlines()[0])["prompt"].startswith("The number of")
    across = answer("tv", "--train", tmp_path / "a.jsonl", "--test", english)
    assert across["tv"]["guarantee"] != "exact"


def test_tv_writes_a_page_and_pictures(tmp_path):
    for name, ops, seed in (("a", "2:4", 1), ("b", "3:5", 2)):
        file = tmp_path / f"{name}.jsonl"
        answer("igsm", "--ops", ops, "--size", 50, "--seed", seed, "--out", file)
    out = tmp_path / "report"
    tv = ("tv", "--train", tmp_path / "a.jsonl", "--test", tmp_path / "b.jsonl")
    result = answer(*tv, "--out", out)
    assert result["tv"]["guarantee"] == "exact" and len(result["findings"]) == 4
    assert json.loads((out / "tv.json").read_text()) == result
    page = (out / "tv.html").read_text()
    assert "exactly" in page and page.count("data:image/png;base64,") == 4
    assert "http" not in page  # nothing to fetch
    assert {f.name for f in out.glob("*.png")} == {
        "intervals.png", "roc.png", "differs.png", "gamma.png",
    }  # fmt: skip
    streamed = answer(*tv, "--stream", "--view", "prompt", "--out", tmp_path / "s.json")
    assert streamed["tv"]["guarantee"] == "lower" and "prompt" in streamed["view"]
    assert json.loads((tmp_path / "s.json").read_text()) == streamed
    assert "at most one --view" in complaint(*tv, "--stream", "--attribute", "difficulty")
    assert "at most one --view" in complaint(*tv, "--stream", "--prequential")
    assert "one of the files to be read" in complaint(*tv, "--out", tmp_path / "a.jsonl")
    (tmp_path / "other").write_text("mine")
    assert "a file of that name" in complaint(*tv, "--out", tmp_path / "other")
    assert "two methods" in complaint(*tv, "--view", "full", "--attribute", "difficulty")


def test_tv_looks_at_texts_where_laws_are_recorded_if_an_option_of_texts_is_given(tmp_path):
    for name, ops, seed in (("a", "2:4", 1), ("b", "3:5", 2)):
        file = tmp_path / f"{name}.jsonl"
        answer("igsm", "--ops", ops, "--size", 50, "--seed", seed, "--out", file)
    tv = ("tv", "--train", tmp_path / "a.jsonl", "--test", tmp_path / "b.jsonl")
    assert len(answer(*tv)["findings"]) == 1
    result = answer(*tv, "--features", "counts")
    assert result["tv"]["guarantee"] == "exact" and len(result["findings"]) == 4


def test_the_terminal_promises_both_limits_where_both_say_something():
    from pacbayes_sft.cli.tv import _promise

    made = partial(Estimate, confidence=0.95, guarantee="upper", method="m")
    assert _promise(made(0.3, 0.2, 0.4)) == "upper: ≤ 0.4 at 0.95, and ≥ 0.2"
    assert _promise(made(1.0, 0.97549, 1.0)).startswith("lower: ≥ 0.9754 at 0.95; nothing below 1")
    assert _promise(made(0.3, 0.0, 0.4)) == "upper: ≤ 0.4 at 0.95"


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
    assert result["base_precision"] == "as stored, float32" and not result["trust_remote_code"]
    assert 0 <= result["risk"]["lower"] <= result["risk"]["value"] <= result["risk"]["upper"] <= 1


def test_bound_writes_its_files_and_prints_json_alone(tiny_base, small_run, rows_dir, tmp_path):
    result = answer(
        "bound",
        "--base",
        tiny_base,
        "--finetuned",
        small_run,
        "--train",
        rows_dir / "train.jsonl",
        "--test",
        rows_dir / "test.jsonl",
        "--out",
        tmp_path,
        "--device",
        "cpu",
        "--steps",
        6,
        "--prior-scales",
        "0.02,0.1",
    )
    assert json.loads((tmp_path / "bound.json").read_text()) == result
    assert result["posterior"]["family"] in ("isotropic", "refined")
    assert "chosen by the bound that a pilot promises" in result["posterior"]["reason"]
    written = {"bound.json", "bound.png", "report.html", "tables.md", "tables.tex"}
    assert {p.name for p in tmp_path.iterdir()} == written
    assert (tmp_path / "bound.png").is_file()


def test_bound_prints_a_table(tiny_base, small_run, rows_dir, tmp_path):
    done = run(
        "bound",
        "--base",
        tiny_base,
        "--finetuned",
        small_run,
        "--train",
        rows_dir / "train.jsonl",
        "--test",
        rows_dir / "test.jsonl",
        "--out",
        tmp_path,
        "--posterior",
        "isotropic",
    )
    assert done.returncode == 0
    for words in (
        "Gibbs predictor",
        "Proposition 4.1",
        "proposition_4_1",
        "not covered",
        "assumes:",
    ):
        assert words in done.stdout


def test_a_dry_run_prints_a_plan_and_writes_nothing(bound_words, tmp_path):
    words = [part for pair in bound_words.items() for part in pair]
    plan = answer("bound", *words, "--dry-run")
    assert plan["dry_run"] and plan["guarantee"] == "upper" and plan["cost"]["rows_refined"] > 0
    least = plan["least_conceivable_bound"]
    assert 0 < least["train_value"] < least["value"] < 1 and plan["base_precision"]
    assert any(
        "did not depend on the training rows" in sentence for sentence in plan["assumptions"]
    )
    done = run("bound", *words, "--dry-run")
    assert done.returncode == 0 and "nothing was computed" in " ".join(done.stdout.split())
    assert not (tmp_path / "out").exists()


def test_scales_that_spend_alike_share_a_line():
    from pacbayes_sft.cli.show import spends

    events = {"shift": 0.01}
    for scale in (0.1, 0.2):
        events |= {f"A with prior scale {scale:g}": 0.003, f"B with prior scale {scale:g}": 0.001}
    assert spends(events) == [
        "0.01 on shift",
        "0.003 on A at each of the prior scales 0.1, 0.2",
        "0.001 on B at each of the prior scales 0.1, 0.2",
    ]


def test_code_beside_the_weights_runs_only_if_asked_for(rows_dir, tmp_path):
    shutil.copytree(resolve_base("strong"), tmp_path / "remote")
    (tmp_path / "remote" / "config.json").write_text(
        json.dumps({"model_type": "wild", "auto_map": {"AutoConfig": "wild.Config"}})
    )
    (tmp_path / "remote" / "wild.py").write_text("raise SystemExit('it ran')")
    words = ("risk", "--base", tmp_path / "remote", "--test", rows_dir / "test.jsonl")
    assert "give --trust-remote-code" in complaint(*words)


@pytest.fixture
def bound_words(tiny_base, small_run, rows_dir, tmp_path):
    return {
        "--base": str(tiny_base),
        "--finetuned": small_run,
        "--train": rows_dir / "train.jsonl",
        "--test": rows_dir / "test.jsonl",
        "--out": tmp_path / "out",
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--delta": 0}, "--delta must lie between 1e-12 and 1"),
        ({"--delta": 1.5}, "--delta must lie between 1e-12 and 1"),
        ({"--finetuned": "nowhere"}, "no such"),
        ({"--base": "nowhere"}, "no such model directory"),
        ({"--base": "owner/name"}, "the hub could not give it"),
        ({"--base": "owner/name@v1"}, "the hub could not give it"),
        ({"--train": "nowhere.jsonl"}, "no such file"),
        ({"--shift": "colour"}, "column 'colour'"),
        ({"--prior": "nowhere"}, "no such"),
        ({"--device": "abacus"}, "--device abacus"),
        ({"--dtype": "int3"}, "--dtype int3"),
        ({"--posterior": "cubist"}, "isotropic"),
        ({"--prior-scales": "big"}, "--prior-scales big: give numbers"),
        ({"--prior-scales": "0.1,-1"}, "prior scales must lie between"),
        ({"--prior-scales": "1e-200"}, "prior scales must lie between"),
        ({"--prior-train": "x.jsonl"}, "--prior-train: does nothing with --prior base"),
    ],
)
def test_bad_input_is_one_sentence(change, says, bound_words):
    words = bound_words | change
    assert says in complaint("bound", *(part for pair in words.items() for part in pair))
    assert not words["--out"].exists()


def test_options_out_of_range_are_refused_before_any_work(rows_dir, bound_words, tmp_path):
    risk = ("risk", "--base", "strong", "--test", rows_dir / "test.jsonl")
    assert "batch-size" in complaint(*risk, "--batch-size", -3)
    assert "directory" in complaint(*risk, "--out", tmp_path)
    tv = ("tv", "--train", rows_dir / "train.jsonl", "--test", rows_dir / "test.jsonl")
    assert "not a column" in complaint(*tv, "--attribute", "none")
    words = [part for pair in bound_words.items() for part in pair]
    assert "seed" in complaint("bound", *words, "--seed", -1)


def test_a_picture_of_no_format_is_refused_before_any_work(rows_dir, tmp_path):
    words = ("difficulty", rows_dir / "test.jsonl", "--metric", "difficulty")
    words += ("--out", tmp_path / "out.jsonl", "--picture", tmp_path / "x.foo")
    assert "no format of pictures" in complaint(*words) and not list(tmp_path.iterdir())
    kl = ("kl", "--base", "strong", "--finetuned", tmp_path / "none", "--sigma", 0.1)
    assert "no format of pictures" in complaint(*kl, "--picture", "moved.foo")
    assert "none" in complaint(*kl, "--picture", "moved.PNG")  # the next thing that is wrong


@pytest.mark.parametrize("sigma", ["1e-200", "1e200"])
def test_a_sigma_whose_square_is_no_float_is_refused(sigma, lora_run):
    words = ("kl", "--base", "strong", "--finetuned", lora_run, "--sigma", sigma)
    assert f"--sigma {float(sigma):g}: a scale of weights" in complaint(*words)
    near = ("1e-100", "1e100")[float(sigma) > 1]
    assert run(*words[:-1], near).returncode == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--posterior isotropic --steps 400", "--steps: does nothing with --posterior isotropic"),
        ("--posterior laplace --start prior", "--start: does nothing with --posterior laplace"),
        ("--emit-dtype float16", "--emit-dtype: does nothing without --emit-adapter"),
        ("--declared-draws 2", "--declared-draws: does nothing without"),
        ("--draw-seed 0", "--draw-seed: does nothing without"),
        ("--dry-run --emit-adapter x", "--emit-adapter: does nothing under --dry-run"),
    ],
)
def test_options_of_bound_that_would_do_nothing(words, says, bound_words):
    given = [part for pair in bound_words.items() for part in pair]
    assert says in complaint("bound", *given, *words.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("tv --stream --batch-size 64", "--batch-size: does nothing under --stream"),
        ("tv --stream --base strong", "--base: does nothing under --stream"),
        ("tv --base strong", "--base: does nothing without --features hidden"),
        ("tv --attribute x --prequential", "--prequential: does nothing with --attribute"),
        ("tv --features words --cache c", "--cache: does nothing without --features hidden"),
        ("risk --samples s.jsonl --loss answer", "--loss: does nothing with --samples"),
        ("risk --samples s.jsonl --dtype float32", "--dtype: does nothing with --samples"),
        ("scan c.yaml --gpus 1", "--gpus: does nothing without --workers"),
        ("scan c.yaml --workers 2 --address h:1", "--workers: does nothing beside --address"),
        ("recipe chain-sum --out o --seed 3", "--seed: does nothing with chain-sum"),
        ("difficulty --samples 9", "--samples: does nothing without --metric pass_rate"),
        ("difficulty --metric bloom_proxy --tokenizer t", "does nothing without --metric cot_t"),
        ("difficulty --metric bloom_proxy --base b", "--base: does nothing with these metrics"),
        ("advise --base strong --budgets 9 --select-by window", "does nothing without --select"),
        ("difficulty --seed 3", "--seed: does nothing without --metric pass_rate"),
        ("difficulty --tokenizer strong --base b", "--base: does nothing beside --tokenizer"),
        ("sft --full --lora-rank 4", "--lora-rank: does nothing with --full"),
        ("sft --full --target-modules q_proj", "--target-modules: does nothing with --full"),
        ("sft --steps 9 --epochs 2", "--epochs: does nothing beside --steps"),
    ],
)
def test_options_that_would_do_nothing(words, says, rows_dir):
    command, *further = words.split()
    train, test = (rows_dir / f"{name}.jsonl" for name in ("train", "test"))
    files = {
        "tv": ("--train", train, "--test", test),
        "difficulty": (train, "--out", rows_dir / "none.jsonl"),
        "advise": ("--pool", train, "--test", test),
        "sft": ("--base", "strong", "--train", train, "--out", rows_dir / "none"),
    }
    assert says in complaint(command, *files.get(command, ()), *further)


@pytest.mark.parametrize("value", ["1" + 400 * "0", "NaN"])
def test_a_value_that_no_float_holds_is_a_name(value, tmp_path):
    """`tv --attribute` ended in an OverflowError, or in JSON that is none."""
    rows = [f'{{"prompt": "p{i}", "completion": "c", "ops": {i % 5 if i else value}}}'
            for i in range(60)]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    done = run("tv", "--train", tmp_path / "rows.jsonl", "--test", tmp_path / "rows.jsonl",
               "--attribute", "ops", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


def test_a_length_of_nothing_is_refused(rows_dir):
    words = ("risk", "--base", "strong", "--test", rows_dir / "test.jsonl", "--max-length", 0)
    assert "max-length" in complaint(*words)


@pytest.mark.parametrize(
    ("words", "read"),
    [("--epochs 0.5", "48"), ("--epochs 1", "100"), ("--epochs 3", "100"), ("--steps 2", "64")],
)
def test_rows_read_are_those_of_whole_batches(words, read, rows_dir, tmp_path):
    """An epoch of 100 rows is four batches of 32, the last of 4 rows; half of five of 24, two."""
    record = RunRecord(
        base="strong", base_sha256="", train="", train_sha256="", row_sha256=[""] * 100,
        order=list(range(100)), prior_rows=0, settings={}, versions={},
    )  # fmt: skip
    sft = ("sft", "--base", "strong", "--train", rows_dir / "train.jsonl", "--out", tmp_path)
    with mock.patch("pacbayes_sft.sft.run_sft", return_value=record):
        done = run(*sft, *words.split(), "--batch-size", 24 if words.endswith("0.5") else 32)
    (line,) = (line for line in done.stdout.splitlines() if "read at least once" in line)
    assert line.split()[-2] == read


def test_help_names_every_word_that_is_understood():
    options = {p.name: p.help for c in ("bound", "advise") for p in COMMANDS[c].params}
    for name, known in (
        ("shift", (*RESERVED, "monotone:COLUMN")),
        ("train_side", Train),
        ("shift_side", Extra),
    ):
        assert set(known) <= set(re.split(r"[ .,]+|: ", options[name])), name


def test_what_is_read_is_not_written_over(rows_dir, tmp_path):
    mine = shutil.copy(rows_dir / "train.jsonl", tmp_path / "rows.jsonl")
    before = mine.read_bytes()
    words = ("difficulty", mine, "--metric", "difficulty", "--out", mine)
    assert "files to be read" in complaint(*words) and mine.read_bytes() == before


def test_a_place_that_cannot_be_written_is_said(rows_dir, tmp_path):
    (tmp_path / "file").write_text("")
    words = ("difficulty", rows_dir / "train.jsonl", "--metric", "difficulty")
    text = complaint(*words, "--out", tmp_path / "file" / "out.jsonl")
    assert "file" in text and "error:" in text


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "error: No space left on device"),
        (ConnectionError("no cluster\nat all"), "error: no cluster"),
        (ConnectionError(), "error: ConnectionError"),
    ],
)
def test_an_error_of_the_system_without_a_file_is_a_sentence_too(error, says, rows_dir):
    with mock.patch("pacbayes_sft.data.rows.refuse_missing", side_effect=error):
        assert complaint("tv", "--train", "a.jsonl", "--test", "b.jsonl") == says


def test_users_words_are_no_markup(rows_dir, tmp_path):
    words = "[INST] rows [/INST] [medium] :smile:"
    table, out = new_table(f"Title {words}", "column"), io.StringIO()
    table.add_row(words)
    with contextlib.redirect_stdout(out):
        emit({}, table, as_json=False, out=None)
    assert " ".join(out.getvalue().split()).count(words) == 2
    mine = shutil.copy(rows_dir / "test.jsonl", tmp_path / "rows[medium].jsonl")
    done = run("difficulty", mine, "--metric", "difficulty", "--out", tmp_path / "out.jsonl")
    assert "[medium]" in "".join(done.stdout.split())
    assert complaint("plot", "[/INST]\\", "--bound", "x").startswith("error: [/INST]\\: holds")


def test_a_folder_without_weights_is_no_checkpoint(rows_dir):
    assert "neither" in complaint("inspect", rows_dir)


def test_the_version():
    assert run("--version").stdout.strip()[:2].replace(".", "").isdigit()


def test_another_base_of_the_same_shape_is_refused(lora_run, tmp_path):
    from transformers import AutoModelForCausalLM

    from pacbayes_sft.models import resolve_base

    model = AutoModelForCausalLM.from_pretrained(resolve_base("strong"))
    model.model.norm.weight.data.mul_(1.5)
    model.save_pretrained(tmp_path / "other")
    words = ("kl", "--base", tmp_path / "other", "--finetuned", lora_run, "--sigma", 0.1)
    assert "names another base" in complaint(*words)


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


def test_a_truncated_or_foreign_checkpoint(bound_words, small_run, tmp_path):
    broken = shutil.copytree(small_run, tmp_path / "broken")
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
    unrecorded = shutil.copytree(small_run, tmp_path / "unrecorded")
    shutil.rmtree(unrecorded / "pacbayes_sft")
    words = ("kl", "--base", tmp_path / "other", "--finetuned", unrecorded, "--sigma", 0.1)
    assert "whose weights are not those of" in complaint(*words)
    words = bound_words | {"--base": tmp_path / "other"}
    assert "names another base" in complaint("bound", *(p for pair in words.items() for p in pair))


def test_no_command_writes_over_what_it_reads(rows_dir, lora_run, tmp_path):
    rows, tuned = tmp_path / "rows.jsonl", shutil.copytree(lora_run, tmp_path / "ft")
    for name in ("test.jsonl", "test.jsonl.meta.json"):
        shutil.copy(rows_dir / name, tmp_path / name.replace("test", "rows"))
    before = [f.read_bytes() for f in (rows, tuned / "adapter_config.json")]
    kl = ("kl", "--base", "strong", "--finetuned", tuned, "--sigma", 0.1)
    measure = ("difficulty", rows, "--metric", "difficulty")
    png = tmp_path / "rows.png"
    for words in (
        ("risk", "--base", "strong", "--test", rows, "--out", rows),
        (*kl, "--out", tuned / "adapter_config.json"),
        ("inspect", tuned, "--out", tuned / "adapter_config.json"),
        ("inspect", tuned, "--out", tuned / "pacbayes_sft" / "run.json"),
        ("tv", "--train", rows, "--test", rows, "--out", f"{rows}.meta.json"),
        (*measure, "--out", tmp_path / "new.jsonl", "--picture", rows),
    ):
        assert "one of the files to be read" in complaint(*words)
    assert "name one file" in complaint(*measure, "--out", png, "--picture", png)
    assert [f.read_bytes() for f in (rows, tuned / "adapter_config.json")] == before
    (tuned / "kl.json").write_text("{}")  # an earlier result of ours may be replaced
    assert answer(*kl, "--out", tuned / "kl.json")["kl"]["value"] > 0


def test_risk_says_what_ran_and_on_what(rows_dir, lora_run, tmp_path):
    tuned = shutil.copytree(lora_run, tmp_path / "ft")
    shutil.rmtree(tuned / "pacbayes_sft")
    config = json.loads((tuned / "adapter_config.json").read_text())
    named = config | {"base_model_name_or_path": "nobody/other"}
    (tuned / "adapter_config.json").write_text(json.dumps(named))
    risk = ("risk", "--base", "strong", "--test", rows_dir / "test.jsonl", "--device", "cpu")
    assert answer(*risk)["warnings"] == []
    assert "names another base" in answer(*risk, "--finetuned", tuned)["warnings"][0]
    lines = (rows_dir / "test.jsonl").read_text().splitlines(keepends=True)
    copy = json.dumps(json.loads(lines[0]) | {"unit": "another"})
    (tmp_path / "twice.jsonl").write_text("".join([*lines[:8], copy]))
    (said,) = answer(*risk[:-4], "--test", tmp_path / "twice.jsonl", *risk[-2:])["warnings"]
    assert "1 rows of" in said and "row 9 = row 1" in said and "too narrow" in said


def test_risk_refuses_a_full_checkpoint_that_is_none_of_the_base(rows_dir, full_run, tmp_path):
    risk = ("risk", "--base", "strong", "--test", rows_dir / "test.jsonl", "--device", "cpu")
    coded = shutil.copytree(full_run, tmp_path / "coded")
    tensors = load_file(coded / "model.safetensors")
    save_file({k: (v * 9).to(torch.int8) for k, v in tensors.items()}, coded / "model.safetensors")
    assert "stored as int8" in complaint(*risk, "--finetuned", coded)
    model = AutoModelForCausalLM.from_pretrained(full_run)
    model.resize_token_embeddings(20, mean_resizing=False)
    model.save_pretrained(tmp_path / "short")
    assert "its vocabulary ends at 20" in complaint(*risk, "--finetuned", tmp_path / "short")


def test_rows_in_another_alphabet_are_refused(tmp_path):
    rows = [{"prompt": "What is the capital of France?", "completion": " Paris."}] * 3
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = complaint("risk", "--base", "strong", "--test", tmp_path / "a.jsonl", "--device", "cpu")
    assert "unknown to the tokenizer" in said


def test_what_cannot_be_written_is_refused_before_the_bound_is_computed(
    bound_words, rows_dir, monkeypatch
):
    from pacbayes_sft import certify

    monkeypatch.setattr(certify, "bound", None)
    file = rows_dir / "train.jsonl"
    for change in ({"--out": file / "x"}, {"--emit-adapter": file / "y" / "z"}):
        words = [part for pair in (bound_words | change).items() for part in pair]
        assert f"{file} is a file, no directory" in complaint("bound", *words)


def test_another_posterior_leaves_an_interrupted_refinement_alone(bound_words):
    out = bound_words["--out"]
    out.mkdir()
    (out / ".refinement.partial").write_text("hours of work")
    words = [part for pair in bound_words.items() for part in pair]
    words += ["--posterior", "isotropic", "--prior-scales", 0.02, "--shift", "monotone"]
    words += ["--draws", 1]
    done = run("bound", *words, "--device", "cpu")
    assert done.returncode == 0 and (out / ".refinement.partial").is_file()
    said = " ".join(done.stdout.split())
    assert "D⁺ on difficulty" in said and "TV on difficulty" not in said


def test_a_terminal_of_another_encoding_and_an_error_nobody_foresaw(lora_run, monkeypatch):
    kl = ("kl", "--base", "strong", "--finetuned", str(lora_run), "--sigma", "0.1")
    done = subprocess.run(
        [sys.executable, "-m", "pacbayes_sft", *kl], capture_output=True, timeout=240, check=False,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    from pacbayes_sft import inspection

    def breaks(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(inspection, "inspect_checkpoint", breaks)
    done = run("inspect", lora_run)
    assert done.returncode == 70 and "ZeroDivisionError" in done.stderr  # 1 is a failed `verify`


def test_a_recipe_does_not_write_over_its_own_source(tmp_path):
    source = tmp_path / "pool.jsonl"
    source.write_text("{}\n")
    words = ("recipe", "openr1-math500", "--out", tmp_path, "--pool", source)
    assert "one of the files to be read" in complaint(*words) and source.read_text() == "{}\n"


def test_a_seed_that_no_generator_takes_and_a_metric_of_no_name(rows_dir, tmp_path):
    rows = rows_dir / "train.jsonl"
    sft = ("sft", "--base", "strong", "--train", rows, "--out", tmp_path / "ft")
    assert "4294967295" in complaint(*sft, "--seed", 2**32)
    metric = ("difficulty", rows, "--base", "strong", "--out", tmp_path / "d.jsonl")
    assert "--metric nope: neither one of" in complaint(*metric, "--metric", "nope")
