"""What was certified, what is true, and how far the two are apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from scipy import special
from torch import Tensor

from estimators import (
    CATONI_GRID,
    Excess,
    catoni_grid,
    clopper_pearson,
    disintegrated,
    kl_bound,
    kl_inverse_upper,
    log_maurer_moment,
    recursive_bound,
)
from estimators.recursive import bets

PACKAGE = {"kl": kl_bound, "disintegrated": disintegrated, "catoni": catoni_grid}


@dataclass(frozen=True)
class Outcome:
    """Certificates of many repetitions, all arrays (r,).

    ``kind`` is a theorem ("kl", "disintegrated", "catoni") or "mc", a Monte-Carlo limit by n draws.
    ``complexity`` is KL or the log density ratio. ``by_package(i)`` is the package's own value of
    it, ``risk_by_package(i)`` that of a risk which is a Monte-Carlo limit. Of the "recursive" bound
    ``risk`` is the limit on the reference, ``excess`` the two parts of what Q errs differently.
    """

    kind: str
    truth: Tensor
    risk: Tensor
    complexity: Tensor
    n: int
    delta: float | Tensor
    by_package: Callable[[int], float] | None = field(default=None, repr=False)
    risk_by_package: Callable[[int], float] | None = field(default=None, repr=False)
    excess: tuple[Tensor, Tensor] | None = None

    @property
    def paid(self) -> np.ndarray:
        """The numerator of the complexity term, in nats."""
        delta = torch.as_tensor(self.delta, dtype=torch.float64).expand(len(self.risk))
        if self.kind == "catoni":
            delta = delta / len(CATONI_GRID)
        moment = log_maurer_moment(self.n) if self.kind in ("kl", "disintegrated") else 0.0
        return (self.complexity + moment - delta.log()).clamp(min=0).numpy()

    @cached_property
    def bounds(self) -> np.ndarray:
        if self.kind == "catoni":
            return self._catoni().min(1)
        if self.kind == "recursive":
            return np.maximum(0.0, self.risk.numpy() + self._excess_upper())
        return kl_upper(self.risk.numpy(), self.paid / self.n)

    @property
    def violations(self) -> int:
        return int((self.truth.numpy() > self.bounds).sum())

    def factor(self, delta: float) -> float:
        """The factor on the complexity term at which the rate of violations reaches δ."""
        truth, risk = self.truth.numpy(), self.risk.numpy()
        if self.kind == "catoni":
            c = np.array(CATONI_GRID)[self._catoni().argmin(1)]
            needed = -np.log1p(truth * np.expm1(-c)) - c * risk
        elif self.kind == "recursive":
            needed = self._spent(np.clip(truth - risk, -1.0, 1.0)) / self.n
        else:
            needed = np.where(truth > risk, binary_kl(risk, truth), 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(needed > 0, self.n * needed / self.paid, 0.0)
        return float(np.quantile(ratio, 1 - delta, method="higher"))

    def check(self, first: int) -> None:
        """Hold the vectorised arithmetic against the package, repetition by repetition."""
        delta = torch.as_tensor(self.delta, dtype=torch.float64).expand(len(self.risk))
        for i in range(min(first, len(self.risk))):
            risk, complexity = float(self.risk[i]), float(self.complexity[i])
            if self.by_package is not None:
                assert math.isclose(self.by_package(i), complexity, rel_tol=1e-6, abs_tol=1e-6)
            if self.risk_by_package is not None:
                assert math.isclose(self.risk_by_package(i), risk, rel_tol=1e-9)
            if self.kind == "mc":
                ours = kl_inverse_upper(risk, math.log(1 / float(delta[i])) / self.n)
            elif self.kind == "recursive":
                parts = Excess.exactly(*(float(part[i]) for part in self.excess))
                share = float(delta[i])
                ours = recursive_bound(risk, parts, complexity, self.n, share).upper
            else:
                ours = PACKAGE[self.kind](risk, complexity, self.n, float(delta[i])).upper
            # Near a budget of zero the vectorised kl loses half its digits, the package's does not.
            assert abs(ours - float(self.bounds[i])) < 1e-7, (self.kind, i)

    def _spent(self, d: np.ndarray) -> np.ndarray:
        """ln Σ_j w_j exp(n[...]) of the recursive bound, (r,)."""
        x = bets(self.n)
        more, less = (part.numpy()[:, None] for part in self.excess)
        growth = more * np.log1p(-x) + less * np.log1p(x) - np.log1p(-x * d[:, None])
        return special.logsumexp(self.n * growth, axis=1) - math.log(len(x))

    def _excess_upper(self) -> np.ndarray:
        inside, outside = -np.ones(len(self.risk)), np.ones(len(self.risk))
        for _ in range(60):
            middle = 0.5 * (inside + outside)
            over = self._spent(middle) > self.paid
            outside, inside = np.where(over, middle, outside), np.where(over, inside, middle)
        return outside

    def _catoni(self) -> np.ndarray:
        c = np.array(CATONI_GRID)
        exponent = c * self.risk.numpy()[:, None] + self.paid[:, None] / self.n
        return np.expm1(-exponent) / np.expm1(-c)


def binary_kl(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    return special.rel_entr(q, p) + special.rel_entr(1 - q, 1 - p)


def kl_upper(q: np.ndarray, budget: np.ndarray) -> np.ndarray:
    """The inverse of kl upwards by bisection, all at once."""
    inside, outside = q.copy(), np.ones_like(q)
    for _ in range(60):
        middle = 0.5 * (inside + outside)
        over = binary_kl(q, middle) > budget
        outside, inside = np.where(over, middle, outside), np.where(over, inside, middle)
    return outside


def row(outcomes: list[Outcome], delta: float) -> dict[str, float | None]:
    """Violations of all repetitions together, with one-sided 95 % Clopper-Pearson limits.

    A procedure holds where ``upper_95`` <= δ; a mistake is caught where ``lower_95`` > δ.
    ``factor_at_delta`` keeps the choices that were made at factor one; it is None where no factor
    on a complexity term of zero is large enough.
    """
    repeats = sum(len(o.risk) for o in outcomes)
    violations = sum(o.violations for o in outcomes)
    rate = clopper_pearson(violations, repeats, 0.1)
    parts = None
    if outcomes[0].excess is not None:
        parts = tuple(torch.cat([o.excess[k] for o in outcomes]) for k in (0, 1))
    shares = [torch.as_tensor(o.delta, dtype=torch.float64).expand(len(o.risk)) for o in outcomes]
    whole = Outcome(
        outcomes[0].kind,
        torch.cat([o.truth for o in outcomes]),
        torch.cat([o.risk for o in outcomes]),
        torch.cat([o.complexity for o in outcomes]),
        outcomes[0].n,
        torch.cat(shares),
        excess=parts,
    )
    factor = whole.factor(delta)
    return {
        "repeats": repeats,
        "violations": violations,
        "rate": rate.value,
        "lower_95": rate.lower,
        "upper_95": rate.upper,
        "delta": delta,
        "factor_at_delta": factor if math.isfinite(factor) else None,
        "mean_truth": float(whole.truth.mean()),
        "mean_empirical": float(whole.risk.mean()),
        "mean_bound": float(whole.bounds.mean()),
        "mean_complexity_nats": float(whole.complexity.mean()),
    }
