"""What is not read rightly is refused by name, in one sentence that holds the mend."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from pacbayes_sft.checkpoints.files import ADAPTER, FULL, open_checkpoint
from pacbayes_sft.checkpoints.finetune import squared_distance
from pacbayes_sft.checkpoints.lora import CONFIG, read_adapter
from pacbayes_sft.choices import Space
from pacbayes_sft.errors import InputError
from pacbayes_sft.inspection import inspect_checkpoint
from pacbayes_sft.models import load_config, load_model
from tests.pacbayes_sft.checkpoints import tiny

A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
B = A.replace("lora_A", "lora_B")
ROWS = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
MERGE = "merge it with PEFT"


@pytest.fixture(scope="module")
def plain(bases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return tiny.make_adapter(bases["llama"], folder, target_modules=["q_proj"], r=2)


def distance(base, folder, space=Space.WEIGHTS):
    return squared_distance(open_checkpoint(base), folder, space)[0]


# the config's change: the name that must be said, and the mend
CONFIGS = {
    "aLoRA": ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens", "plain LoRA"),
    "Arrow": ({"arrow_config": {"top_k": 2}}, "arrow_config", "each of them alone"),
    "X-LoRA": ({"peft_type": "XLORA"}, "X-LoRA", "each of them alone"),
    "IA3": ({"peft_type": "IA3"}, "'IA3'", MERGE),
    "LoHa": ({"peft_type": "LOHA"}, "'LOHA'", MERGE),
    "VeRA": ({"peft_type": "VERA"}, "'VERA'", MERGE),
    "AdaLoRA": ({"peft_type": "ADALORA"}, "'ADALORA'", MERGE),
    "prompt tuning": ({"peft_type": "PROMPT_TUNING"}, "leaves the weights alone", "train a LoRA"),
    "no type": ({"peft_type": None}, "peft_type None", MERGE),
    "PiSSA, randomised": ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4", "convert it"),
    "LoRA-GA": ({"init_lora_weights": "lora_ga"}, "lora_ga", "convert it"),
    "CorDA": ({"init_lora_weights": "corda"}, "corda", "convert it"),
    "LoftQ": ({"init_lora_weights": "loftq"}, "loftq", "convert it"),
    "an unknown start": ({"init_lora_weights": "magic"}, "magic", "convert it"),
    "KaSA": ({"kasa_config": {"beta": 1}}, "kasa_config", MERGE),
    "MonteCLoRA": ({"monteclora_config": {"num_samples": 2}}, "monteclora_config", MERGE),
    "VeLoRA": ({"velora_config": {"num_groups": 2}}, "velora_config", MERGE),
    "QA-LoRA": ({"use_qalora": True}, "use_qalora", "plain LoRA"),
    "BD-LoRA": ({"use_bdlora": {"nblocks": 2}}, "use_bdlora", MERGE),
    "tied adapters": ({"ensure_weight_tying": True}, "ensure_weight_tying", MERGE),
    "Megatron": ({"megatron_config": {"tp": 2}}, "megatron_config", "plain PEFT model"),
    "a field of a newer PEFT": (
        {"a_field_of_2031": 3, "peft_version": "3.1.0"},
        "a_field_of_2031=.3.*PEFT 3.1.0",
        MERGE,
    ),
    "another rank": ({"r": 7}, "has rank 2, but adapter_config.json says 7", ""),
    "DoRA without magnitudes": ({"use_dora": True}, "no lora_magnitude_vector", "save it anew"),
    "too short a replication": ({"layer_replication": [[0, 1]]}, "replication makes only 1", ""),
}
WRONG_TYPES = {
    "r": ["two", 0, -1, 2.5, None, [2], True],
    "lora_alpha": ["eight", None, [8], float("nan"), float("inf"), {}, 1e308],
    "rank_pattern": ["q_proj", {"q_proj": "2"}, {"(": 2}, {"q_proj": 0}, [1]],
    "alpha_pattern": [3, {"[": 2.0}, {"q_proj": None}, {"q_proj": float("inf")}],
    "use_rslora": ["yes", 1],
    "fan_in_fan_out": ["no", {}],
    "init_lora_weights": [3, ["pissa"], {}],
    "bias": ["some", None, 3],
    "use_dora": ["no", 2],
    "modules_to_save": ["lm_head", [1], {"a": 1}],
    "trainable_token_indices": ["all", {"embed_tokens": "1"}, [1.5], [[1]]],
    "target_parameters": ["experts", [3]],
    "layer_replication": [3, [3], [[0]], [[2, 1]], [["a", "b"]], [[0, 1, 2]], [[0, 10**12]]],
    "peft_type": [3, ["LORA"], {}],
    "base_model_name_or_path": [3, ["x"]],
}


def edited(source, target, **changes):
    shutil.copytree(source, target)
    config = json.loads((target / CONFIG).read_text())
    (target / CONFIG).write_text(json.dumps(config | changes))
    return target


@pytest.mark.parametrize("name", CONFIGS)
def test_configs(name, bases, plain, tmp_path):
    changes, says, mend = CONFIGS[name]
    folder = edited(plain, tmp_path / "bad", **changes)
    with pytest.raises(InputError, match=rf"{says}.*{mend}"):
        distance(bases["llama"], folder)
    found = inspect_checkpoint(folder, base=str(bases["llama"]))  # an answer, not an error
    assert not any(way.available for way in found.ways)
    assert all(way.remark for way in found.ways)


@pytest.mark.parametrize("field", WRONG_TYPES)
def test_wrong_types(field, bases, plain, tmp_path):
    for i, value in enumerate(WRONG_TYPES[field]):
        folder = edited(plain, tmp_path / str(i), **{field: value})
        with pytest.raises(InputError, match=field):
            distance(bases["llama"], folder)


def without(name):
    return lambda tensors: {k: v for k, v in tensors.items() if k != name}


def with_(**changes):
    return lambda tensors: tensors | changes


TENSORS = {
    "NaN": (lambda t: t | {A: t[A] * float("nan")}, "NaN or infinity"),
    "beyond float64": (
        lambda t: t | {A: t[A].double() * 1e160, B: t[B].double() * 1e160},
        "beyond every number",
    ),
    "infinite": (lambda t: t | {B: t[B] + float("inf")}, "NaN or infinity"),
    "unmatched": (
        lambda t: t | {"base_model.model.model.odd": torch.ones(2)},
        "belongs to nothing",
    ),
    "an unnamed copy": (
        lambda t: t | {"base_model.model.model.norm.weight": torch.ones(8)},
        "belongs to nothing",
    ),
    "a lone A": (without(B), "only one of lora_A and lora_B"),
    "sharded": (lambda t: t | {A: t[A].flatten()}, "must be gathered"),
    "empty": (lambda t: t | {A: torch.zeros(0, 8)}, "must be gathered"),
    "a convolution": (lambda t: t | {A: t[A][..., None, None]}, "convolution"),
    "two ranks": (lambda t: t | {A: torch.ones(3, 8)}, "lora_A has rank 3, lora_B rank 2"),
    "another width": (lambda t: t | {A: torch.ones(2, 9)}, "not for the base"),
    "no such module": (
        lambda t: {k.replace("q_proj", "z_proj"): v for k, v in t.items()},
        "which is missing there",
    ),
    "two adapters": (
        lambda t: t | {A.replace(".weight", ".second.weight"): torch.ones(2, 8)},
        "twice, of several adapters",
    ),
    "nothing": (lambda t: {}, "holds no LoRA factors"),
    "a magnitude too many": (
        lambda t: t | {A.replace("lora_A.weight", "lora_magnitude_vector"): torch.ones(8)},
        "does not say use_dora",
    ),
    "token rows without indices": (
        lambda t: t | {ROWS: torch.ones(2, 8)},
        "no trainable_token_indices",
    ),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors(name, bases, plain, tmp_path):
    change, says = TENSORS[name]
    folder = shutil.copytree(plain, tmp_path / "bad")
    save_file(change(load_file(folder / ADAPTER)), folder / ADAPTER)
    with pytest.raises(InputError, match=says):
        distance(bases["llama"], folder)


def test_a_pickle_and_another_base(bases, plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "bin")
    (folder / ADAPTER).rename(folder / "adapter_model.bin")
    with pytest.raises(InputError, match=r"a pickle.*safe_serialization"):
        distance(bases["llama"], folder)
    with pytest.raises(InputError, match="not for the base"):
        distance(bases["gpt2"], plain)


@pytest.mark.parametrize(
    "changes", [{"trainable_token_indices": [3, 99]}, {"trainable_token_indices": [3, 3]}]
)
def test_token_rows_that_cannot_be(changes, bases, tmp_path):
    config = {"target_modules": ["q_proj"], "r": 2, "trainable_token_indices": [3, 1]}
    good = tiny.make_adapter(bases["llama"], tmp_path / "good", **config)
    with pytest.raises(InputError, match="trainable_token_indices"):
        distance(bases["llama"], edited(good, tmp_path / "bad", **changes))


def test_several_adapters_in_one_directory(plain, tmp_path):
    from pacbayes_sft.checkpoints.adapter_files import adapter_directory

    shutil.copytree(plain, tmp_path / "run" / "checkpoint-10")
    with pytest.raises(InputError, match="only in checkpoint-10; give one"):
        adapter_directory(tmp_path / "run")
    shutil.copytree(plain, tmp_path / "run" / "second")
    with pytest.raises(InputError, match="checkpoint-10, second"):
        adapter_directory(tmp_path / "run")


# what is more than factors, and what `kl --space factors` must say of it
BEYOND = {
    "use_dora": {"use_dora": True},
    "bias='all'": {"bias": "all"},
    "lora_bias": {"lora_bias": True},
    "modules_to_save": {"modules_to_save": ["lm_head"]},
    "trainable_token_indices": {"trainable_token_indices": [1]},
    "layer_replication": {"layer_replication": [[0, 2], [0, 1]]},
    "'pissa'": {"init_lora_weights": "pissa"},
    "'olora'": {"init_lora_weights": "olora"},
    "'eva'": {"init_lora_weights": "eva"},
    "'mica'": {"init_lora_weights": "mica"},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "target_parameters": {"target_parameters": ["q_proj.weight"], "target_modules": []},
}


@pytest.mark.parametrize("name", BEYOND)
def test_factors_of_what_is_more_than_factors(name, bases, tmp_path):
    config = {"target_modules": ["q_proj"], "r": 2} | BEYOND[name]
    folder = tiny.make_adapter(bases["llama"], tmp_path, **config)
    with pytest.raises(InputError, match=rf"{name}.*use --space weights"):
        read_adapter(folder)
    with pytest.raises(InputError, match=name):
        distance(bases["llama"], folder, Space.FACTORS)
    assert distance(bases["llama"], folder) > 0  # where it works


def test_codes_serve_only_where_their_values_are_not_needed(bases, tmp_path):
    """QLoRA: the factors alone need no W0, nor does a copy of what was left unquantised."""
    base = shutil.copytree(bases["llama"], tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    packed = {
        k: torch.zeros((v.numel() // 2, 1), dtype=torch.uint8) if "proj.weight" in k else v
        for k, v in tensors.items()
    }
    save_file(packed, base / "model.safetensors")
    config = json.loads((base / "config.json").read_text())
    quantised = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    (base / "config.json").write_text(json.dumps(config | quantised))
    readable = tiny.make_adapter(
        bases["llama"], tmp_path / "a", target_modules=["q_proj"], r=2, modules_to_save=["lm_head"]
    )
    assert distance(base, readable) == distance(bases["llama"], readable)
    for name, more in (("b", {"use_dora": True}), ("c", {"init_lora_weights": "olora"})):
        folder = tiny.make_adapter(
            bases["llama"], tmp_path / name, target_modules=["q_proj"], r=2, **more
        )
        with pytest.raises(InputError, match="stored quantised"):
            distance(base, folder)


def test_an_adapter_beside_the_bases_weights_is_refused(bases, plain, tmp_path):
    """transformers would put it on top: R̂ of weights that no KL pays for."""
    base = shutil.copytree(bases["llama"], tmp_path / "base")
    for name in (CONFIG, ADAPTER):
        shutil.copy(plain / name, base / name)
    for load in (load_model, load_config):
        with pytest.raises(InputError, match="an adapter lies beside the base's weights"):
            load(str(base))


def test_a_model_beside_an_adapter_is_not_what_is_read(bases, plain, tmp_path):
    folder, wanted = shutil.copytree(plain, tmp_path / "a"), distance(bases["llama"], plain)
    tensors = {k: v * 0.01 for k, v in load_file(folder / ADAPTER).items()}
    save_file(tensors, folder / FULL)
    assert distance(bases["llama"], folder) == wanted > 0
    (folder / ADAPTER).unlink()
    with pytest.raises(InputError, match=f"holds {CONFIG} but no {ADAPTER}"):
        distance(bases["llama"], folder)


def test_a_bad_pattern_is_judged_as_peft_uses_it(bases, plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "a")
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"rank_pattern": {"(?i)Q_PROJ": 4}}))
    with pytest.raises(InputError, match="rank_pattern has the bad pattern"):
        distance(bases["llama"], folder)
