"""The shipped bases are what their cards say."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pacbayes_sft.bases import pretrain
from pacbayes_sft.models import resolve_base
from pacbayes_sft.reading import sha256_of

DIRECTORY = {name: Path(resolve_base(name)) for name in ("strong", "weak")}
FACTS = {name: json.loads((d / "pretraining.json").read_text()) for name, d in DIRECTORY.items()}


@pytest.mark.parametrize("name", DIRECTORY)
def test_it_loads_with_plain_transformers(name):
    model = AutoModelForCausalLM.from_pretrained(DIRECTORY[name])
    tokenizer = AutoTokenizer.from_pretrained(DIRECTORY[name])
    assert type(model).__name__ == "LlamaForCausalLM"
    ids = tokenizer("a0b1 = 7 ; ? a0b1 :")["input_ids"]
    assert tokenizer.unk_token_id not in ids and ids[0] == tokenizer.bos_token_id
    assert sum(f.stat().st_size for f in DIRECTORY[name].iterdir()) <= 4_000_000


@pytest.mark.parametrize("name", DIRECTORY)
def test_the_card_names_the_file_that_is_there(name):
    stated = FACTS[name]["model_safetensors_sha256"]
    assert sha256_of(DIRECTORY[name] / "model.safetensors") == stated
    assert stated in (DIRECTORY[name] / "README.md").read_text()


def test_the_weak_base_never_saw_what_the_strong_one_did():
    assert [list(FACTS[name]["op_law"]) for name in ("weak", "strong")] == [
        [str(op) for op in range(2, highest + 1)] for highest in (6, 8)
    ]
    weak, strong = (FACTS[name]["whole_solution_accuracy"] for name in ("weak", "strong"))
    assert all(weak[op] <= strong[op] for op in weak)


@pytest.mark.parametrize(
    ("name", "op", "least", "most"),
    [
        ("strong", 4, 0.85, 1.0),
        ("strong", 8, 0.60, 1.0),
        ("weak", 4, 0.7, 1.0),
        ("weak", 8, 0, 0.1),
    ],
)
def test_accuracy_as_the_card_says(name, op, least, most):
    """On 256 of the problems behind the card; 0.12 is four standard errors of so few."""
    facts = FACTS[name]
    stated = facts["whole_solution_accuracy"][str(op)]
    model = AutoModelForCausalLM.from_pretrained(DIRECTORY[name]).eval()
    measured = pretrain.whole_solution_accuracy(
        model, op, 256, facts["seed"], abstract=facts["abstract_parameters"]
    )
    assert least <= stated <= most
    assert measured == pytest.approx(stated, abs=0.12)


def test_pretraining_is_reproducible_and_resumes_exactly(tmp_path, monkeypatch):
    from pacbayes_sft.igsm import OpLaw

    monkeypatch.setattr(pretrain, "BATCH", 4)
    monkeypatch.setattr(pretrain, "BATCHES_PER_CHUNK", 2)
    monkeypatch.setattr(pretrain, "SAVE_EVERY", 2)
    monkeypatch.setattr(pretrain, "save_base", lambda model, out, *_: model.save_pretrained(out))
    monkeypatch.setattr(pretrain, "whole_solution_accuracy", lambda *_, **__: 0.0)
    threads, autocast, asked_for = torch.get_num_threads(), torch.autocast, []

    def noted(*words, **named):
        asked_for.append(named["enabled"])
        return autocast(*words, **named)

    monkeypatch.setattr(torch, "autocast", noted)
    asked = {"law": OpLaw.uniform(1, 2), "steps": 4, "seed": 3, "abstract": True}
    asked |= {"width": 64, "layers": 1, "autocast": False}  # which few processors do fast
    try:
        for name in ("a", "b"):
            pretrain.pretrain(tmp_path / name, **asked)
        real = pretrain.rate

        def dies(step, steps, warmup=100):
            if step == 3:
                raise KeyboardInterrupt
            return real(step, steps, warmup)

        monkeypatch.setattr(pretrain, "rate", dies)
        with pytest.raises(KeyboardInterrupt):
            pretrain.pretrain(tmp_path / "c", **asked)
        monkeypatch.setattr(pretrain, "rate", real)
        pretrain.pretrain(tmp_path / "c", **asked)
    finally:
        torch.set_num_threads(threads)
    hashes = {sha256_of(tmp_path / name / "model.safetensors") for name in "abc"}
    assert len(hashes) == 1 and set(asked_for) == {False}
