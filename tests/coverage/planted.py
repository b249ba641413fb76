"""Planted mistakes, each beside the honest way to do the same, and Maurer's moment itself."""

from __future__ import annotations

import math

import numpy as np
import torch

from estimators import log_maurer_moment
from tests.coverage.outcome import Outcome, binary_kl
from tests.coverage.procedures import gibbs, over_reference
from tests.coverage.simulation import Arms, Problem, draws, log_ratio
from tests.coverage.trial import Trial


def prior_from_data(repeats: int, delta: float, seed: int, *, honest: bool) -> Outcome:
    """1,000 arms alike; prior and posterior both sit on the one that erred least on S.

    Honest: they sit on the one that erred least on an independent sample.
    """
    trial = Trial(Arms.flat(1000, 0.4), 50, repeats, delta, seed)
    other = Trial(trial.problem, 50, repeats, delta, seed + 10**6)
    at = (other if honest else trial).finished
    return gibbs(trial, (at, 0.001 * trial.one), (at, 0.001))


def reference_from_data(repeats: int, delta: float, seed: int, *, honest: bool) -> Outcome:
    """1,000 arms alike; the reference, called held-out, is the one that erred least on S.

    Honest: it is the one that erred least on an independent sample.
    """
    trial = Trial(Arms.flat(1000, 0.4), 200, repeats, delta, seed)
    other = Trial(trial.problem, 200, repeats, delta, seed + 10**6)
    at = (other if honest else trial).finished
    posterior = at, 0.0002 * trial.one
    return over_reference(trial, posterior, (at, 0.0002), at, trial.sample, trial.n)


def best_of_10_000_draws(repeats: int, delta: float, seed: int, *, honest: bool) -> Outcome:
    """10,000 draws from Q = P over 10,000 arms alike; the smallest bound is quoted.

    Honest: each draw is charged δ/10,000.
    """
    trial = Trial(Arms.flat(10_000, 0.5), 200, repeats, delta, seed)
    theta = draws(trial.zero, trial.one, 10_000, trial.stream("draws"))
    errors, best = trial.problem.empirical(trial.sample, theta).min(1)
    return Outcome(
        "disintegrated",
        trial.problem.risk(theta).gather(1, best[:, None])[:, 0],
        errors,
        torch.zeros(repeats, dtype=torch.float64),
        trial.n,
        delta / 10_000 if honest else delta,
    )


def draws_reused_over_100_scales(repeats: int, delta: float, seed: int, *, honest: bool) -> Outcome:
    """The Monte-Carlo limits of 100 σ's on the same 100 draws, the smallest quoted at the whole δ.

    What is certified is R̂_S(Q), so the truth is the empirical Gibbs risk. Honest: δ/100 each.
    """
    trial = Trial(Arms.flat(2000, 0.4), 1, repeats, delta, seed)
    count, share = 100, delta / 100 if honest else delta
    noise = draws(trial.zero, trial.one, count, trial.stream("mc"))
    scales = torch.linspace(0.3, 1.5, 100, dtype=torch.float64)
    means = torch.stack([trial.problem.empirical(trial.sample, noise * s).mean(1) for s in scales])
    mean, best = means.min(0)  # one budget for all: the smallest mean has the smallest limit
    truth = trial.problem.empirical_gibbs(trial.sample, trial.zero, scales[best][:, None])
    return Outcome("mc", truth, mean, torch.zeros_like(mean), count, share)


def ratio_at_rounded_weights(repeats: int, delta: float, seed: int, *, honest: bool) -> Outcome:
    """One draw with σ = 0.02, deployed in steps of a quarter; the ratio taken where it landed.

    Honest: the ratio is taken at the draw, the risks at what is deployed.
    """
    trial = Trial(Arms.flat(32, 0.4), 200, repeats, delta, seed)
    posterior = trial.finished, 0.02 * trial.one
    theta = draws(*posterior, 1, trial.stream("draw"))
    deployed = (theta / 0.25).round() * 0.25
    at = theta if honest else deployed
    return Outcome(
        "disintegrated",
        trial.problem.risk(deployed)[:, 0],
        trial.problem.empirical(trial.sample, deployed)[:, 0],
        log_ratio(at, *posterior, trial.zero, 1.0)[:, 0],
        trial.n,
        delta,
    )


PLANTED = {
    f.__name__: f
    for f in (
        prior_from_data,
        reference_from_data,
        best_of_10_000_draws,
        draws_reused_over_100_scales,
        ratio_at_rounded_weights,
    )
}


def moment(problem: Problem, n: int, repeats: int, seed: int) -> dict[str, float]:
    """E_S E_{θ~Q_S} e^{n·kl(R̂‖R)} dP/dQ: at most ξ(n), and equal to it where losses are 0 or 1.

    The posterior leans half the prior's σ towards the data. n and the risks are such that the
    rarest sample is seen: all n+1 error counts carry a like share of the moment.
    """
    trial = Trial(problem, n, repeats, 0.05, seed)
    posterior = 0.5 * trial.finished.sign(), trial.one
    theta = draws(*posterior, 1, trial.stream("draw"))
    risk = problem.empirical(trial.sample, theta)[:, 0].numpy()
    ratio = log_ratio(theta, *posterior, trial.zero, 1.0)[:, 0].numpy()
    values = np.exp(n * binary_kl(risk, problem.risk(theta)[:, 0].numpy()) - ratio)
    return {
        "n": n,
        "repeats": repeats,
        "mean": float(values.mean()),
        "standard_error": float(values.std() / math.sqrt(repeats)),
        "xi": math.exp(log_maurer_moment(n)),
    }
