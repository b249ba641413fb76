"""A finished fine-tune and the centre of its prior, as pairs of named tensors in one space.

Two spaces (design: two posteriors, so KL and risk are always taken in the same one):

* ``factors``: the LoRA factors A and B as stored. The prior is centred on the saved initial
  factors, or on zero in the balanced gauge when those are lost.
* ``weights``: the weight matrices that the fine-tune changed, A and B multiplied out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from estimators import balanced_factors, balanced_squared_norm, low_rank_squared_norm
from pacbayes_sft.checkpoints.files import ADAPTER, TensorFiles, open_checkpoint
from pacbayes_sft.checkpoints.lora import Adapter, check_base, is_adapter, read_adapter
from pacbayes_sft.checkpoints.precision import refuse_quantised
from pacbayes_sft.checkpoints.record import RECORD_DIR
from pacbayes_sft.checkpoints.streaming import squared_distances
from pacbayes_sft.choices import Space
from pacbayes_sft.errors import InputError


@dataclass(frozen=True)
class Pair:
    """Posterior mean and prior mean, tensor by tensor.

    Attributes:
        space: Where they live.
        posterior: Means of Q: the finished fine-tune (in the balanced gauge where it says so).
        prior: Means of P, same names and shapes.
        prior_source: What the prior is centred on, in words.
        assumptions: What must be true for that prior to be legal.
    """

    space: Space
    posterior: dict[str, torch.Tensor]
    prior: dict[str, torch.Tensor]
    prior_source: str
    assumptions: tuple[str, ...]

    @property
    def parameters(self) -> int:
        """Number of Gaussian entries."""
        return sum(t.numel() for t in self.posterior.values())

    @property
    def squared_distance(self) -> float:
        """‖μ_Q - μ_P‖² in float64."""
        return sum(
            float((t.double() - self.prior[name].double()).square().sum())
            for name, t in self.posterior.items()
        )


BASE_INDEPENDENT = (
    "the base model did not depend on the training rows (unknown unless its pre-training data "
    "are recorded)"
)
RECIPE_FIXED = "rank, alpha, targets, initialisation and loss were fixed before the rows were seen"
A_CENTRED_ON_ZERO = (
    "the initial A was not kept, so its prior is centred on zero, in the balanced gauge"
)


def factor_pair(adapter: Adapter, prior: str | Path) -> Pair:
    """Return the factors of the fine-tune and of its prior.

    Args:
        adapter: The finished adapter.
        prior: ``base`` (the saved initial factors if they were kept, else zero), ``initial``
            (they must have been kept) or the directory of an earlier adapter of the same run.

    Raises:
        InputError: If the prior asked for is not there or has other modules or shapes.
    """
    posterior = _factors(adapter)
    initial = adapter.directory / RECORD_DIR / "initial"
    if isinstance(prior, Path):
        centre = _factors(read_adapter(prior))
        _check_same_shapes(posterior, centre, prior)
        return Pair(
            Space.FACTORS,
            posterior,
            centre,
            "an earlier checkpoint",
            (BASE_INDEPENDENT, RECIPE_FIXED),
        )
    if initial_was_kept(adapter.directory):
        centre = dict(_initial_factors(initial))
        _check_same_shapes(posterior, centre, initial)
        return Pair(
            Space.FACTORS,
            posterior,
            centre,
            "the base and the saved initial factors",
            (BASE_INDEPENDENT, RECIPE_FIXED),
        )
    if prior == "initial":
        raise InputError(
            f"{initial}: the initial adapter was not kept; use --prior base, or fine-tune with "
            "`pacbayes-sft sft`, which keeps it"
        )
    balanced: dict[str, torch.Tensor] = {}
    for module, layer in adapter.layers.items():
        a, b = balanced_factors(layer.a.float(), layer.b.float())
        balanced[f"{module}.lora_A"], balanced[f"{module}.lora_B"] = a, b
    zero = {name: torch.zeros_like(t) for name, t in balanced.items()}
    return Pair(
        Space.FACTORS,
        balanced,
        zero,
        "the base and zero factors",
        (BASE_INDEPENDENT, RECIPE_FIXED, A_CENTRED_ON_ZERO),
    )


def initial_was_kept(finetuned: Path) -> bool:
    """Return whether the adapter before the first step was kept."""
    return (finetuned / RECORD_DIR / "initial" / ADAPTER).is_file()


def weight_pair(base: TensorFiles, finetuned: Path, prior: str | Path) -> Pair:
    """Return the changed weight matrices of the fine-tune (LoRA or full) and of its prior.

    Raises:
        InputError: If base, fine-tune or prior do not fit together.
    """
    posterior = dict(_dense_weights(base, finetuned))
    if isinstance(prior, Path):
        centre = dict(_dense_weights(base, prior))
        if centre.keys() != posterior.keys():
            raise InputError(f"{prior}: changes other tensors than {finetuned}")
        return Pair(
            Space.WEIGHTS,
            posterior,
            centre,
            "an earlier checkpoint",
            (BASE_INDEPENDENT, RECIPE_FIXED),
        )
    centre = {name: base.tensor(name).float() for name in posterior}
    return Pair(Space.WEIGHTS, posterior, centre, "the base", (BASE_INDEPENDENT, RECIPE_FIXED))


def squared_distance(base: TensorFiles, finetuned: Path, space: Space) -> tuple[float, int]:
    """Return ‖μ_Q - μ_P‖² and the number of entries, streamed: no dense product, no model.

    The prior is the base (``weights``), or the initial factors where they were kept and zero in
    the balanced gauge where they were not (``factors``).

    Raises:
        InputError: If the two do not fit, or factors are asked of a full checkpoint.
    """
    if is_adapter(finetuned):
        adapter = read_adapter(finetuned)
        check_base(adapter, base)
        if space is Space.FACTORS and not initial_was_kept(finetuned):
            factors = [(x.a, x.b) for x in adapter.layers.values()]
            return math.fsum(balanced_squared_norm(a, b) for a, b in factors), adapter.parameters
        if space is Space.FACTORS:
            pair = factor_pair(adapter, "base")
            return pair.squared_distance, pair.parameters
        layers = adapter.layers.values()
        distance = sum(low_rank_squared_norm(x.a, x.b, x.scaling) for x in layers)
        return distance, sum(x.b.shape[0] * x.a.shape[1] for x in layers)
    if space is Space.FACTORS:
        raise InputError(f"{finetuned}: a full checkpoint has no factors; use --space weights")
    tuned = open_checkpoint(finetuned)
    refuse_quantised(base.directory)
    names = same_tensors(base, tuned)
    parameters = sum(math.prod(tuned.shape_of[name]) for name in names)
    return math.fsum(squared_distances(base, tuned, names)), parameters


def _dense_weights(base: TensorFiles, finetuned: Path) -> Iterator[tuple[str, torch.Tensor]]:
    refuse_quantised(base.directory)
    if is_adapter(finetuned):
        adapter = read_adapter(finetuned)
        check_base(adapter, base)
        for layer in adapter.layers.values():
            start = base.tensor(layer.weight_name)
            yield layer.weight_name, (start.double() + layer.delta()).float()
    else:
        tuned = open_checkpoint(finetuned)
        same_tensors(base, tuned)
        for name, tensor in tuned:
            yield name, tensor.float()


def _factors(adapter: Adapter) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for module, layer in adapter.layers.items():
        found[f"{module}.lora_A"] = layer.a.float()
        found[f"{module}.lora_B"] = layer.b.float()
    return found


def _initial_factors(directory: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The saved initial factors lie beside no config; their names are those of the adapter."""
    for name, tensor in open_checkpoint(directory):
        module = name.removeprefix("base_model.model.").removesuffix(".weight")
        yield module, tensor.float()


def _check_same_shapes(
    posterior: dict[str, torch.Tensor], prior: dict[str, torch.Tensor], where: Path
) -> None:
    for name in sorted(posterior.keys() | prior.keys()):
        shapes = [tuple(d[name].shape) if name in d else None for d in (posterior, prior)]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"{where}: the prior does not fit the adapter: {name!r} has shape {shapes[1]} "
                f"there and {shapes[0]} in the adapter"
            )


def same_tensors(base: TensorFiles, tuned: TensorFiles) -> list[str]:
    """Return the names of two checkpoints' tensors, in the order of the fine-tune's files.

    Raises:
        InputError: If the two differ in names or shapes.
    """
    for name in sorted(base.shape_of.keys() | tuned.shape_of.keys()):
        shapes = base.shape_of.get(name), tuned.shape_of.get(name)
        if shapes[0] != shapes[1]:
            raise InputError(
                f"{tuned.directory}: not a fine-tune of {base.directory}: tensor {name!r} has "
                f"shape {shapes[1]} there and {shapes[0]} in the base"
            )
    return list(tuned.file_of)
