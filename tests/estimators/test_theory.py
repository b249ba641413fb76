"""The numeric code against the symbolic one, and the motion of the optimum against brute force."""

import math

import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from estimators import (
    catoni,
    kl_isotropic,
    lambda_bound,
    mcallester,
    proposition_4_1,
    quadratic,
    theory,
)
from estimators.theory import numeric
from estimators.theory.difficulty import a, d, s
from estimators.theory.latex import LEFT, all_expressions

POINTS = {
    "risk": st.floats(0.001, 1.0),
    "kl": st.floats(0.01, 1e5),
    "n": st.integers(1, 10**6),
    "delta": st.floats(1e-6, 0.9),
}
LAMBDIFIED = {name: numeric(make()) for name, make in theory.EXPRESSIONS.items()}
LAMBDA_OPTIMUM = numeric(theory.lambda_at_optimum())
_BOUND, _BEST, _MOTION = theory.solvable()
AT, WHERE, BY_N = numeric(_BOUND), numeric(_BEST), numeric(_MOTION.by_n)


@settings(max_examples=60, deadline=None)
@given(**POINTS)
def test_every_bound_is_its_expression(risk, kl, n, delta):
    at = {"Rhat": risk, "K": kl, "n": n, "delta": delta}
    for name, bound in (("mcallester", mcallester), ("quadratic", quadratic)):
        assert bound(risk, kl, n, delta).upper == pytest.approx(LAMBDIFIED[name](**at), rel=1e-12)
    value = proposition_4_1(risk, kl, n, 0.25, delta).bound.upper
    assert value == pytest.approx(LAMBDIFIED["proposition_4_1"](**at, V=0.25), rel=1e-12)
    assert catoni(risk, kl, n, delta, 0.7).upper == pytest.approx(
        LAMBDIFIED["catoni"](**at, c=0.7), rel=1e-12
    )
    assert lambda_bound(risk, kl, n, delta).upper == pytest.approx(LAMBDA_OPTIMUM(**at), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    distance=st.floats(0.01, 1e4),
    parameters=st.integers(1, 10**6),
    q=st.floats(1e-3, 1.0),
    p=st.floats(1e-3, 1.0),
)
def test_the_isotropic_kl_is_its_expression(distance, parameters, q, p):
    found = LAMBDIFIED["kl_isotropic"](D=distance, m=parameters, sigma_q=q, sigma_p=p)
    assert kl_isotropic(distance, parameters, q, p).value == pytest.approx(found, rel=1e-6)


def test_the_split_gives_away_twice_the_root_of_the_product():
    kl, n, delta = 50.0, 200, 0.05
    x, y = kl / (2 * n), math.log(2 * math.sqrt(n) / delta) / (2 * n)
    found = numeric(theory.split_remainder())(K=kl, n=n, delta=delta)
    assert found == pytest.approx(2 * math.sqrt(x * y))


def least(values, f):
    return float(values[np.argmin([f(x) for x in values])])


def test_sigma_stars_minimise():
    grid = np.geomspace(1e-3, 1.0, 4001)
    kl = LAMBDIFIED["kl_isotropic"]
    at = {"D": 3.0, "m": 500.0}
    prior = numeric(theory.sigma_prior_star())(**at, sigma_q=0.03)
    assert least(grid, lambda x: kl(**at, sigma_q=0.03, sigma_p=x)) == pytest.approx(
        prior, rel=2e-3
    )
    h, beta = 0.2, 400.0
    posterior = numeric(theory.sigma_posterior_star())(sigma_p=0.1, h=h, beta=beta)
    cost = 0.5 * h * at["m"]
    found = least(grid, lambda x: cost * x * x + kl(**at, sigma_q=x, sigma_p=0.1) / beta)
    assert found == pytest.approx(posterior, rel=2e-3)
    shared = numeric(theory.sigma_shared_star())(**at, h=h, beta=beta)
    found = least(grid, lambda x: cost * x * x + kl(**at, sigma_q=x, sigma_p=x) / beta)
    assert found == pytest.approx(shared, rel=2e-3)


def test_lambda_star_is_the_one_that_the_code_types_in():
    of = numeric(theory.lambda_star())
    for risk, kl, n, delta in ((0.1, 5.0, 100, 0.05), (0.9, 500.0, 1000, 0.01)):
        total = kl + math.log(2 * math.sqrt(n) / delta)
        typed = 2 / (math.sqrt(2 * n * risk / total + 1) + 1)
        found = of(Rhat=risk, K=kl, n=n, delta=delta)
        assert found == pytest.approx(typed, rel=1e-9) and 0 < found < 2


# --- the best difficulty ---------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(20, 5000),
    mismatch=st.floats(0.1, 5.0),
    growth=st.floats(0.0, 1.8),
    rho=st.floats(0.001, 0.05),
)
def test_the_optimum_moves_as_the_implicit_function_theorem_says(n, mismatch, growth, rho):
    at = {"k": 0.8, "tau": 1.3, "t": 10.0, "a": growth, "rho": rho, "s": mismatch}
    where, by_n, curve = WHERE, BY_N, AT
    place = where(**at, n=n)
    around = np.linspace(place - 1, place + 1, 401)
    assert least(around, lambda x: curve(**at, n=n, d=x)) == pytest.approx(place, abs=5e-3)
    step = n * 1e-4
    slope = (where(**at, n=n + step) - where(**at, n=n - step)) / (2 * step)
    assume(abs(slope) > 1e-9)
    assert by_n(**at, n=n) == pytest.approx(slope, rel=1e-2)
    wider = where(**(at | {"s": mismatch * 1.01}), n=n)
    assert wider < place  # a worse prior moves the best difficulty easier


def test_it_moves_harder_under_the_conditions_and_easier_without():
    by_n = BY_N
    at = {"k": 1.0, "tau": 1.0, "s": 1.0}
    assert by_n(**at, a=0.0, rho=0.0, n=100) > 0  # all three conditions
    assert by_n(**at, a=1.4, rho=0.0, n=100) < 0  # (2) fails
    turn = 1 / (8 * 0.01**2)  # (3) fails beyond k·s/(8ρ²)
    assert by_n(**at, a=0.0, rho=0.01, n=0.9 * turn) > 0
    assert by_n(**at, a=0.0, rho=0.01, n=1.1 * turn) < 0


def test_the_sign_is_that_of_complexity_against_difficulty():
    sign = theory.harder_with_n()
    risk, kappa = sp.Function("R"), sp.Function("kappa", positive=True)
    n = theory.n
    first = (1 - a) * sp.diff(kappa(d), d) * sp.sqrt(2 * s / kappa(d)) * n ** ((a - 3) / 2) / 8
    assert sp.simplify(sign - first + sp.diff(risk(d, n), d, n)) == 0
    for slope, growth, cross, expected in (
        (2, 0, 0, 1), (-2, 0, 0, -1), (2, 2, 0, -1), (2, 0, 5, -1)
    ):  # fmt: skip
        found = sign.subs(risk(d, n), cross * d * sp.log(n)).doit()
        found = found.subs(kappa(d), 10 + slope * d).doit()
        assert sp.sign(found.subs({a: growth, d: 1, s: 1, n: 50}).evalf()) == expected


def test_a_checkpoint_prior_leaves_the_optimum_alone_at_the_ratio():
    where = WHERE
    at = {"k": 0.8, "tau": 1.3, "t": 10.0, "rho": 0.0, "a": 0.4}
    ratio = numeric(theory.informed_prior_ratio())(f=0.25, a=0.4)
    whole = where(**at, s=2.0, n=1000)
    assert where(**at, s=2.0 * ratio, n=750) == pytest.approx(whole)
    assert where(**at, s=1.5 * ratio, n=750) > whole


def test_every_expression_has_its_latex():
    assert set(all_expressions()) == set(LEFT)
    document = theory.latex_document()
    assert document.count(r"\paragraph") == len(LEFT) and document.count("{") == document.count("}")
    assert r"\lambda^* =" in document and "Rhat" not in document


def test_a_missing_value_is_named():
    with pytest.raises(TypeError, match="delta"):
        LAMBDIFIED["mcallester"](Rhat=0.1, K=1.0, n=10)
