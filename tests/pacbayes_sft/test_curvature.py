"""The diagonal Fisher matrix against brute force, and the posteriors made from it."""

import sys
from dataclasses import replace
from functools import partial

import pytest
import torch

from pacbayes_sft.bound_json import to_record
from pacbayes_sft.certify import Options, _prepare, bound
from pacbayes_sft.choices import Space
from pacbayes_sft.curvature import _probe, diagonal_fisher
from pacbayes_sft.data.encode import collate
from pacbayes_sft.errors import InputError
from pacbayes_sft.gibbs import Rows
from pacbayes_sft.inputs import load_inputs
from pacbayes_sft.kronecker import kronecker_curvature as kron

SMALL = Options(prior_scales=(0.05, 0.2))


@pytest.fixture(scope="module")
def files(rows_dir):
    return str(rows_dir / "train.jsonl"), str(rows_dir / "test.jsonl")


def prepared(run, files, options, few=4):
    inputs = load_inputs("strong", run, *files, space=options.space)
    evaluator, slots, rows = _prepare(inputs, options)
    certified = rows(inputs.certified)
    shortest = sorted(range(inputs.n), key=lambda i: len(certified.encoded[i].ids))[:few]
    kept = Rows([certified.encoded[i] for i in shortest], [certified.units[i] for i in shortest])
    return inputs.pair.posterior, evaluator, slots, kept


@pytest.fixture(scope="module")
def lora(lora_run, files):
    return prepared(lora_run, files, SMALL)


def exact_diagonal(evaluator, slots, row, names):
    """Σ_t Σ_y p_t(y) (∂ ln p_t(y))²: every label of every position, one backward pass each."""
    parameters = [slots.parameters[name].requires_grad_() for name in names]
    try:
        logits = evaluator.model(torch.tensor([row.ids])).logits[0]
        log_p = logits[row.prompt_length - 1 : -1].log_softmax(-1)
        every = torch.eye(log_p.numel()).reshape(-1, *log_p.shape)
        total = [torch.zeros_like(p) for p in parameters]
        for probes, p in zip(
            every.split(53), log_p.detach().exp().flatten().split(53), strict=True
        ):
            found = torch.autograd.grad(
                log_p, parameters, probes, retain_graph=True, is_grads_batched=True
            )
            for t, g in zip(total, found, strict=True):
                t += torch.einsum("k...,k->...", g.square(), p)
        return dict(zip(names, total, strict=True))
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)


@pytest.mark.slow
def test_random_signs_are_unbiased_for_the_whole_diagonal(lora):
    """The same row under many signs meets the sum over all labels."""
    point, evaluator, slots, rows = lora
    names = [name for name in point if "layers.3" in name][-4:]
    truth = exact_diagonal(evaluator, slots, rows.encoded[0], names)
    repeats = 150
    many = Rows([rows.encoded[0]] * repeats, ["x"] * repeats)
    found = diagonal_fisher(evaluator, slots, point, many, limit=repeats)
    for name in names:
        assert float(found[name].sum()) == pytest.approx(float(truth[name].sum()), rel=0.15)
        both = torch.stack([found[name].flatten(), truth[name].double().flatten()])
        assert float(torch.corrcoef(both)[0, 1]) > 0.95


def test_it_is_the_mean_squared_gradient_of_single_rows_in_a_padded_batch(lora, monkeypatch):
    """Each row's gradients taken out of one padded batch, with a probe that is not random."""
    point, evaluator, slots, rows = lora
    monkeypatch.setattr("pacbayes_sft.curvature._probe", lambda z, _: z.softmax(-1))
    found = diagonal_fisher(evaluator, slots, point, rows)
    parameters = [slots.parameters[name].requires_grad_() for name in point]
    batch = collate(rows.encoded, evaluator.tokenizer.pad_token_id, "cpu")
    supervised = batch["labels"][:, 1:] != -100
    logits = evaluator.model(batch["input_ids"]).logits[:, :-1]
    value = (logits * logits.softmax(-1).detach()).sum(-1).mul(supervised).sum(1)
    each = [torch.autograd.grad(x, parameters, retain_graph=True) for x in value]
    for parameter in parameters:
        parameter.requires_grad_(False)
    for k, name in enumerate(point):
        expected = torch.stack([g[k].double().square() for g in each]).mean(0)
        torch.testing.assert_close(
            found[name], expected, rtol=1e-3, atol=1e-6 * float(expected.max())
        )


def test_neither_the_batch_size_nor_the_past_enters(lora):
    point, evaluator, slots, rows = lora
    once = diagonal_fisher(evaluator, slots, point, rows)
    again = diagonal_fisher(replace(evaluator, batch_size=3), slots, point, rows)
    assert all(once[name].equal(again[name]) for name in point)
    other = diagonal_fisher(replace(evaluator, seed=1), slots, point, rows)
    assert not all(once[name].equal(other[name]) for name in point)
    assert not any(p.requires_grad for p in evaluator.model.parameters())


def test_tied_weights_count_both_uses(full_run, files):
    options = Options(space=Space.WEIGHTS, prior_scales=(0.01,))
    point, evaluator, slots, rows = prepared(full_run, files, options, few=1)
    (tied,) = (name for name in point if "embed" in name)
    found = diagonal_fisher(evaluator, slots, point, rows)[tied]
    absent = sorted(set(range(len(found))) - set(rows.encoded[0].ids))
    assert float(found[absent].sum()) > 0  # through the head alone
    read = [t for t in rows.encoded[0].ids if t not in absent]
    assert float(found[read].sum()) > float(found[absent].sum())


def test_the_probe_has_the_covariance_of_the_softmax():
    logits = torch.tensor([0.5, -9.0, 2.0, 0.3])
    probes = _probe(logits.expand(40_000, 4), seed=3)
    p = logits.softmax(-1)
    torch.testing.assert_close(
        probes.T @ probes / 40_000, p.diag() - p[:, None] * p, atol=5e-3, rtol=0
    )


def test_a_curvature_that_is_not_a_number_is_refused(lora):
    point, evaluator, slots, rows = lora
    broken = {name: torch.full_like(w, torch.nan) for name, w in point.items()}
    with pytest.raises(InputError, match="not finite"):
        diagonal_fisher(evaluator, slots, broken, rows, limit=1)


def quick(monkeypatch):
    monkeypatch.setattr("pacbayes_sft.posteriors.PILOT_UNITS", 8)
    for name, found in (("diagonal_fisher", diagonal_fisher), ("kronecker_curvature", kron)):
        monkeypatch.setattr(f"pacbayes_sft.posteriors.{name}", partial(found, limit=8))


@pytest.mark.parametrize(
    "family", [pytest.param("per_tensor", marks=pytest.mark.slow), "laplace", "kfac"]
)
def test_the_curved_families_go_through_and_repeat(
    family, tiny_base, small_run, files, monkeypatch
):
    quick(monkeypatch)
    monkeypatch.setattr("pacbayes_sft.posteriors.TEMPERATURES", (1.0, 100.0))
    options = replace(SMALL, posterior=family)
    certificate = bound(str(tiny_base), small_run, *files, options)
    record = to_record(certificate)
    assert record["posterior"]["family"] == family
    assert record["kl"]["value"] >= 0 and record["drift"]["distance"] == 0
    assert record["posterior"]["sigma"] < record["prior"]["sigma"]
    assert "temperature" in record["posterior"]["reason"]
    assert sum("PAC-Bayes with prior scale" in row["event"] for row in record["delta_ledger"]) == 2
    assert to_record(bound(str(tiny_base), small_run, *files, options)) == record


@pytest.mark.slow
def test_the_curved_families_know_dense_weights(full_run, files, monkeypatch):
    quick(monkeypatch)
    monkeypatch.setattr("pacbayes_sft.posteriors.TEMPERATURES", (10.0,))
    options = Options(posterior="laplace", prior_scales=(0.01,), loss="token_error")
    record = to_record(bound("strong", full_run, *files, options))
    assert (record["posterior"]["family"], record["space"]) == ("laplace", "weights")


def test_kronecker_factors_have_the_trace_of_the_diagonal_and_its_pattern(lora):
    point, evaluator, slots, rows = lora
    found = kron(evaluator, slots, point, rows)
    diagonal = diagonal_fisher(evaluator, slots, point, rows)
    alike, chance = [], []
    for name, (g, a) in found.items():
        assert (len(g), len(a)) == tuple(point[name].shape)
        approximate = g.diagonal()[:, None] * a.diagonal()
        assert float(approximate.sum()) == pytest.approx(float(diagonal[name].sum()), rel=1e-6)
        both = torch.stack([approximate.flatten(), diagonal[name].flatten()])
        alike.append(float(torch.corrcoef(both)[0, 1]))
        both[1] = both[1].roll(both.shape[1] // 2 + 3)
        chance.append(float(torch.corrcoef(both)[0, 1]))
    assert sum(alike) / len(alike) > 0.2 > 3 * abs(sum(chance) / len(chance))
    assert not any(p.requires_grad for p in evaluator.model.parameters())


def test_what_is_no_linear_layer_keeps_its_diagonal(full_run, files):
    options = Options(space=Space.WEIGHTS, prior_scales=(0.01,))
    point, evaluator, slots, rows = prepared(full_run, files, options, few=2)
    found = kron(evaluator, slots, point, rows)
    plain = {name for name, value in found.items() if isinstance(value, torch.Tensor)}
    assert plain == {name for name in point if "norm" in name or "embed" in name}


def test_a_missing_curvlinops_is_said(lora, monkeypatch):
    monkeypatch.setitem(sys.modules, "curvlinops", None)
    with pytest.raises(InputError, match="needs curvlinops"):
        kron(lora[1], lora[2], lora[0], lora[3])
