"""Sample → posterior → certificate. Each of these must hold its level."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from estimators import (
    DiagonalGaussian,
    Ledger,
    draw_delta,
    excess_limits,
    gibbs_risk,
    held_out_bound,
    kl_divergence,
    log_density_ratio,
    log_density_ratio_mixture,
)
from estimators.posteriors import refined
from tests.coverage.outcome import Outcome, kl_upper
from tests.coverage.simulation import Arms, Plane, Problem, draws, kl, log_ratio
from tests.coverage.trial import PRIOR_SCALE, START_SCALE, Trial

SCALES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)


def gibbs(
    trial: Trial,
    posterior: tuple[Tensor, Tensor],
    prior: tuple[Tensor, Tensor | float],
    kind: str = "kl",
    sample: object = None,
    n: int | None = None,
    delta: float | None = None,
    risk: Tensor | None = None,
    risk_by_package: Callable[[int], float] | None = None,
) -> Outcome:
    """Certify the Gibbs predictor, its empirical risk known exactly unless ``risk`` is given."""
    on = trial.sample if sample is None else sample
    exact = trial.problem.empirical_gibbs(on, *posterior)

    def by_package(i: int) -> float:
        return kl_divergence(gaussian(*posterior, i), gaussian(*prior, i)).value

    return Outcome(
        kind,
        trial.problem.gibbs(*posterior),
        (exact if risk is None else risk).clamp(0, 1),
        kl(*posterior, *prior),
        n or trial.n,
        delta or trial.delta,
        by_package,
        risk_by_package,
    )


def gaussian(mean: Tensor, scale: Tensor | float, i: int) -> DiagonalGaussian:
    sigma = float(scale[i, 0]) if isinstance(scale, Tensor) else scale
    return DiagonalGaussian({"w": mean[i]}, {"w": sigma})


def scale_grid(trial: Trial) -> Outcome:
    """Isotropic, σ_p = σ_q from a grid of which each scale is charged δ/K; the best is quoted."""
    share = trial.delta / len(SCALES)
    priors = [(trial.zero, s * trial.one) for s in SCALES]
    each = [gibbs(trial, (trial.finished, s), (z, s), delta=share) for z, s in priors]
    best = torch.from_numpy(np.stack([o.bounds for o in each]).argmin(0))

    def pick(name: str) -> Tensor:
        return torch.stack([getattr(o, name) for o in each]).gather(0, best[None])[0]

    def by_package(i: int) -> float:
        return each[int(best[i])].by_package(i)

    return Outcome(
        "kl", pick("truth"), pick("risk"), pick("complexity"), trial.n, share, by_package
    )


def refined_vectorised(trial: Trial) -> Outcome:
    """Refined towards the bound, fixed prior."""
    return gibbs(trial, trial.refined, (trial.zero, PRIOR_SCALE))


def refined_by_fit(trial: Trial) -> Outcome:
    """The same, each repetition through `estimators.posteriors.refined.fit` itself."""
    schedule = refined.Schedule(steps=40, mean_rate=0.05, scale_rate=0.05)
    means, scales = [], []
    for i in range(trial.repeats):
        one = (
            (trial.sample[0][i : i + 1], trial.n)
            if isinstance(trial.problem, Arms)
            else trial.sample[i : i + 1]
        )

        def surrogate(mean: dict, scale: dict, step: int, one: object = one) -> Tensor:
            return trial.problem.empirical_gibbs(one, mean["w"][None], scale["w"].view(1, 1))[0]

        posterior = refined.fit(
            gaussian(trial.finished, START_SCALE, i),
            gaussian(trial.zero, PRIOR_SCALE, i),
            surrogate,
            n=trial.n,
            delta=trial.delta,
            schedule=schedule,
        )
        means.append(posterior.mean["w"])
        scales.append([posterior.scale["w"]])
    fitted = torch.stack(means), torch.tensor(scales, dtype=torch.float64)
    return gibbs(trial, fitted, (trial.zero, PRIOR_SCALE))


def checkpoint_prior(trial: Trial) -> Outcome:
    """Prior from the first half, posterior from all, R̂ and n of the half that the prior missed."""
    posterior, prior, left = trial.checkpoint
    return gibbs(trial, posterior, prior, sample=trial.unseen, n=left)


def catoni_refined(trial: Trial) -> Outcome:
    """Catoni's charged grid on the refined posterior."""
    return gibbs(trial, trial.refined, (trial.zero, PRIOR_SCALE), "catoni")


def catoni_checkpoint(trial: Trial) -> Outcome:
    """Catoni's charged grid with the checkpoint prior."""
    posterior, prior, left = trial.checkpoint
    return gibbs(trial, posterior, prior, "catoni", sample=trial.unseen, n=left)


def over_reference(
    trial: Trial,
    posterior: tuple[Tensor, Tensor],
    prior: tuple[Tensor, Tensor | float],
    centre: Tensor,
    sample: object,
    n: int,
    excess: tuple[Tensor, Tensor] | None = None,
    delta: float | None = None,
) -> Outcome:
    """Certify over a fixed predictor at ``centre``: half of δ for its own limit, half for Q's."""
    delta = delta or trial.delta
    theirs = trial.problem.empirical(sample, centre[:, None])[:, 0].numpy()
    wrong = (theirs * n).round()
    limit = np.where(wrong == n, 1.0, stats.beta.isf(delta / 2, wrong + 1, n - wrong))

    def by_package(i: int) -> float:
        losses = np.arange(n) < wrong[i]
        assert held_out_bound(losses.astype(float), delta / 2).upper == limit[i]
        return kl_divergence(gaussian(*posterior, i), gaussian(*prior, i)).value

    stream = trial.stream("common errors")
    return Outcome(
        "recursive",
        trial.problem.gibbs(*posterior),
        torch.from_numpy(limit),
        kl(*posterior, *prior),
        n,
        delta / 2,
        by_package,
        excess=excess or trial.problem.excess(sample, *posterior, centre, stream),
    )


def recursive_refined(trial: Trial) -> Outcome:
    """The recursive bound on the refined posterior, over a predictor fixed beforehand."""
    prior = trial.zero, PRIOR_SCALE
    centre = trial.zero + 1
    return over_reference(trial, trial.refined, prior, centre, trial.sample, trial.n)


def recursive_checkpoint(trial: Trial) -> Outcome:
    """The recursive bound over the checkpoint, on the units it never saw."""
    posterior, prior, left = trial.checkpoint
    return over_reference(trial, posterior, prior, prior[0], trial.unseen, left)


def recursive_known(trial: Trial) -> Outcome:
    """The excess alone, over a far predictor whose risk is known: nothing else can absorb it."""
    posterior, prior, left = trial.checkpoint
    centre = trial.zero - 1
    return Outcome(
        "recursive",
        trial.problem.gibbs(*posterior),
        trial.problem.risk(centre[:, None])[:, 0],
        kl(*posterior, *prior),
        left,
        trial.delta,
        excess=trial.problem.excess(
            trial.unseen, *posterior, centre, trial.stream("errors in common")
        ),
    )


def recursive_zero(trial: Trial) -> Outcome:
    """The same for Q = P, narrow around the checkpoint: all slack is in the reference's limit."""
    _, (centre, _), left = trial.checkpoint
    posterior = centre, 0.02 * trial.one
    return over_reference(trial, posterior, (centre, 0.02), centre, trial.unseen, left)


def recursive_mc_per_unit(trial: Trial) -> Outcome:
    """The same with limits on the excess from a fresh draw a unit, four passes (the plane only)."""
    posterior, prior, left = trial.checkpoint
    errors = trial.problem.unit_errors(trial.unseen, *posterior)
    theirs = trial.problem.unit_errors(trial.unseen, prior[0], 1e-9 * trial.one).round()
    drawn = torch.bernoulli(errors.repeat(1, 4), generator=trial.stream("mc excess"))
    difference = drawn - theirs.repeat(1, 4)
    more, less = difference.clamp(min=0).numpy(), (-difference).clamp(min=0).numpy()
    mc = trial.delta / 5
    budget = np.full(trial.repeats, math.log(2 / mc) / more.shape[1])
    limits = kl_upper(more.mean(1), budget), 1 - kl_upper(1 - less.mean(1), budget)
    for i in range(5):
        known = excess_limits(more[i], less[i], mc)
        assert math.isclose(known.more.upper, limits[0][i], rel_tol=1e-9)
        assert math.isclose(known.less.lower, limits[1][i], rel_tol=1e-6, abs_tol=1e-9)
    parts = tuple(torch.from_numpy(np.clip(limit, 0, 1)) for limit in limits)
    rest = trial.delta - mc
    return over_reference(trial, posterior, prior, prior[0], trial.unseen, left, parts, rest)


def kl_near_zero(trial: Trial) -> Outcome:
    """A posterior that moved a twentieth of the prior's σ towards the data."""
    posterior = 0.05 * trial.finished, PRIOR_SCALE * trial.one
    return gibbs(trial, posterior, (trial.zero, PRIOR_SCALE))


def kl_zero(trial: Trial) -> Outcome:
    """Q = P, narrow: one fixed predictor, the least slack that the theorem can have."""
    return gibbs(trial, (trial.zero + 1, 0.02 * trial.one), (trial.zero + 1, 0.02))


def gibbs_mc(trial: Trial) -> Outcome:
    """R̂ by 200 draws, each over the whole sample, δ split between the limit and the theorem."""
    theta = draws(*trial.refined, 200, trial.stream("mc"))
    return _monte_carlo(trial, trial.problem.empirical(trial.sample, theta))


def gibbs_mc_per_unit(trial: Trial) -> Outcome:
    """R̂ by a fresh draw for each unit, four passes (in the plane only)."""
    errors = trial.problem.unit_errors(trial.sample, *trial.refined).repeat(1, 4)
    return _monte_carlo(trial, torch.bernoulli(errors, generator=trial.stream("mc per unit")))


def _monte_carlo(trial: Trial, losses: Tensor) -> Outcome:
    """Certify from the losses of independent draws, (r, m)."""
    ledger = Ledger(trial.delta)
    mc = ledger.spend("Monte Carlo", trial.delta / 5)
    mean = losses.mean(1).numpy()
    limit = kl_upper(mean, np.full_like(mean, math.log(1 / mc) / losses.shape[1]))
    return gibbs(
        trial,
        trial.refined,
        (trial.zero, PRIOR_SCALE),
        delta=ledger.spend("PAC-Bayes", ledger.left),
        risk=torch.from_numpy(limit),
        risk_by_package=lambda i: gibbs_risk(losses[i].numpy(), mc).upper,
    )


def single_draws(
    trial: Trial, count: int, delta: Callable[[int], float], rounding: float | None = None
) -> Outcome:
    """``count`` draws from the refined posterior; the one with the smallest bound is quoted."""
    theta = draws(*trial.refined, count, trial.stream("draw"))
    deployed = theta if rounding is None else (theta / rounding).round() * rounding
    ratio = log_ratio(theta, *trial.refined, trial.zero, PRIOR_SCALE)
    risk = trial.problem.empirical(trial.sample, deployed)
    truth = trial.problem.risk(deployed)
    shares = torch.tensor([delta(k) for k in range(1, count + 1)], dtype=torch.float64)
    each = [
        Outcome(
            "disintegrated", truth[:, k], risk[:, k], ratio[:, k], trial.n, float(shares[k])
        ).bounds
        for k in range(count)
    ]
    best = torch.from_numpy(np.stack(each, 1).argmin(1))[:, None]

    def by_package(i: int) -> float:
        drawn = {"w": theta[i, best[i, 0]]}
        prior = gaussian(trial.zero, PRIOR_SCALE, i)
        return log_density_ratio(drawn, gaussian(*trial.refined, i), prior)

    return Outcome(
        "disintegrated",
        truth.gather(1, best)[:, 0],
        risk.gather(1, best)[:, 0],
        ratio.gather(1, best)[:, 0],
        trial.n,
        shares[best[:, 0]],
        by_package,
    )


def one_draw(trial: Trial) -> Outcome:
    """One draw."""
    return single_draws(trial, 1, lambda k: trial.delta)


def ten_declared_draws(trial: Trial) -> Outcome:
    """Ten draws declared in advance."""
    return single_draws(trial, 10, lambda k: draw_delta(trial.delta, declared=10))


def undeclared_draws(trial: Trial) -> Outcome:
    """Draws that nobody declared, the k-th at 6δ/(π²k²); ten are made."""
    return single_draws(trial, 10, lambda k: draw_delta(trial.delta, k=k))


def rounded_draw(trial: Trial) -> Outcome:
    """The deployed predictor is the draw rounded to eighths; the ratio is the draw's own."""
    return single_draws(trial, 1, lambda k: trial.delta, rounding=0.125)


def mixture_draw(trial: Trial) -> Outcome:
    """One draw, charged with the density of a whole grid of priors."""
    theta = draws(*trial.refined, 1, trial.stream("mixture draw"))
    each = torch.stack([log_ratio(theta, *trial.refined, trial.zero, s)[:, 0] for s in SCALES])
    mixed = math.log(len(SCALES)) - torch.logsumexp(-each, 0)

    def by_package(i: int) -> float:
        priors = [gaussian(trial.zero, s, i) for s in SCALES]
        return log_density_ratio_mixture({"w": theta[i, 0]}, gaussian(*trial.refined, i), priors)

    return Outcome(
        "disintegrated",
        trial.problem.risk(theta)[:, 0],
        trial.problem.empirical(trial.sample, theta)[:, 0],
        mixed,
        trial.n,
        trial.delta,
        by_package,
    )


PROCEDURES: dict[str, Callable[[Trial], Outcome]] = {
    f.__name__: f
    for f in (
        scale_grid,
        refined_vectorised,
        checkpoint_prior,
        catoni_refined,
        catoni_checkpoint,
        recursive_refined,
        recursive_checkpoint,
        recursive_known,
        recursive_zero,
        kl_near_zero,
        kl_zero,
        gibbs_mc,
        one_draw,
        ten_declared_draws,
        undeclared_draws,
        rounded_draw,
        mixture_draw,
    )
}


def procedures(problem: Problem) -> dict[str, Callable[[Trial], Outcome]]:
    extra = (gibbs_mc_per_unit, recursive_mc_per_unit) if isinstance(problem, Plane) else ()
    return PROCEDURES | {f.__name__: f for f in extra}
