"""The curved families against the objective they claim to minimise."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estimators import DiagonalGaussian, kl_divergence
from estimators.posteriors import isotropic, laplace, per_tensor

FAMILIES = {"laplace": laplace.fit, "per_tensor": per_tensor.fit}


def quadratic_objective(q, prior, curvature, n, temperature):
    """n·risk + KL for the loss whose second derivative is temperature·curvature everywhere."""
    risk = sum(
        0.5
        * temperature
        * float((h.double() * torch.as_tensor(q.scale[name]).double().square()).sum())
        for name, h in curvature.items()
    )
    return n * risk + kl_divergence(q, prior).value


@pytest.mark.parametrize("family", FAMILIES)
@given(st.floats(0.01, 2), st.integers(1, 10_000), st.floats(0.001, 1000), st.integers(0, 99))
def test_the_fit_minimises_n_risk_plus_kl_of_a_quadratic_loss(family, sigma, n, c, seed):
    torch.manual_seed(seed)
    mean = {"w": torch.randn(3, 4), "b": torch.randn(2)}
    curvature = {name: torch.rand_like(m) ** 4 for name, m in mean.items()}
    prior = isotropic.fit({name: torch.zeros_like(m) for name, m in mean.items()}, sigma)
    q = FAMILIES[family](mean, curvature, sigma=sigma, n=n, temperature=c)
    best = quadratic_objective(q, prior, curvature, n, c)
    for factor in (0.9, 1.1):
        for name in mean:
            moved = torch.as_tensor(q.scale[name]).double().expand(mean[name].shape).clone()
            if family == "laplace":
                moved[0] *= factor  # a part of a tensor is free there
            else:
                moved *= factor
            other = DiagonalGaussian(mean, {**q.scale, name: moved})
            assert quadratic_objective(other, prior, curvature, n, c) > best


@pytest.mark.parametrize("family", FAMILIES)
def test_flat_keeps_the_prior_scale_and_steep_gets_the_curvature(family):
    mean = {"flat": torch.zeros(3), "steep": torch.zeros(3)}
    curvature = {"flat": torch.zeros(3), "steep": torch.full((3,), 1e9)}
    q = FAMILIES[family](mean, curvature, sigma=0.3, n=50, temperature=2.0)
    scale = {name: torch.as_tensor(s).double().reshape(-1) for name, s in q.scale.items()}
    assert scale["flat"].tolist() == pytest.approx([0.3] * len(scale["flat"]), rel=1e-7)
    expected = 1 / math.sqrt(50 * 2.0 * 1e9)
    assert scale["steep"].tolist() == pytest.approx([expected] * len(scale["steep"]), rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_temperature_zero_is_the_isotropic_posterior(family):
    mean = {"w": torch.ones(5)}
    q = FAMILIES[family](mean, {"w": torch.rand(5)}, sigma=0.1, n=9, temperature=0.0)
    prior = isotropic.fit({"w": torch.zeros(5)}, 0.1)
    expected = kl_divergence(isotropic.fit(mean, 0.1), prior).value
    assert kl_divergence(q, prior).value == pytest.approx(expected, rel=1e-6)


@given(st.floats(0.01, 1), st.floats(0, 1e6), st.integers(0, 99))
def test_kl_is_never_negative_and_no_scale_exceeds_the_prior(sigma, c, seed):
    torch.manual_seed(seed)
    mean = {"w": torch.zeros(6)}
    q = laplace.fit(mean, {"w": torch.rand(6)}, sigma=sigma, n=100, temperature=c)
    assert kl_divergence(q, isotropic.fit(mean, sigma)).value >= -1e-6
    assert bool((q.scale["w"] <= torch.tensor(sigma)).all())


def test_where_a_tensor_is_even_the_two_families_agree():
    mean, h = {"w": torch.zeros(4)}, {"w": torch.full((4,), 0.7)}
    words = {"sigma": 0.2, "n": 30, "temperature": 3.0}
    shared, single = per_tensor.fit(mean, h, **words), laplace.fit(mean, h, **words)
    assert isinstance(shared.scale["w"], float)
    assert single.scale["w"].tolist() == pytest.approx([shared.scale["w"]] * 4, rel=1e-6)


@pytest.mark.parametrize(
    "bad",
    [
        {"sigma": 0.0},
        {"sigma": math.inf},
        {"n": 0},
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"curvature": {"v": torch.ones(2)}},
        {"curvature": {"w": torch.ones(3)}},
        {"curvature": {"w": torch.tensor([1.0, -1.0])}},
        {"curvature": {"w": torch.tensor([1.0, math.nan])}},
    ],
)
def test_bad_numbers_are_refused(bad):
    words = {"curvature": {"w": torch.ones(2)}, "sigma": 1.0, "n": 5, "temperature": 1.0} | bad
    with pytest.raises(ValueError):
        laplace.fit({"w": torch.zeros(2)}, **words)
