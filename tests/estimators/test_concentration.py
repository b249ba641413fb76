"""Against 50-digit references."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from estimators import (
    binary_kl,
    clopper_pearson,
    kl_interval,
    kl_inverse_lower,
    kl_inverse_upper,
    log_maurer_moment,
)
from tests import reference

PROBABILITY = st.floats(0, 1)
BUDGET = st.floats(1e-14, 50)


@given(PROBABILITY, PROBABILITY)
@example(0.3, 0.3 + 1e-12)
@example(1.0, 0.5)
@example(0.0, 1.0)
@example(0.1, math.nextafter(0.1, 1))
def test_binary_kl_has_full_relative_precision(q, p):
    truth, computed = reference.binary_kl(q, p), binary_kl(q, p)
    assert computed == truth or abs(computed / truth - 1) < 1e-11


@settings(max_examples=120)
@given(PROBABILITY, BUDGET)
@example(0.0, 0.1)
@example(1.0, 0.1)
@example(0.3, 11.041315583919642)
@example(0.1, 1.5740444469253855e-11)
def test_upper_inverse_never_lies_below_the_true_root(q, budget):
    root, truth = kl_inverse_upper(q, budget), reference.kl_root(q, budget, 1)
    assert root >= truth
    assert root - truth <= 1e-10 * truth + 1e-50


@settings(max_examples=120)
@given(PROBABILITY, BUDGET)
def test_lower_inverse_never_lies_above_the_true_root(q, budget):
    root, truth = kl_inverse_lower(q, budget), reference.kl_root(q, budget, 0)
    assert root <= truth
    assert truth - root <= 1e-9 * truth + 1e-50


def test_inverse_edges():
    assert kl_inverse_upper(1.0, 0.5) == 1.0
    assert kl_inverse_upper(0.5, math.inf) == 1.0
    assert kl_inverse_upper(0.5, 0.0) == pytest.approx(0.5, abs=1e-9)
    assert kl_inverse_lower(0.0, 0.5) == 0.0
    assert kl_inverse_lower(1.0, 0.5) == pytest.approx(math.exp(-0.5))


@pytest.mark.parametrize("bad", [(-0.1, 1.0), (1.1, 1.0), (0.5, -1.0), (0.5, math.nan)])
def test_inverse_refuses_nonsense(bad):
    with pytest.raises(ValueError, match="must"):
        kl_inverse_upper(*bad)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 63, 64, 65, 300, 2000])
def test_maurer_moment_against_its_definition(n):
    terms = (
        mpmath.binomial(n, k) * (mpmath.mpf(k) / n) ** k * (1 - mpmath.mpf(k) / n) ** (n - k)
        for k in range(n + 1)
    )
    truth = mpmath.log(mpmath.fsum(terms))
    assert 0 <= log_maurer_moment(n) - truth <= 2e-8
    assert log_maurer_moment(n) <= math.log(2 * math.sqrt(n)) + 1e-11


def test_maurer_moment_stays_below_two_root_n_far_out():
    for n in (10**5, 10**7, 10**9):
        assert 0.4 < math.log(2 * math.sqrt(n)) - log_maurer_moment(n) < 0.7


def test_moment_generating_property_is_exactly_the_moment():
    """E exp(n·kl(mean‖p)) for Bernoulli(p) is ξ(n), whatever p: what the kl bound rests on."""
    n = 40
    for p in (0.03, 0.4):
        k = np.arange(n + 1)
        values = [math.exp(n * binary_kl(i / n, p)) for i in k]
        assert stats.binom.pmf(k, n, p) @ values == pytest.approx(
            math.exp(log_maurer_moment(n)), rel=1e-9
        )


def test_intervals_cover():
    generator = np.random.default_rng(0)
    truth, trials, delta, repeats = 0.07, 60, 0.2, 4000
    counts = generator.binomial(trials, truth, repeats)
    for limits in (
        {k: clopper_pearson(int(k), trials, delta) for k in set(counts)},
        {k: kl_interval(k / trials, trials, delta) for k in set(counts)},
    ):
        misses = sum(not limits[k].lower <= truth <= limits[k].upper for k in counts)
        assert clopper_pearson(misses, repeats, 0.01).lower <= delta
