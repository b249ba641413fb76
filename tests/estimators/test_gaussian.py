import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estimators import (
    DiagonalGaussian,
    balanced_factors,
    balanced_squared_norm,
    kl_divergence,
    kl_isotropic,
    log_density_ratio,
    log_density_ratio_mixture,
    low_rank_squared_norm,
    squared_distance,
)
from estimators.posteriors import isotropic

SIZES = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 7))


@given(SIZES, st.floats(0.01, 10), st.floats(0.01, 10), st.integers(0, 999))
def test_kl_against_torch_distributions(sizes, sq, sp, seed):
    torch.manual_seed(seed)
    means = {"w": torch.randn(sizes), "b": torch.randn(3)}
    centres = {name: torch.randn_like(m) for name, m in means.items()}
    scales = {"w": sq * (0.5 + torch.rand(sizes)), "b": sq}
    ours = kl_divergence(
        DiagonalGaussian(means, scales), DiagonalGaussian(centres, dict.fromkeys(means, sp))
    )
    theirs = sum(
        torch.distributions.kl_divergence(
            torch.distributions.Normal(m.double(), torch.as_tensor(scales[n]).double()),
            torch.distributions.Normal(centres[n].double(), torch.tensor(sp, dtype=torch.float64)),
        )
        .sum()
        .item()
        for n, m in means.items()
    )
    assert ours.value == pytest.approx(theirs, rel=1e-6, abs=1e-9)


@given(st.floats(0.01, 3), st.floats(0.01, 3))
def test_isotropic_shortcut_is_the_general_formula(sq, sp):
    q, p = {"w": torch.randn(4, 5)}, {"w": torch.randn(4, 5)}
    general = kl_divergence(isotropic.fit(q, sq), isotropic.fit(p, sp))
    short = kl_isotropic(squared_distance(q, p), 20, sq, sp)
    assert short.value == pytest.approx(general.value, rel=1e-9)


@given(SIZES, st.floats(0.1, 4))
def test_low_rank_norm_against_the_dense_product(sizes, scaling):
    rank, out, into = sizes
    a, b = torch.randn(rank, into, dtype=torch.float64), torch.randn(out, rank, dtype=torch.float64)
    dense = float((scaling * b @ a).square().sum())
    assert low_rank_squared_norm(a, b, scaling) == pytest.approx(dense, rel=1e-9)


def test_balanced_factors_keep_the_product_and_reach_the_nuclear_norm():
    torch.manual_seed(0)
    a, b = torch.randn(4, 9, dtype=torch.float64) * 5, torch.randn(7, 4, dtype=torch.float64)
    a2, b2 = balanced_factors(a, b)
    torch.testing.assert_close(b2 @ a2, b @ a)
    nuclear = float(torch.linalg.matrix_norm(b @ a, ord="nuc"))
    assert float(a2.square().sum() + b2.square().sum()) == pytest.approx(2 * nuclear)
    assert balanced_squared_norm(a, b) == pytest.approx(2 * nuclear)
    assert float(a.square().sum() + b.square().sum()) > 2 * nuclear


def test_point_masses_are_refused():
    with pytest.raises(ValueError, match="positive"):
        isotropic.fit({"w": torch.zeros(2)}, 0.0)
    with pytest.raises(ValueError, match="infinite KL"):
        kl_isotropic(1.0, 2, 0.0, 1.0)
    with pytest.raises(ValueError, match="finite"):
        kl_isotropic(math.inf, 2, 1.0, 1.0)
    for sigmas in ((1.0, 1e-170), (1e200, 1e200), (1e-160, 1.0), (1e160, 1.0), (1e300, 1e-300)):
        with pytest.raises(ValueError, match="too small or too large for a float"):
            kl_isotropic(1.0, 2, *sigmas)


def test_samples_have_the_stated_law():
    q = isotropic.fit({"w": torch.full((200, 200), 3.0)}, 0.5)
    draw = q.sample(torch.Generator().manual_seed(1))["w"]
    assert float(draw.mean()) == pytest.approx(3.0, abs=0.02)
    assert float(draw.std()) == pytest.approx(0.5, rel=0.02)
    again = q.sample(torch.Generator().manual_seed(1))["w"]
    assert torch.equal(draw, again)


@given(SIZES, st.integers(0, 999))
def test_log_density_ratio_against_torch_distributions(sizes, seed):
    torch.manual_seed(seed)
    q = DiagonalGaussian(
        {"w": torch.randn(sizes), "b": torch.randn(3)}, {"w": torch.rand(sizes) + 0.3, "b": 0.7}
    )
    p = DiagonalGaussian(
        {"w": torch.randn(sizes), "b": torch.randn(3)}, {"w": 1.5, "b": torch.rand(3) + 0.3}
    )
    theta = q.sample(torch.Generator().manual_seed(seed))

    def log_density(g):
        return sum(
            torch.distributions.Normal(g.mean[k].double(), torch.as_tensor(g.scale[k]).double())
            .log_prob(t.double())
            .sum()
            .item()
            for k, t in theta.items()
        )

    truth = log_density(q) - log_density(p)
    assert log_density_ratio(theta, q, p) == pytest.approx(truth, rel=1e-6, abs=1e-6)


def test_the_mean_log_ratio_under_the_posterior_is_the_kl():
    q = DiagonalGaussian({"w": torch.tensor([0.3, -1.0, 2.0])}, {"w": 0.4})
    p = DiagonalGaussian({"w": torch.zeros(3)}, {"w": torch.tensor([1.0, 0.5, 2.0])})
    generator = torch.Generator().manual_seed(0)
    ratios = [log_density_ratio(q.sample(generator), q, p) for _ in range(4000)]
    error = np.std(ratios) / math.sqrt(len(ratios))
    assert abs(np.mean(ratios) - kl_divergence(q, p).value) < 4 * error


@pytest.mark.parametrize(("centre", "scale"), [(0.0, 1.0), (1.5, 0.2), (-3.0, 2.5)])
def test_the_ratio_is_a_density(centre, scale):
    """E_{θ~P} dQ/dP = 1, by quadrature on a line; for one prior and for a mixture."""
    q = DiagonalGaussian({"w": torch.tensor([centre])}, {"w": scale})
    priors = [DiagonalGaussian({"w": torch.zeros(1)}, {"w": s}) for s in (0.5, 1.0, 4.0)]
    weights = [0.2, 0.5, 0.3]
    grid = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    densities = [torch.distributions.Normal(0.0, p.scale["w"]).log_prob(grid).exp() for p in priors]
    single = [math.exp(log_density_ratio({"w": x[None]}, q, priors[1])) for x in grid]
    mixed = [math.exp(log_density_ratio_mixture({"w": x[None]}, q, priors, weights)) for x in grid]
    mixture = sum(w * d for w, d in zip(weights, densities, strict=True))
    step = float(grid[1] - grid[0])
    assert float(densities[1] @ torch.tensor(single, dtype=torch.float64)) * step == pytest.approx(
        1, abs=1e-6
    )
    assert float(mixture @ torch.tensor(mixed, dtype=torch.float64)) * step == pytest.approx(
        1, abs=1e-6
    )


@given(st.lists(st.floats(0.05, 5), min_size=1, max_size=6), st.floats(-4, 4))
def test_a_mixture_costs_at_most_its_union_bound(scales, x):
    q = DiagonalGaussian({"w": torch.ones(1)}, {"w": 0.3})
    priors = [DiagonalGaussian({"w": torch.zeros(1)}, {"w": s}) for s in scales]
    theta = {"w": torch.tensor([x], dtype=torch.float64)}
    single = min(log_density_ratio(theta, q, p) for p in priors)
    mixed = log_density_ratio_mixture(theta, q, priors)
    assert single - 1e-9 <= mixed <= single + math.log(len(priors)) + 1e-9


def test_a_ratio_at_rounded_weights_is_refused():
    q = isotropic.fit({"w": torch.zeros(2)}, 1.0)
    with pytest.raises(ValueError, match="unrounded"):
        log_density_ratio({"w": torch.zeros(2, dtype=torch.bfloat16)}, q, q)
    with pytest.raises(ValueError, match="name different"):
        log_density_ratio({"v": torch.zeros(2)}, q, q)
    with pytest.raises(ValueError, match="shape"):
        log_density_ratio({"w": torch.zeros(3)}, q, q)


@pytest.mark.parametrize("weights", [[0.5], [0.7, 0.7], [1.0, 0.0], [-0.5, 1.0]])
def test_weights_of_a_mixture_are_a_sub_probability(weights):
    q = isotropic.fit({"w": torch.zeros(2)}, 1.0)
    with pytest.raises(ValueError, match="must"):
        log_density_ratio_mixture(q.mean, q, [q, q], weights)
    with pytest.raises(ValueError, match="at least one"):
        log_density_ratio_mixture(q.mean, q, [])


@pytest.mark.parametrize(("rank", "wide", "high"), [(6, 4, 4), (6, 8, 4), (6, 4, 9), (3, 5, 7)])
def test_factors_of_more_rank_than_their_product_keep_their_shapes(rank, wide, high):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(*s, generator=generator) for s in ((rank, wide), (high, rank)))
    new_a, new_b = balanced_factors(a, b)
    assert new_a.shape == a.shape and new_b.shape == b.shape
    torch.testing.assert_close(new_b @ new_a, b @ a, atol=1e-4, rtol=1e-4)
    norm = float(new_a.square().sum() + new_b.square().sum())
    assert norm == pytest.approx(balanced_squared_norm(a, b), rel=1e-5)


def test_a_scale_beyond_float32_is_one():
    assert DiagonalGaussian({"w": torch.zeros(2)}, 1e-60).scale == {"w": 1e-60}
    with pytest.raises(ValueError, match="positive and finite"):
        DiagonalGaussian({"w": torch.zeros(2)}, 0.0)
