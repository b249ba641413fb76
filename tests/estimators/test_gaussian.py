import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estimators import (
    DiagonalGaussian,
    balanced_factors,
    kl_divergence,
    kl_isotropic,
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
    assert float(a.square().sum() + b.square().sum()) > 2 * nuclear


def test_point_masses_are_refused():
    with pytest.raises(ValueError, match="positive"):
        isotropic.fit({"w": torch.zeros(2)}, 0.0)
    with pytest.raises(ValueError, match="infinite KL"):
        kl_isotropic(1.0, 2, 0.0, 1.0)
    with pytest.raises(ValueError, match="finite"):
        kl_isotropic(math.inf, 2, 1.0, 1.0)


def test_samples_have_the_stated_law():
    q = isotropic.fit({"w": torch.full((200, 200), 3.0)}, 0.5)
    draw = q.sample(torch.Generator().manual_seed(1))["w"]
    assert float(draw.mean()) == pytest.approx(3.0, abs=0.02)
    assert float(draw.std()) == pytest.approx(0.5, rel=0.02)
    again = q.sample(torch.Generator().manual_seed(1))["w"]
    assert torch.equal(draw, again)
