"""The claim of a certified draw: which δ it spends, and the bound that follows.

One place for both who writes a certificate and who recomputes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from estimators import (
    DiagonalGaussian,
    Estimate,
    Guarantee,
    Ledger,
    disintegrated,
    draw_delta,
    log_density_ratio_mixture,
    with_shift,
)
from pacbayes_sft.certified.draws import Numbered
from pacbayes_sft.certified.files import mixture

SHIFT_EVENT = "shift: limit from samples"
GRID = "the grid of prior scales was fixed before the rows were seen"
COUNTED = (
    "every draw made from a posterior fitted to these rows is counted beside the fine-tune, "
    "re-runs of the fine-tune on the same rows included"
)
SHIFT_NAMED = "the test rows and the shift term were named before any draw from this fine-tune"


@dataclass(frozen=True)
class Claim:
    """The bounds of one draw and what they cost.

    Attributes:
        ledger: The leaves: the shift term's, if it needs one, and this draw's.
        delta: The δ of this draw's event.
        on_train: Bound on the draw's risk under the train distribution.
        on_test: The same under the test distribution.
    """

    ledger: Ledger
    delta: float
    on_train: Estimate
    on_test: Estimate


def event_of(
    hashes: Mapping[str, str],
    rows_sha256: str,
    *,
    sigmas: tuple[float, ...],
    loss: str,
    seed: int,
    deployed: str,
    evaluated: str,
) -> dict[str, Any]:
    """Return all that the event of a draw depends on: Q, P, the rows, the predictor, the loss.

    Args:
        hashes: Hash of ``posterior``, ``prior``, ``adapter_config`` and ``base``, at least.
        rows_sha256: Hash of the certified rows and their units.
        sigmas: The grid of prior scales.
        loss: The loss.
        seed: The seed of the draw.
        deployed: Dtype of the adapter's file.
        evaluated: Dtype the base runs in.
    """
    return {
        "posterior": hashes["posterior"],
        "prior": hashes["prior"],
        "sigmas": list(sigmas),
        "adapter_config": hashes["adapter_config"],
        "base": hashes["base"],
        "rows": rows_sha256,
        "loss": loss,
        "seed": seed,
        "deployed": deployed,
        "evaluated": evaluated,
    }


def log_ratio(
    draw: Mapping[str, torch.Tensor],
    posterior: DiagonalGaussian,
    prior: DiagonalGaussian,
    sigmas: tuple[float, ...],
    assumptions: tuple[str, ...],
) -> Estimate:
    """Return ln(dQ/dP) in nats at the **unrounded** draw, P the equal mixture over all scales.

    The mixture replaces a union bound over the scales: it costs at most ln(number of scales).

    Raises:
        ValueError: If the draw and a Gaussian name different tensors.
    """
    return Estimate.exactly(
        log_density_ratio_mixture(draw, posterior, mixture(prior, sigmas)),
        method=f"ln q(θ) - ln((1/K)Σ p_k(θ)) at the unrounded draw, K = {len(sigmas)} scales",
        assumptions=(*assumptions, GRID),
        unit="nats",
    )


def claim(
    risk: float,
    ratio: Estimate,
    n: int,
    delta: float,
    shift: Estimate,
    shift_delta: float,
    number: Numbered,
) -> Claim:
    """Return the bounds of a draw (Rivasplata et al. 2020), carried to the test distribution.

    Args:
        risk: R̂_S of the deployed draw, by one deterministic pass.
        ratio: ln(dQ/dP) at the unrounded draw, in nats.
        n: Independent units behind the risk.
        delta: What the shift term and all draws from the fine-tune may spend together.
        shift: Upper limit on R_test - R_train.
        shift_delta: What that limit spends of it; 0 if nothing.
        number: Which draw this is.

    Raises:
        ValueError: If a number is out of its range.
    """
    ledger = Ledger(delta)
    if shift_delta > 0:
        ledger.spend(SHIFT_EVENT, shift_delta)
    k, declared = number.k, number.declared
    if k < 1 or (declared is not None and k > declared):
        raise ValueError(f"draw {k} of {declared or 'an undeclared number'}")
    paid = f"{declared} declared" if declared else "undeclared: 6/(π²k²) of what is left"
    left = ledger.share(1)
    share = ledger.spend(
        f"disintegrated PAC-Bayes-kl of draw {k} ({paid})",
        draw_delta(left, declared=declared) if declared else draw_delta(left, k=k),
    )
    on_train = disintegrated(risk, ratio, n, share)
    on_train = replace(on_train, assumptions=(*on_train.assumptions, COUNTED))
    on_test = with_shift(on_train, shift)
    on_test = replace(on_test, assumptions=(*on_test.assumptions, SHIFT_NAMED))
    return Claim(ledger, share, _for_all(on_train, delta), _for_all(on_test, delta))


def _for_all(bound: Estimate, delta: float) -> Estimate:
    """State a bound at 1 - δ: it holds for all counted draws at once, under one shift term."""
    claimed = bound.guarantee is Guarantee.UPPER
    return replace(bound, confidence=1 - delta if claimed else 0.0)
