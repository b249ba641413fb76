"""The guarantee, tested; the whole of it is ``python -m benchmarks.coverage``."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from estimators import log_maurer_moment
from tests.coverage.outcome import kl_upper, row
from tests.coverage.planted import PLANTED, moment
from tests.coverage.procedures import (
    PROCEDURES,
    gibbs_mc_per_unit,
    recursive_mc_per_unit,
    refined_by_fit,
)
from tests.coverage.simulation import Arms, Plane
from tests.coverage.trial import Trial

PROBLEMS = {"arms": Arms.varied(), "plane": Plane()}
every_problem = pytest.mark.parametrize("problem", PROBLEMS)


@cache
def trial(problem, delta):
    return Trial(PROBLEMS[problem], 40, 2000, delta, seed=77)


@every_problem
@pytest.mark.parametrize("delta", [0.05, 0.5])
@pytest.mark.parametrize("name", PROCEDURES)
def test_certificates_hold_their_level(name, delta, problem):
    outcome = PROCEDURES[name](trial(problem, delta))
    outcome.check(10)
    assert row([outcome], delta)["upper_95"] <= delta


@pytest.mark.parametrize("procedure", [gibbs_mc_per_unit, recursive_mc_per_unit])
def test_fresh_noise_for_each_unit_holds_its_level(procedure):
    outcome = procedure(trial("plane", 0.05))
    outcome.check(10)
    assert row([outcome], 0.05)["upper_95"] <= 0.05


@pytest.mark.parametrize("problem", ["arms", pytest.param("plane", marks=pytest.mark.slow)])
def test_refined_posteriors_of_the_package_itself_hold_their_level(problem):
    outcome = refined_by_fit(Trial(PROBLEMS[problem], 40, 100, 0.05, seed=78))
    outcome.check(10)
    assert row([outcome], 0.05)["upper_95"] <= 0.05


@pytest.mark.parametrize("name", PLANTED)
def test_planted_mistakes_are_caught_and_the_honest_way_holds(name):
    mistaken = PLANTED[name](200, 0.05, 79, honest=False)
    honest = PLANTED[name](200, 0.05, 79, honest=True)
    for outcome in (mistaken, honest):
        outcome.check(10)
    assert row([mistaken], 0.05)["lower_95"] > 0.05
    assert row([honest], 0.05)["upper_95"] <= 0.05


@pytest.mark.parametrize("problem", [Arms.varied(), Plane(noise=0.3)], ids=["arms", "plane"])
def test_the_disintegrated_moment_is_maurers(problem):
    seen = moment(problem, 6, 100_000, 80)
    assert seen["xi"] == math.exp(log_maurer_moment(6))
    assert abs(seen["mean"] - seen["xi"]) <= 4 * seen["standard_error"] < 0.5


@pytest.mark.parametrize("name", ["kl_zero", "refined_vectorised", "one_draw"])
def test_the_factor_is_where_violations_reach_delta(name):
    outcome, delta = PROCEDURES[name](trial("arms", 0.05)), 0.05
    factor, risk, truth = outcome.factor(delta), outcome.risk.numpy(), outcome.truth.numpy()

    def rate(f):
        return float(np.mean(truth > kl_upper(risk, f * outcome.paid / outcome.n) + 1e-12))

    assert 0 < factor < 1
    assert rate(factor * 1.001) <= delta < rate(factor * 0.97)


class TestTheTruthOfTheSimulations:
    """What the violations are counted against."""

    @pytest.mark.parametrize(
        ("mean", "scale"),
        [((1.0, 1.0), 0.02), ((1.0, 0.0), 0.05), ((-0.6, 0.8), 0.3), ((0.1, -0.2), 1.5)],
    )
    def test_the_plane_against_adaptive_quadrature(self, mean, scale):
        def wrong(angle):
            margin = mean[0] * math.cos(angle) + mean[1] * math.sin(angle)
            return stats.norm.cdf(-margin / scale) / math.pi

        half = math.pi / 2
        cross = math.atan2(-mean[0], mean[1]) % math.pi - half
        truth, _ = integrate.quad(
            wrong, -half, half, points=[cross, cross - 0.05, cross + 0.05], limit=200
        )
        ours = Plane().gibbs(torch.tensor([mean]).double(), torch.tensor([[scale]]).double())
        assert float(ours[0]) == pytest.approx(0.1 + 0.8 * truth, abs=2e-5)

    @every_problem
    def test_a_large_fresh_sample_agrees(self, problem):
        p, generator = PROBLEMS[problem], torch.Generator().manual_seed(1)
        sample = p.draw(400_000, 1, generator)
        mean = torch.full((1, p.dimension), 0.4, dtype=torch.float64)
        scale = torch.full((1, 1), 0.5, dtype=torch.float64)
        theta = mean[:, None] + scale * torch.randn(1, 5, p.dimension, generator=generator)
        pairs = (
            (p.gibbs(mean, scale), p.empirical_gibbs(sample, mean, scale)),
            (p.risk(theta), p.empirical(sample, theta)),
        )
        for truth, seen in pairs:
            torch.testing.assert_close(truth, seen, rtol=0, atol=0.004)

    @every_problem
    def test_the_empirical_gibbs_risk_is_the_mean_over_draws(self, problem):
        p, generator = PROBLEMS[problem], torch.Generator().manual_seed(2)
        sample = p.draw(40, 1, generator)
        mean, scale = p.finished(sample), torch.full((1, 1), 0.7, dtype=torch.float64)
        theta = mean[:, None] + scale * torch.randn(1, 100_000, p.dimension, generator=generator)
        seen = p.empirical(sample, theta).mean(1)
        torch.testing.assert_close(p.empirical_gibbs(sample, mean, scale), seen, rtol=0, atol=0.004)
