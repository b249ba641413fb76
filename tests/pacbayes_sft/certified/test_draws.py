"""Every draw that could be kept is counted and paid for."""

import math
import shutil
from dataclasses import replace

import pytest
from safetensors.torch import load_file

from estimators import Estimate, Guarantee, draw_delta
from pacbayes_sft.certified.claim import claim
from pacbayes_sft.certified.draws import DRAWS, Numbered, agreed_number, count_draw
from pacbayes_sft.certified.emit import emit_adapter
from pacbayes_sft.certify import bound
from pacbayes_sft.errors import InputError
from tests.pacbayes_sft.certified.conftest import OPTIONS


@pytest.fixture(scope="module")
def certificate(tiny_base, small_run, rows_dir):
    """Of the tiny base: what is counted here is draws, whatever they lose."""
    files = (str(rows_dir / name) for name in ("heldout.jsonl", "test.jsonl"))
    return bound(str(tiny_base), small_run, *files, OPTIONS)


@pytest.fixture
def fresh(certificate, small_run, tmp_path):
    """The certificate of a fine-tune from which nothing was drawn yet."""
    run = shutil.copytree(small_run, tmp_path / "run")
    return replace(certificate, inputs=replace(certificate.inputs, finetuned=run))


def test_the_same_draw_again_is_the_same_adapter_and_the_next_one_pays_more(fresh, tmp_path):
    first, again, second = (
        emit_adapter(fresh, tmp_path / name, seed=seed)
        for name, seed in (("first", 0), ("again", 0), ("second", 1))
    )
    for file in sorted(p for p in (tmp_path / "first").rglob("*") if p.is_file()):
        other = tmp_path / "again" / file.relative_to(tmp_path / "first")
        assert file.read_bytes() == other.read_bytes(), file
    assert [r["draw"]["k"] for r in (first, again, second)] == [1, 1, 2]
    assert second["hashes"]["adapter"] != first["hashes"]["adapter"]
    for k, record in ((1, first), (2, second)):
        assert record["draw"]["delta"] == pytest.approx(6 * 0.05 / (math.pi * k) ** 2)
        assert record["delta_ledger"][-1]["delta"] == record["draw"]["delta"]
    assert second["bound"]["confidence"] == 0.95  # of all draws: the better one may be picked
    with pytest.raises(InputError, match="comes too late"):
        emit_adapter(fresh, tmp_path / "third", seed=2, declared_draws=3)
    assert not (tmp_path / "third").exists()


def test_declared_draws_share_delta_and_no_more_are_made(fresh, tmp_path):
    for seed in (0, 1):
        record = emit_adapter(fresh, tmp_path / str(seed), seed=seed, declared_draws=2)
        assert record["draw"]["delta"] == pytest.approx(0.05 / 2)
        assert (record["draw"]["k"], record["draw"]["declared"]) == (seed + 1, 2)
    for declared, sentence in ((2, "all 2 draws"), (None, "all 2 draws"), (3, "too late")):
        with pytest.raises(InputError, match=sentence):
            emit_adapter(fresh, tmp_path / "more", seed=2, declared_draws=declared)
    assert not (tmp_path / "more").exists()
    assert emit_adapter(fresh, tmp_path / "again", seed=1)["draw"]["k"] == 2


def test_whatever_the_event_depends_on_makes_a_new_draw(fresh, tmp_path):
    """Another dtype of the same seed is no second look at the same noise."""
    emit_adapter(fresh, tmp_path / "a")
    half = emit_adapter(fresh, tmp_path / "b", dtype="bfloat16")
    other = replace(fresh, options=replace(fresh.options, loss="token_error"))
    token = emit_adapter(other, tmp_path / "c")
    rounded = replace(fresh, inputs=replace(fresh.inputs, base_sha256="of a four-bit copy"))
    quantised = emit_adapter(rounded, tmp_path / "d")
    assert [x["draw"]["k"] for x in (half, token, quantised)] == [2, 3, 4]
    first, *others = (load_file(tmp_path / x / "certificate" / "draw.safetensors") for x in "abcd")
    name = min(first)
    assert not any(first[name].equal(other[name]) for other in others)


def test_a_draw_is_counted_before_its_risk_is_known(fresh, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pacbayes_sft.certified.emit.deployed_losses", killed)
        with pytest.raises(KeyboardInterrupt):
            emit_adapter(fresh, tmp_path / "first")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert emit_adapter(fresh, tmp_path / "second", seed=1)["draw"]["k"] == 2
    assert emit_adapter(fresh, tmp_path / "first")["draw"]["k"] == 1


def test_a_broken_count_does_not_start_anew(tmp_path):
    assert count_draw(tmp_path, {"seed": 0}, None) == Numbered(1, None)
    (tmp_path / "pacbayes_sft" / DRAWS).write_text("{}")
    for count in (
        lambda: count_draw(tmp_path, {"seed": 1}, None),
        lambda: agreed_number(tmp_path, 1),
    ):
        with pytest.raises(InputError, match="must not start anew"):
            count()


def test_the_shift_term_pays_its_own_leaf_and_an_estimate_claims_nothing():
    ratio = Estimate.exactly(3.0, method="given", unit="nats")
    tv = Estimate(0.1, 0.0, 0.2, 0.99, Guarantee.UPPER, "given")
    made = claim(0.2, ratio, 1000, 0.05, tv, 0.01, Numbered(3, None))
    assert list(made.ledger.events.values()) == pytest.approx([0.01, draw_delta(0.04, k=3)])
    assert made.on_test.upper == pytest.approx(made.on_train.upper + 0.2)
    assert made.on_test.confidence == 0.95
    lower = replace(tv, guarantee=Guarantee.LOWER)
    guess = claim(0.2, ratio, 1000, 0.05, lower, 0.01, Numbered(1, 1)).on_test
    assert guess.guarantee == "estimate" and guess.confidence == 0
    for number in (Numbered(3, 2), Numbered(0, None)):
        with pytest.raises(ValueError, match="draw"):
            claim(0.2, ratio, 1000, 0.05, tv, 0.01, number)
