"""The recursive bound against exact laws, its own formula in fifty digits, and its polarity."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import (
    Estimate,
    Excess,
    Guarantee,
    clopper_pearson,
    excess_limits,
    held_out_bound,
    kl_bound,
    recursive_bound,
)
from estimators.recursive import bets, excess_upper

shares = st.floats(0.0, 0.5)
sizes = st.integers(1, 100_000)
deltas = st.floats(1e-6, 0.9)
nats = st.floats(0.0, 1e4)


@given(shares, shares, nats, sizes, deltas)
def test_monotone_and_never_below_the_point_value(more, less, kl, n, delta):
    excess = Excess.exactly(more, less)
    found = excess_upper(excess, kl, n, delta)
    assert more - less <= found <= 1
    assert excess_upper(excess, kl + 1, n, delta) >= found
    assert excess_upper(excess, kl, n, delta / 2) >= found
    assert excess_upper(Excess.exactly(min(1, more + 0.1), less), kl, n, delta) >= found - 1e-12
    assert excess_upper(Excess.exactly(more, less / 2), kl, n, delta) >= found - 1e-12


@pytest.mark.parametrize(
    ("more", "less", "kl", "n", "delta"),
    [(0.0, 0.0, 0.0, 100, 0.05), (0.01, 0.03, 5.0, 4096, 0.001), (0.2, 0.4, 300.0, 8192, 0.01)],
)
def test_against_fifty_digits(more, less, kl, n, delta):
    with mpmath.workdps(50):
        x = [mpmath.mpf(float(b)) for b in bets(n)]

        def spent(d):
            terms = [
                mpmath.exp(n * (more * mpmath.log(1 - b) + less * mpmath.log(1 + b)))
                / (1 - b * d) ** n
                for b in x
            ]
            return mpmath.log(sum(terms) / len(x)) - kl - mpmath.log(1 / mpmath.mpf(delta))

        found = excess_upper(Excess.exactly(more, less), kl, n, delta)
        root = mpmath.findroot(spent, found)
        assert root <= found
        assert float(root) == pytest.approx(found, abs=1e-9)


def test_a_wrong_excess_is_no_better_than_nothing():
    assert excess_upper(Excess.exactly(1.0, 0.0), 0.0, 10, 0.05) == 1.0
    assert excess_upper(Excess.exactly(0.0, 0.0), math.inf, 10, 0.05) == 1.0
    assert excess_upper(Excess.exactly(0.0, 0.1), -50.0, 1000, 0.05) >= -0.1


@pytest.mark.parametrize("delta", [0.05, 0.5])
@pytest.mark.parametrize("law", [(0.02, 0.02), (0.3, 0.25), (0.0, 0.01)])
def test_one_fixed_pair_of_predictors_holds_its_level(law, delta):
    """KL 0: the difference of two fixed predictors, whose law is known."""
    n, repeats = 200, 1000
    counts = np.random.default_rng(5).multinomial(n, (*law, 1 - sum(law)), repeats) / n
    misses = sum(
        excess_upper(Excess.exactly(more, less), 0.0, n, delta) < law[0] - law[1]
        for more, less, _ in counts
    )
    assert clopper_pearson(misses, repeats, 0.02).upper <= delta


def test_half_losses_hold_their_level_too():
    """Losses between 0 and 1: the parts err on the safe side."""
    rng, n, delta = np.random.default_rng(6), 100, 0.3
    misses = 0
    for _ in range(1000):
        d = rng.choice([-0.5, 0.0, 0.25, 1.0], n, p=[0.2, 0.5, 0.2, 0.1])
        found = Excess.exactly(float(np.maximum(d, 0).mean()), float(np.maximum(-d, 0).mean()))
        misses += excess_upper(found, 0.0, n, delta) < 0.05
    assert clopper_pearson(misses, 1000, 0.02).upper <= delta


def test_where_q_stays_with_the_prior_it_beats_kl():
    """The variance of the excess pays for the KL, not that of the loss."""
    n, wrong = 4096, 1024
    reference = held_out_bound([1.0] * wrong + [0.0] * (n - wrong), 0.02)
    close = recursive_bound(reference, Excess.exactly(0.005, 0.005), 0.5, n, 0.02)
    assert reference.upper < close.upper < reference.upper + 0.007
    assert close.upper < kl_bound(0.25, 0.5, n, 0.04).upper - 0.008
    assert close.delta == pytest.approx(0.04)
    assert close.guarantee is Guarantee.UPPER


def test_where_q_went_far_kl_is_the_better_one():
    """Against a base that is nearly always wrong the excess varies as much as the loss itself."""
    reference = held_out_bound([1.0] * 980 + [0.0] * 20, 0.02)
    far = recursive_bound(reference, Excess.exactly(0.0, 0.55), 300.0, 1000, 0.02)
    assert far.upper > kl_bound(0.43, 300.0, 1000, 0.04).upper


def test_limits_of_the_excess_hold_their_level():
    rng, m, delta = np.random.default_rng(7), 60, 0.2
    weights = np.full(m, 1.0)
    weights[-1] = 0.4
    weights /= weights.sum()
    p, q = rng.beta(0.5, 4, m), rng.beta(0.5, 4, m) / 2
    misses = 0
    for _ in range(2000):
        more = (rng.random(m) < p).astype(float)
        less = (rng.random(m) < q) * (1 - more)
        found = excess_limits(more, less, delta, weights)
        wrong = found.more.upper < weights @ p or found.less.lower > weights @ (q * (1 - p))
        misses += bool(wrong)
    assert clopper_pearson(misses, 2000, 0.02).upper <= delta


def test_each_part_enters_on_its_own_side():
    good = excess_limits([0.0] * 90 + [1.0] * 10, [1.0] * 20 + [0.0] * 80, 0.1)
    assert good.more.guarantee is Guarantee.UPPER and good.less.guarantee is Guarantee.LOWER
    assert good.delta == pytest.approx(0.1)
    assert recursive_bound(0.3, good, 1.0, 100, 0.1).guarantee is Guarantee.UPPER
    by_limits = Excess.exactly(good.more.upper, good.less.lower)
    assert recursive_bound(0.3, good, 1.0, 100, 0.1).upper == pytest.approx(
        recursive_bound(0.3, by_limits, 1.0, 100, 0.1).upper
    )
    swapped = Excess(good.less, good.more)
    assert recursive_bound(0.3, swapped, 1.0, 100, 0.1).guarantee is Guarantee.ESTIMATE
    guessed = Estimate(0.3, 0.2, 1.0, 0.0, Guarantee.ESTIMATE, "a guess")
    assert recursive_bound(guessed, good, 1.0, 100, 0.1).guarantee is Guarantee.ESTIMATE


@pytest.mark.parametrize("change", [{"n": 0}, {"delta": 0.0}, {"kl": -1.0}, {"reference": 1.5}])
def test_refuses_what_is_out_of_range(change):
    args = {"reference": 0.2, "excess": Excess.exactly(0.1, 0.1), "kl": 1.0, "n": 10, "delta": 0.1}
    with pytest.raises(ValueError, match=r"n >= 1|delta|KL|risk"):
        recursive_bound(**(args | change))


def test_refuses_parts_that_are_no_shares():
    with pytest.raises(ValueError, match="parts"):
        recursive_bound(0.2, Excess.exactly(1.5, 0.1), 1.0, 10, 0.1)
