"""How a pilot's numbers go on beyond its size: two stated forms, fitted with bounds, with draws.

* A risk in [0, 1]: a power law between two levels, y(n) = c + (y₀ - c)·(n/n₀)^{-b}, with the level
  at the smallest pilot y₀ and the level without end c both held in [0, 1], so that every
  prediction is a risk; it may fall or rise (train risk does). One exponent b in [0.05, 1] is shared
  by all windows: three pilot sizes cannot hold three parameters a window. Small b is close to the
  logarithmic saturation that the paper reports. Two sizes say nothing about b: it is then 0.3 by
  decree, and any of the grid in the draws.
* A KL in nats: a power of n, ln KL = α + β·ln n with β in [-1, 2].

Uncertainty is a parametric bootstrap: every pilot mean is drawn again from a normal law with the
error that the caller gives for it, inflated by the root of χ²/dof where the form misfits by more
than noise, and all is fitted anew, the exponent too. That is an interval under the form, no promise
about another form. The rows that judge a pilot are the same at every size, so `SHARED` of their
variance is drawn once an arm for all sizes: it moves the curve as a whole and a fit through more
sizes does not average it out. Whether an error is a standard error is the caller's to say:
`predict.gather` measures those of the held-out and the test risk, and decrees or borrows the
others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
EXPONENTS = np.array([0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0])
DECREED = 4  # the place of b = 0.3, where two sizes cannot tell
FEWEST_SIZES = 2
LEAST_SPAN = 4.0  # largest pilot over smallest
FARTHEST = {2: 4.0, 3: 64.0}  # a budget over the largest pilot, by number of sizes
SLOPES = (-1.0, 2.0)
# Of the rows' variance, what fine-tunes on other numbers of rows have in common; by decree. Records
# hold no single rows, so between sizes nobody knows; two seeds of one size share 0.5 or more of it
# on the map, from 1,024 rows on (benchmarks/results/advice.json, `rows_shared_between_seeds`).
SHARED = 0.7


@dataclass(frozen=True)
class Fit:
    """A fitted form, as draws; the first draw is the fit itself.

    Attributes:
        parameters: Shape (draws, arms, 2): (c, y₀), or (α, β).
        exponents: Shape (draws,): b; NaN for a KL.
        origin: n₀, the smallest size.
        misfit: √(χ²/dof) of the fit itself; above 1 the form misfits by more than noise. None
            where as many numbers were fitted as there are: any data would do.
    """

    parameters: Values
    exponents: Values
    origin: float
    misfit: float | None

    def at(self, n: float) -> Values:
        """Return the quantity at size n, shape (draws, arms)."""
        first, second = self.parameters[..., 0], self.parameters[..., 1]
        if np.isnan(self.exponents[0]):
            return np.exp(first + second * np.log(n / self.origin))
        weight = ((n / self.origin) ** -self.exponents)[:, None]
        return first * (1 - weight) + second * weight


def fit_risk(
    sizes: Values,
    means: Values,
    errors: Values,
    generator: np.random.Generator,
    draws: int,
    shared: Values | None = None,
    rows: Values | None = None,
) -> Fit:
    """Fit the power law between two levels to every arm's risks.

    Args:
        sizes: Shape (k,), ascending.
        means: Shape (arms, k), in [0, 1].
        errors: Shape (arms, k): what each mean is drawn again with, > 0.
        generator: For the bootstrap.
        draws: How many fits besides the first.
        shared: Shape (draws, arms, k): what is added to the means of each draw besides, an error
            that arms and sizes have in common.
        rows: Shape (arms, k): what of ``errors`` comes from rows that judge every size; None: none.
    """

    def fit(data: Values) -> tuple[Values, Values, Values]:
        weight = (sizes / sizes[0]) ** -EXPONENTS[:, None]
        designs = np.stack([1 - weight, weight], axis=2)
        found, costs = _in_box(designs, data, 1 / errors, (0.0, 0.0), (1.0, 1.0))
        summed = np.sum(costs, axis=2)  # all arms have one exponent
        best = np.argmin(summed, axis=0)
        if len(sizes) < 3:
            best = generator.integers(len(EXPONENTS), size=len(data))
            if len(data) == 1:  # the fit itself
                best[:] = DECREED
        rows = np.arange(len(data))
        return found[best, rows], EXPONENTS[best], summed[best, rows]

    free = means.size - 2 * len(means) - 1
    common = None if rows is None else np.sqrt(SHARED) * rows
    return _with_draws(
        fit, sizes, means, errors, free, generator, draws, (0.0, 1.0), shared, common
    )


def fit_kl(
    sizes: Values, means: Values, errors: Values, generator: np.random.Generator, draws: int
) -> Fit:
    """Fit a power of n to every arm's KL; ``means`` and ``errors`` (> 0) are of ln KL."""

    def fit(data: Values) -> tuple[Values, Values, Values]:
        design = np.stack([np.ones(len(sizes)), np.log(sizes / sizes[0])], axis=1)
        found, costs = _in_box(
            design[None], data, 1 / errors, (-np.inf, SLOPES[0]), (np.inf, SLOPES[1])
        )
        return found[0], np.full(len(data), np.nan), np.sum(costs[0], axis=1)

    free = means.size - 2 * len(means)
    return _with_draws(fit, sizes, means, errors, free, generator, draws, (-np.inf, np.inf))


def _with_draws(  # type: ignore[no-untyped-def]
    fit, sizes, means, errors, free, generator, draws, limits, shared=None, common=None
):
    parameters, exponents, cost = fit(means[None])
    misfit = float(np.sqrt(cost[0] / free)) if free > 0 else None
    common = np.zeros_like(errors) if common is None else common
    own = np.sqrt(np.maximum(errors**2 - common**2, 0.0))
    noise = generator.standard_normal((draws, *means.shape)) * own
    noise += generator.standard_normal((draws, len(means), 1)) * common
    noise *= max(1.0, misfit or 0.0)
    more = fit(np.clip(means + noise + (0.0 if shared is None else shared), *limits))
    return Fit(
        np.concatenate([parameters, more[0]]),
        np.concatenate([exponents, more[1]]),
        float(sizes[0]),
        misfit,
    )


def _in_box(
    designs: Values,
    data: Values,
    weights: Values,
    low: tuple[float, float],
    high: tuple[float, float],
) -> tuple[Values, Values]:
    """Least squares in two parameters within a box, for many forms, draws and arms, exactly.

    The problem is convex: the optimum is the free one where it lies in the box, else on an edge.

    Args:
        designs: Shape (forms, k, 2).
        data: Shape (draws, arms, k).
        weights: Shape (arms, k).
        low: Least values of the two parameters.
        high: Largest.

    Returns:
        Parameters, shape (forms, draws, arms, 2), and weighted squared misfit, shape
        (forms, draws, arms).
    """
    x, y = designs[:, None] * weights[..., None], data * weights
    gram = np.einsum("faki,fakj->faij", x, x)
    right = np.einsum("dak,faki->fdai", y, x)

    def misfit(found: Values) -> Values:
        left = np.einsum("fdai,faki->fdak", found, x) - y
        return np.einsum("fdak,fdak->fda", left, left)

    free = np.einsum("fdai,faij->fdaj", right, np.linalg.pinv(gram, hermitian=True))
    inside = np.all((free >= low) & (free <= high), axis=-1)
    best = np.clip(free, low, high)
    least = misfit(best)
    for fixed, other in ((0, 1), (1, 0)):
        square, cross = gram[:, None, :, other, other], gram[:, None, :, other, fixed]
        for value in (low[fixed], high[fixed]):
            if not np.isfinite(value):
                continue
            edge = np.empty_like(free)
            edge[..., fixed] = value
            slope = (right[..., other] - cross * value) / np.where(square > 0, square, np.inf)
            edge[..., other] = np.clip(slope, low[other], high[other])
            cost = misfit(edge)
            better = ~inside & (cost < least)
            best = np.where(better[..., None], edge, best)
            least = np.where(better, cost, least)
    return best, least


def standard_error(risks: Values, within: Values) -> Values:
    """Return the standard error of seed means: spread over seeds, but no less than the rows' own.

    Args:
        risks: Shape (arms, k, seeds), NaN where a seed is missing.
        within: Shape (arms, k): mean standard error that one seed's rows give.
    """
    count = np.sum(~np.isnan(risks), axis=2)
    centred = risks - np.nanmean(risks, axis=2, keepdims=True)
    free = max(1.0, float(np.sum(np.maximum(count - 1, 0))))
    pooled = np.sqrt(np.nansum(centred**2) / free) if np.any(count > 1) else 0.0
    # the rows are the same for every seed, so their own error does not average out over seeds
    found: Values = np.sqrt(pooled**2 / count + within**2)
    return np.maximum(found, 1e-4)
