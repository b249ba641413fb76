import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from estimators import (
    DiagonalGaussian,
    disintegrated,
    draw_delta,
    kl_bound,
    kl_divergence,
    load_gaussian,
    log_density_ratio,
    save_gaussian,
)

Q = DiagonalGaussian(
    {"a": torch.tensor([0.3, -0.2]), "b": torch.ones(2, 2)},
    {"a": 0.5, "b": torch.tensor([[0.2, 0.4], [0.6, 0.8]])},
)
P = DiagonalGaussian({"a": torch.zeros(2), "b": torch.zeros(2, 2)}, {"a": 1.0, "b": 0.7})


@given(st.floats(0, 1), st.floats(0, 1e3), st.integers(1, 10**5), st.floats(1e-6, 0.9))
def test_at_a_log_ratio_it_is_the_kl_bound_at_that_kl(risk, ratio, n, delta):
    assert disintegrated(risk, ratio, n, delta).upper == kl_bound(risk, ratio, n, delta).upper


def test_a_lucky_draw_cannot_be_certified_below_its_own_risk():
    assert 0.3 <= disintegrated(0.3, -1e9, 50, 0.05).upper <= 0.3 + 1e-12
    assert disintegrated(0.3, math.inf, 50, 0.05).upper == 1.0


@pytest.mark.parametrize(
    "bad", [(1.2, 0, 5, 0.1), (0.2, math.nan, 5, 0.1), (0.2, 0, 0, 0.1), (0.2, 0, 5, 1.0)]
)
def test_nonsense_is_refused(bad):
    with pytest.raises(ValueError, match=r"need|must"):
        disintegrated(*bad)


def test_draws_share_delta():
    assert sum(draw_delta(0.05, k=k) for k in range(1, 100_000)) <= 0.05
    assert sum(draw_delta(0.05, k=k, declared=7) for k in range(1, 8)) == pytest.approx(0.05)
    for k, declared in ((0, None), (8, 7)):
        with pytest.raises(ValueError, match="draw"):
            draw_delta(0.05, k=k, declared=declared)


def test_the_mean_log_ratio_under_q_is_the_kl():
    generator = torch.Generator().manual_seed(0)
    ratios = [log_density_ratio(Q.sample(generator), Q, [P]) for _ in range(4000)]
    assert np.mean(ratios) == pytest.approx(
        kl_divergence(Q, P).value, abs=4 * np.std(ratios) / math.sqrt(4000)
    )


def test_the_ratio_is_a_density_under_the_mixture():
    """∫ q/p dp = 1, with p the equal mixture of three scales, by quadrature in one dimension."""
    scales = (0.3, 1.0, 3.0)
    q = DiagonalGaussian({"x": torch.tensor([0.5])}, {"x": 0.4})
    priors = [DiagonalGaussian({"x": torch.zeros(1)}, {"x": s}) for s in scales]

    def integrand(x):
        theta = {"x": torch.tensor([x], dtype=torch.float64)}
        mixture = np.mean([stats.norm.pdf(x, 0, s) for s in scales])
        return math.exp(log_density_ratio(theta, q, priors)) * mixture

    assert integrate.quad(integrand, -6, 6, limit=200)[0] == pytest.approx(1, abs=1e-6)


def test_a_grid_costs_at_most_its_logarithm():
    wide = DiagonalGaussian(P.mean, {"a": 30.0, "b": 30.0})
    theta = Q.sample(torch.Generator().manual_seed(1))
    alone, both = (log_density_ratio(theta, Q, priors) for priors in ([P], [P, wide]))
    assert alone < both <= alone + math.log(2)
    with pytest.raises(ValueError, match="different tensors"):
        log_density_ratio({"a": theta["a"]}, Q, [P])


def test_a_gaussian_comes_back_bit_for_bit(tmp_path):
    mixed = DiagonalGaussian(
        {"a": torch.randn(3).bfloat16(), "b": torch.randn(2, 2)},
        {"a": 0.1, "b": torch.rand(2, 2) + 0.1},
    )
    save_gaussian(mixed, tmp_path / "q.safetensors", {"family": "test"})
    again = load_gaussian(tmp_path / "q.safetensors")
    for name, tensor in mixed.mean.items():
        assert again.mean[name].equal(tensor) and again.mean[name].dtype == tensor.dtype
    assert again.scale["a"] == 0.1 and isinstance(again.scale["a"], float)
    assert torch.equal(again.scale["b"], mixed.scale["b"].double())
    save_gaussian(again, tmp_path / "r.safetensors", {"family": "test"})
    first, second = ((tmp_path / f"{n}.safetensors").read_bytes() for n in "qr")
    assert first == second
    from safetensors.torch import save_file

    save_file({"w": torch.ones(1)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(ValueError, match="holds no Gaussian"):
        load_gaussian(tmp_path / "other.safetensors")
