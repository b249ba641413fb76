"""The forms in n: they hold what is planted, their intervals cover it, risks stay risks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from pacbayes_sft.advise.scaling import (
    EXPONENTS,
    SHARED,
    _in_box,
    _with_draws,
    fit_kl,
    fit_risk,
    standard_error,
)

SIZES = np.array([64.0, 256.0, 1024.0])


def curve(c, y0, b, n):
    return c + (y0 - c) * (n / 64.0) ** -b


PLANTED = [(0.1, 0.8, 0.4), (0.3, 0.9, 0.4), (0.5, 0.2, 0.4)]  # one rises, as train risk does


def test_a_planted_power_law_is_found_and_carried_on():
    means = np.array([curve(*p, SIZES) for p in PLANTED])
    fit = fit_risk(SIZES, means, np.full_like(means, 0.01), np.random.default_rng(0), 50)
    assert fit.exponents[0] == pytest.approx(0.4) and fit.misfit < 0.01
    for n in (64.0, 4096.0, 65536.0):
        assert fit.at(n)[0] == pytest.approx([curve(*p, n) for p in PLANTED], abs=1e-6)


def test_intervals_cover_as_often_as_they_say():
    generator, inside, count = np.random.default_rng(1), 0, 60
    errors = np.full((3, 3), 0.02)
    truth = np.array([curve(*p, 8192.0) for p in PLANTED])
    for _ in range(count):
        means = np.array([curve(*p, SIZES) for p in PLANTED]) + 0.02 * generator.standard_normal(
            (3, 3)
        )
        fit = fit_risk(SIZES, np.clip(means, 0, 1), errors, generator, 100)
        low, high = np.quantile(fit.at(8192.0)[1:], [0.05, 0.95], axis=0)
        inside += int(np.sum((low <= truth) & (truth <= high)))
    assert inside / (3 * count) > 0.8  # asked for 0.9; what a bootstrap over a grid of b's gives


def test_between_the_pilots_too_where_the_same_rows_judge_every_size():
    """Errors with a part in common: a fit through three sizes does not average that part out."""
    generator, inside, count = np.random.default_rng(2), {True: 0, False: 0}, 40
    planted = [(0.3, 0.52, 0.3)] * 4
    errors, truth = np.full((4, 3), 0.02), curve(*planted[0], 256.0)
    for _ in range(count):
        own, common = generator.standard_normal((4, 3)), generator.standard_normal((4, 1))
        noise = 0.02 * (np.sqrt(1 - SHARED) * own + np.sqrt(SHARED) * common)
        means = np.array([curve(*p, SIZES) for p in planted]) + noise
        for told in inside:
            rows = errors if told else None
            fit = fit_risk(SIZES, means, errors, np.random.default_rng(3), 60, rows=rows)
            low, high = np.quantile(fit.at(256.0)[1:], [0.05, 0.95], axis=0)
            inside[told] += int(np.sum((low <= truth) & (truth <= high)))
    assert inside[True] / (4 * count) > 0.85 > 0.8 > inside[False] / (4 * count)


def test_rows_in_common_leave_the_error_of_each_size_as_it_is():
    means = np.full((1, 3), 0.5)
    noise = [np.std(_with_draws(lambda d: (d, d[:, 0, 0], np.zeros(len(d))), SIZES, means,
                                np.full((1, 3), 0.05), 1, np.random.default_rng(0), 4000, (0, 1),
                                None, np.full((1, 3), common)).parameters[1:], axis=0)
             for common in (0.0, 0.04)]  # fmt: skip
    assert noise[0] == pytest.approx(0.05, rel=0.05) and noise[1] == pytest.approx(0.05, rel=0.05)


@settings(max_examples=30, deadline=None)
@given(
    means=st.lists(st.floats(0, 1), min_size=6, max_size=6),
    n=st.floats(1, 1e7),
    error=st.floats(1e-4, 0.3),
)
def test_every_prediction_from_pilots_on_is_a_risk(means, n, error):
    table = np.array(means).reshape(2, 3)
    fit = fit_risk(SIZES, table, np.full_like(table, error), np.random.default_rng(0), 5)
    found = fit.at(max(n, SIZES[0]))
    assert np.all((found >= -1e-12) & (found <= 1 + 1e-12))


@settings(max_examples=40, deadline=None)
@given(y=st.lists(st.floats(-1, 2), min_size=3, max_size=3), b=st.floats(0.05, 1))
def test_the_box_solver_is_scipys(y, b):
    weight = (SIZES / 64) ** -b
    design, data = np.stack([1 - weight, weight], axis=1), np.array(y)
    _, cost = _in_box(design[None], data[None, None], np.ones((1, 3)), (0.0, 0.0), (1.0, 1.0))
    found = lsq_linear(design, data, bounds=(0, 1), tol=1e-14)
    assert cost[0, 0, 0] == pytest.approx(2 * found.cost, abs=1e-6)


def test_the_exponent_is_that_of_the_least_misfit_over_all_arms_together():
    means = np.array([[0.9, 0.7, 0.2], [0.9, 0.35, 0.3], [0.8, 0.4, 0.31]])
    errors = np.array([[0.1] * 3, [0.03] * 3, [0.03] * 3])
    misfits = np.zeros((len(EXPONENTS), 3))
    for i, b in enumerate(EXPONENTS):
        weight = (SIZES / 64) ** -b
        design = np.stack([1 - weight, weight], axis=1)
        for arm in range(3):
            x, y = design / errors[arm][:, None], means[arm] / errors[arm]
            misfits[i, arm] = 2 * lsq_linear(x, y, bounds=(0, 1), tol=1e-14).cost
    least = np.argmin(misfits.sum(axis=1))
    assert least != np.argmin(misfits.max(axis=1)) and len({*np.argmin(misfits, axis=0)}) > 1
    fit = fit_risk(SIZES, means, errors, np.random.default_rng(0), 5)
    assert fit.exponents[0] == EXPONENTS[least]
    assert fit.misfit == pytest.approx(np.sqrt(misfits[least].sum() / 2), abs=1e-5)


def test_a_power_of_n_is_found_for_the_kl_and_its_slope_held():
    logs = np.log(np.array([3.0 * SIZES**0.5, 7.0 * SIZES**3.0]))
    fit = fit_kl(SIZES, logs, np.full_like(logs, 0.1), np.random.default_rng(0), 5)
    assert fit.at(4096.0)[0, 0] == pytest.approx(3 * 64, rel=1e-6)
    assert fit.parameters[0, 1, 1] == 2.0


def test_misfit_widens_the_draws():
    means = np.array([[0.9, 0.2, 0.9], [0.9, 0.2, 0.9]])  # no power law
    tight = np.full_like(means, 0.001)
    fit = fit_risk(SIZES, means, tight, np.random.default_rng(0), 100)
    assert fit.misfit > 50 and np.std(fit.at(1024.0)[1:, 0]) > 0.02


def test_where_any_data_would_fit_no_misfit_is_told():
    """Two sizes hold c and y₀ of every window, whatever they are."""
    means = np.array([[0.9, 0.2], [0.1, 0.7]])
    tight, generator = np.full_like(means, 0.001), np.random.default_rng(0)
    assert fit_risk(SIZES[::2], means, tight, generator, 5).misfit is None
    assert fit_kl(SIZES[::2], means, tight, generator, 5).misfit is None


def test_rows_shared_by_the_seeds_do_not_average_out():
    risks = np.full((1, 1, 3), 0.5)
    assert standard_error(risks, np.array([[0.03]]))[0, 0] == pytest.approx(0.03)
    risks[0, 0] = [0.4, 0.5, 0.6]
    assert standard_error(risks, np.array([[0.0]]))[0, 0] == pytest.approx(0.1 / 3**0.5)
