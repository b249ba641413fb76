"""Shapes of the prior: where they come from and what they may not see."""

import math
import shutil
from dataclasses import replace

import pytest
import torch

from estimators import DiagonalGaussian, log_density_ratio_mixture
from estimators.gaussian import typical_scale
from estimators.posteriors.refined import Schedule
from pacbayes_sft.certified.emit import emit_adapter
from pacbayes_sft.certified.files import PRIOR, mixture, read_gaussian
from pacbayes_sft.certified.verify import verify_adapter
from pacbayes_sft.certify import _prepare, bound
from pacbayes_sft.checkpoints.files import open_checkpoint
from pacbayes_sft.choices import PriorShape, Space
from pacbayes_sft.data.encode import encode
from pacbayes_sft.errors import InputError
from pacbayes_sft.gibbs import Rows
from pacbayes_sft.inputs import load_inputs
from pacbayes_sft.models import load_tokenizer, resolve_base
from pacbayes_sft.options import Options
from pacbayes_sft.posteriors import Refinement
from pacbayes_sft.prior_shape import prior_shape, written_by

OPTIONS = Options(
    posterior="refined",
    refinement=Refinement(Schedule(steps=2), batch_size=8),
    prior_scales=(0.02, 0.05),
    loss="token_error",
)


@pytest.fixture(scope="module")
def files(rows_dir):
    return str(rows_dir / "train.jsonl"), str(rows_dir / "test.jsonl")


@pytest.fixture(scope="module")
def inputs(lora_run, files):
    return load_inputs("strong", lora_run, *files, prior=lora_run / "pacbayes_sft" / "prior")


def shape_of(kind, inputs, seen=None):
    evaluator, slots, rows = _prepare(inputs, OPTIONS)
    seen = rows(inputs.seen_by_prior) if seen is None else seen
    return prior_shape(kind, inputs, evaluator, slots, seen), evaluator, slots


def test_magnitudes_are_those_of_the_weight_behind_the_factor(inputs):
    shape, *_ = shape_of(PriorShape.MAGNITUDES, inputs)
    base = open_checkpoint(resolve_base_path())
    sizes = {
        name: base.tensor(f"{name.rpartition('.')[0]}.weight").double().square().mean().sqrt()
        for name in shape.relative
    }
    one, other = next(iter(sizes)), list(sizes)[-1]
    assert shape.relative[one] / shape.relative[other] == pytest.approx(
        float(sizes[one] / sizes[other])
    )
    assert len({round(r, 6) for r in shape.relative.values()}) > 5
    assert sum(math.log(r) for r in shape.relative.values()) == pytest.approx(0, abs=1e-9)


def resolve_base_path():
    from pacbayes_sft.models import local_directory

    return local_directory(resolve_base("strong"))


def test_the_curvature_looks_at_rows_that_the_prior_saw_and_at_no_other(inputs):
    """Emptying the certified rows changes nothing; other seen rows do."""
    order, m = inputs.record.order, inputs.record.prior_rows
    first = [inputs.train.rows[i].prompt for i in order[:m]]
    assert [row.prompt for row in inputs.seen_by_prior.rows] == first
    one, _, slots = shape_of(PriorShape.CURVATURE, inputs)
    few = replace(inputs, certified=replace(inputs.certified, rows=inputs.certified.rows[:1]))
    _, _, rows = _prepare(inputs, OPTIONS)
    seen = rows(inputs.seen_by_prior)
    again, *_ = shape_of(PriorShape.CURVATURE, few, seen)
    assert one.relative == again.relative
    fewer, *_ = shape_of(PriorShape.CURVATURE, inputs, Rows(seen.encoded[:9], seen.units[:9]))
    assert fewer.relative != one.relative
    assert "had seen" in one.assumptions[0]
    for name, value in inputs.pair.posterior.items():  # the finished weights are back in place
        torch.testing.assert_close(slots.parameters[name].data, value)
    assert max(one.relative.values()) / min(one.relative.values()) > 1.5


def test_without_seen_rows_the_base_writes_its_own(inputs):
    evaluator, _, _ = _prepare(inputs, OPTIONS)
    rows = written_by(evaluator, 3)
    assert 1 <= len(rows.encoded) <= 3 and rows == written_by(evaluator, 3)
    assert all(row.prompt_length == 1 and len(row.ids) > 1 for row in rows.encoded)


def test_the_mixture_keeps_the_shape():
    prior = DiagonalGaussian({"a": torch.zeros(2), "b": torch.zeros(3)}, {"a": 0.1, "b": 0.4})
    assert typical_scale(prior) == pytest.approx(0.2)
    half = mixture(prior, (0.1, 0.2))[0]
    assert half.scale == pytest.approx({"a": 0.05, "b": 0.2})
    theta = {"a": torch.ones(2), "b": torch.ones(3)}
    assert math.isfinite(log_density_ratio_mixture(theta, prior, mixture(prior, (0.1, 0.2))))


@pytest.mark.parametrize("kind", ["magnitudes", "curvature"])
def test_a_shaped_prior_goes_the_whole_way(kind, tiny_base, small_run, files, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")  # draws are counted beside it
    certificate = bound(str(tiny_base), run, *files, replace(OPTIONS, prior_shape=kind))
    assert typical_scale(certificate.fitted.prior) == pytest.approx(certificate.fitted.sigma)
    assert len(set(certificate.fitted.prior.scale.values())) > 5
    if kind == "curvature":
        assert any("centre wrote" in sentence for sentence in certificate.kl.assumptions)
        return
    record = emit_adapter(certificate, tmp_path / "out", declared_draws=9)
    assert record["prior"]["shape"] == kind
    assert read_gaussian(tmp_path / "out" / PRIOR).scale == certificate.fitted.prior.scale
    assert verify_adapter(tmp_path / "out", files[0])


def test_full_weights_have_magnitudes_of_their_own(full_run, files):
    inputs = load_inputs("strong", full_run, *files)
    assert inputs.pair.space is Space.WEIGHTS and inputs.seen_by_prior is None
    evaluator, slots, _ = _prepare(inputs, OPTIONS)
    shape = prior_shape(PriorShape.MAGNITUDES, inputs, evaluator, slots, None)
    assert shape.relative.keys() == inputs.pair.prior.keys()


def test_the_curvature_families_stand_on_the_isotropic_prior(lora_run, files):
    options = replace(OPTIONS, posterior="laplace", prior_shape="magnitudes")
    with pytest.raises(InputError, match="prior-shape isotropic"):
        bound("strong", lora_run, *files, options)


def test_the_hall_hands_the_shape_no_certified_row(lora_run, files, monkeypatch):
    given = {}

    def spy(kind, inputs, evaluator, slots, seen):
        given.update(seen=seen.encoded, certified=inputs.certified)
        raise InputError("enough")

    monkeypatch.setattr("pacbayes_sft.certify.prior_shape", spy)
    prior = lora_run / "pacbayes_sft" / "prior"
    with pytest.raises(InputError, match="enough"):
        bound("strong", lora_run, *files, replace(OPTIONS, prior=prior, prior_shape="curvature"))
    tokenizer = load_tokenizer(resolve_base("strong"))
    certified = {row.ids for row in encode(given["certified"], tokenizer, None)}
    assert given["seen"] and not certified & {row.ids for row in given["seen"]}
