"""KL and running bound while a trainer trains: what `CertificateCallback` puts beside the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from estimators import SumOfSquares, kl_bound, kl_isotropic
from pacbayes_sft.checkpoints.files import TensorFiles


def running_figures(
    model: Any,
    priors: Mapping[str, tuple[TensorFiles, int]],
    *,
    error: float | None,
    sigma: float,
    delta: float,
) -> dict[str, float]:
    """Return what is logged, named as `CertificateCallback` says; none of it certifies anything.

    Args:
        model: The model as it is now.
        priors: By the ending of their names, the prior's weights and the units left to certify on.
        error: The batch's token error, where the trainer logs its accuracy.
        sigma: Standard deviation of prior and posterior.
        delta: Probability of failure.
    """
    found = {}
    for suffix, (files, n) in priors.items():
        distance = _distance(model, files)
        if distance is None or n == 0:
            continue
        # the scales are equal, so the number of entries does not matter
        kl = kl_isotropic(distance[0], distance[1], sigma, sigma)
        found[f"certificate_kl_nats{suffix}"] = kl.value
        found[f"certificate_least_bound{suffix}"] = kl_bound(0.0, kl, n, delta).value
        if error is not None:
            bound = kl_bound(min(max(error, 0.0), 1.0), kl, n, delta)
            found[f"certificate_bound_indication{suffix}"] = bound.value
    return found


def _distance(model: Any, files: TensorFiles) -> tuple[float, int] | None:
    """‖θ − θ₀‖² of what is trained and its entries; None if the files lack one of the tensors."""
    sums, terms, entries = SumOfSquares(), [], 0
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        stored = name.replace(".default.", ".")
        if files.shape_of.get(stored) != tuple(parameter.shape):
            return None
        terms.append(sums(parameter.detach().cpu(), files.view(stored)))
        entries += parameter.numel()
    total = math.fsum(terms)
    return (total, entries) if math.isfinite(total) else None
