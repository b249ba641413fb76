"""Where a fine-tune moved: its squared distance tensor by tensor, by layer and by kind of module.

The distance is that of the KL (in ``factors`` space: of a matrix's two factors together), the
relative change always that of the weights, ‖ΔW‖/‖W₀‖. With one σ the KL is ‖Δ‖²/2σ², so a part's
share of the distance is its share of the KL.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estimators import balanced_squared_norm, low_rank_squared_norm, squared_distance
from pacbayes_sft.checkpoints.adapter_files import is_adapter
from pacbayes_sft.checkpoints.base_weights import BaseWeights
from pacbayes_sft.checkpoints.files import TensorFiles
from pacbayes_sft.checkpoints.finetune import factor_pair, initial_was_kept, weight_changes
from pacbayes_sft.checkpoints.lora import Adapter, check_base, read_adapter
from pacbayes_sft.checkpoints.precision import quantisation
from pacbayes_sft.checkpoints.streaming import squared_norms
from pacbayes_sft.choices import By, Space
from pacbayes_sft.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.(.+)$")
_EXPERT = re.compile(r"\.\d+(?=\.)")


@dataclass(frozen=True)
class Moved:
    """How far one tensor, one layer or one kind of module moved.

    Attributes:
        name: Which.
        layer: Number of its layer; None outside of the layers, and of a module in all of them.
        module: Kind of module, such as ``q_proj``; None of a whole layer.
        matrix: Whether it has two dimensions or more (a norm's gain has one).
        parameters: Its Gaussian entries.
        squared_distance: Its part of ‖μ_Q - μ_P‖².
        weight_change: ‖ΔW‖² of the weights.
        base_norm: ‖W₀‖² of the base's weights; NaN where they are stored as codes.
    """

    name: str
    layer: int | None
    module: str | None
    matrix: bool
    parameters: int
    squared_distance: float
    weight_change: float
    base_norm: float

    @property
    def relative_change(self) -> float:
        """‖ΔW‖/‖W₀‖; NaN where ‖W₀‖ is unknown or zero."""
        return math.sqrt(self.weight_change / self.base_norm) if self.base_norm else math.nan


@dataclass(frozen=True)
class Breakdown:
    """A fine-tune's squared distance, part by part.

    Attributes:
        tensors: One entry a tensor (a LoRA's: a matrix it changes), in the order of the model.
        sigma: Scale of prior and posterior.
    """

    tensors: tuple[Moved, ...]
    sigma: float

    @property
    def squared_distance(self) -> float:
        """‖μ_Q - μ_P‖² of all parts."""
        return math.fsum(t.squared_distance for t in self.tensors)

    @property
    def parameters(self) -> int:
        """Gaussian entries of all parts."""
        return sum(t.parameters for t in self.tensors)

    def by(self, grouping: By) -> tuple[Moved, ...]:
        """Return the parts: tensors, layers (and each tensor outside of them), or modules."""
        if grouping is By.TENSOR:
            return self.tensors
        groups: dict[str, list[Moved]] = {}
        for t in self.tensors:
            outside = t.layer is None or grouping is By.MODULE
            groups.setdefault(str(t.module) if outside else f"layer {t.layer}", []).append(t)
        return tuple(_together(name, parts, grouping) for name, parts in groups.items())

    def frame(self, grouping: By = By.TENSOR) -> pd.DataFrame:
        """Return the parts as a tidy frame, one row a part; the shares add up to one."""
        import pandas as pd

        return pd.DataFrame(self.records(grouping))

    def records(self, grouping: By) -> list[dict[str, Any]]:
        """Return the parts as JSON-ready objects; what is unknown is None."""
        whole = self.squared_distance
        return [
            {
                "name": part.name,
                "layer": part.layer,
                "module": part.module,
                "parameters": part.parameters,
                "squared_distance": part.squared_distance,
                "relative_change": None
                if math.isnan(part.relative_change)
                else part.relative_change,
                "share": part.squared_distance / whole if whole else 0.0,
                "kl_nats": part.squared_distance / (2 * self.sigma**2),
            }
            for part in self.by(grouping)
        ]


def break_down(base: TensorFiles, finetuned: Path, space: Space, sigma: float) -> Breakdown:
    """Return where a fine-tune moved, streamed from the files.

    Raises:
        InputError: If the two do not fit, or factors are asked of a full checkpoint.
    """
    if space is Space.WEIGHTS:
        parts = _of_weights(base, finetuned)
    elif is_adapter(finetuned):
        adapter = read_adapter(finetuned)
        check_base(adapter, base)
        parts = _of_factors(base, adapter)
    else:
        raise InputError(f"{finetuned}: a full checkpoint has no factors; use --space weights")
    return Breakdown(tuple(sorted(_with_kinds(parts), key=_place)), sigma)


def _of_weights(base: TensorFiles, finetuned: Path) -> list[Moved]:
    """Every tensor that the fine-tune changes."""
    changes = weight_changes(base, finetuned)
    whole = {name: t.base.name for name, t in changes.tensors.items() if t.base.as_stored}
    known = not quantisation(base.directory)
    norms = (
        dict(zip(whole, squared_norms(base, list(whole.values())), strict=True)) if known else {}
    )
    return [
        _moved(name, t.shape, t.parameters, distance, distance, norms.get(name, math.nan))
        for (name, t), distance in zip(
            changes.tensors.items(), changes.squared_distances().values(), strict=True
        )
    ]


def _of_factors(base: TensorFiles, adapter: Adapter) -> list[Moved]:
    """The matrices that a LoRA changes; BA is never formed."""
    layers = adapter.layers
    norms = [math.nan] * len(layers)
    if not quantisation(base.directory):
        weights = BaseWeights(base)
        stored = [weights.find(layer.weight_name) for layer in layers.values()]
        norms = squared_norms(base, [found.name for found in stored if found is not None])
    distance_of = _factor_distances(adapter)
    parts = []
    for (module, layer), norm in zip(layers.items(), norms, strict=True):
        change = low_rank_squared_norm(layer.a, layer.b, layer.scaling)
        entries, distance = layer.a.numel() + layer.b.numel(), distance_of[module]
        parts.append(_moved(layer.weight_name, (1, 1), entries, distance, change, norm))
    return parts


def _factor_distances(adapter: Adapter) -> dict[str, float]:
    """‖A−A₀‖²+‖B‖² of each matrix, or in the balanced gauge around 0 where A₀ was not kept."""
    if not initial_was_kept(adapter.directory):
        return {m: balanced_squared_norm(x.a, x.b) for m, x in adapter.layers.items()}
    pair = factor_pair(adapter, "initial")
    found = {}
    for module in adapter.layers:
        names = f"{module}.lora_A", f"{module}.lora_B"
        found[module] = math.fsum(squared_distance(pair.posterior[n], pair.prior[n]) for n in names)
    return found


def _moved(
    name: str, shape: tuple[int, ...], entries: int, distance: float, change: float, norm: float
) -> Moved:
    match = _LAYER.search(name)
    layer, path = (int(match[1]), match[2]) if match else (None, name)
    path = _EXPERT.sub("", path)  # the experts of a mixture are one kind of module
    return Moved(name, layer, path, len(shape) > 1, entries, distance, change, norm)


def _with_kinds(parts: list[Moved]) -> Iterable[Moved]:
    """Shorten module paths to their last part, or as many parts as tell them apart."""
    paths = {
        (part.layer is None, str(part.module)): re.sub(r"\.(weight|bias)$", "", str(part.module))
        for part in parts
    }
    inside = [set() if outside else {path} for (outside, _), path in paths.items()]
    ends = Counter(path.rpartition(".")[2] for path in set().union(*inside))
    for part in parts:
        path = paths[part.layer is None, str(part.module)]
        last = path.rpartition(".")[2]
        clear = part.layer is None or ends[last] == 1
        yield replace(part, module=last if clear else ".".join(path.split(".")[-2:]))


def _place(part: Moved) -> tuple[int, int]:
    """The order of the model: embeddings, layers by number, the last norm and the head."""
    if part.layer is not None:
        return 1, part.layer
    return (0 if re.search(r"emb|wte|wpe", str(part.module)) else 2), 0


def _together(name: str, parts: list[Moved], grouping: By) -> Moved:
    one = len(parts) == 1
    return Moved(
        name,
        parts[0].layer if one or grouping is By.LAYER else None,
        None if grouping is By.LAYER and parts[0].layer is not None else parts[0].module,
        any(p.matrix for p in parts),
        sum(p.parameters for p in parts),
        math.fsum(p.squared_distance for p in parts),
        math.fsum(p.weight_change for p in parts),
        math.fsum(p.base_norm for p in parts),
    )
