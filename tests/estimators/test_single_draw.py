import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import Estimate, Guarantee, disintegrated, draw_delta, kl_bound


@given(st.floats(0, 1), st.floats(0, 1e3), st.integers(1, 10**6), st.floats(1e-9, 0.999))
def test_it_is_the_kl_bound_with_the_ratio_in_the_place_of_the_kl(risk, ratio, n, delta):
    ours = disintegrated(risk, ratio, n, delta).upper
    assert ours == pytest.approx(kl_bound(risk, ratio, n, delta).upper, rel=1e-12)


def test_a_very_negative_ratio_leaves_the_empirical_risk():
    assert disintegrated(0.3, -1e6, 100, 0.05).upper == pytest.approx(0.3, abs=1e-5)
    assert disintegrated(0.3, -2.0, 100, 0.05).upper < disintegrated(0.3, 0.0, 100, 0.05).upper
    assert disintegrated(0.3, math.inf, 100, 0.05).upper == 1.0


def test_it_says_what_it_does_not_promise():
    mean = Estimate(0.2, 0.1, 0.3, 0.99, Guarantee.UPPER, "a limit", ("by sampling",))
    bound = disintegrated(mean, 1.0, 1000, 0.04)
    assert bound.confidence == pytest.approx(0.95) and bound.guarantee is Guarantee.UPPER
    text = " ".join((bound.method, *bound.assumptions))
    for words in ("one draw", "neither uniformly", "frozen before the draw", "before any rounding"):
        assert words in text
    assert "by sampling" in text
    guess = Estimate(1.0, 0.0, 2.0, 0.9, Guarantee.LOWER, "a guess")
    assert disintegrated(0.2, guess, 1000, 0.05).guarantee is Guarantee.ESTIMATE


@given(st.floats(1e-6, 0.999), st.integers(1, 10**6))
def test_all_draws_together_spend_at_most_delta(delta, count):
    assert count * draw_delta(delta, declared=count) <= delta * (1 + 1e-12)
    assert draw_delta(delta, k=count) <= 6 / math.pi**2 * delta / count**2 * (1 + 1e-12)


def test_undeclared_draws_sum_to_delta():
    assert 0.04999 < sum(draw_delta(0.05, k=k) for k in range(1, 10**4)) < 0.05
    assert draw_delta(0.05) == 0.05


@pytest.mark.parametrize("how", [{"declared": 0}, {"k": 0}, {"k": -1}, {"declared": 3, "k": 2}])
def test_counts_that_mean_nothing(how):
    with pytest.raises(ValueError, match="draws"):
        draw_delta(0.05, **how)
