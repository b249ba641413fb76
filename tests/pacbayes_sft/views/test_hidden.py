"""Hidden states: the model's own, kept, resumed, shared out among processes."""

import json
import shutil

import numpy as np
import pytest
import torch

from pacbayes_sft.errors import InputError
from pacbayes_sft.models import load_model, load_tokenizer, resolve_base
from pacbayes_sft.views import hidden

TEXTS = ["c1d1 = 3 ;", "c1d0 = c1d1 + 4 ; c1d1 = 3 ; ? c1d0 :", "b0c2 = 7 ;", "c1d1 = 3 ;"]


def by_hand(text, layer=-1):
    base = resolve_base("strong")
    tokenizer, model = load_tokenizer(base), load_model(base)
    with torch.inference_mode():
        batch = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        states = model(**batch, output_hidden_states=True).hidden_states[layer][0]
    return states.mean(0).numpy()


def test_they_are_the_means_over_each_texts_tokens():
    found = hidden.hidden_states(TEXTS, "strong", batch_size=2)
    assert found.shape[0] == 4 and found.dtype == np.float32
    for i, text in enumerate(TEXTS):
        np.testing.assert_allclose(found[i], by_hand(text), atol=1e-4)
    middle = hidden.hidden_states(TEXTS[:1], "strong", layer=2)
    np.testing.assert_allclose(middle[0], by_hand(TEXTS[0], 2), atol=1e-4)


def test_what_was_kept_is_not_computed_again(tmp_path, monkeypatch):
    asked = []
    real = hidden._pooler

    def counted(*args):
        pooled = real(*args)

        def call(texts):
            asked.extend(texts)
            return pooled(texts)

        return call

    monkeypatch.setattr(hidden, "_pooler", counted)
    first = hidden.hidden_states(TEXTS[:2], "strong", cache=tmp_path)
    more = hidden.hidden_states(TEXTS, "strong", cache=tmp_path)
    assert sorted(asked) == sorted(set(TEXTS))  # each text once, the repeated one too
    np.testing.assert_array_equal(first, more[:2])
    hidden.hidden_states(TEXTS, "strong", cache=tmp_path, layer=1)
    assert len(asked) == 6  # another layer is another thing
    next(iter(tmp_path.glob("*.safetensors"))).write_bytes(b"damaged")
    np.testing.assert_allclose(
        hidden.hidden_states(TEXTS, "strong", cache=tmp_path), more, atol=1e-5
    )


def test_no_file_of_the_folder_is_removed(tmp_path):
    """It may be the user's own, another process's that is being written, or unreadable just now."""
    names = ("mine.safetensors", f".partial-7-{'0' * 32}.safetensors", f"{'0' * 32}.safetensors")
    for name in names:
        (tmp_path / name).write_bytes(b"not to be read")
    (tmp_path / f"{'1' * 32}.safetensors").mkdir()
    state = np.ones(2, np.float32)
    hidden._write(tmp_path, {"a": state})
    assert hidden._read(tmp_path, {"a", "b"}).keys() == {"a"}
    assert len(list(tmp_path.iterdir())) == 5


def test_a_kill_costs_one_part(tmp_path, monkeypatch):
    monkeypatch.setattr(hidden, "PART", 1)
    real = hidden._write
    written = []

    def dies(cache, found):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(real(cache, found))

    monkeypatch.setattr(hidden, "_write", dies)
    with pytest.raises(KeyboardInterrupt):
        hidden.hidden_states(TEXTS, "strong", cache=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_a_layer_that_is_not_there():
    with pytest.raises(InputError, match="no layer 99"):
        hidden.hidden_states(TEXTS, "strong", layer=99)


def _in_a_process(file):
    from accelerate import PartialState

    PartialState._reset_state()  # a fork knows what earlier tests in its parent were: alone
    states = hidden.hidden_states(TEXTS, "strong", batch_size=1)
    process = PartialState()
    assert process.num_processes == 2
    np.save(f"{file}-{process.process_index}.npy", states)


@pytest.mark.slow
def test_two_processes_share_the_work(tmp_path):
    from accelerate import debug_launcher

    debug_launcher(_in_a_process, args=(str(tmp_path / "states"),), num_processes=2)
    one = hidden.hidden_states(TEXTS, "strong")
    for k in (0, 1):
        np.testing.assert_allclose(np.load(tmp_path / f"states-{k}.npy"), one, atol=1e-5)


def test_states_of_another_configuration_or_tokenizer_are_not_taken(tmp_path):
    base = shutil.copytree(resolve_base("weak"), tmp_path / "base")
    first = hidden.hidden_states(TEXTS[:1], str(base), cache=tmp_path / "cache")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    second = hidden.hidden_states(TEXTS[:1], str(base), cache=tmp_path / "cache")
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(second, hidden.hidden_states(TEXTS[:1], str(base)))
