import numpy as np
import pytest

from estimators import clopper_pearson, gibbs_risk

REPEATS = 2000


@pytest.mark.parametrize("shape", ["equal", "last block smaller"])
def test_the_limit_holds_its_level(shape):
    """Draws with different expectations, as rows of different difficulty have."""
    generator, delta, m = np.random.default_rng(3), 0.1, 40
    expectations = generator.beta(0.5, 2, m)
    weights = np.full(m, 1.0)
    if shape != "equal":
        weights[-1] = 0.3
    weights /= weights.sum()
    truth = float(weights @ expectations)
    misses = 0
    for _ in range(REPEATS):
        losses = (generator.random(m) < expectations).astype(float)
        misses += gibbs_risk(losses, delta, weights).upper < truth
    assert clopper_pearson(misses, REPEATS, 0.02).upper <= delta


def test_best_of_many_on_one_set_of_draws_would_be_noticed():
    """The planted mistake: the smallest of 50 limits, each at the whole delta."""
    generator, delta, m = np.random.default_rng(4), 0.1, 40
    misses = sum(
        min(gibbs_risk((generator.random(m) < 0.3).astype(float), delta).upper for _ in range(50))
        < 0.3
        for _ in range(100)
    )
    assert misses > 50


def test_all_zero_and_all_one():
    assert gibbs_risk([0.0] * 10, 0.05).upper == pytest.approx(1 - 0.05 ** (1 / 10))
    assert gibbs_risk([1.0] * 10, 0.05).upper == 1.0


@pytest.mark.parametrize("bad", [[], [0.5, 1.5], [-0.1], [float("nan")], [[0.1]]])
def test_refuses_what_is_no_loss(bad):
    with pytest.raises(ValueError, match=r"losses|loss"):
        gibbs_risk(bad, 0.05)


def test_refuses_weights_that_are_no_shares():
    with pytest.raises(ValueError, match="weights"):
        gibbs_risk([0.1, 0.2], 0.05, [0.5, 0.6])
