"""A finished fine-tune and the centre of its prior, as pairs of named tensors in one space.

Two spaces (design: two posteriors, so KL and risk are always taken in the same one):

* ``factors``: the LoRA factors A and B as stored. The prior is centred on the saved initial
  factors, or on zero in the balanced gauge when those are lost.
* ``weights``: the weight matrices that the fine-tune changed, A and B multiplied out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from estimators import balanced_factors, balanced_squared_norm
from pacbayes_sft.checkpoints.adapter_files import is_adapter
from pacbayes_sft.checkpoints.adapter_weights import adapter_changes
from pacbayes_sft.checkpoints.changes import Changes
from pacbayes_sft.checkpoints.files import ADAPTER, TensorFiles, open_checkpoint
from pacbayes_sft.checkpoints.full_weights import full_changes
from pacbayes_sft.checkpoints.lora import (
    Adapter,
    adds_nothing,
    begins_at_nothing,
    check_base,
    read_adapter,
)
from pacbayes_sft.checkpoints.peft_config import CONFIG
from pacbayes_sft.checkpoints.precision import quantisation, refuse_quantised
from pacbayes_sft.checkpoints.record import RECORD_DIR
from pacbayes_sft.choices import Space
from pacbayes_sft.errors import InputError
from pacbayes_sft.reading import read_json


@dataclass(frozen=True)
class Pair:
    """Posterior mean and prior mean, tensor by tensor.

    Attributes:
        space: Where they live.
        posterior: Means of Q: the finished fine-tune (in the balanced gauge where it says so).
        prior: Means of P, same names and shapes.
        prior_source: What the prior is centred on, in words.
        assumptions: What must be true for that prior to be legal.
        untied: Heads that the base ties to its embedding and the fine-tune does not.
        tied: Heads that are one tensor with the embedding, and not listed apart from it.
        notes: What was decided on the way, in words.
    """

    space: Space
    posterior: dict[str, torch.Tensor]
    prior: dict[str, torch.Tensor]
    prior_source: str
    assumptions: tuple[str, ...]
    untied: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

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


_ONE_EXPERT = re.compile(r"\.experts\.\d+\.")
BASE_INDEPENDENT = (
    "the base model did not depend on the training rows (unknown unless its pre-training data "
    "are recorded)"
)
RECIPE_FIXED = "rank, alpha, targets, initialisation and loss were fixed before the rows were seen"
NOT_TRAINED_BEFORE = (
    "the adapter had not been trained before this run: its initialisation adds to the base, so its "
    "factors cannot tell"
)
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
    legal = (BASE_INDEPENDENT, RECIPE_FIXED, *_untold(adapter.config))
    if isinstance(prior, Path):
        centre = _factors(read_adapter(prior))
        _check_same_shapes(posterior, centre, prior)
        return Pair(
            Space.FACTORS,
            posterior,
            centre,
            "an earlier checkpoint",
            legal,
        )
    if initial_was_kept(adapter.directory):
        centre = dict(_initial_factors(initial))
        _check_same_shapes(posterior, centre, initial)
        _refuse_trained(centre, adapter, initial)
        return Pair(
            Space.FACTORS,
            posterior,
            centre,
            "the base and the saved initial factors",
            legal,
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
    """Return the changed weight tensors of the fine-tune (adapter or full) and of its prior.

    Raises:
        InputError: If base, fine-tune or prior do not fit together, or the fine-tune is no model
            that the base's own architecture and tokenizer can run.
    """
    refuse_quantised(base.directory)
    if prior == "initial":
        raise InputError(
            f"{finetuned}: --prior initial means the initial factors of a LoRA; in weights space "
            "use --prior base, or --space factors"
        )
    changes = weight_changes(base, finetuned)
    refuse_other_models(changes, finetuned)
    posterior = {name: change.dense() for name, change in changes.tensors.items()}
    legal: tuple[str, ...] = (BASE_INDEPENDENT, RECIPE_FIXED)
    if isinstance(prior, Path):
        if is_adapter(prior):
            legal = (*legal, *_untold(read_json(prior / CONFIG)))
        earlier = weight_changes(base, prior)
        if earlier.tensors.keys() != posterior.keys() or earlier.untied != changes.untied:
            raise InputError(f"{prior}: changes other tensors than {finetuned}")
        centre = {name: change.dense() for name, change in earlier.tensors.items()}
        source = "an earlier checkpoint"
    else:
        centre = {name: change.base.whole().float() for name, change in changes.tensors.items()}
        source = "the base"
    return Pair(
        Space.WEIGHTS,
        posterior,
        centre,
        source,
        legal,
        changes.untied,
        changes.tied,
        changes.notes,
    )


def weight_changes(base: TensorFiles, finetuned: Path) -> Changes:
    """Return what a fine-tune, adapter or full checkpoint, makes of each tensor of its base.

    Raises:
        InputError: If the two do not fit, or the fine-tune cannot be read rightly.
    """
    if is_adapter(finetuned):
        return adapter_changes(base, finetuned)
    return full_changes(base, finetuned)


def check_evaluable(base: TensorFiles, finetuned: Path) -> None:
    """Refuse a full checkpoint that is none of this base: of another shape, or codes unannounced.

    What does not fit in an adapter shows when it is loaded (`models.load_model`), and what is
    announced as quantised is left to the library that made it.

    Raises:
        InputError: If a tensor of one has no counterpart in the other.
    """
    if not (is_adapter(finetuned) or quantisation(base.directory) or quantisation(finetuned)):
        for change in full_changes(base, finetuned).tensors.values():
            if change.copy is not None and change.copy.shape:
                change.copy.rows(0, 1)  # refuses codes


def squared_distance(base: TensorFiles, finetuned: Path, space: Space) -> tuple[float, int]:
    """Return ‖μ_Q - μ_P‖² and the number of entries, streamed: no dense product, no model.

    The prior is the base (``weights``), or the initial factors where they were kept and zero in
    the balanced gauge where they were not (``factors``).

    Raises:
        InputError: If the two do not fit, or factors are asked of a full checkpoint.
    """
    if Space(space) is Space.WEIGHTS:
        changes = weight_changes(base, finetuned)
        return changes.squared_distance(), changes.parameters
    if not is_adapter(finetuned):
        raise InputError(f"{finetuned}: a full checkpoint has no factors; use --space weights")
    adapter = read_adapter(finetuned)
    check_base(adapter, base)
    if not initial_was_kept(finetuned):
        factors = [(x.a, x.b) for x in adapter.layers.values()]
        return math.fsum(balanced_squared_norm(a, b) for a, b in factors), adapter.parameters
    pair = factor_pair(adapter, "base")
    return pair.squared_distance, pair.parameters


def refuse_other_models(changes: Changes, finetuned: Path) -> None:
    """Refuse a fine-tune that the base's own architecture and tokenizer cannot run.

    Raises:
        InputError: If its vocabulary was resized, its layers replicated, or its weights are
            divided otherwise than in the loaded model.
    """
    if changes.resized:
        raise InputError(
            f"{finetuned}: {changes.resized[0]!r} has another number of rows than in the base, "
            "whose tokenizer the rows are encoded with; only `kl` can be computed for it"
        )
    if any(_ONE_EXPERT.search(name) for name in changes.tensors):
        raise InputError(
            f"{finetuned}: its experts lie one by one, and the loaded model holds them fused; only "
            "`kl` can be computed for it"
        )
    added = [name for name, c in changes.tensors.items() if c.base.zero and c.copy is None]
    if added:
        raise InputError(
            f"{finetuned}: adds {added[0]!r}, for which the loaded base has no place; only `kl` "
            "can be computed for it in --space weights"
        )
    if changes.replicated:
        raise InputError(
            f"{finetuned}: layer_replication makes another model of the base, which is not built "
            "here; only `kl` can be computed for it"
        )


def _untold(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What must be assumed of an adapter that is not 0 before its first step."""
    zero = begins_at_nothing(config.get("init_lora_weights", True))
    return () if zero else (NOT_TRAINED_BEFORE,)


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


def _refuse_trained(centre: dict[str, torch.Tensor], adapter: Adapter, where: Path) -> None:
    """Refuse "initial" factors that change the base: rows that nobody recorded taught them that."""
    if not begins_at_nothing(adapter.config.get("init_lora_weights", True)):
        return
    for module in adapter.layers:
        if not adds_nothing(centre[f"{module}.lora_A"], centre[f"{module}.lora_B"]):
            raise InputError(
                f"{where / ADAPTER}: {module!r} changes the base before the first step, so these "
                "factors had been trained before that run, on rows that are not on record; remove "
                f"{where} for a prior centred on zero"
            )


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
