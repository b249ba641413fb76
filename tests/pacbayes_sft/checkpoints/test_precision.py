"""What the base's weights are is read and said; codes are never taken for values."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pacbayes_sft.checkpoints.files import open_checkpoint
from pacbayes_sft.checkpoints.finetune import squared_distance, weight_pair
from pacbayes_sft.checkpoints.lora import other_base
from pacbayes_sft.checkpoints.precision import base_precision
from pacbayes_sft.choices import Space
from pacbayes_sft.errors import InputError
from pacbayes_sft.inputs import load_inputs
from pacbayes_sft.models import BASES

STRONG = BASES / "strong"
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


@pytest.mark.parametrize(
    ("config", "readme", "says"),
    [
        ({"dtype": "bfloat16"}, "", "as stored, bfloat16"),
        ({}, "", "as stored, dtype not stated"),
        ({"quantization_config": NF4}, "", "quantised (bitsandbytes nf4)"),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            "",
            "quantised (gptq, bits 4)",
        ),
        ({"dequantized_from": "GGUF Q4_K_M: a.gguf"}, "", "de-quantised from GGUF Q4_K_M: a.gguf"),
        ({}, "# A base\n\ndequantized_from: GGUF Q4_0\n", "de-quantised from GGUF Q4_0"),
    ],
)
def test_it_is_read_from_config_or_card(config, readme, says, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "README.md").write_text(readme)
    assert base_precision(tmp_path) == says


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    """The strong base with its matrices packed as bitsandbytes packs them: shapes, not values."""
    folder = tmp_path_factory.mktemp("quantised") / "strong"
    shutil.copytree(STRONG, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": NF4}))
    tensors = load_file(folder / "model.safetensors")
    packed = {
        name: torch.zeros((t.numel() // 2, 1), dtype=torch.uint8) if "proj" in name else t
        for name, t in tensors.items()
    }
    save_file(packed, folder / "model.safetensors")
    return folder


@pytest.fixture
def unrecorded(lora_run, tmp_path):
    folder = shutil.copytree(lora_run, tmp_path / "run")
    shutil.rmtree(folder / "pacbayes_sft")
    return folder


@pytest.mark.parametrize("space", list(Space))
def test_a_lora_on_a_quantised_base_has_its_kl(space, codes, unrecorded):
    found, expected = (
        squared_distance(open_checkpoint(base), unrecorded, space) for base in (codes, STRONG)
    )
    assert found == expected


def test_codes_are_not_taken_for_values(codes, unrecorded, full_run):
    base = open_checkpoint(codes)
    with pytest.raises(InputError, match=r"quantised \(bitsandbytes nf4\).*--space factors"):
        weight_pair(base, unrecorded, "base")
    with pytest.raises(InputError, match="stored quantised"):
        squared_distance(base, full_run, Space.WEIGHTS)


def test_an_adapter_made_for_another_base_is_named(codes, unrecorded, rows_dir):
    files = [str(rows_dir / name) for name in ("train.jsonl", "test.jsonl")]
    assert not any("another base" in w for w in load_inputs("strong", unrecorded, *files).warnings)
    file = unrecorded / "adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"base_model_name_or_path": "owner/strong-bnb-4bit"}))
    inputs = load_inputs("strong", unrecorded, *files)
    assert any("names another base (owner/strong-bnb-4bit)" in w for w in inputs.warnings)
    assert load_inputs(str(codes), unrecorded, *files).base_precision == (
        "quantised (bitsandbytes nf4)"
    )


@pytest.mark.parametrize(
    "base", ["owner/name", "owner/name@v1", "cache/models--owner--name/snapshots/0a1b", "runs/name"]
)
def test_the_same_base_under_another_path_is_no_other_base(base, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/name/"}')
    assert other_base(Path(tmp_path), base) is None
    assert other_base(Path(tmp_path), "owner/other") == "owner/name/"
