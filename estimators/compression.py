"""Compression bounds: a fine-tune that can be written down in few nats generalises.

A prefix-free code fixed in advance is a prior over what it can write; a predictor of code length
L nats has prior mass e^-L (Occam's bound: Langford 2005, Theorem 4.6; used for language models by
Lotfi et al. 2024). The code here: entries of each tensor quantised to an odd number of equal
steps, the symbols by the adaptive Krichevsky-Trofimov code, the step in 16 bits.
"""

from __future__ import annotations

import math

import torch

from estimators.bounds import LOSS, UNITS
from estimators.concentration import check_delta, kl_inverse_upper
from estimators.estimate import Estimate, Guarantee
from estimators.named_tensors import NamedTensors

REACH = 2.5  # standard deviations that the outermost step covers
STEP_BITS = 16
HALF_MAX = 65504.0  # the largest float16


def quantise(tensors: NamedTensors, levels: int) -> tuple[dict[str, torch.Tensor], float]:
    """Return the quantised tensors and the nats that write them down.

    Args:
        tensors: What is added to the prior's centre, by name; names and shapes are known to the
            reader of the code.
        levels: Odd number of steps, at least 3.

    Raises:
        ValueError: If ``levels`` is even or below 3.

    >>> q, nats = quantise({"w": torch.tensor([-1.0, 0.0, 0.0, 1.0])}, 3)
    >>> q["w"].unique().numel(), nats > 16 * math.log(2)
    (3, True)
    """
    if levels < 3 or levels % 2 == 0:
        raise ValueError(f"levels must be odd and at least 3, got {levels}")
    half = levels // 2
    nats, found = 0.0, {}
    for name, tensor in tensors.items():
        spread = float(tensor.double().square().mean().sqrt())
        # the step travels as a float16, so it must be one before it is used
        step = float(
            torch.tensor(min(REACH * spread / (half + 0.5), HALF_MAX), dtype=torch.float16)
        )
        step = max(step, 1e-7)
        symbols = (tensor.double() / step).round().clamp(-half, half)
        found[name] = (symbols * step).to(tensor.dtype)
        nats += STEP_BITS * math.log(2) + _krichevsky_trofimov(symbols.long() + half, levels)
    return found, nats


def compression_bound(empirical_risk: float, code_length: float, n: int, delta: float) -> Estimate:
    """Occam's bound: kl(R̂(h)‖R(h)) <= (L + ln(1/δ))/n, inverted upwards, for all codable h.

    Args:
        empirical_risk: Risk of the quantised predictor itself on the n units, in [0, 1].
        code_length: L in nats, every choice (as the number of levels) included.
        n: Independent units behind the risk.
        delta: Probability of failure.

    Raises:
        ValueError: If an argument is out of its range.

    >>> print(compression_bound(empirical_risk=0.31, code_length=500.0, n=4096, delta=0.05))
    0.5558 probability (upper: <= 0.5558 at 0.95; compression (Occam) bound at 500 nats)
    """
    check_delta(delta)
    if n < 1 or not code_length >= 0 or not 0 <= empirical_risk <= 1:
        raise ValueError(
            f"need n >= 1, a code length >= 0 and a risk in [0, 1], got {n}, {code_length}, "
            f"{empirical_risk}"
        )
    value = kl_inverse_upper(empirical_risk, (code_length + math.log(1 / delta)) / n)
    return Estimate(
        value,
        -math.inf,
        value,
        1 - delta,
        Guarantee.UPPER,
        f"compression (Occam) bound at {code_length:,.0f} nats",
        (LOSS, UNITS, "the code was fixed before the units were seen"),
        "probability",
    )


def _krichevsky_trofimov(symbols: torch.Tensor, levels: int) -> float:
    """Return -ln of the probability that the adaptive code gives the sequence."""
    counts = torch.bincount(symbols.flatten(), minlength=levels).double()
    total = float(counts.sum())
    seen = float(torch.lgamma(counts + 0.5).sum()) - levels * math.lgamma(0.5)
    return math.lgamma(total + levels / 2) - math.lgamma(levels / 2) - seen
