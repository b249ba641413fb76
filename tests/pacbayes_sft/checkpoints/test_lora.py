"""Against PEFT itself: load the base, load the adapter, merge, subtract."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from estimators import kl_isotropic
from pacbayes_sft.checkpoints.files import ADAPTER, open_checkpoint
from pacbayes_sft.checkpoints.finetune import factor_pair, squared_distance, weight_pair
from pacbayes_sft.checkpoints.lora import CONFIG, read_adapter
from pacbayes_sft.choices import Space
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import BASES

STRONG = BASES / "strong"


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    GPT2LMHeadModel(
        GPT2Config(
            vocab_size=50,
            n_positions=32,
            n_embd=16,
            n_layer=2,
            n_head=2,
            bos_token_id=1,
            eos_token_id=2,
        )
    ).save_pretrained(folder)
    return folder


def make_adapter(base, folder, **config):
    torch.manual_seed(1)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder


def brute_force(base, folder):
    """‖ΔW‖² by merging in float64."""
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64)
    before = {k: v.clone() for k, v in plain.state_dict().items()}
    merged = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64), folder
    ).merge_and_unload()
    return sum(float((v - before[k]).square().sum()) for k, v in merged.state_dict().items())


CONFIGS = {
    "plain": {"target_modules": ["q_proj", "down_proj"], "r": 4, "lora_alpha": 6},
    "rslora": {"target_modules": ["v_proj"], "r": 9, "lora_alpha": 5, "use_rslora": True},
    "patterns": {
        "target_modules": ["q_proj", "k_proj", "up_proj"],
        "r": 4,
        "lora_alpha": 8,
        "rank_pattern": {"layers.1.self_attn.q_proj": 2, "k_proj": 3},
        "alpha_pattern": {"^model.layers.0.mlp.up_proj": 5, "k_proj": 1.5},
    },
}


@pytest.mark.parametrize("name", CONFIGS)
def test_squared_distance_is_that_of_the_merge(name, tmp_path):
    folder = make_adapter(STRONG, tmp_path / "a", **CONFIGS[name])
    distance, entries = squared_distance(open_checkpoint(STRONG), folder, Space.WEIGHTS)
    assert distance == pytest.approx(brute_force(STRONG, folder), rel=1e-6)
    dense = weight_pair(open_checkpoint(STRONG), folder, "base")
    assert dense.parameters == entries
    assert dense.squared_distance == pytest.approx(distance, rel=1e-5)


def test_fan_in_fan_out(gpt2, tmp_path):
    folder = make_adapter(
        gpt2, tmp_path / "a", target_modules=["c_attn"], r=3, lora_alpha=7, fan_in_fan_out=True
    )
    distance, _ = squared_distance(open_checkpoint(gpt2), folder, Space.WEIGHTS)
    assert distance == pytest.approx(brute_force(gpt2, folder), rel=1e-6)
    pair = weight_pair(open_checkpoint(gpt2), folder, "base")
    assert pair.squared_distance == pytest.approx(distance, rel=1e-5)


def test_a_lost_initial_adapter_means_the_balanced_gauge_around_zero(tmp_path):
    folder = make_adapter(STRONG, tmp_path / "a", **CONFIGS["plain"])
    adapter = read_adapter(folder)
    pair = factor_pair(adapter, "base")
    nuclear = sum(
        2 * float(torch.linalg.matrix_norm(x.b.double() @ x.a.double(), ord="nuc"))
        for x in adapter.layers.values()
    )
    assert pair.squared_distance == pytest.approx(nuclear, rel=1e-5)
    streamed, _ = squared_distance(open_checkpoint(STRONG), folder, Space.FACTORS)
    assert streamed == pytest.approx(nuclear, rel=1e-9)
    assert any("initial A was not kept" in sentence for sentence in pair.assumptions)
    with pytest.raises(InputError, match="initial adapter was not kept"):
        factor_pair(adapter, "initial")


def test_saved_initial_factors_centre_the_prior(lora_run):
    adapter = read_adapter(lora_run)
    pair = factor_pair(adapter, "initial")
    start = load_file(lora_run / "pacbayes_sft" / "initial" / ADAPTER)
    end = load_file(lora_run / ADAPTER)
    expected = sum(float((end[k].double() - start[k].double()).square().sum()) for k in end)
    assert pair.squared_distance == pytest.approx(expected, rel=1e-12)
    assert all(bool((t == 0).all()) for name, t in pair.prior.items() if name.endswith("lora_B"))
    streamed, entries = squared_distance(open_checkpoint(STRONG), lora_run, Space.FACTORS)
    assert (streamed, entries) == (pair.squared_distance, pair.parameters)
    assert kl_isotropic(streamed, entries, 0.1, 0.1).value == pytest.approx(expected / 0.02)


def test_full_fine_tune_against_subtraction(full_run):
    before = AutoModelForCausalLM.from_pretrained(STRONG).state_dict()
    after = AutoModelForCausalLM.from_pretrained(full_run).state_dict()
    names = [n for n in after if n != "lm_head.weight"]  # tied: counted once
    expected = sum(float((after[n].double() - before[n].double()).square().sum()) for n in names)
    distance, entries = squared_distance(open_checkpoint(STRONG), full_run, Space.WEIGHTS)
    assert distance == pytest.approx(expected, rel=1e-9) and distance > 0
    assert entries == sum(after[n].numel() for n in names)


def edited(source, target, **changes):
    shutil.copytree(source, target)
    config = json.loads((target / CONFIG).read_text())
    (target / CONFIG).write_text(json.dumps(config | changes))
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"a_field_of_2031": 3}, "a_field_of_2031"),
        ({"r": 7}, "rank"),
        ({"lora_alpha": "eight"}, "lora_alpha"),
    ],
)
def test_what_cannot_be_read_rightly_is_refused_by_name(changes, message, tmp_path):
    good = make_adapter(STRONG, tmp_path / "good", **CONFIGS["plain"])
    with pytest.raises(InputError, match=message):
        read_adapter(edited(good, tmp_path / "bad", **changes))


def test_broken_files(tmp_path):
    good = make_adapter(STRONG, tmp_path / "good", **CONFIGS["plain"])
    truncated = shutil.copytree(good, tmp_path / "truncated")
    data = (good / ADAPTER).read_bytes()
    (truncated / ADAPTER).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="truncated"):
        read_adapter(truncated)
    nan = shutil.copytree(good, tmp_path / "nan")
    tensors = load_file(nan / ADAPTER)
    first = next(iter(tensors))
    tensors[first][0, 0] = float("nan")
    save_file(tensors, nan / ADAPTER)
    with pytest.raises(InputError, match="NaN"):
        read_adapter(nan)
    with pytest.raises(InputError, match="missing"):
        read_adapter(tmp_path)
    pickle = tmp_path / "pickle"
    pickle.mkdir()
    (pickle / CONFIG).write_text((good / CONFIG).read_text())
    (pickle / "adapter_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match="pickle"):
        read_adapter(pickle)


def test_an_adapter_for_another_base_is_refused(gpt2, tmp_path):
    folder = make_adapter(STRONG, tmp_path / "a", **CONFIGS["plain"])
    with pytest.raises(InputError, match="not for the base"):
        squared_distance(open_checkpoint(gpt2), folder, Space.WEIGHTS)
    with pytest.raises(InputError, match="not a fine-tune"):
        squared_distance(open_checkpoint(gpt2), STRONG, Space.WEIGHTS)


def test_a_shard_may_not_lie_outside(tmp_path):
    index = {"weight_map": {"w": "../elsewhere.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="outside"):
        open_checkpoint(tmp_path)


def test_sharded_is_read_as_whole(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(STRONG)
    model.save_pretrained(tmp_path, max_shard_size="500KB")
    sharded = open_checkpoint(tmp_path)
    assert len(sharded.files) > 2
    distance, _ = squared_distance(open_checkpoint(STRONG), tmp_path, Space.WEIGHTS)
    assert distance == 0
