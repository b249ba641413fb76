import numpy as np
import pytest

from estimators import clopper_pearson, gibbs_risk, split_gibbs_risk, split_pays

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


@pytest.mark.parametrize(("lost", "gained"), [(0.02, 0.03), (0.4, 0.0), (0.3, 0.5)])
def test_the_split_limit_holds_its_level(lost, gained):
    """Right units are lost to the noise, wrong ones gained by it; both at known rates."""
    generator, delta, repeats = np.random.default_rng(5), 0.2, 2000
    centre = (np.arange(60) % 3 == 0).astype(float)
    expectations = np.where(centre == 1, 1 - gained, lost)
    misses = 0
    for _ in range(repeats):
        losses = (generator.random((2, 60)) < expectations).astype(float)
        misses += split_gibbs_risk(losses, centre, delta).upper < expectations.mean()
    assert clopper_pearson(misses, repeats, 0.02).upper <= delta


def test_the_split_limit_is_tight_enough_to_be_missed_by_a_smaller_budget():
    """Noise that only harms: the limit on D is one kl-Chernoff limit at half of delta."""
    centre, losses = np.zeros(100), np.zeros((3, 100))
    losses[0, :5] = 1
    found = split_gibbs_risk(losses, centre, 0.1)
    assert found.upper == pytest.approx(gibbs_risk(losses.ravel(), 0.05).upper)
    assert found.value == pytest.approx(5 / 300)


def test_split_pays_where_draws_seldom_change_a_loss():
    generator = np.random.default_rng(6)
    centre = (generator.random(4000) < 0.5).astype(float)
    calm, wild = centre.copy(), (generator.random(4000) < 0.5).astype(float)
    calm[:40] = 1 - calm[:40]
    assert split_pays(calm, centre, 4000, 4, 0.01)
    assert not split_pays(wild, centre, 4000, 4, 0.01)
    assert not split_pays(calm, centre, 4000, 1, 0.01)  # no pass to spare


def test_split_refuses_shapes_that_do_not_fit():
    for losses in ([0.1, 0.2], [[0.1]], [[0.1, 1.2]]):
        with pytest.raises(ValueError, match=r"losses|loss"):
            split_gibbs_risk(losses, [0.0, 1.0], 0.05)
