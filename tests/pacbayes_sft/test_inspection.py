"""`inspect` says in words what the other commands then do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from pacbayes_sft.checkpoints.files import FULL, open_checkpoint
from pacbayes_sft.checkpoints.finetune import squared_distance
from pacbayes_sft.checkpoints.lora import CONFIG
from pacbayes_sft.choices import Space
from pacbayes_sft.errors import InputError
from pacbayes_sft.inspection import inspect_checkpoint
from pacbayes_sft.terms import kl_term
from tests.pacbayes_sft.checkpoints import tiny
from tests.pacbayes_sft.cli.test_cli import answer, complaint, run


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.make_base("tied", tmp_path_factory.mktemp("base"))


def adapter(base, folder, **config):
    return tiny.make_adapter(base, folder, **({"target_modules": ["q_proj"], "r": 2} | config))


def ways(found):
    return {way.name: way.available for way in found.ways}


def test_a_plain_adapter_goes_both_ways(base, tmp_path):
    found = inspect_checkpoint(adapter(base, tmp_path, use_rslora=True), base=str(base))
    contents = dict(found.contents)
    assert found.kind == "LoRA adapter" and found.refusal is None
    assert contents["rank"] == "2" and contents["scaling"] == "5.657"
    assert contents["targets"] == "2 × q_proj" and contents["features"] == "rsLoRA"
    assert "0.21" in contents["type"] and "float32" in contents["stored"]
    assert all(ways(found).values()) and len(ways(found)) == 4
    expected = squared_distance(open_checkpoint(base), tmp_path, Space.WEIGHTS)[0]
    assert found.squared_distance == expected
    assert not found.warnings


def test_adapters_beside_the_one_that_is_read_are_named(base, tmp_path):
    """PEFT saves `default` into the directory and every other adapter into one of its own."""
    adapter(base, tmp_path)
    for name in ("second", "checkpoint-10"):
        adapter(base, tmp_path / name)
    (warning,) = inspect_checkpoint(tmp_path, base=str(base)).warnings
    assert warning.startswith("second: further adapters, not read")


def test_without_a_base_what_it_would_tell_is_left_open(base, tmp_path):
    found = inspect_checkpoint(adapter(base, tmp_path, use_dora=True))
    assert found.squared_distance is None and not found.changes
    assert ways(found) == {
        "kl --space weights": None,
        "bound --space weights": None,
        "kl --space factors": False,
        "bound --space factors": False,
    }


def test_what_trl_adds_is_a_warning(base, tmp_path):
    folder = adapter(base, tmp_path, trainable_token_indices=[1], modules_to_save=["lm_head"])
    found = inspect_checkpoint(folder, base=str(base))
    text = " ".join(found.warnings)
    assert "TRL adds it by itself" in text and "320 entries" in text and "parts them" in text
    assert "1 trained token rows" in dict(found.contents)["features"]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"init_lora_weights": "eva"}, "EVA saw the training data"),
        ({"init_lora_weights": "pissa"}, "computed anew from the base"),
        ({"target_modules": ["embed_tokens"]}, "merging the adapter would change both"),
        ({"layer_replication": [[0, 2], [0, 1]]}, ""),
    ],
)
def test_warnings(config, says, base, tmp_path):
    found = inspect_checkpoint(adapter(base, tmp_path, **config), base=str(base))
    assert says in " ".join(found.warnings)
    assert len(set(found.warnings)) == len(found.warnings)
    assert ways(found)["bound --space weights"] is ("layer_replication" not in config)


def test_a_refusal_is_an_answer(base, tmp_path):
    folder = adapter(base, tmp_path / "a")
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"kasa_config": {"beta": 1}}))
    found = inspect_checkpoint(folder, base=str(base))
    assert "kasa_config" in found.refusal and not any(ways(found).values())
    done = run("inspect", folder)
    assert done.returncode == 0 and "cannot be read" in done.stdout
    other = tiny.make_base("gpt2", tmp_path / "gpt2")
    (folder / CONFIG).write_text(json.dumps(config))
    found = inspect_checkpoint(folder, base=str(other))
    assert found.refusal is None and not any(ways(found).values())
    assert "whose weights are not those of" in found.ways[0].remark
    assert "no such directory" in complaint("inspect", tmp_path / "nowhere")


def test_a_full_checkpoint(base, tmp_path):
    model = tiny.load(base, torch.float32)
    tiny.disturb(model)
    model.to(torch.bfloat16).save_pretrained(tmp_path, max_shard_size="1KB")
    found = inspect_checkpoint(tmp_path, base=str(base))
    contents = dict(found.contents)
    assert found.kind == "full checkpoint" and contents["head"] == "tied to the embedding"
    assert "bfloat16" in contents["stored"] and int(contents["files"]) > 1
    assert ways(found) == {
        "kl --space weights": True,
        "bound --space weights": True,
        "kl --space factors": False,
        "bound --space factors": False,
    }


def test_the_run_record_and_its_priors(lora_run):
    found = inspect_checkpoint(lora_run, base="strong")
    assert "64 rows" in found.record and "first 32" in found.record
    assert [prior.available for prior in found.priors] == [True, True, True]
    wrong = inspect_checkpoint(lora_run, base="weak")
    assert "names another base" in wrong.ways[0].remark and not wrong.ways[0].available


def test_the_command(base, tmp_path):
    folder = adapter(base, tmp_path / "a", adapter_name="mine")
    result = answer("inspect", folder, "--base", base)
    assert result["directory"] == str(folder / "mine")
    assert result["squared_distance"] == kl_term(str(base), folder, sigma=1).squared_distance
    assert {way["name"]: way["available"] for way in result["certification"]} == {
        f"{command} --space {space}": True
        for command in ("kl", "bound")
        for space in ("weights", "factors")
    }
    done = run("inspect", folder, "--base", base)
    assert done.returncode == 0 and "‖ΔW‖²" in done.stdout


def test_kl_says_what_it_decided_and_what_a_merge_moved(base, tmp_path):
    folder = adapter(base, tmp_path / "a", modules_to_save=["lm_head"])
    merged = tiny.attach(base, folder, torch.float32).merge_and_unload().to(torch.bfloat16)
    merged.save_pretrained(tmp_path / "m")
    words = ("kl", "--base", base, "--finetuned", folder, "--sigma", 1, "--merged", tmp_path / "m")
    result = answer(*words)
    assert any("parts them" in n or "two part" in n for n in result["notes"])
    assert 0 < result["merged"]["relative"] < 0.1 and result["merged"]["share_moved"] > 0.9
    assert result["base_precision"].startswith("as stored")
    done = run(*words)
    assert "of ‖ΔW‖" in " ".join(done.stdout.split())


def test_no_support_needs_transformers_or_peft(base, tmp_path):
    """The arithmetic is ours, whatever the feature."""
    folders = [
        adapter(base, tmp_path / "a", use_dora=True, modules_to_save=["lm_head"]),
        adapter(base, tmp_path / "b", init_lora_weights="pissa"),
        adapter(base, tmp_path / "c", trainable_token_indices=[1], target_modules=["q_proj"]),
        shutil.copytree(base, tmp_path / "full"),
    ]
    code = (
        "import sys; from pathlib import Path; from pacbayes_sft.terms import kl_term;"
        "from pacbayes_sft.inspection import inspect_checkpoint\n"
        f"for folder in {[str(f) for f in folders]!r}:\n"
        f"    kl_term({str(base)!r}, Path(folder), sigma=0.1)\n"
        f"    inspect_checkpoint(Path(folder), base={str(base)!r})\n"
        "assert not {'transformers', 'peft', 'trl', 'datasets'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_no_base_is_asked_for_in_vain(tmp_path):
    with pytest.raises(InputError, match="no such"):
        inspect_checkpoint(tmp_path, base="nowhere")


def test_a_distance_that_is_none_is_an_answer_too(base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "full")
    tensors = load_file(folder / FULL)
    name = next(n for n, t in tensors.items() if t.ndim > 1)
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, folder / FULL, metadata={"format": "pt"})
    found = inspect_checkpoint(folder, base=str(base))
    assert found.squared_distance is None and not any(ways(found).values())
    assert any("NaN" in way.remark for way in found.ways)
