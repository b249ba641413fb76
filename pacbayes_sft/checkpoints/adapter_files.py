"""The tensors of a PEFT directory, sorted by what each does to which module."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pacbayes_sft.checkpoints.files import ADAPTER, TensorFiles, open_checkpoint
from pacbayes_sft.checkpoints.peft_config import CONFIG, LoraSettings, read_settings
from pacbayes_sft.checkpoints.record import RECORD_DIR
from pacbayes_sft.errors import InputError

_PREFIX = "base_model.model."
_NAME = r"(?:\.(?P<adapter>[^.]+))?"
# What stands behind the module's path; the adapter's name, which PEFT leaves out, may stand there.
_KINDS = {
    "lora_A": rf"\.lora_A{_NAME}\.weight",
    "lora_B": rf"\.lora_B{_NAME}\.weight",
    "lora_bias": rf"\.lora_B{_NAME}\.bias",
    "embedding_A": rf"\.lora_embedding_A{_NAME}",
    "embedding_B": rf"\.lora_embedding_B{_NAME}",
    "magnitude": r"\.lora_magnitude_vector(?:\.(?!weight$)(?P<adapter>[^.]+))?(?:\.weight)?",
    "tokens": rf"\.token_adapter\.trainable_tokens_delta{_NAME}",
}
_COPY = (
    rf"(?P<module>.+?)(?:\.modules_to_save{_NAME}|\.token_adapter\.base_layer|(?:\.base_layer)+)?"
    r"\.(?P<leaf>[^.]+)"
)
EMBEDDINGS = ("embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings")
HEADS = ("lm_head", "embed_out")


@dataclass(frozen=True)
class AdapterFiles:
    """A PEFT directory, sorted.

    Attributes:
        directory: Where it lies.
        settings: What its config says.
        files: Its tensors.
        modules: By module path (``.base_layer`` of nested wrappers kept): tensor name by kind.
        copies: Tensors that are stored absolutely: name in the file by name in the model.
        adapter_names: Names of adapters that stand in the keys; PEFT itself leaves them out.
    """

    directory: Path
    settings: LoraSettings
    files: TensorFiles
    modules: dict[str, dict[str, str]] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    adapter_names: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The tensor file, for messages."""
        return str(self.directory / ADAPTER)


def is_adapter(directory: Path) -> bool:
    """Return whether a directory is meant as a PEFT adapter rather than a full checkpoint."""
    return (directory / CONFIG).exists() or (directory / ADAPTER).exists()


def adapter_directory(directory: Path) -> Path:
    """Return where a fine-tune's files lie: the directory, or its one sub-directory.

    PEFT saves an adapter that is not called ``default`` into a sub-directory of that name.

    Raises:
        InputError: If several adapters lie in sub-directories, or only checkpoints of a run.
    """
    if not directory.is_dir() or is_adapter(directory) or any(directory.glob("*.safetensors*")):
        return directory
    inside = adapters_inside(directory)
    if len(inside) == 1 and not inside[0].name.startswith("checkpoint-"):
        return inside[0]
    if inside:
        names = ", ".join(d.name for d in inside)
        raise InputError(f"{directory}: holds adapters only in {names}; give one of these")
    return directory


def adapters_inside(directory: Path) -> list[Path]:
    """Return the sub-directories that hold an adapter of their own."""
    return sorted(
        d for d in directory.iterdir() if d.is_dir() and d.name != RECORD_DIR and is_adapter(d)
    )


def sort_adapter(directory: Path) -> AdapterFiles:
    """Read an adapter's config and sort its tensors.

    Raises:
        InputError: If a file is missing or broken, or holds a tensor that belongs to nothing.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: no such adapter directory")
    settings = read_settings(directory)
    files = open_checkpoint(directory)
    sorted_files = AdapterFiles(directory, settings, files)
    names = set()
    for name in files.shape_of:
        path = name.removeprefix(_PREFIX)
        if ".original_module." in path:
            continue  # the base's own, which `modules_to_save` sets aside
        found = _factor(path)
        if found is not None:
            kind, module, adapter = found
            kinds = sorted_files.modules.setdefault(module, {})
            if kind in kinds:
                raise InputError(
                    f"{sorted_files.where}: holds {kind} of {module!r} twice, of several adapters; "
                    "save each adapter alone (PEFT: save_pretrained with selected_adapters)"
                )
            kinds[kind] = name
            _check_dimensions(sorted_files, kind, name)
        else:
            target, adapter = _copy(path, settings, sorted_files.where, name)
            if target in sorted_files.copies:
                # of a resized vocabulary in modules_to_save PEFT writes both copies, equal
                other = sorted_files.copies[target]
                if not torch.equal(files.tensor(other), files.tensor(name)):
                    raise InputError(f"{sorted_files.where}: holds {target!r} twice; save it anew")
                name = max(other, name, key=len)
            sorted_files.copies[target] = name
        if adapter:
            names.add(adapter)
    if not sorted_files.modules and not sorted_files.copies:
        raise InputError(f"{sorted_files.where}: holds no LoRA factors")
    return AdapterFiles(
        directory, settings, files, sorted_files.modules, sorted_files.copies, tuple(sorted(names))
    )


def refuse_renamed(directory: Path) -> None:
    """Refuse tensors whose keys carry an adapter name: PEFT would leave them aside, with a warning.

    Raises:
        InputError: Naming the adapter.
    """
    for name in open_checkpoint(directory).shape_of:
        found = _factor(name)
        if found is not None and found[2] not in (None, "default"):
            raise InputError(
                f"{directory / ADAPTER}: its tensors carry the adapter name {found[2]!r}, with "
                "which PEFT does not load them; save it anew with PEFT"
            )


def without_wrappers(module: str) -> str:
    """Return a module's path in the base model, without PEFT's ``base_layer``."""
    return re.sub(r"(\.base_layer)+$", "", module)


def _factor(path: str) -> tuple[str, str, str | None] | None:
    for kind, pattern in _KINDS.items():
        if match := re.fullmatch(rf"(?P<module>.+?){pattern}", path):
            return kind, match["module"], match["adapter"]
    return None


def _copy(path: str, settings: LoraSettings, where: str, name: str) -> tuple[str, str | None]:
    """Return the model's name of a tensor that is stored absolutely."""
    match = re.fullmatch(_COPY, path)
    if match and "lora_" not in path:
        target = f"{match['module']}.{match['leaf']}"
        wrapped = path != target
        if wrapped or _is_expected(target, settings):
            return target, match["adapter"]
    raise InputError(
        f"{where}: tensor {name!r} belongs to nothing that {CONFIG} names, so what it changes is "
        "unknown; save the adapter anew with PEFT"
    )


def _is_expected(target: str, settings: LoraSettings) -> bool:
    if settings.bias == "all" and target.endswith(".bias"):
        return True
    parts = target.split(".")
    above = [".".join(parts[:i]) for i in range(1, len(parts))]
    saved = settings.modules_to_save or []
    if any(module.endswith(name) for module in above for name in saved):
        return True
    return parts[-2] in (*EMBEDDINGS, *HEADS)  # PEFT saves a resized vocabulary unasked


def _check_dimensions(adapter: AdapterFiles, kind: str, name: str) -> None:
    shape = adapter.files.shape_of[name]
    wanted = 1 if kind in ("magnitude", "lora_bias") else 2
    if len(shape) > 2:
        raise InputError(
            f"{adapter.where}: tensor {name!r} has {len(shape)} dimensions, not {wanted}; LoRA on "
            "a convolution cannot be read, so merge it and give the full checkpoint"
        )
    if len(shape) != wanted or 0 in shape:
        raise InputError(
            f"{adapter.where}: tensor {name!r} has shape {shape}, not {wanted} dimensions; a "
            "sharded (FSDP, DeepSpeed) adapter must be gathered before saving"
        )
