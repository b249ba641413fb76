"""Full fine-tunes as people save them: other shards, dtypes, names, ties and vocabularies."""

from __future__ import annotations

import json
import shutil
import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from pacbayes_sft.checkpoints.files import FULL, open_checkpoint
from pacbayes_sft.checkpoints.finetune import (
    check_evaluable,
    squared_distance,
    weight_changes,
    weight_pair,
)
from pacbayes_sft.checkpoints.merged import merge_drift
from pacbayes_sft.choices import Space
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import load_model
from pacbayes_sft.terms import kl_term
from tests.pacbayes_sft.checkpoints import tiny

pytestmark = pytest.mark.usefixtures("small_blocks")
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def distance(base, folder):
    return squared_distance(open_checkpoint(base), folder, Space.WEIGHTS)


def fine_tune(base, folder, dtype=torch.float32, **saving):
    model = tiny.load(base, torch.float32)
    tiny.disturb(model)
    model.to(dtype).save_pretrained(folder, **saving)
    return folder


def by_hand(base, folder):
    """Load both, subtract; a tied parameter once."""
    before = tiny.load(base).state_dict()
    after = tiny.load(folder)
    return sum(float((p.detach() - before[n]).square().sum()) for n, p in after.named_parameters())


def rewrite(folder, change, **config):
    """Change the stored tensors and the config of a copy."""
    save_file(change(load_file(folder / FULL)), folder / FULL)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | config))
    return folder


@pytest.mark.parametrize("name", tiny.CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_family_in_either_dtype(name, dtype, bases, tmp_path):
    folder = fine_tune(bases[name], tmp_path, dtype)
    found, entries = distance(bases[name], folder)
    assert found == pytest.approx(by_hand(bases[name], folder), rel=1e-9)
    assert entries == sum(p.numel() for p in tiny.load(bases[name]).parameters())


def test_shards(bases, tmp_path):
    whole = fine_tune(bases["qwen2"], tmp_path / "whole")
    shards = fine_tune(bases["qwen2"], tmp_path / "shards", max_shard_size="3KB")
    assert len(open_checkpoint(shards).files) > 2
    assert distance(bases["qwen2"], shards) == pytest.approx(distance(bases["qwen2"], whole))


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_a_wrappers_prefix_is_left_out(prefix, bases, tmp_path):
    folder = fine_tune(bases["qwen2"], tmp_path)
    expected = distance(bases["qwen2"], folder)
    rewrite(folder, lambda t: {prefix + k: v for k, v in t.items()})
    assert distance(bases["qwen2"], folder) == expected
    notes = weight_changes(open_checkpoint(bases["qwen2"]), folder).notes
    assert any("wrapper's prefix" in note for note in notes)
    loaded, plain = (
        load_model(str(bases["qwen2"]), folder),
        fine_tune(bases["qwen2"], tmp_path / "p"),
    )
    for mine, true in zip(loaded.parameters(), tiny.load(plain).parameters(), strict=True):
        torch.testing.assert_close(mine, true.detach().float(), rtol=0, atol=0)


def test_what_a_checkpoint_lacks_is_not_made_up(bases, tmp_path):
    """Transformers would initialise it at random, and say so in a log alone."""
    folder = fine_tune(bases["qwen2"], tmp_path)
    rewrite(folder, lambda t: {k: v for k, v in t.items() if "layers.1.mlp" not in k})
    with pytest.raises(
        InputError, match=r"no 'model.layers.1.mlp.down_proj.weight' \(and 2 more\)"
    ):
        load_model(str(bases["qwen2"]), folder)


def test_codes_that_nothing_announces_are_not_evaluated(bases, tmp_path):
    folder = fine_tune(bases["qwen2"], tmp_path)
    files = open_checkpoint(bases["qwen2"])
    check_evaluable(files, folder)
    rewrite(folder, lambda t: {k: (v * 9).to(torch.int8) for k, v in t.items()})
    with pytest.raises(InputError, match="stored as int8"):
        check_evaluable(files, folder)


@pytest.mark.parametrize("side", ["base", "fine-tune"])
def test_a_missing_model_prefix_and_masks(side, bases, tmp_path):
    """The GPT-2 files of the hub: no `transformer.`, and a causal mask in every layer."""
    folder = fine_tune(bases["gpt2"], tmp_path / "ft")
    expected = distance(bases["gpt2"], folder)
    base = shutil.copytree(bases["gpt2"], tmp_path / "base")

    def as_on_the_hub(tensors):
        plain = {k.removeprefix("transformer."): v for k, v in tensors.items()}
        masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 32, 32).tril() for i in (0, 1)}
        return plain | masks

    rewrite(base if side == "base" else folder, as_on_the_hub)
    assert distance(base, folder) == expected


def test_ties_that_differ_between_the_sides(bases, tmp_path):
    """Stored or not, one tensor on both sides is counted once, and what parts is counted twice."""
    base = bases["tied"]
    tied = fine_tune(base, tmp_path / "tied")
    once, entries = distance(base, tied)
    size = tiny.load(base).state_dict()[HEAD].numel()

    stored = shutil.copytree(tied, tmp_path / "stored")
    rewrite(stored, lambda t: t | {HEAD: t[EMBEDDING].clone()}, tie_word_embeddings=False)
    assert distance(base, stored) == (once, entries)
    changes = weight_changes(open_checkpoint(base), stored)
    assert changes.tied == (HEAD,) and "counted once" in changes.notes[0]

    apart = shutil.copytree(tied, tmp_path / "apart")
    rewrite(apart, lambda t: t | {HEAD: t[EMBEDDING] + 1}, tie_word_embeddings=False)
    start = tiny.load(base).state_dict()[HEAD]
    head = float((load_file(apart / FULL)[HEAD].double() - start).square().sum())
    assert distance(base, apart) == (pytest.approx(once + head, rel=1e-9), entries + size)

    both = shutil.copytree(base, tmp_path / "both")  # a base that stores its tied head too
    rewrite(both, lambda t: t | {HEAD: t[EMBEDDING].clone()})
    assert distance(both, tied) == (pytest.approx(once), entries)
    assert distance(both, stored) == (pytest.approx(once), entries)

    own = shutil.copytree(base, tmp_path / "own")  # a base with a head of its own
    rewrite(own, lambda t: t | {HEAD: t[EMBEDDING] - 1}, tie_word_embeddings=False)
    head = float((load_file(tied / FULL)[EMBEDDING].double() - start + 1).square().sum())
    assert distance(own, tied) == (pytest.approx(once + head, rel=1e-6), entries + size)
    rewrite(tied, lambda t: t, tie_word_embeddings=False)  # untied, and its head is lost
    with pytest.raises(InputError, match=r"lm_head.weight.*None there"):
        distance(own, tied)


@pytest.mark.parametrize("name", ["llama", "tied", "gpt2"])
@pytest.mark.parametrize("rows", [43, 37])
def test_a_resized_vocabulary(name, rows, bases, tmp_path):
    model = tiny.load(bases[name], torch.float32)
    model.resize_token_embeddings(rows, mean_resizing=False)
    tiny.disturb(model)
    model.save_pretrained(tmp_path)
    before = tiny.load(bases[name]).state_dict()
    expected = 0.0
    for key, after in model.double().named_parameters():
        start = before[key]
        if start.shape != after.shape:
            kept = min(rows, 40)
            mean = start.mean(0).expand(max(0, rows - 40), -1)
            start = torch.cat([start[:kept], mean])
        expected += float((after.detach() - start).square().sum())
    found, _ = distance(bases[name], tmp_path)
    assert found == pytest.approx(expected, rel=1e-6)
    result = kl_term(str(bases[name]), tmp_path, sigma=0.1)
    says = "centred on the average row" if rows > 40 else "3 rows fewer"
    assert any(says in note for note in result.notes)
    with pytest.raises(InputError, match=r"another number of rows.*only `kl`"):
        weight_pair(open_checkpoint(bases[name]), tmp_path, "base")


def test_an_adapter_with_a_resized_vocabulary(bases, tmp_path):
    model = tiny.load(bases["llama"], torch.float32)
    model.resize_token_embeddings(42, mean_resizing=False)
    peft = get_peft_model(model, LoraConfig(target_modules=["q_proj"], r=2))
    tiny.disturb(peft)
    peft.save_pretrained(tmp_path, save_embedding_layers=True)
    plain = sum(
        float(m.get_delta_weight("default").double().square().sum())
        for m in peft.modules()
        if hasattr(m, "lora_A")
    )
    before = tiny.load(bases["llama"]).state_dict()
    for name, layer in ((EMBEDDING, model.model.embed_tokens), (HEAD, model.lm_head)):
        start = torch.cat([before[name], before[name].mean(0).expand(2, -1)])
        plain += float((layer.weight.detach().double() - start).square().sum())
    assert distance(bases["llama"], tmp_path)[0] == pytest.approx(plain, rel=1e-6)


def test_what_is_no_fine_tune(bases, tmp_path):
    folder = fine_tune(bases["llama"], tmp_path / "ft")
    headed = rewrite(
        shutil.copytree(folder, tmp_path / "headed"), lambda t: t | {"score.weight": torch.ones(2)}
    )
    with pytest.raises(InputError, match=r"score.weight.*no pre-trained mean"):
        distance(bases["llama"], headed)
    less = rewrite(
        shutil.copytree(folder, tmp_path / "less"),
        lambda t: {k: v for k, v in t.items() if k != "model.norm.weight"},
    )
    with pytest.raises(InputError, match=r"model.norm.weight.*None there"):
        distance(bases["llama"], less)
    codes = rewrite(
        shutil.copytree(folder, tmp_path / "codes"),
        lambda t: t | {"model.norm.weight": torch.ones(8, dtype=torch.int8)},
    )
    with pytest.raises(InputError, match=r"stored as int8, not as weights"):
        distance(bases["llama"], codes)


def merge(base, adapter, folder, dtype):
    model = tiny.attach(base, adapter, torch.float32).merge_and_unload()
    model.to(dtype).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["llama", "mixtral"])
def test_a_merge_in_bfloat16_is_not_the_adapter(name, bases, tmp_path):
    base = bases[name]
    experts = {"target_parameters": ["mlp.experts.down_proj"]} if name == "mixtral" else {}
    adapter = tiny.make_adapter(
        base, tmp_path / "a", target_modules=["q_proj"], r=2, use_dora=not experts, **experts
    )
    exact = merge(base, adapter, tmp_path / "exact", torch.float32)
    drift = merge_drift(open_checkpoint(base), adapter, exact)
    assert drift.relative < 1e-6 and drift.moved == drift.lost == drift.elsewhere == 0
    rounded = merge(base, adapter, tmp_path / "rounded", torch.bfloat16)
    drift = merge_drift(open_checkpoint(base), adapter, rounded)
    full = tiny.attach(base, adapter).merge_and_unload().state_dict()
    after = tiny.load(rounded).state_dict()
    start = tiny.load(base).state_dict()
    off = {k: float((after[k] - full[k]).square().sum()) for k in full}
    left_alone = [k for k in full if torch.equal(full[k], start[k])]
    assert drift.distance == pytest.approx(sum(off.values()) ** 0.5, rel=1e-6)
    assert drift.elsewhere == pytest.approx(sum(off[k] for k in left_alone) ** 0.5, rel=1e-6)
    change = sum(float((full[k] - start[k]).square().sum()) for k in full) ** 0.5
    assert drift.change == pytest.approx(change, rel=1e-6)
    assert 0.9 < drift.moved / drift.entries <= 1 and 1e-4 < drift.relative < 0.1


def test_a_small_change_is_rounded_away(bases, tmp_path):
    """A base in bfloat16 and a ΔW below its steps: the merge is the base again."""
    base = tmp_path / "base"
    tiny.load(bases["llama"], torch.bfloat16).save_pretrained(base)
    adapter = tiny.make_adapter(base, tmp_path / "a", target_modules=["q_proj"], r=2)
    file = adapter / "adapter_model.safetensors"
    save_file({k: v * 1e-4 for k, v in load_file(file).items()}, file)
    merged = merge(base, adapter, tmp_path / "m", torch.bfloat16)
    drift = merge_drift(open_checkpoint(base), adapter, merged)
    assert drift.lost == drift.entries and drift.relative == pytest.approx(1)
    with pytest.raises(InputError, match="needs --finetuned to be the adapter"):
        kl_term(str(base), merged, sigma=0.1, merged=merged)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("llama", {"modules_to_save": ["embed_tokens", "lm_head"]}),
        ("tied", {"trainable_token_indices": [40, 41]}),
    ],
)
def test_new_tokens_as_peft_saves_them_twice(name, config, bases, tmp_path):
    """Of modules_to_save the trained copy, the resized one and the original lie in the file."""
    base, folder = bases[name], tmp_path / "adapter"
    model = tiny.load(base, torch.float32)
    model.resize_token_embeddings(42, mean_resizing=False)
    adapter = get_peft_model(model, LoraConfig(target_modules=["q_proj"], r=2, **config))
    tiny.disturb(adapter)
    adapter.save_pretrained(folder)
    before, after = tiny.load(base).state_dict(), adapter.merge_and_unload().state_dict()
    total = 0.0
    for key, tensor in after.items():
        if name == "tied" and key == "lm_head.weight":
            continue
        start, end = before[key], tensor.double()
        if len(end) > len(start):
            start = torch.cat([start, start.mean(0).expand(len(end) - len(start), -1)])
        total += float((end - start).square().sum())
    found = squared_distance(open_checkpoint(base), folder, Space.WEIGHTS)[0]
    assert found == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_a_merge_into_a_tied_base_moves_the_other_of_the_pair(target, bases, tmp_path):
    """The adapter's own model leaves it alone, so that much of the merge is drift."""
    base = bases["tied"]
    adapter = tiny.make_adapter(base, tmp_path / "a", target_modules=[target], r=2)
    merged = tmp_path / "merged"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = tiny.attach(base, adapter).merge_and_unload()
    tied = model.get_input_embeddings().weight
    if target == "lm_head":
        tied = model.lm_head.weight
    stored = tiny.load(base)
    with torch.no_grad():
        stored.get_input_embeddings().weight.copy_(tied)  # one tensor, as a merge of old had it
    stored.save_pretrained(merged)
    drift = merge_drift(open_checkpoint(base), adapter, merged)
    assert drift.elsewhere == pytest.approx(drift.change, rel=1e-6)
    assert drift.distance == pytest.approx(drift.elsewhere, rel=1e-6)
