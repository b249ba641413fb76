"""Every adapter people have, against PEFT itself: load the base, load the adapter, merge, subtract.

Four families of real architectures, tiny and randomly initialised; `make matrix` runs this.
"""

from __future__ import annotations

import copy
import json

import pytest
import torch
from peft import EvaConfig, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from pacbayes_sft.checkpoints.adapter_files import adapter_directory
from pacbayes_sft.checkpoints.files import ADAPTER, open_checkpoint
from pacbayes_sft.checkpoints.finetune import squared_distance, weight_changes, weight_pair
from pacbayes_sft.checkpoints.lora import CONFIG, read_adapter
from pacbayes_sft.choices import Space
from pacbayes_sft.errors import InputError
from tests.pacbayes_sft.checkpoints import tiny

pytestmark = pytest.mark.usefixtures("small_blocks")
ATTENTION = ["q_proj", "v_proj", "o_proj"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
PATTERNS = {
    "rank_pattern": {"layers.1.self_attn.q_proj": 2, "v_proj": 1},
    "alpha_pattern": {"^model.layers.0.self_attn.o_proj": 5, "v_proj": 1.5, ".*_attn.v_proj": 9},
}
TOKENS = {"target_modules": ATTENTION, "trainable_token_indices": [3, 1]}

# base, config, and what of PEFT to hold it against
CASES = {
    "plain": ("llama", {"target_modules": ATTENTION}),
    "plain on qwen2": ("qwen2", {"target_modules": "all-linear"}),
    "plain on qwen3": ("qwen3", {"target_modules": "all-linear"}),
    "plain on a mixture's attention": ("mixtral", {"target_modules": ATTENTION}),
    "rslora": ("qwen2", {"target_modules": ATTENTION, "use_rslora": True, "lora_alpha": 5}),
    "patterns": ("llama", {"target_modules": ATTENTION, **PATTERNS}),
    "rslora and patterns": ("qwen3", {"target_modules": ATTENTION, "use_rslora": True, **PATTERNS}),
    "fan-in-fan-out": ("gpt2", {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
    "fan-in-fan-out, square and head": ("gpt2", {"target_modules": ["c_proj", "lm_head"]}),
    "embedding": ("llama", {"target_modules": ["embed_tokens", "q_proj"]}),
    "embedding of gpt2": ("gpt2", {"target_modules": ["wte", "wpe", "c_attn"]}),
    "tied embedding": ("tied", {"target_modules": ["embed_tokens"]}),
    "tied head": ("qwen3", {"target_modules": ["lm_head", "q_proj"]}),
    "dora": ("llama", {"target_modules": ATTENTION, "use_dora": True}),
    "dora on qwen2": ("qwen2", {"target_modules": "all-linear", "use_dora": True}),
    "dora on gpt2": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "use_dora": True}),
    "dora on embedding": (
        "llama",
        {"target_modules": ["embed_tokens", "q_proj"], "use_dora": True},
    ),
    "bias all": ("llama", {"target_modules": ATTENTION, "bias": "all"}),
    "bias all on gpt2": ("gpt2", {"target_modules": ["c_attn"], "bias": "all"}),
    "bias lora_only": ("qwen2", {"target_modules": ["q_proj"], "bias": "lora_only"}),
    "lora_bias": ("llama", {"target_modules": ATTENTION, "lora_bias": True, "use_rslora": True}),
    "lora_bias and bias": (
        "gpt2",
        {"target_modules": ["c_attn"], "lora_bias": True, "bias": "lora_only"},
    ),
    "modules_to_save": ("llama", {"target_modules": ATTENTION, "modules_to_save": ["lm_head"]}),
    "modules_to_save, tied head": (
        "tied",
        {"target_modules": ATTENTION, "modules_to_save": ["lm_head"]},
    ),
    "modules_to_save, tied head and embedding": (
        "qwen3",
        {"target_modules": ATTENTION, "modules_to_save": ["lm_head", "embed_tokens"]},
    ),
    "modules_to_save, norms": ("gpt2", {"target_modules": ["c_attn"], "modules_to_save": ["ln_1"]}),
    "token rows": ("llama", TOKENS),
    "token rows, tied": ("tied", TOKENS),
    "token rows by module": (
        "llama",
        {
            "target_modules": ATTENTION,
            "trainable_token_indices": {"embed_tokens": [5], "lm_head": [7, 2]},
        },
    ),
    "what TRL adds": (
        "llama",
        TOKENS | {"modules_to_save": ["lm_head"]},
    ),
    "experts": ("mixtral", {"target_modules": ["q_proj"], "target_parameters": EXPERTS}),
    "one of the experts' parameters": (
        "mixtral",
        {"target_modules": [], "target_parameters": EXPERTS[:1]},
    ),
    "experts of qwen2_moe": (
        "qwen2_moe",
        {
            "target_modules": ["q_proj"],
            "target_parameters": [*EXPERTS, "mlp.gate.weight"],
            "use_rslora": True,
        },
    ),
    "experts with patterns": (
        "qwen2_moe",
        {
            "target_modules": [],
            "target_parameters": EXPERTS,
            "rank_pattern": {"experts.down_proj": 3},
            "alpha_pattern": {"layers.0.mlp.experts.gate_up_proj": 3},
        },
    ),
    "orthogonal": ("llama", {"target_modules": ATTENTION, "init_lora_weights": "orthogonal"}),
    "gaussian": ("llama", {"target_modules": ATTENTION, "init_lora_weights": "gaussian"}),
    "eva": (
        "qwen2",
        {
            "target_modules": ATTENTION,
            "init_lora_weights": "eva",
            "eva_config": EvaConfig(),
            "rank_pattern": {"model.layers.0.self_attn.q_proj": 1},
        },
    ),
}
REPLICATION = [[0, 2], [1, 2], [0, 1]]
RESIDUAL = {
    "pissa": ("llama", {"target_modules": "all-linear", "init_lora_weights": "pissa"}),
    "pissa on gpt2": ("gpt2", {"target_modules": ["c_attn", "c_fc"], "init_lora_weights": "pissa"}),
    "pissa with patterns": (
        "qwen2",
        {"target_modules": ATTENTION, "init_lora_weights": "pissa", "use_rslora": True, **PATTERNS},
    ),
    "olora": ("qwen3", {"target_modules": ATTENTION, "init_lora_weights": "olora"}),
    "mica": ("llama", {"target_modules": ATTENTION, "init_lora_weights": "mica"}),
    "olora on a mixture": ("mixtral", {"target_modules": ATTENTION, "init_lora_weights": "olora"}),
}
RANK = {"r": 2, "lora_alpha": 6}


def distance(base, folder):
    return squared_distance(open_checkpoint(base), folder, Space.WEIGHTS)


def check_dense(base, folder):
    """The dense pair, which `bound` uses, is the same change."""
    found, entries = distance(base, folder)
    pair = weight_pair(open_checkpoint(base), folder, "base")
    assert pair.parameters == entries
    assert pair.squared_distance == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_squared_distance_is_that_of_the_merge(name, bases, tmp_path):
    base, config = bases[CASES[name][0]], RANK | CASES[name][1]
    folder = tiny.make_adapter(base, tmp_path, **config)
    expected = tiny.merged_distance(base, folder)
    assert expected > 1e-3
    assert distance(base, folder)[0] == pytest.approx(expected, rel=1e-6)
    check_dense(base, folder)


@pytest.mark.parametrize("name", RESIDUAL)
def test_a_base_that_is_changed_at_load(name, bases, tmp_path):
    base, config = bases[RESIDUAL[name][0]], RANK | RESIDUAL[name][1]
    folder = tiny.make_adapter(base, tmp_path, **config)
    expected = tiny.residual_distance(base, folder)
    assert distance(base, folder)[0] == pytest.approx(expected, rel=1e-6)
    check_dense(base, folder)


def test_an_untrained_residual_start_is_the_base(bases, tmp_path):
    model = get_peft_model(
        tiny.load(bases["llama"], torch.float32),
        LoraConfig(target_modules=ATTENTION, init_lora_weights="pissa", **RANK),
    )
    model.save_pretrained(tmp_path)
    assert distance(bases["llama"], tmp_path)[0] < 1e-9


def test_an_untrained_orthogonal_start_is_not_negative(bases, tmp_path):
    """BA is almost zero while A and B are not: the trace formula alone would cancel."""
    model = get_peft_model(
        tiny.load(bases["llama"], torch.float32),
        LoraConfig(target_modules=ATTENTION, init_lora_weights="orthogonal", **RANK),
    )
    model.save_pretrained(tmp_path)
    expected = tiny.merged_distance(bases["llama"], tmp_path)
    assert distance(bases["llama"], tmp_path)[0] == pytest.approx(expected, rel=1e-6, abs=0)


@pytest.mark.parametrize("extra", [{}, {"bias": "all"}, {"use_dora": True}])
def test_layer_replication(extra, bases, tmp_path):
    base = bases["llama"]
    config = RANK | {"target_modules": ATTENTION, "layer_replication": REPLICATION}
    folder = tiny.make_adapter(base, tmp_path, **config, **extra)
    found, _ = distance(base, folder)
    if extra == {
        "use_dora": True
    }:  # against the same adapter on a base with the layers written out
        wide = tiny.load(base, torch.float32)
        wide.model.layers = torch.nn.ModuleList(
            [copy.deepcopy(wide.model.layers[i]) for i in (0, 1, 1, 0)]
        )
        wide.config.num_hidden_layers = 4
        wide.save_pretrained(tmp_path / "wide")
        plain = tmp_path / "plain"
        plain.mkdir()
        settings = json.loads((folder / CONFIG).read_text()) | {"layer_replication": None}
        (plain / CONFIG).write_text(json.dumps(settings))
        save_file(load_file(folder / ADAPTER), plain / ADAPTER)
        expected = tiny.merged_distance(tmp_path / "wide", plain)
    else:
        expected = tiny.unmerged_distance(base, folder)
        if extra:  # shared by the layers that are copies: once
            stored, start = load_file(folder / ADAPTER), tiny.load(base).state_dict()
            for layer in (0, 1):
                for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
                    name = f"model.layers.{layer}.self_attn.{part}"
                    kept = [
                        v
                        for k, v in stored.items()
                        if k.startswith(f"base_model.model.{name}.") and k.endswith(".bias")
                    ]
                    expected += float((kept[0].double() - start[f"{name}.bias"]).square().sum())
    assert found == pytest.approx(expected, rel=1e-6)
    with pytest.raises(InputError, match=r"layer_replication.*only `kl`"):
        weight_pair(open_checkpoint(base), folder, "base")


def test_head_and_embedding_that_the_base_ties_part(bases, tmp_path):
    """Merging would add both changes to the one tensor; PEFT's forward pass does not."""
    config = RANK | {"target_modules": ["lm_head", "embed_tokens"]}
    folder = tiny.make_adapter(bases["tied"], tmp_path, **config)
    expected = tiny.unmerged_distance(bases["tied"], folder)
    assert distance(bases["tied"], folder)[0] == pytest.approx(expected, rel=1e-6)
    changes = weight_changes(open_checkpoint(bases["tied"]), folder)
    assert changes.untied == ("lm_head.weight",) and "parts them" in changes.notes[0]
    # PEFT saves the base's own embedding beside its factors: no change, so W0 is not read
    assert all(change.only_factors for change in changes.tensors.values())


def test_equal_copies_of_tied_tensors_count_once(bases, tmp_path):
    config = RANK | {"target_modules": ATTENTION, "modules_to_save": ["lm_head", "embed_tokens"]}
    folder = tiny.make_adapter(bases["tied"], tmp_path, **config)
    both, entries = distance(bases["tied"], folder)
    tensors = load_file(folder / ADAPTER)
    names = [f"base_model.model.{n}.weight" for n in ("model.embed_tokens", "lm_head")]
    start = tiny.load(bases["tied"]).state_dict()["lm_head.weight"]
    parts = [float((tensors[n].double() - start).square().sum()) for n in names]
    tensors[names[1]] = tensors[names[0]].clone()
    save_file(tensors, folder / ADAPTER)
    once, fewer = distance(bases["tied"], folder)
    assert once == pytest.approx(both - parts[1], rel=1e-6)
    assert fewer == entries - start.numel()


@pytest.mark.parametrize("layout", ["sub-directory", "name in the keys"])
def test_other_adapter_names(layout, bases, tmp_path):
    base = bases["llama"]
    config = RANK | {
        "target_modules": [*ATTENTION, "embed_tokens"],
        "use_dora": True,
        "modules_to_save": ["lm_head"],
    }
    folder = tiny.make_adapter(base, tmp_path, adapter_name="mine", **config)
    inside = adapter_directory(folder)
    assert inside == folder / "mine"
    expected = tiny.merged_distance(base, inside)
    if layout == "name in the keys":
        tensors = load_file(inside / ADAPTER)

        def renamed(key):
            for kind in ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"):
                key = key.replace(f".{kind}", f".{kind}.mine")
            key = key.replace(".lora_magnitude_vector", ".lora_magnitude_vector.mine.weight")
            return key.replace("lm_head.weight", "lm_head.modules_to_save.mine.weight")

        save_file({renamed(k): v for k, v in tensors.items()}, inside / ADAPTER)
    assert distance(base, inside)[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["svd", "cat", "linear", "ties"])
def test_merged_combinations(kind, bases, tmp_path):
    base = bases["qwen2"]
    model = get_peft_model(
        tiny.load(base, torch.float32), LoraConfig(target_modules=ATTENTION, **RANK)
    )
    model.add_adapter("second", LoraConfig(target_modules=ATTENTION, r=2, lora_alpha=3))
    tiny.disturb(model)
    more = {"density": 0.5} if kind == "ties" else {}
    model.add_weighted_adapter(["default", "second"], [0.7, -0.4], "mix", kind, **more)
    model.save_pretrained(tmp_path, selected_adapters=["mix"])
    folder = adapter_directory(tmp_path)
    assert distance(base, folder)[0] == pytest.approx(tiny.merged_distance(base, folder), rel=1e-6)
    assert read_adapter(folder).layers  # plain factors: both spaces


def test_an_adapter_of_single_experts_from_before_they_were_fused(bases, tmp_path):
    """Saved under transformers 4: a LoRA on each expert's own linear layer; PEFT fuses it."""
    base = bases["mixtral"]
    shapes = {k: v.shape for k, v in load_file(base / "model.safetensors").items()}
    tensors = {}
    torch.manual_seed(3)
    for name, shape in shapes.items():
        if ".experts." in name:
            module = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{module}.lora_A.weight"] = torch.randn(2, shape[1])
            tensors[f"{module}.lora_B.weight"] = torch.randn(shape[0], 2)
    save_file(tensors, tmp_path / ADAPTER)
    targets = ["w1", "w2", "w3"]
    LoraConfig(target_modules=targets, **RANK).save_pretrained(tmp_path)
    found, _ = distance(base, tmp_path)
    assert found == pytest.approx(tiny.merged_distance(base, tmp_path), rel=1e-6)


def test_a_residual_start_converted_to_plain_lora(bases, tmp_path):
    """PEFT's own mend for what changes the base: [B, -B0] and [A, A0], of twice the rank."""
    base = bases["qwen3"]
    model = get_peft_model(
        tiny.load(base, torch.float32),
        LoraConfig(target_modules=ATTENTION, init_lora_weights="pissa", **RANK),
    )
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "start")
    model.peft_config["default"].init_lora_weights = "pissa"
    tiny.disturb(model)
    model.save_pretrained(tmp_path / "trained")
    model.save_pretrained(
        tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "start")
    )
    found, _ = distance(base, tmp_path / "plain")
    assert found == pytest.approx(tiny.merged_distance(base, tmp_path / "plain"), rel=1e-6)
    assert found == pytest.approx(distance(base, tmp_path / "trained")[0], rel=1e-5)
    assert read_adapter(tmp_path / "plain").layers


def test_a_bias_of_half_precision_is_scaled_in_float64(bases, tmp_path):
    """PEFT adds s·b; s times a bfloat16 rounded to bfloat16 is another number."""
    config = {"target_modules": ["q_proj"], "lora_bias": True, "r": 4, "lora_alpha": 7}
    folder = tiny.make_adapter(bases["llama"], tmp_path, **config)
    tensors = {k: v.bfloat16() for k, v in load_file(folder / ADAPTER).items()}
    save_file(tensors, folder / ADAPTER)
    wanted = sum(
        float((1.75 * v.double()).square().sum()) for k, v in tensors.items() if k.endswith(".bias")
    )
    changes = weight_changes(open_checkpoint(bases["llama"]), folder)
    distances = changes.squared_distances()
    found = sum(v for k, v in distances.items() if k.endswith(".bias"))
    assert found == pytest.approx(wanted, rel=1e-9)
