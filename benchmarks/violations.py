"""Do the certificates hold? ``python benchmarks/violations.py`` (a quarter of an hour, one core).

Repeats sample -> posterior -> certificate on a problem whose true risk is known, and counts how
often the truth lies above the certificate. A rule passes when the upper 95 % Clopper-Pearson limit
of its violation rate is at most δ. Planted mistakes must be caught. Finished pieces in
``runs/violations`` are not done again. Writes ``benchmarks/results/violations.json`` and the
README's table.

The problem: z ~ N(0, I_d), the predictor θ errs on z if θ·z > 0. Its true risk is 1/2 whatever θ
is, while a posterior fitted to n < d points has an empirical risk near 0: all of it is overfitting,
the hardest case for a bound. The Gibbs risk of N(m, s²I) on z is Φ(m·z/(s|z|)), so nothing is
sampled that need not be.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from estimators import (
    DiagonalGaussian,
    catoni_grid,
    clopper_pearson,
    disintegrated,
    gibbs_risk,
    kl_bound,
    log_density_ratio,
    log_maurer_moment,
    mcallester,
)
from estimators.posteriors import isotropic, refined

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "violations.json"
WORK = ROOT / "runs" / "violations"

N, D, TRUTH = 50, 100, 0.5
SCALES = (0.5, 1.0, 2.0)  # of the prior
REACH = np.linspace(0, 12, 25)  # |m|, the means that a fit may choose from
SHRINK = (1.0, 0.7)  # s_q / s_p
DELTAS = (0.05, 0.2, 0.5)
PIECE = 500

Repetition = Callable[[np.random.Generator, float], bool]


def draw_sample(generator: np.random.Generator, n: int = N) -> np.ndarray:
    """Return (n, D) points, scaled to unit length: only their direction matters."""
    z = generator.standard_normal((n, D))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def direction(z: np.ndarray) -> np.ndarray:
    """Return the unit vector that errs least, roughly: against the mean of the points."""
    m = -z.sum(axis=0)
    return m / np.linalg.norm(m)


def gibbs(z: np.ndarray, m: np.ndarray, s: float) -> float:
    """Return the exact empirical Gibbs risk of N(m, s²I)."""
    return float(stats.norm.cdf(z @ m / s).mean())


def kl(distance: float, s_q: float, s_p: float) -> float:
    """Return KL(N(m, s_q²I)‖N(m', s_p²I)) with |m - m'| = distance."""
    ratio = (s_q / s_p) ** 2
    return 0.5 * ((distance / s_p) ** 2 + D * (ratio - 1 - math.log(ratio)))


def fitted(z: np.ndarray, share: float, shrink: tuple[float, ...] = SHRINK) -> dict[str, Any]:
    """Return the posterior of least McAllester bound over means, scales and prior scales."""
    towards = direction(z)
    along = z @ towards
    best: dict[str, Any] = {"value": math.inf}
    for s_p in SCALES:
        for s_q in (s_p * r for r in shrink):
            risks = stats.norm.cdf(np.outer(REACH, along) / s_q).mean(axis=1)
            for reach, risk in zip(REACH, risks, strict=True):
                cost = kl(reach, s_q, s_p)
                value = risk + math.sqrt((cost + math.log(2 * math.sqrt(N) / share)) / (2 * N))
                if value < best["value"]:
                    best = {
                        "value": value, "m": reach * towards, "s_q": s_q, "s_p": s_p,
                        "risk": float(risk), "kl": cost,
                    }  # fmt: skip
    return best


def isotropic_charged(generator: np.random.Generator, delta: float) -> bool:
    """Posterior N(m, s²I), prior N(0, s²I), s from a charged grid."""
    share = delta / len(SCALES)
    q = fitted(draw_sample(generator), share, shrink=(1.0,))
    return kl_bound(q["risk"], q["kl"], N, share).upper < TRUTH


def refined_charged(generator: np.random.Generator, delta: float) -> bool:
    """The same with mean and scale of Q both free."""
    share = delta / len(SCALES)
    q = fitted(draw_sample(generator), share)
    return kl_bound(q["risk"], q["kl"], N, share).upper < TRUTH


def catoni_charged(generator: np.random.Generator, delta: float) -> bool:
    """Catoni's bound on its grid, shared with the prior's."""
    share = delta / len(SCALES)
    q = fitted(draw_sample(generator), share)
    return catoni_grid(q["risk"], q["kl"], N, share).upper < TRUTH


def monte_carlo_charged(generator: np.random.Generator, delta: float) -> bool:
    """The empirical Gibbs risk from one fresh draw a row, a fifth of δ for its limit."""
    z = draw_sample(generator)
    share = 0.8 * delta / len(SCALES)
    q = fitted(z, share)
    theta = q["m"] + q["s_q"] * generator.standard_normal(z.shape)
    losses = ((theta * z).sum(axis=1) > 0).astype(float)
    return kl_bound(gibbs_risk(losses, 0.2 * delta), q["kl"], N, share).upper < TRUTH


def checkpoint_prior(generator: np.random.Generator, delta: float) -> bool:
    """Prior centred on a fit to the first half; Q sees all, R̂ and n are of the second half."""
    z = draw_sample(generator, 2 * N)
    first, second = z[:N], z[N:]
    centre, towards = 2.0 * direction(first), direction(z)
    best = (math.inf, 0.0, 0.0)
    for mix in np.linspace(0, 1, 11):
        m = (1 - mix) * centre + mix * 4.0 * towards
        cost = kl(float(np.linalg.norm(m - centre)), 1.0, 1.0)
        risk = gibbs(second, m, 1.0)
        best = min(best, (mcallester(risk, cost, N, delta).upper, risk, cost))
    return kl_bound(best[1], best[2], N, delta).upper < TRUTH


def one_draw(generator: np.random.Generator, delta: float) -> bool:
    """The disintegrated bound of one draw, against the mixture of the prior's scales."""
    z = draw_sample(generator)
    q = fitted(z, delta)
    theta = q["m"] + q["s_q"] * generator.standard_normal(D)
    risk = float((z @ theta > 0).mean())
    return disintegrated(risk, ratio_at(theta, q), N, delta).upper < TRUTH


def ratio_at(theta: np.ndarray, q: dict[str, Any]) -> float:
    """Return ln q(θ) - ln of the mixture over prior scales."""
    posterior = isotropic.fit({"w": torch.from_numpy(q["m"])}, q["s_q"])
    priors = [isotropic.fit({"w": torch.zeros(D, dtype=torch.float64)}, s) for s in SCALES]
    return log_density_ratio({"w": torch.from_numpy(theta)}, posterior, priors)


def refined_by_gradients(generator: np.random.Generator, delta: float) -> bool:
    """`estimators.posteriors.refined.fit` itself, from the least-error direction."""
    z = torch.from_numpy(draw_sample(generator)).float()
    prior = isotropic.fit({"w": torch.zeros(D)}, 1.0)
    start = isotropic.fit({"w": 8.0 * torch.from_numpy(direction(z.numpy())).float()}, 1.0)

    def surrogate(mean: Any, scale: Any, _: int) -> torch.Tensor:
        return torch.special.ndtr(z @ mean["w"] / scale["w"].float()).mean()

    schedule = refined.Schedule(steps=40, mean_rate=0.2, scale_rate=0.05)
    q: DiagonalGaussian = refined.fit(start, prior, surrogate, n=N, delta=delta, schedule=schedule)
    m, s = q.mean["w"].double().numpy(), float(q.scale["w"])
    cost = kl(float(np.linalg.norm(m)), s, 1.0)
    return kl_bound(gibbs(z.double().numpy(), m, s), cost, N, delta).upper < TRUTH


def prior_that_saw_the_sample(generator: np.random.Generator, delta: float) -> bool:
    """MISTAKE: the prior is centred on the fit to the very sample, so KL = 0."""
    z = draw_sample(generator)
    return kl_bound(gibbs(z, 8.0 * direction(z), 1.0), 0.0, N, delta).upper < TRUTH


def best_of_many_draws(generator: np.random.Generator, delta: float) -> bool:
    """MISTAKE: the best of 10,000 draws from Q = P, certified as if it were the only one."""
    z = draw_sample(generator)
    theta = generator.standard_normal((D, 10_000))
    risk = float((z @ theta > 0).mean(axis=0).min())
    return disintegrated(risk, 0.0, N, delta).upper < TRUTH


def one_set_of_draws_for_many_scales(generator: np.random.Generator, delta: float) -> bool:
    """MISTAKE: one set of normal draws serves 100 scales; the least Monte-Carlo limit is quoted.

    Loss 1{cos θ > 0} under N(0, σ²): its risk is 1/2 up to e^(-σ²/2) for every σ here.
    """
    epsilon = generator.standard_normal(200)
    limits = [
        gibbs_risk((np.cos(sigma * epsilon) > 0).astype(float), delta).upper
        for sigma in np.linspace(20, 120, 100)
    ]
    return min(limits) < 0.5


def ratio_at_rounded_weights(generator: np.random.Generator, delta: float) -> bool:
    """MISTAKE: the density ratio is taken at the rounded draw, far out in the tails of Q."""
    z = draw_sample(generator)
    q = {"m": 6.0 * direction(z), "s_q": 0.05}
    theta = q["m"] + q["s_q"] * generator.standard_normal(D)
    on_grid = np.round(theta / 0.4) * 0.4
    risk = float((z @ on_grid > 0).mean())
    return disintegrated(risk, ratio_at(on_grid, q), N, delta).upper < TRUTH


SOUND: dict[str, tuple[Repetition, int]] = {
    "isotropic, charged grid of scales": (isotropic_charged, 10_000),
    "refined mean and scale, charged grid": (refined_charged, 10_000),
    "refined, Catoni on a charged grid": (catoni_charged, 10_000),
    "refined, with the Monte-Carlo limit": (monte_carlo_charged, 10_000),
    "checkpoint prior, Q saw everything": (checkpoint_prior, 10_000),
    "one draw (disintegrated, mixture prior)": (one_draw, 10_000),
    "refined.fit itself, by gradients": (refined_by_gradients, 300),
}
MISTAKES: dict[str, tuple[Repetition, int]] = {
    "prior that saw the sample": (prior_that_saw_the_sample, 500),
    "best of 10,000 draws, uncharged": (best_of_many_draws, 300),
    "one set of draws for 100 scales": (one_set_of_draws_for_many_scales, 500),
    "density ratio at rounded weights": (ratio_at_rounded_weights, 500),
}


def count(name: str, rule: Repetition, repeats: int, delta: float, keep: bool = True) -> int:
    """Count violations, piece by piece; finished pieces are read back."""
    violations = 0
    for piece in range(0, repeats, PIECE):
        size = min(PIECE, repeats - piece)
        file = WORK / f"{rule.__name__}-{delta:g}-{piece}-{size}.json"
        if keep and file.exists():
            violations += json.loads(file.read_text())
            continue
        generator = np.random.default_rng([len(name), *map(ord, name), int(1e6 * delta), piece])
        found = sum(rule(generator, delta) for _ in range(size))
        if keep:
            file.write_text(json.dumps(found))
        violations += found
    return violations


def moment(repeats: int, seed: int = 0) -> dict[str, float]:
    """E[e^(n·kl(R̂(θ)‖R(θ)))·(dP/dQ)(θ)] with θ ~ Q_S, which the theorems need to be <= ξ(n)."""
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(repeats):
        z = draw_sample(generator)
        m, s = 1.0 * direction(z), 1.0
        theta = m + s * generator.standard_normal(D)
        risk = float((z @ theta > 0).mean())
        inside = risk * math.log(2 * risk) if risk > 0 else 0.0
        inside += (1 - risk) * math.log(2 * (1 - risk)) if risk < 1 else 0.0
        ratio = (np.sum(theta**2) - np.sum((theta - m) ** 2)) / (2 * s**2)
        values.append(math.exp(N * inside - ratio))
    error = float(np.std(values) / math.sqrt(repeats))
    return {
        "repetitions": repeats,
        "mean": float(np.mean(values)),
        "standard_error": error,
        "xi": math.exp(log_maurer_moment(N)),
    }


def slack(repeats: int, delta: float, seed: int = 0) -> float:
    """Return the factor on (KL + ln(ξ/δ)) at which the refined rule errs at rate δ."""
    generator = np.random.default_rng(seed)
    share, needed = delta / len(SCALES), []
    for _ in range(repeats):
        q = fitted(draw_sample(generator), share)
        risk = min(q["risk"], 0.5)
        exact = risk * math.log(2 * risk) + (1 - risk) * math.log(2 * (1 - risk))
        budget = q["kl"] + log_maurer_moment(N) - math.log(share)
        needed.append(N * exact / budget)  # violated at factor f iff f < this
    return float(np.quantile(needed, 1 - delta))


def measure() -> dict[str, Any]:
    """Run everything; return the figures."""
    WORK.mkdir(parents=True, exist_ok=True)
    rules = []
    for kind, group in (("sound", SOUND), ("mistake", MISTAKES)):
        for name, (rule, most) in group.items():
            for delta in DELTAS if kind == "sound" else DELTAS[:1]:
                repeats = most if delta == DELTAS[0] else min(most, 3000)
                found = count(name, rule, repeats, delta)
                interval = clopper_pearson(found, repeats, 0.1)  # 5 % on each side
                rules.append(
                    {
                        "rule": name,
                        "kind": kind,
                        "delta": delta,
                        "repetitions": repeats,
                        "violations": found,
                        "lower": interval.lower,
                        "upper": interval.upper,
                        "passed": interval.upper <= delta,
                    }
                )
                print(kind, name, delta, found, repeats, flush=True)
    return {
        "n": N,
        "d": D,
        "rules": rules,
        "moment": moment(10_000),
        "factor_at_which_violations_reach_delta": {
            f"{delta:g}": slack(2000, delta) for delta in DELTAS
        },
    }


def table(result: dict[str, Any]) -> str:
    """Return the README's table at δ = 0.05."""
    lines = ["| rule | repetitions | violations | δ | verdict |", "|---|---|---|---|---|"]
    for r in result["rules"]:
        if r["delta"] != DELTAS[0]:
            continue
        if r["kind"] == "sound":
            verdict = "holds" if r["passed"] else "**FAILS**"
        else:
            verdict = "caught" if r["lower"] > r["delta"] else "**NOT CAUGHT**"
        name = r["rule"] if r["kind"] == "sound" else f"*planted:* {r['rule']}"
        lines.append(
            f"| {name} | {r['repetitions']:,} | {r['violations']:,} | {r['delta']:g} | {verdict} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    from readme import write_between

    torch.set_num_threads(1)
    if "--table" not in sys.argv:
        RESULT.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    write_between("violations", table(json.loads(RESULT.read_text(encoding="utf-8"))))
