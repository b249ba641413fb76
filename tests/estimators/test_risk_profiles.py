"""Shift over classes of risk profiles: the sup itself, its limits from samples, its labels."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from estimators import (
    Guarantee,
    clopper_pearson,
    kl_bound,
    total_variation_attribute,
    total_variation_known,
)
from estimators.importance import importance_weighted_bound, importance_weights
from estimators.total_variation import (
    ALL,
    NON_DECREASING,
    Profiles,
    breakdown_gamma,
    labelled_mixture,
    profile_shift,
    robust_shift,
    slice_limit_shift,
)

REPEATS = 1500
few_and_many = pytest.mark.parametrize(
    "repeats", [400, pytest.param(REPEATS, marks=pytest.mark.slow)]
)


def law(weights):
    w = np.asarray(weights, dtype=float) + 1e-9
    return {float(k): float(x) for k, x in enumerate(w / w.sum())}


laws = st.lists(st.floats(0, 1), min_size=5, max_size=5).map(law)
risks = st.lists(st.floats(0, 1), min_size=5, max_size=5)


def gap(p, q, r):
    return sum((q[k] - p[k]) * r[int(k)] for k in p)


def law_of_five(weights):
    return {float(k): w / sum(weights) for k, w in enumerate(weights)}


@given(laws, laws, risks)
@example(  # a gap as small as the solver's tolerance
    law_of_five([2e-7, 0.0, 0.75, 2e-7, 0.5]),
    law_of_five([2e-7, 0.0, 0.75, 0.0, 0.5]),
    [0.0, 0.0, 0.75, 0.0, 0.5],
)
def test_no_profile_of_a_class_exceeds_it(p, q, r):
    assert gap(p, q, r) <= profile_shift(p, q).value + 1e-9
    rising = sorted(r)
    assert gap(p, q, rising) <= profile_shift(p, q, NON_DECREASING).value + 1e-9
    fall = max(max(r[: j + 1]) - r[j] for j in range(5))
    assert gap(p, q, r) <= profile_shift(p, q, Profiles(slack=fall)).value + 1e-9
    steep = max(abs(a - b) for a, b in pairwise(r))
    assert gap(p, q, r) <= profile_shift(p, q, Profiles(lipschitz=steep)).value + 1e-7


@given(laws, laws)
def test_every_class_is_met_by_one_of_its_profiles(p, q):
    best = [float(q[k] > p[k]) for k in p]
    assert gap(p, q, best) == pytest.approx(profile_shift(p, q).value, abs=1e-9)
    steps = [[float(k >= t) for k in range(5)] for t in range(6)]
    largest = max(gap(p, q, s) for s in steps)
    assert largest == pytest.approx(profile_shift(p, q, NON_DECREASING).value, abs=1e-9)
    assert profile_shift(p, q, Profiles(lipschitz=1.0)).value == pytest.approx(
        profile_shift(p, q).value, abs=1e-7
    )
    assert profile_shift(p, q, Profiles(lipschitz=0.0)).value == pytest.approx(0, abs=1e-7)


def test_the_lipschitz_limit_knows_distances():
    p, q = {0.0: 1.0}, {3.0: 1.0}
    assert profile_shift(p, q, Profiles(lipschitz=0.1)).value == pytest.approx(0.3)


def test_all_profiles_of_samples_is_the_attribute_estimator():
    train, test = [1, 2, 2, 5], [2, 5, 5]
    one, other = profile_shift(train, test), total_variation_attribute(train, test, 0.05)
    assert (one.value, one.upper) == pytest.approx((other.value, other.upper))


def test_labels_follow_the_assumption():
    p, q = law([1, 2, 3]), law([3, 2, 1])
    assert profile_shift(p, q).guarantee is Guarantee.EXACT
    assert profile_shift([1.0, 2.0], [2.0]).guarantee is Guarantee.UPPER
    for profiles in (NON_DECREASING, Profiles(slack=0.2), Profiles(lipschitz=0.2)):
        for pair in ((p, q), ([1.0, 2.0], [2.0])):
            found = profile_shift(*pair, profiles)
            assert found.guarantee is Guarantee.ESTIMATE
            assert any("not tested" in sentence for sentence in found.assumptions)
    covered = {float(k): (5, 50) for k in range(3)}
    assert robust_shift(p, q, covered).limit.guarantee is Guarantee.UPPER
    del covered[1.0]
    found = robust_shift(p, q, covered)
    assert found.limit.guarantee is Guarantee.ESTIMATE and found.untestable == (1.0,)


def sampled(weights, size, generator):
    return generator.choice(len(weights), size=size, p=list(weights.values())).astype(float)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("profiles", [ALL, NON_DECREASING, Profiles(slack=0.3)])
def test_limits_from_samples_hold_their_level(profiles, fixed):
    """The class's own worst case; in a fixed design the training law is the sample's own."""
    generator, delta, misses = np.random.default_rng(3), 0.2, 0
    p, q = law([0.4, 0.3, 0.2, 0.1]), law([0.1, 0.25, 0.3, 0.35])
    for _ in range(REPEATS):
        train, test = sampled(p, 40, generator), sampled(q, 25, generator)
        own = {float(k): float((train == k).mean()) for k in range(4)} if fixed else p
        truth = profile_shift(own, q, profiles).value
        misses += profile_shift(train, test, profiles, delta, fixed_design=fixed).upper < truth
    assert clopper_pearson(misses, REPEATS, 0.02).upper <= delta


@few_and_many
@pytest.mark.parametrize("r", [[0.1, 0.3, 0.6, 0.9], [0.98, 0.9, 0.88, 0.95], [0.9, 0.5, 0.2, 0.1]])
def test_the_robust_limit_holds_whatever_the_profile(r, repeats):
    generator, delta, misses = np.random.default_rng(4), 0.3, 0
    p, q = law([0.1, 0.2, 0.3, 0.4]), law([0.4, 0.3, 0.2, 0.1])
    truth = gap(p, q, r)
    for _ in range(repeats):
        held = {float(k): (int(generator.binomial(30, r[k])), 30) for k in range(4)}
        train, test = sampled(p, 60, generator), sampled(q, 60, generator)
        misses += robust_shift(train, test, held, delta).limit.upper < truth
        misses += slice_limit_shift(p, q, held, delta).upper < truth
    assert clopper_pearson(misses, 2 * repeats, 0.02).upper <= delta


@few_and_many
@pytest.mark.parametrize("rows", [2, 5])
def test_the_robust_limit_holds_for_means_over_rows(rows, repeats):
    """Few units a level, each with the mean of several rows that err alike in part."""
    generator, delta, misses = np.random.default_rng(8), 0.3, 0
    p, q, r = law([0.1, 0.9]), law([0.9, 0.1]), [0.9, 0.4]
    truth = gap(p, q, r)
    for _ in range(repeats):
        shared, own = generator.random((2, 6, 1)), generator.random((2, 6, rows))
        alike = generator.random((2, 6, 1)) < 0.5
        losses = np.where(alike, shared, own) < np.array(r)[:, None, None]
        held = {float(k): (float(losses[k].mean(axis=1).sum()), 6) for k in range(2)}
        train, test = sampled(p, 60, generator), sampled(q, 60, generator)
        misses += robust_shift(train, test, held, delta, binary=False).limit.upper < truth
        misses += slice_limit_shift(p, q, held, delta, binary=False).upper < truth
    assert clopper_pearson(misses, 2 * repeats, 0.02).upper <= delta


def test_the_robust_limit_pays_for_both_laws():
    """At γ = 0 it is D⁺ with the slack of its third of δ."""
    train, test = [1.0] * 60 + [2.0] * 40, [1.0] * 30 + [2.0] * 70
    found = robust_shift(train, test, {1.0: (0, 500), 2.0: (500, 500)}, 0.15)
    alone = profile_shift(train, test, NON_DECREASING, 0.05)
    assert found.gamma.upper == 0 and found.limit.upper == pytest.approx(alone.upper)
    assert found.limit.upper > found.limit.value == pytest.approx(0.3)
    mixed = robust_shift(train, test, {1.0: (250, 500), 2.0: (250, 500)}, 0.15)
    tv = profile_shift(train, test, ALL, 0.05)
    assert 0 < mixed.gamma.upper < 1
    expected = min(tv.upper, alone.upper + mixed.gamma.upper * tv.upper)
    assert mixed.limit.upper == pytest.approx(expected)


def test_a_falling_profile_breaks_d_plus_and_the_robust_form_sees_it():
    """The design's known failure: a fine-tune on hard rows errs more on easy ones."""
    p, q, r = law([0, 0, 0.5, 0.5]), law([0.5, 0.5, 0, 0]), [0.98, 0.95, 0.9, 0.88]
    flattering = profile_shift(p, q, NON_DECREASING)
    assert gap(p, q, r) > flattering.upper == pytest.approx(0, abs=1e-6)
    held = {float(k): (round(10_000 * r[k]), 10_000) for k in range(4)}
    found = robust_shift(p, q, held)
    assert gap(p, q, r) <= found.limit.upper < 0.2
    assert found.gamma.upper == pytest.approx(0.1, abs=0.03)
    assert gap(p, q, r) <= slice_limit_shift(p, q, held).upper <= found.limit.upper


def test_breakdown_gamma_is_where_the_sum_reaches_what_is_allowed():
    assert breakdown_gamma(0.2, 0.5, 0.1) == 0 and breakdown_gamma(0.2, 0.0, 0.3) == 1
    gamma = breakdown_gamma(0.2, 0.5, 0.4)
    assert 0.2 + gamma * 0.5 == pytest.approx(0.4)


def test_the_mixture_limit_holds_and_bounds_tv():
    generator, delta, misses = np.random.default_rng(5), 0.1, 0
    for _ in range(REPEATS):
        misses += labelled_mixture(int(generator.binomial(50, 0.2)), 50, delta).upper < 0.2
    assert clopper_pearson(misses, REPEATS, 0.02).upper <= delta
    assert labelled_mixture(7, 7, 0.1).upper == 1


def test_the_importance_weighted_bound_holds_and_its_weights_fit():
    """A fixed predictor (KL 0), fixed design; the test law has a value that training lacks."""
    generator, delta = np.random.default_rng(6), 0.2
    q, r = law([0.2, 0.3, 0.4, 0.1]), [0.1, 0.4, 0.7, 0.9]
    truth = sum(q[float(k)] * r[k] for k in range(4))
    train = np.repeat([0.0, 1.0, 2.0], [60, 30, 10])
    misses = 0
    for _ in range(REPEATS):
        weights = importance_weights(train.tolist(), sampled(q, 50, generator).tolist())
        losses = generator.random(100) < np.array(r)[train.astype(int)]
        risk = float((weights.weights * losses).mean() / weights.largest)
        bound = importance_weighted_bound(risk, 0.0, weights, delta / 2, delta / 2)
        misses += bound.upper < truth
    assert clopper_pearson(misses, REPEATS, 0.02).upper <= delta
    exact = importance_weights(train.tolist(), train.tolist())
    assert exact.weights == pytest.approx(1) and exact.uncovered == 0
    known = importance_weights(train.tolist(), q)
    assert known.test_rows is None and known.uncovered == pytest.approx(0.1)
    free = importance_weighted_bound(0.1, 0.0, known, delta / 2, delta / 2)
    assert free.confidence == pytest.approx(1 - delta / 2)
    inner = kl_bound(0.1, 0.0, 100, delta / 2).upper
    assert free.upper == pytest.approx(0.1 + known.largest * inner)
    apart = importance_weights(["b"], ["a"])
    assert importance_weighted_bound(0.0, 0.0, apart, 0.1, 0.1).upper > 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: Profiles(slack=1.2),
        lambda: Profiles(slack=0.1, lipschitz=1.0),
        lambda: Profiles(lipschitz=-1.0),
        lambda: profile_shift([], [1.0]),
        lambda: profile_shift({1.0: 0.4}, [1.0]),
        lambda: profile_shift([float("nan")], [1.0]),
        lambda: robust_shift([1.0], [1.0], {2.0: (1, 2)}),
        lambda: robust_shift([1.0], [1.0], {1.0: (3, 2)}),
        lambda: robust_shift([1.0], [1.0], {1.0: (0.5, 1)}),  # a mean is no trial
        lambda: robust_shift([1.0], [1.0], {1.0: (1.5, 1)}, binary=False),
        lambda: slice_limit_shift({1.0: 1.0}, {1.0: 1.0}, {1.0: (0.5, 1)}),
        lambda: labelled_mixture(3, 2, 0.1),
        lambda: breakdown_gamma(1.2, 0.1, 0.1),
        lambda: importance_weights([], ["a"]),
    ],
)
def test_what_makes_no_sense_is_refused(call):
    with pytest.raises(ValueError, match=r"."):
        call()


def test_not_a_number_is_no_probability():
    broken, law = {1: math.nan, 2: 0.5}, {1: 0.5, 2: 0.5}
    for of in (profile_shift, total_variation_known):
        with pytest.raises(ValueError, match="sum to 1"):
            of(broken, law)
