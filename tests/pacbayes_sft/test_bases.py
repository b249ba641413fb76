"""The shipped base is what its card says."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pacbayes_sft.bases import pretrain
from pacbayes_sft.checkpoints.files import sha256_of
from pacbayes_sft.models import resolve_base

STRONG = Path(resolve_base("strong"))
FACTS = json.loads((STRONG / "pretraining.json").read_text())


def test_it_loads_with_plain_transformers():
    model = AutoModelForCausalLM.from_pretrained(STRONG)
    tokenizer = AutoTokenizer.from_pretrained(STRONG)
    assert type(model).__name__ == "LlamaForCausalLM"
    ids = tokenizer("a0b1 = 7 ; ? a0b1 :")["input_ids"]
    assert tokenizer.unk_token_id not in ids and ids[0] == tokenizer.bos_token_id
    assert sum(f.stat().st_size for f in STRONG.iterdir()) <= 4_000_000


def test_the_card_names_the_file_that_is_there():
    assert sha256_of(STRONG / "model.safetensors") == FACTS["model_safetensors_sha256"]
    assert FACTS["model_safetensors_sha256"] in (STRONG / "README.md").read_text()


@pytest.mark.parametrize(("op", "least"), [(4, 0.85), (8, 0.60)])
def test_accuracy_as_the_card_says(op, least):
    """On 256 of the problems behind the card; 0.12 is four standard errors of so few."""
    stated = FACTS["whole_solution_accuracy"][str(op)]
    model = AutoModelForCausalLM.from_pretrained(STRONG).eval()
    measured = pretrain.whole_solution_accuracy(
        model, op, 256, FACTS["seed"], abstract=FACTS["abstract_parameters"]
    )
    assert stated >= least
    assert measured == pytest.approx(stated, abs=0.12)


def test_pretraining_is_reproducible_and_resumes_exactly(tmp_path, monkeypatch):
    from pacbayes_sft.igsm import OpLaw

    monkeypatch.setattr(pretrain, "BATCH", 4)
    monkeypatch.setattr(pretrain, "BATCHES_PER_CHUNK", 2)
    monkeypatch.setattr(pretrain, "SAVE_EVERY", 2)
    monkeypatch.setattr(pretrain, "save_base", lambda model, out, **_: model.save_pretrained(out))
    monkeypatch.setattr(pretrain, "whole_solution_accuracy", lambda *_, **__: 0.0)
    threads = torch.get_num_threads()
    asked = {"law": OpLaw.uniform(1, 2), "steps": 4, "seed": 3, "abstract": True}
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
    assert len(hashes) == 1
