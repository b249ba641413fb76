"""Noise in one pass against brute-force draws, and determinism of the plain pass."""

import numpy as np
import pytest
import torch

from estimators import DiagonalGaussian, gibbs_risk
from estimators.posteriors import isotropic
from pacbayes_sft.checkpoints.files import open_checkpoint
from pacbayes_sft.checkpoints.finetune import factor_pair, weight_pair
from pacbayes_sft.checkpoints.lora import read_adapter
from pacbayes_sft.choices import Loss, Space
from pacbayes_sft.data.encode import collate, encode
from pacbayes_sft.data.rows import read_table
from pacbayes_sft.empirical import empirical_gibbs, parts_of
from pacbayes_sft.gibbs import Evaluator, Rows
from pacbayes_sft.losses import scorer
from pacbayes_sft.models import load_model, load_tokenizer, resolve_base
from pacbayes_sft.noise import posterior_noise
from pacbayes_sft.risk import by_length, consecutive, row_losses, unit_means
from pacbayes_sft.slots import find_slots

BASE = resolve_base("strong")


@pytest.fixture(scope="module")
def rows(rows_dir):
    table = read_table(rows_dir / "test.jsonl")
    return Rows(encode(table, load_tokenizer(BASE), None), table.units)


@pytest.fixture
def factors(lora_run):
    pair = factor_pair(read_adapter(lora_run), "base")
    model = load_model(BASE, lora_run)
    return model, find_slots(model, Space.FACTORS, list(pair.posterior)), pair


def test_a_draw_per_example_is_the_model_with_those_weights(factors, rows):
    """Replay the hooks' noise as plain weights, one example at a time: the logits agree."""
    model, slots, pair = factors
    posterior = isotropic.fit(pair.posterior, 0.05)
    batch = collate(rows.encoded[:5], 0, "cpu")
    del batch["labels"]
    with posterior_noise(slots, posterior, torch.Generator().manual_seed(4)) as redraw:
        redraw(5)
        together = model(**batch).logits
    generator = torch.Generator().manual_seed(4)
    noise = {
        name: torch.randn((5, *p.shape), generator=generator) * 0.05
        for name, p in slots.parameters.items()
    }
    for i in range(5):
        slots.put({name: pair.posterior[name] + noise[name][i] for name in noise})
        alone = model(**{k: v[i : i + 1] for k, v in batch.items()}).logits[0]
        real = slice(len(rows.encoded[i].ids))
        torch.testing.assert_close(together[i][real], alone[real], rtol=1e-3, atol=1e-3)


def test_a_draw_in_a_basis_of_its_own_is_turned_out_of_it(factors, rows):
    """KFAC's posteriors: the noise of a matrix is L(σ∘ε)Rᵀ, written out here once more."""
    model, slots, pair = factors
    torch.manual_seed(0)
    turn = {
        name: tuple(torch.linalg.qr(torch.randn(k, k))[0] for k in t.shape)
        for name, t in pair.posterior.items()
    }
    scale = {name: 0.1 * torch.rand(t.shape) + 0.01 for name, t in pair.posterior.items()}
    posterior = DiagonalGaussian(pair.posterior, scale, turn)
    batch = collate(rows.encoded[:2], 0, "cpu")
    del batch["labels"]
    with posterior_noise(slots, posterior, torch.Generator().manual_seed(4)) as redraw:
        redraw(2)
        together = model(**batch).logits
    generator = torch.Generator().manual_seed(4)
    entries = {
        name: torch.randn((2, *p.shape), generator=generator) * scale[name]
        for name, p in slots.parameters.items()
    }
    for i in range(2):
        slots.put(
            {n: pair.posterior[n] + turn[n][0] @ entries[n][i] @ turn[n][1].T for n in entries}
        )
        alone = model(**{k: v[i : i + 1] for k, v in batch.items()}).logits[0]
        real = slice(len(rows.encoded[i].ids))
        torch.testing.assert_close(together[i][real], alone[real], rtol=1e-3, atol=1e-3)


def test_no_noise_is_left_behind(factors, rows):
    model, slots, pair = factors
    slots.put(pair.posterior)
    batch = collate(rows.encoded[:3], 0, "cpu")
    del batch["labels"]
    before = model(**batch).logits
    with posterior_noise(slots, isotropic.fit(pair.posterior, 0.3), torch.Generator()) as redraw:
        redraw(3)
        assert not torch.equal(model(**batch).logits, before)
    assert torch.equal(model(**batch).logits, before)


def test_gauging_changes_no_prediction_of_the_mean(factors, rows, lora_run):
    model, slots, _ = factors
    batch = collate(rows.encoded[:4], 0, "cpu")
    del batch["labels"]
    before = model(**batch).logits
    adapter = read_adapter(lora_run)
    balanced = {}
    from estimators import balanced_factors

    for module, layer in adapter.layers.items():
        balanced[f"{module}.lora_A"], balanced[f"{module}.lora_B"] = balanced_factors(
            layer.a, layer.b
        )
    slots.put(balanced)
    torch.testing.assert_close(model(**batch).logits, before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("space", list(Space))
def test_both_spaces_agree_with_independent_whole_model_draws(space, factors, rows, lora_run):
    if space is Space.FACTORS:
        model, slots, pair = factors
    else:
        pair = weight_pair(open_checkpoint(resolve_path()), lora_run, "base")
        model = load_model(BASE)
        slots = find_slots(model, space, list(pair.posterior))
    sigma = 0.08 if space is Space.FACTORS else 0.03
    posterior = isotropic.fit(pair.posterior, sigma)
    evaluator = Evaluator(model, Loss.TOKEN_ERROR, load_tokenizer(BASE), 32, 0)
    rows = Rows(rows.encoded[:32], rows.units[:32])
    ours = evaluator.gibbs(slots, posterior, rows, "test", repeats=4)
    assert ours.weights.sum() == pytest.approx(1)
    assert ours.losses @ ours.weights == pytest.approx(ours.units.mean())
    generator, brute = torch.Generator().manual_seed(9), []
    for _ in range(8):
        slots.put(posterior.sample(generator))
        brute.append(
            row_losses(
                model,
                rows.encoded,
                scorer(Loss.TOKEN_ERROR, load_tokenizer(BASE)),
                blocks=by_length(rows.encoded, 32),
            ).mean()
        )
    spread = np.std(brute) / np.sqrt(len(brute)) + np.std(ours.losses) / np.sqrt(ours.losses.size)
    assert abs(np.mean(brute) - ours.units.mean()) < 4 * spread + 1e-3
    entries = len(rows.units) * 4 if space is Space.FACTORS else 4 * 4
    assert ours.losses.size == entries


def resolve_path():
    from pathlib import Path

    return Path(BASE)


@pytest.mark.parametrize("loss", list(Loss))
def test_the_order_of_the_rows_changes_no_loss(loss, rows):
    model = load_model(BASE)
    rows = Rows(rows.encoded[:24], rows.units[:24])
    shuffled = np.random.default_rng(0).permutation(len(rows.encoded))
    score = scorer(loss, load_tokenizer(BASE))
    first = row_losses(model, rows.encoded, score, blocks=by_length(rows.encoded, 10))
    mixed = [rows.encoded[i] for i in shuffled]
    second = row_losses(model, mixed, score, blocks=by_length(mixed, 10))
    assert np.array_equal(first[shuffled], second)
    assert first.min() >= 0 and first.max() <= 1


def test_draws_for_different_purposes_differ_and_repeat(factors, rows):
    model, slots, pair = factors
    evaluator = Evaluator(model, Loss.TOKEN_ERROR, load_tokenizer(BASE), 64, 0)
    posterior = isotropic.fit(pair.posterior, 0.1)
    one, same, other = (
        evaluator.gibbs(slots, posterior, rows, purpose).losses for purpose in ("a", "a", "b")
    )
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_a_shared_draw_never_cuts_a_unit():
    units = ["u", "v", "u", "w", "v", "x", "y"]
    blocks = consecutive(units, 4)
    assert sorted(i for block in blocks for i in block) == list(range(7))
    for unit in units:
        assert len({k for k, b in enumerate(blocks) for i in b if units[i] == unit}) == 1


def test_units_average_their_rows():
    losses = np.array([0.0, 1.0, 1.0, 0.0])
    assert unit_means(losses, ["u", "v", "u", "u"]).tolist() == [pytest.approx(1 / 3), 1.0]


@pytest.mark.parametrize(
    ("sigma", "draws", "split"),
    [
        (1e-3, 3, True),
        (1e-3, 1, False),
        pytest.param(0.3, 3, False, marks=pytest.mark.slow),
    ],
)
def test_the_narrower_limit_is_taken_and_the_mean_is_the_posteriors(
    factors, rows, sigma, draws, split
):
    """Around weights that are not the finished ones: the deterministic pass is at Q's mean."""
    model, slots, pair = factors
    moved = {name: t * (0 if "lora_B" in name else 1) for name, t in pair.posterior.items()}
    evaluator = Evaluator(model, Loss.EXACT_MATCH, load_tokenizer(BASE), 64, seed=0)
    posterior = isotropic.fit(moved, sigma)
    slots.put({name: 0 * t for name, t in moved.items()})  # no factors at all: the base
    reference = evaluator.row_by_row(rows, "base")
    both = empirical_gibbs(evaluator, slots, posterior, rows, reference, draws, 0.01, 0.01)
    found, excess = both.risk, both.excess
    assert excess.more.value - excess.less.value == pytest.approx(found.value - reference.mean())
    assert excess.more.upper > excess.more.value and excess.less.lower <= excess.less.value
    assert ("split-kl" in found.method) is split
    assert found.value <= found.upper
    if split:
        slots.put(moved)
        at_mean = evaluator.finished(rows, "mean").mean()
        plain = evaluator.gibbs(slots, posterior, rows, "again", draws)
        assert abs(found.value - at_mean) < 0.1
        assert found.upper < gibbs_risk(plain.losses, 0.01).upper


def test_parts_are_taken_before_the_rows_of_a_unit_are_averaged(factors, rows):
    """Rows with draws of their own: their differences must not cancel within a unit."""
    model, slots, pair = factors
    evaluator = Evaluator(model, Loss.EXACT_MATCH, load_tokenizer(BASE), 64, seed=0)
    pairs = Rows(rows.encoded, [str(i // 2) for i in range(len(rows.units))])
    drawn = evaluator.gibbs(slots, isotropic.fit(pair.posterior, 0.05), pairs, "parts", 3)
    known = 1 - drawn.rows[0]  # the first pass differs everywhere
    more, less = parts_of(drawn, known)
    count = len(rows.units) // 2
    assert np.allclose((more + less)[:count], 1.0)
    assert np.allclose(drawn.entries(drawn.rows), drawn.losses)
    assert np.allclose(more - less, drawn.losses - np.tile(drawn.entries(known[None]), 3))
