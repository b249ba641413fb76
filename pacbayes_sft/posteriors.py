"""Which posterior, and at which prior scale: candidates, short pilots, and the reason in words.

Everything here may look at the sample: Q may depend on it freely, and each prior scale that can
be chosen owns a leaf of the ledger. The draws made here are used for nothing else.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from estimators import DiagonalGaussian, kl_divergence, mcallester
from estimators.posteriors import interpolated, isotropic, kfac, laplace, per_tensor, refined
from pacbayes_sft.choices import Posterior, Start
from pacbayes_sft.curvature import diagonal_fisher
from pacbayes_sft.errors import InputError
from pacbayes_sft.kronecker import kronecker_curvature
from pacbayes_sft.progress import track
from pacbayes_sft.refine import Refinement, surrogate_risk
from pacbayes_sft.workbench import Workbench

PILOT_UNITS = 64
DUEL_UNITS = 512  # a pilot that compares two fitted posteriors
TEMPERATURES = (0.0, 1.0, 10.0, 100.0, 1e3, 1e4)  # free: they shape Q alone
PLACES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)  # between the prior's mean and the finished weights
CURVED: dict[Posterior, Callable[..., DiagonalGaussian]] = {
    Posterior.PER_TENSOR: per_tensor.fit,
    Posterior.LAPLACE: laplace.fit,
    Posterior.KFAC: kfac.fit,
}
BEARABLE = 0.1  # risk that noise at the prior's scale may add before a refinement begins
RUNNERS = 3  # prior scales that race, the bearable one and its neighbours on the grid
RACE_SHARE = 8  # a race is run over this fraction of the steps
RACE_UNITS = 256


@dataclass(frozen=True)
class Fitted:
    """A frozen posterior and the prior it is held against.

    Attributes:
        family: How it was fitted.
        posterior: Q.
        prior: P.
        sigma: The prior's scale.
        reason: Why this family and this scale, in words.
    """

    family: Posterior
    posterior: DiagonalGaussian
    prior: DiagonalGaussian
    sigma: float
    reason: str


def _value(bench: Workbench, fitted: Fitted, units: int) -> float:
    """Return the bound that a pilot promises for a fitted posterior."""
    kl = kl_divergence(fitted.posterior, fitted.prior)
    purpose = f"pilot of the {fitted.family} posterior at prior scale {fitted.sigma:g}"
    return bench.promised(fitted.posterior, kl, units, purpose)


def fit_posterior(
    family: Posterior, bench: Workbench, sigmas: tuple[float, ...], refinement: Refinement
) -> Fitted:
    """Fit the posterior asked for; with ``auto`` the one whose pilot promises the least bound.

    The interpolated one is the cheap relative of the refined one and must be asked for.

    ``auto`` compares the isotropic and the refined one. The families of the curvature hold
    the mean where the fine-tune left it and so keep ‖Δ‖²/2σ² of the KL, which a refinement trades
    away; they must be asked for.

    Args:
        family: Which.
        bench: Model, rows and weights.
        sigmas: The prior's scales to choose from, each paid for by the caller.
        refinement: How to refine.

    Raises:
        InputError: If the refinement cannot be done or resumed.
    """
    if family in CURVED:
        if bench.shape.relative:
            raise InputError(
                f"--posterior {family} stands on the isotropic prior; use --prior-shape isotropic "
                "or --posterior refined"
            )
        return _curved(bench, family, sigmas, _curvature(bench, family))
    if family is Posterior.INTERPOLATED:
        return _interpolated(bench, sigmas)
    if family is not Posterior.ISOTROPIC:  # before pilots and race are paid for
        _check_state(bench, refinement)
    at_scale = _pilot_risks(bench, sigmas)
    if family is Posterior.ISOTROPIC:
        return _isotropic(bench, at_scale)
    if family is Posterior.REFINED:
        return _refined(bench, at_scale, refinement)
    plain, fine = _isotropic(bench, at_scale), _refined(bench, at_scale, refinement)
    values = {f.family: _value(bench, f, DUEL_UNITS) for f in (plain, fine)}
    best = min((fine, plain), key=lambda f: values[f.family])
    found = ", ".join(f"{family} {value:.3f}" for family, value in values.items())
    why = f"chosen by the bound that a pilot promises ({found})"
    return replace(best, reason=f"{best.reason}; {why}")


def _pilot_risks(bench: Workbench, sigmas: tuple[float, ...]) -> dict[float, float]:
    """Return the risk of N(finished weights, σ²I) on a few units for every scale."""
    if len(sigmas) == 1:
        return dict.fromkeys(sigmas, 0.0)  # no choice to make
    return {
        sigma: bench.gibbs_risk(bench.start(sigma), PILOT_UNITS, f"pilot at scale {sigma:g}")
        for sigma in sigmas
    }


def _at(bench: Workbench, sigma: float) -> tuple[DiagonalGaussian, DiagonalGaussian]:
    return bench.start(sigma), bench.prior(sigma)


def _isotropic(bench: Workbench, risks: dict[float, float]) -> Fitted:
    def value(sigma: float) -> float:
        posterior, prior = _at(bench, sigma)
        kl = kl_divergence(posterior, prior)
        # McAllester's tells scales apart even where every kl bound is 1
        return mcallester(risks[sigma], kl, bench.n, bench.delta).upper

    sigma = min(risks, key=value)
    return Fitted(
        Posterior.ISOTROPIC,
        *_at(bench, sigma),
        sigma,
        f"the best of {len(risks)} scales on a pilot",
    )


def _interpolated(bench: Workbench, sigmas: tuple[float, ...]) -> Fitted:
    """Return the best place between prior and finished weights, over all scales.

    Places come in the order of their value at risk 0, as for the families of the curvature.
    """
    candidates = []
    for sigma in sigmas:
        finished, prior = _at(bench, sigma)
        for t in PLACES:
            kl = kl_divergence(interpolated.fit(finished, prior, t), prior)
            candidates.append((mcallester(0.0, kl, bench.n, bench.delta).upper, sigma, t, kl))
    found = (math.inf, sigmas[0], 0.0)
    for least, sigma, t, kl in sorted(candidates, key=lambda c: c[:3]):
        if least >= found[0]:
            break
        posterior = interpolated.fit(*_at(bench, sigma), t)
        purpose = f"pilot at scale {sigma:g}, {t:g} of the way"
        risk = bench.gibbs_risk(posterior, PILOT_UNITS, purpose)
        found = min(found, (mcallester(risk, kl, bench.n, bench.delta).upper, sigma, t))
    _, sigma, t = found
    return Fitted(
        Posterior.INTERPOLATED,
        interpolated.fit(*_at(bench, sigma), t),
        _at(bench, sigma)[1],
        sigma,
        f"the best of {len(candidates)} pairs of prior scale and place between the prior's mean "
        f"and the finished weights, on a pilot: {t:g} of the way",
    )


def race_scales(sigmas: Collection[float], steps: int) -> int:
    """Return how many prior scales race before a refinement of so many steps; 0: no race."""
    runners = min(RUNNERS, len(sigmas))
    return runners if runners > 1 and steps >= RACE_SHARE else 0


def _curvature(bench: Workbench, family: Posterior) -> Mapping[str, Any]:
    found = kronecker_curvature if family is Posterior.KFAC else diagonal_fisher
    return found(bench.evaluator, bench.slots, bench.pair.posterior, bench.rows)


def _curved(
    bench: Workbench,
    family: Posterior,
    sigmas: tuple[float, ...],
    curvature: Mapping[str, Any],
) -> Fitted:
    """Return the best of all scales and temperatures by McAllester's value on a pilot.

    Candidates come in the order of their value at risk 0, which needs no forward pass: once that
    alone exceeds the best value found, no later one can win.
    """
    at = partial(CURVED[family], bench.pair.posterior, curvature, n=bench.n)
    candidates = []
    for sigma in sigmas:
        prior = isotropic.fit(bench.pair.prior, sigma)
        for temperature in TEMPERATURES:
            kl = kl_divergence(at(sigma=sigma, temperature=temperature), prior)
            least = mcallester(0.0, kl, bench.n, bench.delta).upper
            candidates.append((least, sigma, temperature, kl))
    found = (math.inf, sigmas[0], 0.0)
    for least, sigma, temperature, kl in sorted(candidates, key=lambda c: c[:3]):
        if least >= found[0]:
            break
        posterior = at(sigma=sigma, temperature=temperature)
        purpose = f"pilot of the {family} posterior at scale {sigma:g}, temperature {temperature:g}"
        risk = bench.gibbs_risk(posterior, PILOT_UNITS, purpose)
        value = mcallester(risk, kl, bench.n, bench.delta).upper
        found = min(found, (value, sigma, temperature))
    _, sigma, temperature = found
    return Fitted(
        family,
        at(sigma=sigma, temperature=temperature),
        isotropic.fit(bench.pair.prior, sigma),
        sigma,
        f"the best of {len(candidates)} pairs of prior scale and temperature on a pilot: "
        f"temperature {temperature:g}",
    )


def _refined(bench: Workbench, risks: dict[float, float], refinement: Refinement) -> Fitted:
    """Refine at the scale, and from the end, that win a race; keep the prior if nothing is gained.

    From the finished weights the runners are short refinements. From the prior's centre every scale
    runs, as the prior itself, which a refinement can only improve on: the less noise, the nearer is
    Q to the centre, whose own limit needs no KL.
    """
    if bench.centre is None or not bench.leaves.recursive:
        refinement = replace(refinement, start=Start.FINISHED)
    bearable = min(risks.values()) + BEARABLE
    likely = max(s for s, risk in risks.items() if risk <= bearable)
    near = sorted(risks, key=lambda s: abs(math.log(s / likely)))
    runners = near[: race_scales(risks, refinement.schedule.steps)]
    values: dict[tuple[Start, float], float] = {}
    if refinement.start is not Start.PRIOR:
        for sigma in runners:
            label = f"racing at prior scale {sigma:g}"
            posterior = _refine(bench, sigma, _shortened(refinement), label)
            values[Start.FINISHED, sigma] = _value(bench, _fit(bench, posterior, sigma), RACE_UNITS)
    if refinement.start is not Start.FINISHED:
        for sigma in sorted(risks):
            values[Start.PRIOR, sigma] = _value(bench, _prior_itself(bench, sigma), RACE_UNITS)
    if refinement.start is Start.AUTO and not runners:
        unmoved = _fit(bench, bench.start(likely), likely)
        values[Start.FINISHED, likely] = _value(bench, unmoved, RACE_UNITS)
    start, sigma = Start.FINISHED, likely
    if values:  # of a tie, and where nothing promises anything, the finished weights
        start, sigma = min(values, key=lambda k: (min(values[k], 1.0), k[0] is Start.PRIOR))
    named = "the finished weights" if start is Start.FINISHED else "the prior's centre"
    reason = f"refined from {named} at prior scale {sigma:g}"
    if len(values) > 1:
        found = ", ".join(f"{end} at {s:g}: {v:.3f}" for (end, s), v in sorted(values.items()))
        how = "won a race of short refinements" if runners else "promised the least"
        reason += f", which {how} (bound on a pilot: {found})"
    refined_there = _refine(bench, sigma, refinement, "refining the posterior", start)
    fitted = replace(_fit(bench, refined_there, sigma), reason=reason)
    if start is Start.FINISHED:
        return fitted
    kept = replace(
        _prior_itself(bench, sigma), reason=f"{reason}; the refinement gained nothing, so Q = P"
    )
    return min((fitted, kept), key=lambda f: _value(bench, f, DUEL_UNITS))


def _fit(bench: Workbench, posterior: DiagonalGaussian, sigma: float) -> Fitted:
    return Fitted(Posterior.REFINED, posterior, bench.prior(sigma), sigma, "")


def _prior_itself(bench: Workbench, sigma: float) -> Fitted:
    return _fit(bench, bench.prior(sigma), sigma)


def _identity(bench: Workbench, refinement: Refinement) -> str:
    """Name what a refinement runs on, so that it is never resumed on anything else."""
    evaluator = bench.evaluator
    words = (bench.identity, bench.n, bench.delta, evaluator.loss, evaluator.seed)
    digest = hashlib.sha256(f"{words} {refinement.batch_size} {refinement.schedule}".encode())
    for row in bench.rows.encoded:
        digest.update(f"{row.prompt_length} {row.ids}".encode())
    return digest.hexdigest()


def _check_state(bench: Workbench, refinement: Refinement) -> None:
    try:
        refined.check_state(refinement.state_file, _identity(bench, refinement))
    except ValueError as error:
        raise InputError(str(error)) from None


def _shortened(refinement: Refinement) -> Refinement:
    schedule = refinement.schedule
    budget = schedule.time_budget
    return Refinement(
        replace(
            schedule,
            steps=schedule.steps // RACE_SHARE,
            time_budget=None if budget is None else budget / RACE_SHARE,
        ),
        refinement.batch_size,
    )


def _refine(
    bench: Workbench, sigma: float, refinement: Refinement, label: str, end: Start = Start.FINISHED
) -> DiagonalGaussian:
    prior = bench.prior(sigma)
    at_prior = end is Start.PRIOR
    try:
        return refined.fit(
            prior if at_prior else bench.start(sigma),
            prior,
            surrogate_risk(bench.evaluator, bench.slots, bench.rows, refinement.batch_size),
            n=bench.n,
            delta=bench.delta,
            schedule=refinement.schedule,
            price=bench.price(prior, RACE_UNITS) if at_prior else None,
            state_file=refinement.state_file,
            about=_identity(bench, refinement),
            progress=lambda steps: track(steps, label),
        )
    except ValueError as error:
        raise InputError(str(error)) from None
