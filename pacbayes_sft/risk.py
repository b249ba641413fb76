"""Risk of a model on rows: per row, per unit, and as a number with its interval."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from estimators import Estimate, clopper_pearson, kl_interval
from pacbayes_sft.data.encode import Encoded
from pacbayes_sft.errors import InputError
from pacbayes_sft.losses import Score
from pacbayes_sft.progress import track

if TYPE_CHECKING:
    from pacbayes_sft.noise import Redraw

Losses = NDArray[np.float64]


@torch.no_grad()
def row_losses(
    model: torch.nn.Module,
    rows: Sequence[Encoded],
    score: Score,
    *,
    blocks: Sequence[Sequence[int]],
    redraw: Redraw | None = None,
    label: str = "risk",
) -> Losses:
    """Return the loss of every row, in the order given.

    Args:
        model: A causal language model, in evaluation mode.
        rows: Encoded rows.
        score: The loss of a batch: see `losses.scorer`.
        blocks: Indices of the rows of each forward pass: `by_length` or `consecutive`.
        redraw: Called with the batch size before each pass, to draw new noise.
        label: What the progress bar says.

    Returns:
        Shape (len(rows),), in [0, 1].
    """
    losses = np.full(len(rows), np.nan)
    for block in track(blocks, label):
        batch = list(block)
        if redraw is not None:
            redraw(len(batch))
        losses[batch] = score(model, [rows[i] for i in batch]).cpu().numpy()
    if np.isnan(losses).any():
        raise InputError(
            "a loss is not a number: the model's logits overflow, or a row was left out"
        )
    return losses


def by_length(rows: Sequence[Encoded], size: int) -> list[list[int]]:
    """Return row indices in batches of like length, to pad little.

    Sorted by length, then content: the batches, and with them the last bit of every logit, do
    not depend on the order in which the rows come.
    """
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].ids), rows[i].ids))
    return [order[i : i + size] for i in range(0, len(order), size)]


def consecutive(units: Sequence[str], size: int) -> list[list[int]]:
    """Return row indices in batches of whole units as they come: no row's content shaped them.

    Where one posterior draw serves a batch, batches must be independent of each other; sorted
    ones, or ones that cut a unit, are not. A batch holds about ``size`` rows.
    """
    members: dict[str, list[int]] = {}
    for i, unit in enumerate(units):
        members.setdefault(unit, []).append(i)
    whole = list(members.values())
    together = max(1, size // max(map(len, whole)))
    return [
        [i for unit in whole[k : k + together] for i in unit]
        for k in range(0, len(whole), together)
    ]


def unit_means(losses: Losses, units: Sequence[str]) -> Losses:
    """Average the losses of the rows of each unit; units in order of first mention.

    >>> unit_means(np.array([0.0, 1.0, 1.0]), ["a", "b", "a"]).tolist()
    [0.5, 1.0]
    """
    places: dict[str, int] = {}
    index = np.array([places.setdefault(unit, len(places)) for unit in units])
    return np.bincount(index, weights=losses) / np.bincount(index)


def risk_estimate(losses: Losses, delta: float, *, population: str) -> Estimate:
    """Return the mean of independent units' losses with its interval for the true risk.

    Clopper-Pearson if every loss is 0 or 1, kl-Chernoff otherwise.

    Args:
        losses: One loss per independent unit, in [0, 1].
        delta: Probability with which the two-sided interval may fail.
        population: The law that the units were drawn from, for the printed assumption.
    """
    if np.isin(losses, (0.0, 1.0)).all():
        interval = clopper_pearson(int(losses.sum()), len(losses), delta)
    else:
        interval = kl_interval(float(losses.mean()), len(losses), delta)
    return Estimate(
        interval.value,
        interval.lower,
        interval.upper,
        interval.confidence,
        interval.guarantee,
        f"mean loss of {len(losses)} units, {interval.method}",
        (f"the units are independent draws from {population}, and no fitting saw them",),
        "probability",
    )


def slice_risks(
    losses: Losses, units: Sequence[str], labels: Sequence[object], delta: float, *, population: str
) -> dict[str, Estimate]:
    """Return the risk on each slice of rows, smallest label first, each at its own 1 - delta.

    Labels that read alike are one slice (1 and "1"), and so are equal numbers (1 and 1.0).
    """
    return {
        name: risk_estimate(means, delta, population=f"{population}, slice {name}")
        for name, means in slice_means(losses, units, labels).items()
    }


def slice_means(
    losses: Losses, units: Sequence[str], labels: Sequence[object]
) -> dict[str, Losses]:
    """Return the mean losses of each slice's units, sliced as in `slice_risks`."""
    names: dict[tuple[bool, object], str] = {}
    members: dict[str, tuple[object, list[int]]] = {}
    for i, label in enumerate(labels):
        plain = label if isinstance(label, int | float | str) else json.dumps(label, sort_keys=True)
        name = names.setdefault((isinstance(plain, bool), plain), str(plain))
        members.setdefault(name, (plain, []))[1].append(i)
    return {
        name: unit_means(losses[here], [units[i] for i in here])
        for name, (_, here) in sorted(members.items(), key=lambda s: _slice_order(s[1][0]))
    }


def standard_error(losses: Losses) -> float:
    """Return the standard error of a mean of independent units' losses.

    One unit of loss 0 and one of loss 1 are counted with them, so that a few equal losses are no
    certainty (Agresti and Coull 1998 have two of each, for proportions).

    Args:
        losses: One loss per independent unit, in [0, 1].

    >>> round(standard_error(np.array([0.0, 1.0] * 50)), 3), round(standard_error(np.zeros(8)), 3)
    (0.05, 0.095)
    """
    return float(np.std([*losses, 0.0, 1.0]) / (len(losses) + 2) ** 0.5)


def _slice_order(label: object) -> tuple[bool, float, str]:
    if isinstance(label, int | float):
        return False, float(label), ""
    return True, 0.0, str(label)
