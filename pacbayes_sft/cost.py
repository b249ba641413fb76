"""What a bound costs, counted in rows through the model before any goes through it."""

from __future__ import annotations

import time
from math import prod

import torch

from pacbayes_sft.baselines import LEVELS
from pacbayes_sft.baselines import PILOT_UNITS as CODE_PILOT_UNITS
from pacbayes_sft.choices import Posterior, PriorShape, Space, Start
from pacbayes_sft.curvature import CURVATURE_ROWS
from pacbayes_sft.empirical import PILOT_UNITS as SPLIT_UNITS
from pacbayes_sft.inputs import Inputs
from pacbayes_sft.options import Options
from pacbayes_sft.posteriors import (
    CURVED,
    DUEL_UNITS,
    PILOT_UNITS,
    PLACES,
    RACE_SHARE,
    RACE_UNITS,
    TEMPERATURES,
    race_scales,
)

SIDE_ON_CPU, SIDE = 1024, 4096  # of the matrix that times a product
LONG_ENOUGH = 1.0  # seconds of products


def rows_through_model(inputs: Inputs, options: Options) -> tuple[int, int]:
    """Return rows through the model (forwards alone, forwards and backwards).

    The passes of `certify.bound`, counted from the constants it uses itself.
    """
    certified, test = len(inputs.certified.rows), len(inputs.test.rows)
    heldout = len(inputs.heldout.rows) if inputs.heldout else 0
    rows_a_unit = certified / inputs.n

    def pilot(units: int) -> int:
        return round(min(units, inputs.n) * rows_a_unit)

    every = options.units is None
    looked_at = certified if options.units is None else pilot(options.units)
    evaluated = looked_at + test  # the finished model
    evaluated += looked_at * options.draws + test + heldout  # the Gibbs predictor
    if every and options.draws > 1 and inputs.pair.space is Space.FACTORS:
        evaluated += 2 * pilot(SPLIT_UNITS)  # does split-kl pay?
    if options.profile is not None and inputs.pair.space is Space.FACTORS:
        # at most: held-out rows that are labelled rows too are left out
        evaluated += heldout + (len(inputs.labelled.rows) if inputs.labelled else 0)
    if options.baselines:
        evaluated += certified + len(LEVELS) * pilot(CODE_PILOT_UNITS)  # the quantised fine-tune
    if every or options.baselines:
        evaluated += certified  # the prior's centre
    shaped = options.prior_shape is PriorShape.CURVATURE
    curved = min(CURVATURE_ROWS, certified) if shaped else 0
    if options.posterior in CURVED:  # at most: the search may stop early
        evaluated += len(options.prior_scales) * len(TEMPERATURES) * pilot(PILOT_UNITS)
        return evaluated, curved + min(CURVATURE_ROWS, certified)
    if options.posterior is Posterior.INTERPOLATED:  # at most, as there
        evaluated += len(options.prior_scales) * len(PLACES) * pilot(PILOT_UNITS)
        return evaluated, curved
    if len(options.prior_scales) > 1:
        evaluated += len(options.prior_scales) * pilot(PILOT_UNITS)
    if options.posterior is Posterior.AUTO:
        evaluated += 2 * pilot(DUEL_UNITS)
    refinement = options.refinement
    if options.posterior is Posterior.ISOTROPIC:
        return evaluated, curved
    steps = refinement.schedule.steps
    runners = race_scales(options.prior_scales, steps)
    if refinement.start is not Start.PRIOR:
        evaluated += runners * pilot(RACE_UNITS)
        steps += runners * (steps // RACE_SHARE)
    if refinement.start is not Start.FINISHED:
        evaluated += len(options.prior_scales) * pilot(RACE_UNITS)
        # at most: where the finished weights win, the last three are not made
        evaluated += pilot(RACE_UNITS) + 2 * pilot(DUEL_UNITS)
        if refinement.start is Start.AUTO and not runners:
            evaluated += pilot(RACE_UNITS)
    return evaluated, curved + steps * min(refinement.batch_size, certified)


def operations(
    weights: int, tokens: float, evaluated: int, refined: int, *, all_trained: bool
) -> float:
    """Estimate the floating-point operations of so many rows of so many tokens, in products alone.

    Two a weight and token forwards; backwards two more for the activations, and two for the
    weights where these are all trained. Attention over the length is left out, as are padding,
    the low-rank factors and the draws of the noise.
    """
    backwards = 4 if all_trained else 2
    return weights * tokens * (2 * (evaluated + refined) + backwards * refined)


def matrix_weights(shapes: dict[str, tuple[int, ...]]) -> int:
    """Return how many weights of a checkpoint lie in matrices.

    An embedding counts: it is mostly the head as well.
    """
    return sum(prod(shape) for shape in shapes.values() if len(shape) > 1)


def operations_a_second(device: str, dtype: str) -> float:
    """Measure how many operations a second this machine gets out of one large matrix product."""
    kind = torch.bfloat16 if dtype == "autocast" else getattr(torch, dtype)
    side = SIDE_ON_CPU if torch.device(device).type == "cpu" else SIDE
    left, right = (torch.rand(side, side, device=device).to(kind) for _ in range(2))
    best, spent = float("inf"), 0.0
    for _ in range(3):
        start = time.perf_counter()
        (left @ right)[0, 0].item()  # waits for the device
        took = time.perf_counter() - start
        best, spent = min(best, took), spent + took
        if spent > LONG_ENOUGH:  # a dtype that the processor only emulates
            break
    return 2 * side**3 / best
