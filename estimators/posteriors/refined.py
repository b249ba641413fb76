"""The refined posterior: start at the fine-tuned weights and minimise the bound itself.

    minimise over μ and σ:   E_ε ℓ̃(μ + σε)  +  √((KL(N(μ, σ²)‖P) + ln(2√n/δ)) / 2n)

or, with a price λ of a nat given, E_ε ℓ̃(μ + σε) + λ·KL, by stochastic gradients through
reparameterised noise ε (Dziugaite & Roy 2017; Pérez-Ortiz et al. 2021, here from finished weights
instead of from the prior, or from the prior where that promises more). One σ a tensor, the mean
free or held within a radius of where it began. ℓ̃ is a differentiable stand-in for the loss of the
bound.

Q may depend on the sample in any way, so nothing done here costs confidence. What it asks for in
return: Q is frozen when `fit` returns, and its risk is taken with noise that was not used here.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from estimators.concentration import check_delta
from estimators.gaussian import DiagonalGaussian, kl_divergence, kl_nats, typical_scale

Tensors = Mapping[str, torch.Tensor]
Surrogate = Callable[[Tensors, Tensors, int], torch.Tensor]

SAVE_EVERY = 50
WARM_UP = 20
KEPT = ("key", "about", "step", "seconds", "optimizer", "mean", "log_scale")
ELSE = "holds a fit of something else that was not taken to its end; remove it"


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to refine.

    Attributes:
        steps: Optimiser steps.
        mean_rate: Peak learning rate (Adam) of the means, in units of the prior's scale.
        scale_rate: Peak learning rate of the log σ's.
        radius: Largest distance of the mean from where it began, in the norm of the weights; None
            leaves it free, 0 fits the σ's alone.
        time_budget: Seconds after which the fit stops, the rates decayed to meet it; None: never.

    Raises:
        ValueError: If a number is out of its range.
    """

    steps: int = 400
    mean_rate: float = 0.05
    scale_rate: float = 0.02
    radius: float | None = None
    time_budget: float | None = None

    def __post_init__(self) -> None:
        """Refuse schedules that mean nothing."""
        if self.steps < 1:
            raise ValueError(f"a fit needs at least one step, got {self.steps}")
        for name in ("mean_rate", "scale_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("radius", "time_budget"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must be >= 0, got {value}")


def fit(
    start: DiagonalGaussian,
    prior: DiagonalGaussian,
    surrogate: Surrogate,
    *,
    n: int,
    delta: float,
    schedule: Schedule | None = None,
    price: float | None = None,
    state_file: Path | None = None,
    about: str = "",
    progress: Callable[[range], Iterable[int]] = iter,
) -> DiagonalGaussian:
    """Return the Gaussian near ``start`` with a small bound; its σ is one number a tensor.

    Half-precision means come back in float32, so that draws around them are not rounded.

    Args:
        start: Where to begin: the finished weights, with a σ for each tensor.
        prior: P, over the same names and shapes.
        surrogate: ``surrogate(mean, scale, step)``: a differentiable estimate of E_Q ℓ̃, in [0, 1],
            from fresh noise; its batch and noise must depend on ``step`` alone.
        n: Independent units behind the risk.
        delta: Probability of failure of the bound that is minimised.
        schedule: See `Schedule`.
        price: What a nat of KL costs, where another bound than McAllester's is to be small: of the
            recursive one it is 1/(n·x) at the bet x. None: McAllester's root.
        state_file: Where to keep what an interrupted fit goes on from. A fit that was interrupted
            ends where an uninterrupted one does, bit for bit, unless a time budget cut it. The last
            state stays, so that a fit called again returns at once: remove the file when what was
            fitted is safe.
        about: Identifies the surrogate (sample, loss, seed), into which the state file cannot see.
        progress: Wraps the steps, to show a bar.

    Raises:
        ValueError: If ``start`` and ``prior`` differ in names or shapes, n < 1, ``state_file``
            holds another fit or is damaged, or the objective or its gradient stops being a number.
    """
    check_delta(delta)
    if n < 1:
        raise ValueError(f"a bound needs n >= 1 units, got {n}")
    if price is not None and not 0 < price < math.inf:
        raise ValueError(f"the price of a nat must be positive and finite, got {price}")
    kl_divergence(start, prior)  # refuses names and shapes that differ
    schedule = schedule or Schedule()
    unit = typical_scale(prior)
    mean = {name: _own(t).requires_grad_() for name, t in start.mean.items()}
    log_scale = {
        name: torch.as_tensor(s, dtype=torch.float64).log().mean().requires_grad_()
        for name, s in start.scale.items()
    }
    rates = [schedule.mean_rate * unit, schedule.scale_rate]
    names = sorted(mean)  # Adam's state goes by position, and a resumed fit may list other ways
    optimizer = torch.optim.Adam(
        [
            {"params": [mean[name] for name in names], "lr": rates[0]},
            {"params": [log_scale[name] for name in names], "lr": rates[1]},
        ],
        betas=(0.9, 0.99),
    )
    key = _fingerprint(start, prior, n, delta, schedule, price, about)
    first, spent = _resume(state_file, key, mean, log_scale, optimizer)
    epsilon = math.log(2 * math.sqrt(n) / delta)
    kept = done = first
    began = time.monotonic() - spent
    for step in progress(range(first, schedule.steps)):
        elapsed = _share_spent(time.monotonic() - began, schedule.time_budget)
        if elapsed >= 1:
            break
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * _decay(step, max(step / schedule.steps, elapsed))
        scale = {name: s.exp() for name, s in log_scale.items()}
        risk = surrogate(mean, scale, step)
        kl = kl_nats(mean, scale, prior)
        charge = ((kl + epsilon) / (2 * n)).sqrt() if price is None else price * kl
        objective = risk + charge
        if not bool(torch.isfinite(objective)):
            raise ValueError(f"the bound is not a number at step {step}: lower the learning rates")
        optimizer.zero_grad()
        objective.backward()  # type: ignore[no-untyped-call]
        _check_gradients([*mean.values(), *log_scale.values()], step)
        optimizer.step()
        if schedule.radius is not None:
            _project(mean, start.mean, schedule.radius)
        done = step + 1
        if state_file is not None and done % SAVE_EVERY == 0:
            spent, kept = time.monotonic() - began, done
            _save(state_file, key, about, mean, log_scale, optimizer, done, spent)
    if state_file is not None and done > kept:
        spent = time.monotonic() - began
        _save(state_file, key, about, mean, log_scale, optimizer, done, spent)
    return DiagonalGaussian(
        {name: t.detach() for name, t in mean.items()},
        {name: float(s.detach().exp()) for name, s in log_scale.items()},
    )


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """Copy a mean, in float32 at least: steps of a hundredth of σ vanish in half precision."""
    wide = torch.promote_types(tensor.dtype, torch.float32)
    return tensor.detach().to(wide, copy=True)


def _decay(step: int, share: float) -> float:
    """Linear warm-up, then a cosine down to 2 %."""
    return min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.49 * (1 + math.cos(math.pi * share)))


def _share_spent(seconds: float, budget: float | None) -> float:
    if budget is None:
        return 0.0
    return seconds / budget if budget > 0 else 1.0


def _check_gradients(parameters: Iterable[torch.Tensor], step: int) -> None:
    """Refuse a gradient that is not a number before it enters the weights and the saved state."""
    for parameter in parameters:
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            raise ValueError(f"the gradient is not a number at step {step}")


@torch.no_grad()
def _project(mean: Tensors, centre: Tensors, radius: float) -> None:
    distance = math.sqrt(
        sum(float((t - centre[k]).double().square().sum()) for k, t in mean.items())
    )
    if distance > radius:
        for name, t in mean.items():
            t.copy_(centre[name] + (t - centre[name]) * (radius / distance))


def _fingerprint(
    start: DiagonalGaussian,
    prior: DiagonalGaussian,
    n: int,
    delta: float,
    schedule: Schedule,
    price: float | None,
    about: str,
) -> str:
    digest = hashlib.sha256(json.dumps([n, delta, asdict(schedule), price, about]).encode())
    for gaussian in (start, prior):
        for name in sorted(gaussian.mean):
            digest.update(name.encode())
            for tensor in (gaussian.mean[name], torch.as_tensor(gaussian.scale[name])):
                digest.update(tensor.detach().cpu().double().numpy().tobytes())
    return digest.hexdigest()


def _resume(
    file: Path | None, key: str, mean: Tensors, log_scale: Tensors, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Fill in what an interrupted fit left; return the step to go on with and the seconds spent."""
    if file is None or not file.exists():
        return 0, 0.0
    state = _load(file)
    if state["key"] != key:
        raise ValueError(f"{file}: {ELSE}")
    with torch.no_grad():
        for name, tensor in mean.items():
            tensor.copy_(state["mean"][name])
        for name, tensor in log_scale.items():
            tensor.copy_(state["log_scale"][name])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), float(state["seconds"])


def check_state(file: Path | None, about: str) -> None:
    """Refuse a state file that `fit` would refuse, as far as ``about`` tells; no file passes.

    Raises:
        ValueError: If it holds the fit of another surrogate, or is damaged.
    """
    if file is not None and file.exists() and _load(file)["about"] != about:
        raise ValueError(f"{file}: {ELSE}")


def _load(file: Path) -> dict[str, Any]:
    try:
        state = torch.load(file, weights_only=True, map_location="cpu")
        return {name: state[name] for name in KEPT}
    except Exception:  # a cut archive, another pickle, a list: torch has an error for each
        raise ValueError(
            f"{file}: damaged, or not the state of a fit; remove it to begin anew"
        ) from None


def _save(
    file: Path,
    key: str,
    about: str,
    mean: Tensors,
    log_scale: Tensors,
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".tmp")
    state = (key, about, step, seconds, optimizer.state_dict(), dict(mean), dict(log_scale))
    torch.save(dict(zip(KEPT, state, strict=True)), partial)
    partial.replace(file)
