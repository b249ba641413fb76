import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estimators import clopper_pearson, compression_bound, held_out_bound, kl_bound, quantise


@given(st.integers(1, 400), st.data(), st.floats(0.001, 0.4))
def test_the_held_out_limit_is_one_side_of_clopper_pearson(n, data, delta):
    errors = data.draw(st.integers(0, n))
    losses = [1.0] * errors + [0.0] * (n - errors)
    assert held_out_bound(losses, delta).upper == pytest.approx(
        clopper_pearson(errors, n, 2 * delta).upper
    )


def test_a_tiny_delta_still_gives_a_limit():
    """1 - δ is 1 in floating point below 1e-16; with no error the limit is 1 - δ^(1/n)."""
    for delta in (1e-15, 1e-20, 1e-100):
        limit = held_out_bound([0.0] * 500, delta).upper
        assert limit == pytest.approx(-math.expm1(math.log(delta) / 500), rel=1e-9)
        assert held_out_bound([0.0] * 499 + [1.0], delta).upper < 1


def test_the_held_out_limit_covers():
    rng, delta, n = np.random.default_rng(0), 0.1, 60
    limits = [held_out_bound(rng.random(n) < 0.3, delta).upper for _ in range(3000)]
    assert 0.05 < np.mean(np.array(limits) < 0.3) <= 0.1 + 0.012
    real = [held_out_bound(rng.beta(2, 3, n), delta).upper for _ in range(2000)]
    assert np.mean(np.array(real) < 0.4) <= 0.1


@pytest.mark.parametrize("bad", [[], [[0.0]], [1.2], [math.nan]])
def test_losses_that_are_none(bad):
    with pytest.raises(ValueError, match=r"losses must|outside"):
        held_out_bound(bad, 0.05)


@pytest.mark.parametrize("levels", [3, 5, 9])
def test_the_code_is_about_as_long_as_the_entropy_and_can_be_read_back(levels):
    tensor = torch.randn(300, 40, generator=torch.Generator().manual_seed(0))
    found, nats = quantise({"w": tensor}, levels)
    values, counts = found["w"].unique(return_counts=True)
    assert len(values) <= levels
    share = counts.double() / counts.sum()
    entropy = -float((share * share.log()).sum()) * tensor.numel()
    overhead = 16 * math.log(2) + (levels - 1) / 2 * math.log(tensor.numel()) + 3
    assert entropy <= nats <= entropy + overhead
    steps = values / values[values > 0].min()
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=1e-4)


def test_codes_are_prefix_free():
    """Kraft: over all sequences of one length the code words' masses sum to at most one."""
    from itertools import product

    from estimators.compression import _krichevsky_trofimov

    mass = sum(
        math.exp(-_krichevsky_trofimov(torch.tensor(word), 3))
        for word in product(range(3), repeat=6)
    )
    assert mass == pytest.approx(1.0)


def test_more_levels_cost_more_and_lose_less():
    tensor = torch.randn(50, 50, generator=torch.Generator().manual_seed(1))
    coded = [quantise({"w": tensor}, levels) for levels in (3, 9, 33)]
    assert [c[1] for c in coded] == sorted(c[1] for c in coded)
    errors = [float((c[0]["w"] - tensor).square().mean()) for c in coded]
    assert errors == sorted(errors, reverse=True)
    zero, nats = quantise({"w": torch.zeros(100)}, 3)
    assert not zero["w"].any() and nats < 20


@given(st.floats(0, 1), st.floats(0, 500), st.integers(1, 10_000), st.floats(0.001, 0.5))
def test_the_compression_bound_is_above_the_risk_and_below_a_kl_bound_of_that_length(
    r, length, n, d
):
    value = compression_bound(r, length, n, d).upper
    assert r <= value <= kl_bound(r, length, n, d).upper + 1e-12
    assert compression_bound(r, length + 1, n, d).upper >= value


def test_what_a_code_cannot_be():
    with pytest.raises(ValueError, match="odd"):
        quantise({"w": torch.ones(3)}, 4)
    with pytest.raises(ValueError, match="code length"):
        compression_bound(0.1, -1.0, 10, 0.05)
