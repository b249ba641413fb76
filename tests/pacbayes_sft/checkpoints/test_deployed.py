"""What `bound` puts into the loaded base is the model that PEFT runs, ties and experts included."""

from __future__ import annotations

import warnings

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from pacbayes_sft.certify import bound
from pacbayes_sft.checkpoints.files import ADAPTER, open_checkpoint
from pacbayes_sft.checkpoints.finetune import weight_changes, weight_pair
from pacbayes_sft.choices import Loss, Space
from pacbayes_sft.errors import InputError
from pacbayes_sft.inspection import inspect_checkpoint
from pacbayes_sft.models import load_model, resolve_base, vocabulary_size
from pacbayes_sft.options import Options
from pacbayes_sft.slots import find_slots, set_ties
from pacbayes_sft.terms import risk_term
from tests.pacbayes_sft.checkpoints import tiny

ATTENTION = ["q_proj", "o_proj"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
CASES = {
    "dora and biases": ("llama", {"target_modules": ATTENTION, "use_dora": True, "bias": "all"}),
    "lora_bias": ("llama", {"target_modules": ATTENTION, "lora_bias": True}),
    "pissa": ("qwen2", {"target_modules": ATTENTION, "init_lora_weights": "pissa"}),
    "a head that the base ties": ("tied", {"target_modules": ["lm_head", "q_proj"]}),
    "an embedding that the base ties": ("qwen3", {"target_modules": ["embed_tokens", "q_proj"]}),
    "both": ("tied", {"target_modules": ["embed_tokens", "lm_head"]}),
    "a copied head that the base ties": (
        "qwen3",
        {"target_modules": ATTENTION, "modules_to_save": ["lm_head"]},
    ),
    "token rows that follow the tie": (
        "tied",
        {"target_modules": ATTENTION, "trainable_token_indices": [2, 5]},
    ),
    "token rows of the embedding alone": (
        "tied",
        {
            "target_modules": ATTENTION,
            "trainable_token_indices": {"embed_tokens": [2, 5], "lm_head": [7]},
        },
    ),
    "gpt2": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "use_dora": True, "bias": "all"}),
    "mixtral": ("mixtral", {"target_modules": ["q_proj"], "target_parameters": EXPERTS}),
    "qwen2_moe": (
        "qwen2_moe",
        {"target_modules": ["q_proj"], "target_parameters": [*EXPERTS, "mlp.gate.weight"]},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_deployed_model_is_pefts(name, bases, tmp_path):
    base, config = bases[CASES[name][0]], CASES[name][1]
    folder = tiny.make_adapter(base, tmp_path, r=2, **config)
    pair = weight_pair(open_checkpoint(base), folder, "base")
    model = tiny.load(base, torch.float32)
    set_ties(model, pair.untied, pair.tied)
    slots = find_slots(model, Space.WEIGHTS, list(pair.posterior))
    ids = torch.arange(3, 27)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
        slots.put(pair.posterior)
        found = model(input_ids=ids).logits
        expected = tiny.attach(base, folder, torch.float32)(input_ids=ids).logits
        slots.put(pair.prior)
        again = model(input_ids=ids).logits
    assert float((found - before).abs().max()) > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again, before, rtol=1e-4, atol=1e-5)


def test_experts_that_lie_one_by_one_are_not_bounded(bases, tmp_path):
    model = tiny.load(bases["mixtral"], torch.float32)
    tiny.disturb(model)
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"one by one.*only `kl`"):
        weight_pair(open_checkpoint(bases["mixtral"]), tmp_path, "base")


def test_a_bias_that_the_model_does_not_have(bases, tmp_path):
    """PEFT warns that such a LoRA cannot be merged; the change has a norm, but no place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = tiny.make_adapter(
            bases["tied"], tmp_path, target_modules=["q_proj"], r=2, lora_bias=True
        )
    base, name = open_checkpoint(bases["tied"]), "model.layers.0.self_attn.q_proj.bias"
    assert weight_changes(base, folder).tensors[name].base.zero
    with pytest.raises(InputError, match=r"q_proj.bias.*only `kl`"):
        weight_pair(base, folder, "base")
    (way,) = (
        w
        for w in inspect_checkpoint(folder, base=str(bases["tied"])).ways
        if w.name == "bound --space weights"
    )
    assert way.available is False and "q_proj.bias" in way.remark


def test_an_adapter_that_peft_would_leave_aside_is_refused(bases, tmp_path):
    """PEFT only warns, and evaluates the base with factors as they were initialised."""
    folder = tiny.make_adapter(bases["llama"], tmp_path / "a", target_modules=["q_proj"], r=2)
    tensors = load_file(folder / ADAPTER)
    assert load_model(str(bases["llama"]), folder)
    save_file(dict(list(tensors.items())[:2]), folder / ADAPTER)
    with pytest.raises(InputError, match="Found missing adapter keys"):
        load_model(str(bases["llama"]), folder)
    renamed = {k.replace(".weight", ".mine.weight"): v for k, v in tensors.items()}
    save_file(renamed, folder / ADAPTER)
    with pytest.raises(InputError, match="carry the adapter name 'mine'"):
        load_model(str(bases["llama"]), folder)
    other = {k.replace("layers.1", "layers.7"): v.clone() for k, v in tensors.items()}
    save_file(tensors | other, folder / ADAPTER)
    with pytest.raises(InputError, match=r"no place in .*layers.7.self_attn.q_proj.lora_A"):
        load_model(str(bases["llama"]), folder)


def test_token_rows_under_a_lora_of_the_tied_head_are_refused(bases, tmp_path):
    """PEFT puts the rows under both the embedding's copy and the head's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = tiny.make_adapter(
            bases["tied"], tmp_path, r=2, target_modules=["q_proj", "lm_head"],
            trainable_token_indices=[2, 5],
        )  # fmt: skip
    with pytest.raises(InputError, match="PEFT puts the rows under both"):
        weight_pair(open_checkpoint(bases["tied"]), folder, "base")


@pytest.mark.slow
def test_a_bound_for_more_than_factors(rows_dir, tmp_path):
    """The whole way, on a base that ties its head: DoRA and a head of its own."""
    base = resolve_base("strong")
    folder = tiny.make_adapter(
        base, tmp_path, target_modules=["q_proj"], r=2, use_dora=True, modules_to_save=["lm_head"]
    )
    files = [str(rows_dir / name) for name in ("train.jsonl", "test.jsonl")]
    options = Options(
        space=Space.WEIGHTS, posterior="isotropic", prior_scales=(0.05,), loss=Loss.SMOOTHED_NLL
    )
    certificate = bound("strong", folder, *files, options)
    pair = certificate.inputs.pair
    assert pair.untied == ("lm_head.weight",) and len(pair.posterior) == 5
    assert any("two part" in warning for warning in certificate.inputs.warnings)
    assert certificate.kl.value == pytest.approx(pair.squared_distance / (2 * 0.05**2), rel=1e-6)
    through_peft = risk_term("strong", files[1], folder, loss=Loss.SMOOTHED_NLL).risk.value
    assert certificate.measured.test_risk_finetuned.value == pytest.approx(through_peft, abs=1e-5)
    with pytest.raises(InputError, match=r"use_dora.*use --space weights"):
        bound("strong", folder, *files, Options(posterior="isotropic", prior_scales=(0.05,)))


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["q_proj"]},
        {"target_modules": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": [2, 5]},
    ],
    ids=lambda config: " and ".join(config),
)
def test_the_vocabulary_is_the_bases_whatever_lies_on_its_embedding(config, bases, tmp_path):
    folder = tiny.make_adapter(bases["llama"], tmp_path, r=2, **config)
    assert vocabulary_size(load_model(str(bases["llama"]), folder)) == 40
    assert vocabulary_size(load_model(str(bases["llama"]))) == 40


@pytest.mark.parametrize("kind", ["prompt", "ia3", "vera"])
def test_adapters_that_only_peft_knows_are_loaded(kind, bases, tmp_path):
    """They have no KL here, but a risk: what PEFT stores elsewhere is no tensor without a place."""
    configs = {
        "prompt": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "ia3": peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[]),
        "vera": peft.VeraConfig(target_modules=["q_proj"], r=2),
    }
    model = peft.get_peft_model(tiny.load(bases["llama"], torch.float32), configs[kind])
    tiny.disturb(model)
    model.save_pretrained(tmp_path)
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        expected = model.eval()(input_ids=ids).logits
        found = load_model(str(bases["llama"]), tmp_path)(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
