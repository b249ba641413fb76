"""Hub ids out of a cache in the hub's own layout, offline."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pacbayes_sft.checkpoints.files import open_checkpoint
from pacbayes_sft.errors import InputError
from pacbayes_sft.hub import base_warnings, check_made_for, checkpoint_directory
from pacbayes_sft.inputs import load_inputs
from pacbayes_sft.inspection import inspect_checkpoint
from pacbayes_sft.models import BASES, local_directory, resolve_base
from pacbayes_sft.terms import kl_term, risk_term
from pacbayes_sft.unseen import DECLARED
from tests.pacbayes_sft.checkpoints import tiny

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


def put(cache, name, source, commits, refs):
    """Lay a directory into the cache as the hub does: blobs, snapshots of links, refs."""
    folder = cache / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "blobs").mkdir()
    for ref, commit in refs.items():
        (folder / "refs" / ref).write_text(commit)
    for file in (f for f in source.rglob("*") if f.is_file()):
        blob = folder / "blobs" / f"{len(list((folder / 'blobs').iterdir())):040x}"
        shutil.copy(file, blob)
        for commit in commits:
            link = folder / "snapshots" / commit / file.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))


@pytest.fixture
def hub(lora_run, tmp_path, monkeypatch):
    """``lab/base`` at two commits and ``lab/tuned``, without run record; the network is off."""
    tuned = shutil.copytree(lora_run, tmp_path / "tuned", ignore=shutil.ignore_patterns("run.json"))
    config = json.loads((tuned / "adapter_config.json").read_text())
    config |= {"base_model_name_or_path": "lab/base", "revision": "main"}
    (tuned / "adapter_config.json").write_text(json.dumps(config))
    home = tmp_path / "home"
    cache = home / "hub"
    put(cache, "lab/base", BASES / "strong", (COMMIT, OTHER), {"main": COMMIT, "old": OTHER})
    put(cache, "lab/tuned", tuned, (COMMIT,), {"v1": COMMIT})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return home


def test_every_path_is_also_a_hub_id(hub, lora_run):
    expected = kl_term("strong", lora_run, sigma=0.1).kl.value
    for base in ("lab/base@main", "lab/base@old", f"lab/base@{COMMIT}"):
        for tuned in ("lab/tuned@v1", f"lab/tuned@{COMMIT}"):
            assert kl_term(base, tuned, sigma=0.1).kl.value == pytest.approx(expected)
    found = checkpoint_directory("lab/tuned@v1")
    assert found.name == COMMIT and (found / "pacbayes_sft" / "initial").is_dir()
    assert local_directory("lab/base").name == COMMIT
    assert inspect_checkpoint("lab/tuned@v1", base="lab/base").refusal is None


def test_a_prior_may_be_one_too(hub, lora_run, rows_dir):
    shutil.copytree(lora_run / "pacbayes_sft" / "prior", "prior")
    put(hub / "hub", "lab/prior", Path("prior"), (COMMIT,), {"main": COMMIT})
    train, test = (str(rows_dir / f"{name}.jsonl") for name in ("train", "test"))
    seen = Path("seen.jsonl")
    seen.write_text("".join(Path(train).read_text().splitlines(True)[:40]))
    inputs = load_inputs(
        "lab/base@main", Path("lab/tuned@v1"), train, test, prior=Path("lab/prior@main"),
        prior_train=str(seen),
    )  # fmt: skip
    assert inputs.n == 24 and inputs.prior.name == COMMIT and inputs.warnings == (DECLARED,)


def test_the_revision_that_an_adapter_names_is_compared(hub, lora_run):
    tuned = checkpoint_directory("lab/tuned@v1")
    assert base_warnings(tuned, resolve_base("lab/base@main")) == ()
    (warning,) = base_warnings(tuned, resolve_base("lab/base@old"))
    assert "revision main" in warning and OTHER in warning
    assert kl_term("lab/base@old", tuned, sigma=0.1).warnings == (warning,)
    (warning,) = base_warnings(tuned, resolve_base("strong"))
    assert "names another base (lab/base)" in warning
    assert base_warnings(lora_run, resolve_base("lab/base@old")) == ()  # its record knows better


def other_weights(source, target, change):
    """Copy a base with its matrices changed."""
    shutil.copytree(source, target)
    file = Path(target, "model.safetensors")
    tensors = load_file(file)
    save_file({n: change(t) for n, t in tensors.items()}, file)


@pytest.mark.parametrize("named", ["lab/base", "strong", "named"])
def test_a_base_of_other_weights_than_the_named_one_is_refused(named, hub, rows_dir):
    """The same shapes fit; only the weights tell that it is another model."""
    tuned = Path("tuned")
    config = json.loads((tuned / "adapter_config.json").read_text())
    config |= {"base_model_name_or_path": named, "revision": None}
    (tuned / "adapter_config.json").write_text(json.dumps(config))
    shutil.copytree(BASES / "strong", "named")
    other_weights("named", "half", lambda t: t.bfloat16())
    other_weights("named", "other", lambda t: t * 1.02)
    assert kl_term("half", tuned, sigma=0.1).kl.value > 0
    files = [str(rows_dir / f"{name}.jsonl") for name in ("train", "test")]
    said = r"names another base, .*(lab/base|strong|named).*weights are not those of other"
    for refused in (
        lambda: kl_term("other", tuned, sigma=0.1),
        lambda: risk_term("other", files[1], tuned),
        lambda: load_inputs("other", tuned, *files),
    ):
        with pytest.raises(InputError, match=said):
            refused()
    assert "another base" in inspect_checkpoint(str(tuned), base="other").ways[0].remark
    Path("other/README.md").write_text("dequantized_from: x.gguf\n")  # rounded by a quantiser
    assert kl_term("other", tuned, sigma=0.1).kl.value > 0


def test_the_command_offline(hub):
    environment = os.environ | {"HF_HOME": str(hub), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)

    def kl(base, tuned):
        words = ["kl", "--base", base, "--finetuned", tuned, "--sigma", "0.1", "--json"]
        return subprocess.run(
            [sys.executable, "-m", "pacbayes_sft", *words],
            capture_output=True, text=True, env=environment, timeout=120,
        )  # fmt: skip

    done = kl("lab/base@main", "lab/tuned@v1")
    assert done.returncode == 0 and json.loads(done.stdout)["kl"]["value"] > 0
    missing = kl("lab/base@main", "lab/nowhere@v1")
    assert missing.returncode == 2 and missing.stdout == ""
    assert "lab/nowhere@v1" in missing.stderr and "Traceback" not in missing.stderr
    assert "offline" in missing.stderr and len(missing.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["a b/c", "../..", "owner/", "/", "x" * 300, "a/b\0", "C:\\m\\b"])
def test_what_names_no_base_that_is_here_refuses_nothing(name, hub):
    config = json.loads(Path("tuned/adapter_config.json").read_text())
    Path("tuned/adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": name})
    )
    assert kl_term("strong", Path("tuned"), sigma=0.1).kl.value > 0


@pytest.mark.parametrize("path", ["nowhere", "./a/b", "/a/b", "tuned/deeper", "a/b/c"])
def test_what_looks_like_a_path_is_one(path, hub):
    assert checkpoint_directory(path) == Path(path)


def test_weights_under_names_without_the_prefix_are_compared_too(tmp_path):
    named, given = (tiny.make_base("gpt2", tmp_path / n / "gpt2") for n in ("named", "given"))
    adapter = tiny.make_adapter(named, tmp_path / "a", target_modules=["c_attn"])
    tensors = load_file(given / "model.safetensors")
    bare = {k.removeprefix("transformer."): v for k, v in tensors.items()}
    save_file(bare, given / "model.safetensors", metadata={"format": "pt"})
    check_made_for(adapter, open_checkpoint(given))  # the same weights
    random = {k: torch.randn_like(v) for k, v in bare.items()}
    save_file(random, given / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="whose weights are not those"):
        check_made_for(adapter, open_checkpoint(given))
