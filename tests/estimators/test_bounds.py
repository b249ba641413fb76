"""The contract that every bound keeps, and each against a 50-digit reference."""

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import (
    CATONI_GRID,
    Estimate,
    Guarantee,
    catoni,
    catoni_grid,
    clopper_pearson,
    disintegrated,
    draw_delta,
    gibbs_risk,
    is_vacuous,
    kl_bound,
    kl_isotropic,
    lambda_bound,
    log_maurer_moment,
    mcallester,
    proposition_4_1,
    quadratic,
    with_shift,
)
from estimators.importance import importance_weights
from tests.cases import NoisyThreshold
from tests.reference import kl_root


def proposition(risk, kl, n, delta):
    return proposition_4_1(risk, kl, n, 0.0, delta).bound


def catoni_at_one(risk, kl, n, delta):
    return catoni(risk, kl, n, delta, 1.0)


THEOREMS = {
    "mcallester": mcallester,
    "kl": kl_bound,
    "quadratic": quadratic,
    "lambda": lambda_bound,
    "proposition_4_1": proposition,
    "catoni": catoni_at_one,
    "catoni_grid": catoni_grid,
    "disintegrated": disintegrated,
}
SPEAKS_OF_Q = {name: bound for name, bound in THEOREMS.items() if name != "disintegrated"}
RISK, KL = st.floats(0, 1), st.floats(0, 1e4)
N, DELTA = st.integers(1, 10**6), st.floats(1e-9, 0.999)
every_bound = pytest.mark.parametrize("name", THEOREMS)


def fifty_digits(name, risk, kl, n, delta):
    r, k, n, d = mpmath.mpf(risk), mpmath.mpf(kl), mpmath.mpf(n), mpmath.mpf(delta)
    if name.startswith("catoni"):
        grid = [mpmath.mpf(c) for c in (CATONI_GRID if name == "catoni_grid" else [1])]
        spent = (k + mpmath.log(len(grid) / d)) / n
        return min(mpmath.expm1(-c * r - spent) / mpmath.expm1(-c) for c in grid)
    total = k + mpmath.log(2 * mpmath.sqrt(n) / d)
    kappa = total / (2 * n)
    if name == "mcallester":
        return r + mpmath.sqrt(kappa)
    if name == "quadratic":
        return (mpmath.sqrt(r + kappa) + mpmath.sqrt(kappa)) ** 2
    if name == "proposition_4_1":
        epsilon = mpmath.sqrt(mpmath.log(2 * mpmath.sqrt(n) / d) / (2 * n))
        return r + mpmath.sqrt(k / (2 * n)) + epsilon
    if name == "lambda":

        def value(x):
            return r / (1 - x / 2) + total / (n * x * (1 - x / 2))

        low, high = mpmath.mpf("1e-12"), mpmath.mpf(2) - mpmath.mpf("1e-12")
        for _ in range(400):  # ternary search: the function is convex in λ
            a, b = low + (high - low) / 3, high - (high - low) / 3
            low, high = (low, b) if value(a) < value(b) else (a, high)
        return value(low)
    budget = (k + mpmath.mpf(log_maurer_moment(int(n))) - mpmath.log(d)) / n
    return kl_root(r, budget, 1)


@every_bound
@settings(max_examples=40, deadline=None)
@given(risk=RISK, kl=KL, n=N, delta=DELTA)
def test_against_fifty_digits(name, risk, kl, n, delta):
    ours = THEOREMS[name](risk, kl, n, delta).upper
    assert ours == pytest.approx(float(fifty_digits(name, risk, kl, n, delta)), rel=1e-8)


@every_bound
@given(risk=RISK, kl=KL, more=st.floats(0, 1e3), n=N, delta=DELTA)
def test_monotone_in_kl_n_and_delta(name, risk, kl, more, n, delta):
    bound = THEOREMS[name]
    here = bound(risk, kl, n, delta).upper
    slack = 1e-9 * max(1.0, here)
    assert bound(risk, kl + more, n, delta).upper >= here - slack
    assert bound(risk, kl, 4 * n, delta).upper <= here + slack
    assert bound(risk, kl, n, delta / 2).upper >= here - slack


@given(risk=RISK, kl=KL, n=N, delta=DELTA)
def test_order_of_the_bounds(risk, kl, n, delta):
    values = {name: bound(risk, kl, n, delta).upper for name, bound in THEOREMS.items()}
    tolerance = 1e-9
    assert values["kl"] <= values["mcallester"] + tolerance
    assert values["kl"] <= values["quadratic"] + tolerance
    assert values["kl"] <= values["lambda"] + tolerance
    assert values["mcallester"] <= values["proposition_4_1"] + tolerance


@every_bound
@pytest.mark.parametrize("risk", [0.0, 1.0])
def test_edges(name, risk):
    bound = THEOREMS[name](risk, 0.0, 100, 0.05)
    assert risk <= bound.upper < math.inf
    assert is_vacuous(bound) == (bound.upper >= 1)
    assert is_vacuous(THEOREMS[name](risk, math.inf, 100, 0.05))


@every_bound
@pytest.mark.parametrize(
    "bad",
    [
        (-0.1, 1, 10, 0.1),
        (1.1, 1, 10, 0.1),
        (0.5, math.nan, 10, 0.1),
        (0.5, -math.inf, 10, 0.1),
        (0.5, 1, 0, 0.1),
        (0.5, 1, 10, 0.0),
        (0.5, 1, 10, 1.0),
        (math.nan, 1, 10, 0.1),
    ],
)
def test_nonsense_is_refused(name, bad):
    with pytest.raises(ValueError, match=r"must|needs|limits"):
        THEOREMS[name](*bad)


@pytest.mark.parametrize("name", SPEAKS_OF_Q)
def test_a_kl_is_not_negative(name):
    with pytest.raises(ValueError, match="must be >= 0 nats"):
        SPEAKS_OF_Q[name](0.5, -1, 10, 0.1)


@pytest.mark.parametrize("c", [0.0, -1.0, math.inf, math.nan])
def test_catoni_refuses_a_c_that_means_nothing(c):
    with pytest.raises(ValueError, match="positive"):
        catoni(0.1, 1.0, 100, 0.05, c)


def test_an_empty_grid_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        catoni_grid(0.1, 1.0, 100, 0.05, [])


@settings(max_examples=60, deadline=None)
@given(
    risk=st.floats(0, 0.9),
    kl=st.floats(0, 50),
    n=st.integers(30, 10**5),
    delta=st.floats(1e-6, 0.5),
)
def test_the_shipped_grid_costs_its_logarithm_and_little_more(risk, kl, n, delta):
    """Against the c that is best in hindsight, free of charge: kl⁻¹ with ln(10/δ) in its budget."""
    best = float(kl_root(risk, (mpmath.mpf(kl) - mpmath.log(delta / 10)) / n, 1))
    assert catoni_grid(risk, kl, n, delta).upper - risk <= 1.07 * (best - risk) + 1e-9


def test_catoni_wins_where_the_kl_is_a_few_nats_and_n_is_large():
    assert catoni_grid(0.2, 3.0, 10**6, 0.05).upper < kl_bound(0.2, 3.0, 10**6, 0.05).upper


def test_estimates_bring_their_label_delta_and_assumptions():
    risk = Estimate(0.2, 0.1, 0.3, 0.99, Guarantee.UPPER, "mc", ("frozen",))
    bound = kl_bound(risk, 5.0, 1000, 0.04)
    assert bound.upper == kl_bound(0.3, 5.0, 1000, 0.04).upper
    assert bound.confidence == pytest.approx(0.95)
    assert bound.guarantee is Guarantee.UPPER and "frozen" in bound.assumptions
    guess = Estimate(0.2, 0.1, 0.3, 0.95, Guarantee.LOWER, "c2st")
    shifted = with_shift(bound, guess)
    assert shifted.guarantee is Guarantee.ESTIMATE
    assert shifted.upper == pytest.approx(bound.upper + 0.2)


def test_a_limit_on_the_difference_may_be_negative_and_a_distance_may_not():
    on_train = kl_bound(0.3, 5.0, 1000, 0.05)
    easier = Estimate(-0.2, -1.0, -0.2, 0.99, Guarantee.UPPER, "slices")
    shifted = with_shift(on_train, easier)
    assert shifted.upper == pytest.approx(on_train.upper - 0.2)
    assert shifted.guarantee is Guarantee.UPPER and shifted.confidence == pytest.approx(0.94)
    assert with_shift(on_train, replace(easier, value=-1.0, upper=-0.9)).upper == 0
    with pytest.raises(ValueError, match="shift term"):
        with_shift(on_train, -0.2)


def test_terms_add_up_and_vacuous_is_not_clipped():
    result = proposition_4_1(0.4, 5000.0, 1000, 0.5, 0.05)
    parts = result.empirical_risk + result.generalization + result.extrapolation + result.epsilon
    assert parts == pytest.approx(result.bound.upper)
    assert result.bound.upper > 2 and is_vacuous(result.bound)


def violations(bound, repeats, n=30):
    """How often the true Gibbs risk of a fitted threshold lies above ``bound(risk, kl, n)``."""
    problem, generator, count = NoisyThreshold(), np.random.default_rng(7), 0
    thresholds, scale = np.linspace(0.05, 0.95, 19), 0.05
    truth = [problem.true_gibbs(float(t), scale) for t in thresholds]
    for _ in range(repeats):
        x, y = problem.draw(n, generator)
        best = int(np.argmin([np.mean((x > t) != y) for t in thresholds]))
        mean = float(thresholds[best])
        kl = kl_isotropic((mean - 0.5) ** 2, 1, scale, scale).value
        count += truth[best] > bound(problem.empirical_gibbs(x, y, mean, scale), kl, n)
    return count


@every_bound
def test_the_bound_holds_its_level(name):
    repeats, delta = 2000, 0.2
    missed = violations(lambda risk, kl, n: THEOREMS[name](risk, kl, n, delta).upper, repeats)
    assert clopper_pearson(missed, repeats, 0.02).upper <= delta


def test_the_simulation_would_notice_a_bound_that_charges_nothing():
    assert violations(lambda risk, kl, n: risk, 500) > 0.2 * 500


def test_an_infinite_kl_leaves_the_other_terms_alone():
    result = proposition_4_1(0.4, math.inf, 1000, 0.5, 0.05)
    assert result.extrapolation == 0.5 and result.bound.upper == math.inf


def test_counts_are_whole_and_laws_are_laws():
    with pytest.raises(ValueError, match=r"2\.5 of 10"):
        clopper_pearson(2.5, 10, 0.05)
    with pytest.raises(ValueError, match="counted from 1"):
        draw_delta(0.05, declared=1.5)
    for law in ({"a": 0.1}, {"a": 2.0, "b": -1.0}, {"a": math.nan}):
        with pytest.raises(ValueError, match="sum to 1"):
            importance_weights(["a"] * 10, law)
    with pytest.raises(ValueError, match="sum to 1"):
        gibbs_risk([0.1, 0.2], 0.05, [math.nan, math.nan])
    grid = catoni_grid(0.3, 2.0, 100, 0.05, grid=np.array([0.5, 1.0]))
    assert grid.upper == catoni_grid(0.3, 2.0, 100, 0.05, grid=[0.5, 1.0]).upper
    with pytest.raises(ValueError, match="at least one"):
        catoni_grid(0.3, 2.0, 100, 0.05, grid=np.array([]))
