"""Loaded once a worker: the same numbers, copies that share nothing, and let go of at the end."""

import json
import shutil

import pytest
import torch

from pacbayes_sft import loaded
from pacbayes_sft.data.encode import encode
from pacbayes_sft.data.rows import read_table
from pacbayes_sft.models import load_model, load_tokenizer, resolve_base


@pytest.fixture
def calls(monkeypatch):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    counted = []
    for kind in (AutoModelForCausalLM, AutoTokenizer):
        real = kind.from_pretrained

        def spy(*words, real=real, kind=kind, **more):
            counted.append(kind.__name__)
            return real(*words, **more)

        monkeypatch.setattr(kind, "from_pretrained", spy)
    return counted


@pytest.fixture
def base(tmp_path):
    shutil.copytree(resolve_base("strong"), tmp_path / "base")
    return tmp_path / "base"


def test_a_base_is_read_once_and_every_copy_is_its_own(base, calls):
    with loaded.held():
        first = load_model(str(base))
        with torch.no_grad():
            next(first.parameters()).zero_()
        second = load_model(str(base))
        load_model(str(base), dtype="bfloat16")
        tokenizer, other = load_tokenizer(str(base)), load_tokenizer(str(base))
        tokenizer.pad_token = "nothing"
    assert calls == ["AutoModelForCausalLM"] * 2 + ["AutoTokenizer"]
    assert other.pad_token != "nothing"
    fresh = load_model(str(base))
    for mine, true in zip(second.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(mine, true) and mine.data_ptr() != true.data_ptr()
    assert len(calls) == 4 and not any(loaded._held.values())


def test_a_base_that_changed_is_read_again(base, calls):
    with loaded.held():
        load_model(str(base))
        config = base / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"note": "changed"}))
        load_model(str(base))
    assert len(calls) == 2


def test_one_too_large_is_not_held(base, calls, monkeypatch):
    monkeypatch.setattr(loaded, "LARGEST", 1000)
    with loaded.held():
        load_model(str(base))
        load_model(str(base))
    assert len(calls) == 2


def test_rows_are_tokenised_once_by_their_content(rows_dir, base, monkeypatch):
    table, other = read_table(rows_dir / "train.jsonl"), read_table(rows_dir / "test.jsonl")
    made = []
    real = encode.__globals__["_encode"]
    monkeypatch.setitem(encode.__globals__, "_encode", lambda *a: made.append(1) or real(*a))
    with loaded.held():
        tokenizer = load_tokenizer(str(base))
        first = encode(table, tokenizer, None)
        expected = list(first)
        first.clear()
        assert encode(table, load_tokenizer(str(base)), None) == expected
        assert len(made) == 1
        encode(table, tokenizer, 500)
        encode(table, tokenizer, None, need_answers=True)
        encode(other, tokenizer, None)
        assert len(made) == 4
    assert encode(table, tokenizer, None) == expected and len(made) == 5
