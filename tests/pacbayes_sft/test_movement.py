import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from pacbayes_sft import heatmap
from pacbayes_sft.checkpoints.files import open_checkpoint
from pacbayes_sft.checkpoints.finetune import factor_pair, squared_distance
from pacbayes_sft.checkpoints.lora import read_adapter
from pacbayes_sft.choices import By, Space
from pacbayes_sft.heatmap import plot_movement
from pacbayes_sft.models import BASES
from pacbayes_sft.movement import Breakdown, Moved, break_down
from pacbayes_sft.terms import kl_term
from tests.pacbayes_sft.checkpoints import tiny

STRONG = BASES / "strong"


@pytest.fixture
def base():
    return open_checkpoint(STRONG)


def brute_force(before, after, chosen):
    """(‖Δ‖², ‖ΔW‖/‖W₀‖) of all tensors whose name satisfies ``chosen``."""
    names = [n for n in before if chosen(n)]
    change = sum(float((after[n].double() - before[n].double()).square().sum()) for n in names)
    norm = sum(float(before[n].double().square().sum()) for n in names)
    return change, math.sqrt(change / norm)


def test_a_full_fine_tune_part_by_part(base, full_run):
    before, after = (load_file(d / "model.safetensors") for d in (STRONG, full_run))
    parts = break_down(base, full_run, Space.WEIGHTS, 0.1)
    total, entries = squared_distance(base, full_run, Space.WEIGHTS)
    assert parts.squared_distance == pytest.approx(total) and parts.parameters == entries
    choices = {
        (By.TENSOR, "model.layers.2.mlp.up_proj.weight"): lambda n: "layers.2.mlp.up_proj" in n,
        (By.LAYER, "layer 3"): lambda n: ".layers.3." in n,
        (By.LAYER, "embed_tokens"): lambda n: "embed_tokens" in n,
        (By.MODULE, "q_proj"): lambda n: "q_proj" in n,
        (By.MODULE, "norm"): lambda n: n == "model.norm.weight",
    }
    for (by, name), chosen in choices.items():
        (row,) = (r for r in parts.records(by) if r["name"] == name)
        change, relative = brute_force(before, after, chosen)
        assert row["squared_distance"] == pytest.approx(change, rel=1e-6)
        assert row["relative_change"] == pytest.approx(relative, rel=1e-6)
        assert row["kl_nats"] == pytest.approx(change / 0.02, rel=1e-6)
        assert row["share"] == pytest.approx(change / total, rel=1e-6)
    for by in By:
        frame = parts.frame(by)
        assert frame["share"].sum() == pytest.approx(1) and frame["name"].is_unique
        assert frame["parameters"].sum() == entries
    assert list(parts.frame(By.LAYER)["layer"].dropna()) == [0, 1, 2, 3]


@pytest.mark.parametrize("space", Space)
@pytest.mark.parametrize("kept", [True, False])
def test_an_adapter_part_by_part(space, kept, base, lora_run, tmp_path):
    adapter = read_adapter(lora_run)
    if not kept:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (tmp_path / name).write_bytes((lora_run / name).read_bytes())
    directory = lora_run if kept else tmp_path
    parts = break_down(base, directory, space, 0.1)
    total, entries = squared_distance(base, directory, space)
    assert parts.squared_distance == pytest.approx(total, rel=1e-9) and parts.parameters == entries
    for part in parts.tensors:
        layer = adapter.layers[part.name.removesuffix(".weight")]
        dense = layer.scaling * layer.b.double() @ layer.a.double()
        before = base.tensor(part.name).double()
        assert part.relative_change == pytest.approx(float(dense.norm() / before.norm()), rel=1e-6)
        if space is Space.WEIGHTS:
            assert part.squared_distance == pytest.approx(float(dense.square().sum()), rel=1e-6)
    if space is Space.FACTORS:
        pair = factor_pair(read_adapter(directory), "base")
        one = parts.tensors[0]
        module = one.name.removesuffix(".weight")
        found = sum(
            float((pair.posterior[n] - pair.prior[n]).double().square().sum())
            for n in (f"{module}.lora_A", f"{module}.lora_B")
        )
        assert one.squared_distance == pytest.approx(found, rel=1e-5)


def test_names_that_would_collide_and_experts(tmp_path):
    """GPT-2 has two c_proj a layer; the experts of a mixture are one kind of module."""
    names = [
        "transformer.wte.weight",
        "transformer.h.0.attn.c_proj.weight",
        "transformer.h.0.mlp.c_proj.weight",
        "transformer.h.0.mlp.c_fc.weight",
        "transformer.h.0.mlp.c_fc.bias",
        "transformer.h.1.mlp.experts.0.w1.weight",
        "transformer.h.1.mlp.experts.7.w1.weight",
        "transformer.ln_f.weight",
    ]
    for side in ("base", "tuned"):
        (tmp_path / side).mkdir()
        content = {
            n: torch.full((2,) if "bias" in n else (2, 3), float(side == "tuned")) for n in names
        }
        save_file(content, tmp_path / side / "model.safetensors")
    files = open_checkpoint(tmp_path / "base")
    parts = break_down(files, tmp_path / "tuned", Space.WEIGHTS, 1.0)
    found = {r["name"]: r["squared_distance"] for r in parts.records(By.MODULE)}
    assert found == {
        "wte": 6, "attn.c_proj": 6, "mlp.c_proj": 6, "c_fc": 8, "w1": 12, "ln_f": 6,
    }  # fmt: skip
    assert [r["name"] for r in parts.records(By.LAYER)] == ["wte", "layer 0", "layer 1", "ln_f"]
    assert all(r["relative_change"] is None for r in parts.records(By.TENSOR))  # W₀ = 0
    plot_movement(parts, tmp_path / "zero.png")


def test_a_bias_has_a_cell_of_its_own(tmp_path, monkeypatch):
    """Qwen2 names a matrix and its bias alike; the panel of biases shows the bias's change."""
    parts = [
        Moved(f"q_proj.{kind}", 0, "q_proj", matrix, 4, change, change, 1.0)
        for kind, matrix, change in (("weight", True, 0.01), ("bias", False, 0.25))
    ]
    shown = []
    monkeypatch.setattr(heatmap, "_number", lambda *words: shown.append(words[3].relative_change))
    plot_movement(Breakdown(tuple(parts), 1.0), tmp_path / "moved.png")
    assert shown == pytest.approx([0.1, 0.5])


def test_the_term_carries_it(lora_run, tmp_path):
    term = kl_term("strong", lora_run, sigma=0.1, breakdown=True)
    plain = kl_term("strong", lora_run, sigma=0.1)
    assert term.kl.value == pytest.approx(plain.kl.value) and plain.breakdown is None
    record = json.loads(json.dumps(term.to_dict(By.LAYER), allow_nan=False))
    assert len(record["by"]["layer"]) == 4 and plain.to_dict(By.LAYER)["by"] == {}
    assert sum(r["kl_nats"] for r in record["by"]["layer"]) == pytest.approx(term.kl.value)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_picture_says_what_it_asks(suffix, base, full_run, tmp_path):
    file = tmp_path / f"moved.{suffix}"
    plot_movement(break_down(base, full_run, Space.WEIGHTS, 0.1), file, name="a run")
    assert list(tmp_path.iterdir()) == [file]
    if suffix == "svg":
        text = file.read_text()
        for words in ("where did the fine-tune move?", "a run", "q_proj", "embed_tokens"):
            assert f"<!-- {words}" in text


def test_a_base_whose_names_lack_the_prefix(tmp_path):
    """GPT-2 on the hub is h.0…, its loaded model transformer.h.0…"""
    base = tiny.make_base("gpt2", tmp_path / "gpt2")
    adapter = tiny.make_adapter(base, tmp_path / "a", target_modules=["c_attn"])
    whole = break_down(open_checkpoint(base), adapter, Space.FACTORS, 1.0)
    tensors = load_file(base / "model.safetensors")
    bare = {k.removeprefix("transformer."): v for k, v in tensors.items()}
    save_file(bare, base / "model.safetensors", metadata={"format": "pt"})
    found = break_down(open_checkpoint(base), adapter, Space.FACTORS, 1.0)
    assert [p.base_norm for p in found.tensors] == [p.base_norm for p in whole.tensors]
