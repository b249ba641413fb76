"""One word for one thing: flags, YAML and Python agree; every command answers in JSON, quickly."""

from __future__ import annotations

import dataclasses
import inspect
import os
import subprocess
import sys

import click
import pytest
import typer

import pacbayes_sft
from estimators.posteriors.refined import Schedule
from pacbayes_sft.advise.predict import Rule
from pacbayes_sft.advise.prepare import Pilots
from pacbayes_sft.advise.report import write_report
from pacbayes_sft.advise.select import select_rows
from pacbayes_sft.cli import app
from pacbayes_sft.cli.output import check_dtype
from pacbayes_sft.data.harness import change, read_samples
from pacbayes_sft.demo import run_demo
from pacbayes_sft.errors import InputError
from pacbayes_sft.igsm.files import write_problems
from pacbayes_sft.posteriors import Refinement
from pacbayes_sft.scan.config import Bound, Config, FineTune
from pacbayes_sft.scan.records import read_records
from pacbayes_sft.scan.where import Where
from pacbayes_sft.shift.asked import Asked

# What a command is in Python: one call, and the records that it takes its settings in.
PYTHON = {
    "demo": (run_demo,),
    "bound": (
        *(pacbayes_sft.bound, pacbayes_sft.Options, Refinement, Schedule),
        *(pacbayes_sft.emit_adapter, pacbayes_sft.plan),
    ),
    "verify": (pacbayes_sft.verify_adapter,),
    "inspect": (pacbayes_sft.inspect_checkpoint,),
    "kl": (pacbayes_sft.kl_term,),
    "tv": (pacbayes_sft.survey, Asked, pacbayes_sft.stream_two_sample),
    "risk": (pacbayes_sft.risk_term, read_samples, change),
    "igsm": (write_problems,),
    "sft": (pacbayes_sft.run_sft, pacbayes_sft.Settings),
    "difficulty": (pacbayes_sft.measure_difficulty,),
    "scan": (pacbayes_sft.run_scan, Where),
    "plot": (pacbayes_sft.plot_scan, read_records),
    "recipe": (pacbayes_sft.write_recipe,),
    "advise": (pacbayes_sft.advise_on, Pilots, FineTune, Rule, Where, select_rows, write_report),
}
# Flags of printing and drawing: they choose what becomes of an answer.
OUTPUT = {"json", "out", "picture", "by", "dry_run", "example"}
# Flags that have another name in Python, each for a reason.
OTHERWISE = {
    "bound": {
        "refine_batch": "batch_size",  # of Refinement; --batch-size is that of the evaluation
        "emit_adapter": "directory",  # of the call emit_adapter
        "emit_dtype": "dtype",
        "draw_seed": "seed",
    },
    "inspect": {"directory": "finetuned"},  # positional in both
    # flags that may be given again; --stream chooses the other call
    "tv": {"attribute": "attributes", "view": "views", "column": "columns", "stream": "chunk"},
    "risk": {"samples": "file", "against": "before"},  # of read_samples and change
    "igsm": {"ops": "law", "instance_only": "abstract"},  # a text; a flag is off by default
    "sft": {"full": "lora_rank"},  # rank 0
    "difficulty": {"metric": "metrics", "train": "source"},  # a flag that may be given again
    "advise": {
        "pilots": "work",  # the directory of their records
        "pilot_sizes": "sizes",  # of Pilots
        "pilot_seeds": "seeds",
        "train_side": "train",  # of Rule
        "shift_side": "shift",
        "select": "count",  # of the call select_rows
        "select_by": "how",
        "report": "directory",  # of the call write_report
    },
}


def flags(command):
    return {p.name: p for p in command.params if p.name not in ("help",)}


COMMANDS = dict(typer.main.get_command(app).commands)


def names(call):
    if dataclasses.is_dataclass(call):
        return {field.name for field in dataclasses.fields(call)}
    return set(inspect.signature(call).parameters)


def test_every_command_is_known_here():
    """A new command says here what it is in Python."""
    assert set(COMMANDS) == set(PYTHON)


@pytest.mark.parametrize("name", COMMANDS)
def test_flags_and_python_have_the_same_names(name):
    known = set().union(*map(names, PYTHON[name]))
    asked = set(flags(COMMANDS[name])) - OUTPUT
    otherwise = OTHERWISE.get(name, {})
    assert set(otherwise) <= asked, "an exception that no flag needs"
    assert set(otherwise.values()) <= known, "an exception that Python does not know"
    unknown = asked - known - set(otherwise)
    assert not unknown, f"{name}: {unknown} of {asked} have no such name in Python"


def test_yaml_has_the_names_of_the_flags():
    bound, sft = (set(flags(COMMANDS[name])) for name in ("bound", "sft"))
    # several shift terms of one posterior, where one run has --shift and --profile
    assert set(Bound.model_fields) - {"shifts"} <= bound
    # a scan gives small sets more passes; nothing of one run does that
    assert set(FineTune.model_fields) - {"least_steps"} <= sft
    shared = set(Config.model_fields) & (bound | sft)
    assert shared >= {"loss", "delta", "batch_size", "device", "dtype"}
    one_of_many = {"seeds": "seed", "bases": "base", "objectives": "objective"}
    assert set(one_of_many) <= set(Config.model_fields)
    assert set(one_of_many.values()) <= bound | sft


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_in_json(name):
    options = flags(COMMANDS[name])
    assert "--json" in options["json"].opts


@pytest.mark.parametrize("name", COMMANDS)
def test_words_of_a_flag_are_the_parameter_s_own(name):
    """``--prior-train`` is ``prior_train``: nobody has to look a name up twice."""
    for key, parameter in flags(COMMANDS[name]).items():
        if isinstance(parameter, click.Option) or parameter.param_type_name == "option":
            long = [word for word in parameter.opts if word.startswith("--")]
            assert f"--{key.replace('_', '-')}" in long, (key, parameter.opts)


def timed(*words):
    """The least processor time of three runs: what else the machine does is not counted."""
    code = (
        "import resource, subprocess, sys;"
        "subprocess.run([sys.executable, *sys.argv[1:]], check=True, capture_output=True);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(used.ru_utime + used.ru_stime)"
    )
    run = [sys.executable, "-c", code, *words]
    return min(float(subprocess.check_output(run, timeout=60)) for _ in range(3))


def test_importing_and_help_are_quick():
    assert timed("-c", "import pacbayes_sft") < 0.5
    assert timed("-m", "pacbayes_sft", "--help") < 1.0
    assert timed("-m", "pacbayes_sft", "bound", "--help") < 1.0


@pytest.mark.parametrize(
    ("shell", "typed", "offered"),
    [
        ("bash", "difficu", "difficulty"),
        ("zsh", "bound --loss ex", "exact_match"),
        ("fish", "bound --prior-s", "--prior-scales"),
    ],
)
def test_a_shell_can_complete(shell, typed, offered):
    words = f"pacbayes-sft {typed}"
    told = {
        "_PACBAYES_SFT_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    code = "import sys; sys.argv[:] = ['pacbayes-sft']; from pacbayes_sft.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | told,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert offered in done.stdout, (done.stdout, done.stderr)


def test_a_dtype_that_is_slow_here_is_said(monkeypatch, capsys):
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for dtype, said in (("float32", False), ("bfloat16", True), ("autocast", True)):
        assert check_dtype(dtype, "cpu") == dtype
        assert ("several times" in capsys.readouterr().err) == said
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: True)
    check_dtype("autocast", "auto")
    assert not capsys.readouterr().err
    with pytest.raises(InputError, match="--dtype int8"):
        check_dtype("int8", "cpu")
