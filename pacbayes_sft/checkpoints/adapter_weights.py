"""From the files of an adapter and its base to the change of each weight tensor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from pacbayes_sft.checkpoints.absolute import (
    copied_tensor,
    token_rows,
    without_repeated_copies,
)
from pacbayes_sft.checkpoints.adapter_files import (
    AdapterFiles,
    sort_adapter,
    without_wrappers,
)
from pacbayes_sft.checkpoints.base_weights import BaseWeights, Stored
from pacbayes_sft.checkpoints.changes import Changes, settle_ties
from pacbayes_sft.checkpoints.files import TensorFiles
from pacbayes_sft.checkpoints.peft_config import CONFIG, SEES_DATA
from pacbayes_sft.checkpoints.precision import refuse_quantised
from pacbayes_sft.checkpoints.tensor_change import Factors, TensorChange
from pacbayes_sft.errors import InputError

_CONV1D = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
_EXPERTS_TRANSPOSED = ("gpt_oss", "aria", "aria_text", "openai_privacy_filter")


def adapter_changes(base: TensorFiles, directory: Path) -> Changes:
    """Return what an adapter makes of each tensor of its base.

    Args:
        base: The base's files; their values are read only where they are needed.
        directory: The adapter's.

    Raises:
        InputError: If the adapter cannot be read rightly or is not for this base.
    """
    adapter = sort_adapter(directory)
    weights = BaseWeights(base, adapter.settings.layer_replication)
    tensors: dict[str, TensorChange] = {}
    notes: list[str] = []
    resized: list[str] = []
    tied = _tied_tokens(adapter, weights)
    for name, stored in sorted(adapter.copies.items()):
        if name.removesuffix(".weight") in tied:
            continue
        change, note = copied_tensor(adapter, weights, name, stored)
        if change is None:
            continue
        tensors[name] = change
        if note:
            notes.append(note)
            resized.append(name)
    for module, kinds in sorted(adapter.modules.items()):
        if module in tied:
            continue
        for change in _of_module(adapter, weights, module, kinds, tensors):
            tensors[change.name] = change
    _check_base_is_readable(tensors, weights)
    if adapter.settings.init_lora_weights == "eva":
        notes.append(SEES_DATA)
    if adapter.settings.layer_replication:
        tensors = without_repeated_copies(tensors)
    found = Changes(
        tensors,
        tuple(notes),
        resized=tuple(resized),
        replicated=bool(adapter.settings.layer_replication),
    )
    return settle_ties(found, weights)


def _tied_tokens(adapter: AdapterFiles, weights: BaseWeights) -> set[str]:
    """Heads whose trained token rows are those of the embedding that they are tied to.

    PEFT writes both, and where the vocabulary was resized the whole of both as well.
    """
    rows = {m: kinds["tokens"] for m, kinds in adapter.modules.items() if "tokens" in kinds}
    heads = {
        m
        for m in rows
        if weights.is_head(f"{m}.weight") and adapter.modules[m].keys() == {"tokens"}
    }
    if not heads or not weights.ties_head:
        return set()

    def equal(left: str | None, right: str | None) -> bool:
        read = adapter.files.tensor
        return left == right or bool(left and right and torch.equal(read(left), read(right)))

    def copy_of(module: str) -> str | None:
        return adapter.copies.get(f"{module}.weight")

    return {
        head
        for head in heads
        for other in rows.keys() - heads
        if equal(rows[head], rows[other]) and equal(copy_of(head), copy_of(other))
    }


def _of_module(
    adapter: AdapterFiles,
    weights: BaseWeights,
    module: str,
    kinds: dict[str, str],
    known: dict[str, TensorChange],
) -> list[TensorChange]:
    """The changes of one module's weight and bias."""
    found = []
    if "tokens" in kinds:
        rows = token_rows(adapter, weights, module, kinds["tokens"], known)
        found.append(rows)
        known = known | {rows.name: rows}
    if kinds.keys() <= {"tokens"}:
        return found
    embedding = "embedding_A" in kinds or "embedding_B" in kinds
    pair = ("embedding_A", "embedding_B") if embedding else ("lora_A", "lora_B")
    if not kinds.keys() >= set(pair):
        raise InputError(f"{adapter.where}: module {module!r} has only one of lora_A and lora_B")
    a, b = (adapter.files.tensor(kinds[kind]) for kind in pair)
    change = _start(adapter, weights, module, a, b, known, embedding=embedding)
    settings = adapter.settings
    if settings.use_dora and change.factors is not None and change.factors.matrix:
        if "magnitude" not in kinds:
            raise InputError(
                f"{adapter.where}: module {module!r} has no lora_magnitude_vector, though {CONFIG} "
                "says use_dora; save it anew with PEFT"
            )
        magnitude = adapter.files.tensor(kinds["magnitude"])
        if magnitude.shape[0] != b.shape[0]:
            raise InputError(
                f"{adapter.where}: lora_magnitude_vector of {module!r} has {magnitude.shape[0]} "
                f"entries for {b.shape[0]} outputs"
            )
        change = replace(change, magnitude=magnitude)
    elif "magnitude" in kinds:
        raise InputError(
            f"{adapter.where}: module {module!r} has a lora_magnitude_vector, but {CONFIG} does "
            "not say use_dora; save it anew with PEFT"
        )
    found.append(change)
    if "lora_bias" in kinds:
        found.append(_bias(adapter, weights, module, kinds["lora_bias"], known, change))
    return found


def _start(
    adapter: AdapterFiles,
    weights: BaseWeights,
    module: str,
    a: torch.Tensor,
    b: torch.Tensor,
    known: dict[str, TensorChange],
    *,
    embedding: bool,
) -> TensorChange:
    """The tensor that a pair of factors changes, with ΔW = s·BA."""
    settings = adapter.settings
    path = without_wrappers(module)
    name = f"{path}.weight"
    base = weights.find(name)
    if base is None and settings.target_parameters:
        return _experts(adapter, weights, module, a, b, known)
    rank = _checked_rank(adapter, path, path, a.shape[0], b.shape[1])
    scaling = settings.scaling_of(path, rank)
    out_in = (b.shape[0], a.shape[1])
    base = known[name].base if name in known else base
    transposed = embedding or _is_transposed(adapter, weights, path, out_in, base)
    expected = out_in[::-1] if transposed else out_in
    if weights.stored_as_codes:
        base = base or _named_codes(weights, path, expected)
    if base is None or (base.shape != expected and not weights.stored_as_codes):
        problem = "is missing there" if base is None else f"has shape {base.shape} there"
        raise InputError(
            f"{adapter.directory}: this adapter is not for the base {weights.files.directory}: it "
            f"changes {name!r} of shape {expected}, which {problem}; it was made for "
            f"{settings.base_model_name_or_path!r}"
        )
    factors = Factors(a[None], b[None], scaling, transposed)
    init = None if embedding else settings.residual_init
    if name in known:
        return replace(known[name], factors=factors, init=init)
    return TensorChange(name, replace(base, shape=expected), factors=factors, init=init)


def _experts(
    adapter: AdapterFiles,
    weights: BaseWeights,
    module: str,
    a: torch.Tensor,
    b: torch.Tensor,
    known: dict[str, TensorChange],
) -> TensorChange:
    """A 3-D parameter: its name is not stored, but its shape tells it apart from its neighbours."""
    settings = adapter.settings
    path = without_wrappers(module)
    targets = settings.target_parameters or []
    fitting = []
    for name, base in weights.parameters_of(path).items():
        experts, first, second = base.shape
        sides = {(b.shape[0], a.shape[1]), (a.shape[1], b.shape[0])}
        named = any(name == t or name.endswith(f".{t}") for t in targets)
        if named and (first, second) in sides and a.shape[0] % experts == 0:
            fitting.append((name, base))
    if len(fitting) != 1:
        what = "none" if not fitting else " and ".join(name for name, _ in fitting)
        raise InputError(
            f"{adapter.where}: module {module!r} changes one of the parameters "
            f"{', '.join(targets)}, and by its shape that is {what} of the base "
            f"{weights.files.directory}; merge the adapter and give the full checkpoint"
        )
    (name, base), *_ = fitting
    experts, first, second = base.shape
    rank = _checked_rank(adapter, name, module, a.shape[0] // experts, b.shape[1] // experts)
    scaling = settings.scaling_of(name, rank)
    out_in = (b.shape[0], a.shape[1])
    transposed = (first, second) != out_in
    if first == second:
        transposed = weights.config.get("model_type") in _EXPERTS_TRANSPOSED
    if settings.residual_init:
        raise InputError(
            f"{adapter.directory / CONFIG}: init_lora_weights={settings.residual_init!r} with "
            "target_parameters cannot be read; merge the adapter and give the full checkpoint"
        )
    factors = Factors(
        a.reshape(experts, rank, -1),
        b.reshape(b.shape[0], rank, experts).permute(2, 0, 1),
        scaling,
        transposed,
        matrix=False,
    )
    if name in known:
        return replace(known[name], factors=factors)
    return TensorChange(name, base, factors=factors)


def _bias(
    adapter: AdapterFiles,
    weights: BaseWeights,
    module: str,
    stored: str,
    known: dict[str, TensorChange],
    weight: TensorChange,
) -> TensorChange:
    assert weight.factors is not None
    name = f"{without_wrappers(module)}.bias"
    addend = adapter.files.tensor(stored).double() * weight.factors.scaling
    if name in known:
        return replace(known[name], addend=addend)
    base = weights.find(name) or Stored(adapter.files, ((stored,),), tuple(addend.shape), zero=True)
    if base.shape != tuple(addend.shape):
        raise InputError(
            f"{adapter.where}: {stored!r} has shape {tuple(addend.shape)}, {name!r} of the base "
            f"has {base.shape}"
        )
    return TensorChange(name, base, addend=addend)


def _checked_rank(adapter: AdapterFiles, key: str, module: str, of_a: int, of_b: int) -> int:
    if of_a != of_b:
        raise InputError(
            f"{adapter.where}: module {module!r}: lora_A has rank {of_a}, lora_B rank {of_b}"
        )
    stated = adapter.settings.rank_of(key)
    if stated != of_a:
        raise InputError(
            f"{adapter.where}: module {module!r} has rank {of_a}, but {CONFIG} says {stated}"
        )
    return of_a


def _is_transposed(
    adapter: AdapterFiles,
    weights: BaseWeights,
    path: str,
    out_in: tuple[int, int],
    base: Stored | None,
) -> bool:
    """Whether a layer stores its weight as (in, out).

    The shape decides; for a square one the config, which speaks of the last module that PEFT
    wrapped, and what is known of the architecture.
    """
    stated = bool(adapter.settings.fan_in_fan_out)
    if base is None or base.shape not in (out_in, out_in[::-1]):
        return stated
    if out_in[0] != out_in[1]:
        return base.shape != out_in
    if weights.is_head(f"{path}.weight"):
        return False
    return stated or weights.config.get("model_type") in _CONV1D


def _named_codes(weights: BaseWeights, path: str, shape: tuple[int, ...]) -> Stored | None:
    """A weight that lies as codes under names of its own (GPTQ): only that it is there is known."""
    for name in weights.files.shape_of:
        if name.startswith(f"{path}."):
            return Stored(weights.files, ((name,),), shape)
    return None


def _check_base_is_readable(tensors: dict[str, TensorChange], weights: BaseWeights) -> None:
    """Where W₀ is needed, it must lie there as values."""
    if not weights.stored_as_codes:
        return
    for change in tensors.values():
        stored = change.base
        if change.only_factors or stored.zero or stored.fused:
            continue
        if weights.files.shape_of[stored.name] != stored.shape and stored.beyond is None:
            refuse_quantised(weights.files.directory)
