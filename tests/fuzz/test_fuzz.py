"""Broken adapter directories and checkpoints end in one sentence: no traceback, hang or harm."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from pacbayes_sft.errors import InputError
from pacbayes_sft.inspection import inspect_checkpoint
from pacbayes_sft.terms import kl_term
from tests.fuzz.mutations import mutate
from tests.pacbayes_sft.checkpoints import tiny

FAST, MANY, COMMANDS = 160, 2400, 60
SECONDS, BYTES = 10.0, 2 * 2**30


@pytest.fixture(scope="module")
def origins(tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    """Well-formed directories of four kinds, each with its base."""
    folder = tmp_path_factory.mktemp("origins")
    base = tiny.make_base("llama", folder / "base")
    plain = tiny.make_adapter(base, folder / "plain", target_modules=["q_proj"], r=2)
    rich = tiny.make_adapter(
        base,
        folder / "rich",
        target_modules=["q_proj", "up_proj", "embed_tokens"],
        r=2,
        use_dora=True,
        modules_to_save=["lm_head"],
        rank_pattern={"up_proj": 3},
        bias="all",
    )
    model = AutoModelForCausalLM.from_pretrained(base)
    tiny.disturb(model)
    model.save_pretrained(folder / "sharded", max_shard_size="4kB")
    assert len(list((folder / "sharded").glob("*.safetensors"))) > 1
    model.save_pretrained(folder / "whole")
    kinds = {"plain": plain, "rich": rich, "sharded": folder / "sharded", "whole": folder / "whole"}
    return {kind: (base, path) for kind, path in kinds.items()}


def contents(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        digest.update(str(file.relative_to(folder)).encode())
        if file.is_file() and not file.is_symlink():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def attempt(base: Path, folder: Path) -> set[str]:
    """Inspect and measure; return which calls were refused. Anything but InputError is a bug."""
    refused = set()
    calls = {
        "inspect": lambda: inspect_checkpoint(folder, base=str(base)),
        "weights": lambda: kl_term(str(base), folder, sigma=0.1, space="weights"),
        "factors": lambda: kl_term(str(base), folder, sigma=0.1, space="factors"),
    }
    for name, call in calls.items():
        began = time.monotonic()
        try:
            found = call()
            if name == "inspect" and found.refusal:
                assert "\n" not in found.refusal
            elif name != "inspect":
                assert found.squared_distance >= 0  # neither NaN nor negative
        except InputError as error:
            refused.add(name)
            assert "\n" not in str(error) and str(error).startswith(str(folder.parent)[:4])
        assert time.monotonic() - began < SECONDS, name
    return refused


def run_many(origins: dict[str, tuple[Path, Path]], tmp_path: Path, seeds: range) -> int:
    refused = 0
    for seed in seeds:
        base, origin = origins[sorted(origins)[seed % 4]]
        folder = tmp_path / str(seed)
        how = mutate(origin, folder, seed)
        before = contents(tmp_path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                refused += bool(attempt(base, folder))
        except Exception as error:
            raise AssertionError(f"seed {seed}, {origin.name}: {how}: {error!r}") from error
        assert contents(tmp_path) == before, f"seed {seed}: something was written"
        subprocess.run(["rm", "-rf", str(folder)], check=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert peak < BYTES + 2**30, "more than 2 GB above what the libraries need"
    return refused


def test_a_few_broken_directories(origins, tmp_path):
    refused = run_many(origins, tmp_path, range(FAST))
    assert FAST / 3 < refused < FAST  # mutations bite, and not every one is fatal


@pytest.mark.slow
def test_thousands_of_broken_directories(origins, tmp_path):
    assert run_many(origins, tmp_path, range(10**6, 10**6 + MANY)) > MANY / 3


@pytest.mark.slow
def test_through_the_command(origins, tmp_path):
    """Exit code 0 or 2, one sentence, within the time and under 2 GB of memory in use."""
    for seed in range(COMMANDS):
        base, origin = origins[sorted(origins)[seed % 4]]
        folder = tmp_path / str(seed)
        how = mutate(origin, folder, 2 * 10**6 + seed)
        words = ["kl", "--base", str(base), "--finetuned", str(folder), "--sigma", "0.1", "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "pacbayes_sft", *words],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=False,
        )
        said = f"seed {seed}, {origin.name}: {how}: {done.stderr[-500:]}"
        assert done.returncode in (0, 2), said
        assert "Traceback" not in done.stderr, said
        if done.returncode == 2:
            assert done.stdout == "" and done.stderr.count("error:") == 1, said
        else:
            assert json.loads(done.stdout)["squared_distance"] >= 0, said
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert peak < BYTES
