"""A fine-tune that several processes share is the fine-tune of one."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from safetensors.torch import load_file
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from pacbayes_sft import launch
from pacbayes_sft.checkpoints.files import ADAPTER
from pacbayes_sft.checkpoints.record import RECORD_DIR, read_record
from pacbayes_sft.errors import InputError
from pacbayes_sft.first_pass import watch
from pacbayes_sft.launch import FAILED, _environment, run_sft_on
from pacbayes_sft.order import is_shuffled, shares_of
from pacbayes_sft.processes import (
    PRECISION,
    SHARDED,
    SIZES,
    Team,
    launched,
)
from pacbayes_sft.sft import Settings, run_sft
from pacbayes_sft.sft_folder import PARTIAL

SETTINGS = Settings(steps=4, batch_size=16, lora_rank=4, prior_fraction=0.5, device="cpu")


@pytest.mark.slow
def test_two_processes_fine_tune_as_one_does(rows_dir, tmp_path):
    """16 divides the 64 rows and the 32 of the prior: each step reads the same rows."""
    train = rows_dir / "train.jsonl"
    one = run_sft("strong", train, tmp_path / "one", SETTINGS)
    run_sft_on(2, "strong", train, tmp_path / "two", SETTINGS)
    two = read_record(tmp_path / "two")
    assert two.settings == one.settings | {"processes": 2}
    assert (one.order, one.prior_rows) == (two.order, two.prior_rows) and not two.order_unknown
    for place in ("", f"{RECORD_DIR}/prior", f"{RECORD_DIR}/initial"):
        a, b = (load_file(tmp_path / name / place / ADAPTER) for name in ("one", "two"))
        assert a.keys() == b.keys()
        moved = max((a[k] - b[k]).abs().max() for k in a)
        assert moved <= (0 if "initial" in place else 1e-4)
    start = load_file(tmp_path / "two" / RECORD_DIR / "initial" / ADAPTER)
    assert max((b[k] - start[k]).abs().max() for k in b) == 0  # the last pair was the initial one
    end = load_file(tmp_path / "two" / ADAPTER)
    assert max((end[k] - start[k]).abs().max() for k in end) > 1e-3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the launcher outlives its parent elsewhere")
def test_killed_they_end_and_go_on_to_the_same_weights(tiny_base, rows_dir, tmp_path):
    train, settings = rows_dir / "train.jsonl", replace(SETTINGS, steps=60, prior_fraction=0.0)
    run_sft_on(2, str(tiny_base), train, tmp_path / "whole", settings)
    code = (
        "from pathlib import Path; from pacbayes_sft.launch import run_sft_on;"
        "from pacbayes_sft.sft import Settings;"
        f"run_sft_on(2, {str(tiny_base)!r}, Path({str(train)!r}), Path({str(tmp_path / 'cut')!r}),"
        "Settings(steps=60, batch_size=16, lora_rank=4, device='cpu'))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    while not (tmp_path / "cut" / PARTIAL / "2" / "checkpoint-15").is_dir():
        assert parent.poll() is None
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    here, until = str(tmp_path / "cut"), time.monotonic() + 60
    while any(here in " ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])):
        assert time.monotonic() < until, "they train on unseen"
        time.sleep(0.2)
    assert not (tmp_path / "cut" / ADAPTER).exists(), "it had ended: the test tested nothing"
    run_sft_on(2, str(tiny_base), train, tmp_path / "cut", settings)
    whole, cut = (load_file(tmp_path / name / ADAPTER) for name in ("whole", "cut"))
    assert all(torch.equal(whole[k], cut[k]) for k in whole)
    assert read_record(tmp_path / "cut").order == read_record(tmp_path / "whole").order


@pytest.mark.slow
def test_what_one_of_them_refuses_is_said_in_its_sentence(rows_dir, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("")
    with pytest.raises(InputError, match="not empty; give another --out"):
        run_sft_on(2, "strong", rows_dir / "train.jsonl", tmp_path / "out", SETTINGS)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_rows_of_a_step_that_cannot_be_shared_are_refused(tmp_path):
    assert Team(4).rows_each(16) == 4
    with pytest.raises(InputError, match="16 rows cannot be shared evenly by 3 processes"):
        run_sft_on(3, "strong", tmp_path / "none.jsonl", tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists()


def test_each_process_has_a_gpu_or_is_not_started(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="--processes 2: each takes a GPU, and 1 can be seen"):
        run_sft_on(2, "strong", tmp_path, tmp_path, replace(SETTINGS, device="cuda"))


def test_one_process_is_its_own_team(monkeypatch):
    for name in SIZES:
        monkeypatch.delenv(name, raising=False)
    assert launched() == 1 and Team.of("cpu") == Team(1, first=True, state=None)
    Team().wait()
    Team().agree({"rows": [1]})
    with pytest.raises(InputError, match="no"):
        Team().agree({}, InputError("no"))


@pytest.mark.parametrize("name", [*SHARDED, PRECISION])
def test_what_a_launcher_asks_for_and_a_fine_tune_is_not_is_refused(name, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, "bf16" if name == PRECISION else "true")
    with pytest.raises(InputError, match=name):
        Team.of("cuda")


@pytest.mark.parametrize(
    ("theirs", "said", "match"),
    [({"rows": "[1]"}, None, None), ({"rows": "[2]"}, None, "not see the same rows"),
     ({"rows": "[1]"}, "out: not empty", "out: not empty")],
)  # fmt: skip
def test_processes_go_on_together_or_not_at_all(theirs, said, match, monkeypatch):
    """Else one that refuses would meet the others in its next fine-tune, and mix the rows."""
    monkeypatch.setattr("accelerate.utils.gather_object", lambda mine: [*mine, (theirs, said)])
    team = Team(2, True, state=object())
    if match is None:
        team.agree({"rows": [1]})
    else:
        with pytest.raises(InputError, match=match):
            team.agree({"rows": [1]})


def test_a_failure_that_is_no_refusal_shows_the_first(tmp_path, monkeypatch):
    class Done:
        returncode = 1
        stderr = "\n".join(
            f"noise\n{FAILED}{json.dumps([at, said])}"
            for at, said in ((2.0, "reset"), (1.0, "OOM"))
        )

    monkeypatch.setattr(launch.subprocess, "run", lambda *_, **__: Done)
    with pytest.raises(RuntimeError, match=r"in 2 processes failed:\nOOM$"):
        run_sft_on(2, "strong", tmp_path, tmp_path, SETTINGS)


def test_a_child_can_ask_to_end_with_its_parent_before_it_loads_a_trainer():
    """While it loads one for seconds, a parent that is killed would leave it to train on."""
    code = (
        "import sys, pacbayes_sft.launch;"
        "assert not {'torch', 'transformers', 'trl'} & {*sys.modules}, [*sys.modules]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_other_launchers_words_are_not_passed_on_and_threads_are_shared(monkeypatch):
    for name in ("PET_NNODES", "ACCELERATE_USE_FSDP"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = _environment(2)
    assert found["OMP_NUM_THREADS"] == "3" and "PATH" in found
    assert not {"PET_NNODES", "ACCELERATE_USE_FSDP"} & found.keys()
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert _environment(2)["OMP_NUM_THREADS"] == "4"


@pytest.mark.slow
def test_a_refusal_of_one_mixes_no_rows_into_the_next_run(tiny_base, rows_dir, tmp_path):
    """A script over seeds that passes over a directory in use, in two processes."""
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "mine.txt").write_text("")
    train, words = rows_dir / "train.jsonl", "steps=4, batch_size=16, prior_fraction=0.5"
    (tmp_path / "runs.py").write_text(
        "from pathlib import Path\nfrom pacbayes_sft.errors import InputError\n"
        "from pacbayes_sft.sft import Settings, run_sft\nfor seed in range(2):\n    try:\n"
        f"        run_sft({str(tiny_base)!r}, {str(train)!r},\n"
        f"                Path({str(tmp_path)!r}) / str(seed),\n"
        f"                Settings({words}, seed=seed, device='cpu'))\n"
        "    except InputError:\n        pass\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    subprocess.run([*launch, "2", str(tmp_path / "runs.py")], check=True, timeout=300)
    alone = Settings(steps=4, batch_size=16, prior_fraction=0.5, seed=1, device="cpu")
    run_sft(str(tiny_base), train, tmp_path / "alone", alone)
    for place in ("", f"{RECORD_DIR}/prior"):
        a, b = (load_file(tmp_path / name / place / ADAPTER) for name in ("1", "alone"))
        assert max((a[k] - b[k]).abs().max() for k in a) < 1e-4


@pytest.mark.parametrize("index", [0, 1])
def test_each_process_draws_all_rows_in_one_order_and_keeps_its_share(index):
    """What the record's order rests on: the first of them sees what all of them read."""
    rows = torch.arange(12)
    batches = BatchSampler(SequentialSampler(rows), 2, drop_last=False)
    loader = DataLoader(rows, batch_sampler=BatchSamplerShard(batches, 2, index))
    watched = watch(loader)
    assert not is_shuffled(loader) and shares_of(loader) == 2
    read = [batch.tolist() for batch in loader]
    assert read == [[4 * k + 2 * index, 4 * k + 2 * index + 1] for k in range(3)]
    assert watched.drawn == list(range(12))
