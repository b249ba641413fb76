"""Read safetensors checkpoints tensor by tensor, whole or sharded, without loading a model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pacbayes_sft.errors import InputError
from pacbayes_sft.reading import read_json, sha256_of

FULL = "model.safetensors"
ADAPTER = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
SETTINGS = (".json", ".txt", ".model", ".py")
_PIECE = 1 << 22  # numbers looked at at once


@dataclass(frozen=True)
class TensorFiles:
    """The tensors of one checkpoint: which file holds which, and their shapes.

    Attributes:
        directory: The checkpoint directory.
        file_of: File of each tensor name, in file order.
        shape_of: Shape of each tensor, read from the headers alone.
    """

    directory: Path
    file_of: dict[str, Path]
    shape_of: dict[str, tuple[int, ...]]
    _mapped: dict[Path, Any] = field(default_factory=dict, compare=False, repr=False)

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (name, tensor) file by file; only one tensor is held at a time."""
        for file in self.files:
            with _opened(file) as handle:
                for name in (n for n, f in self.file_of.items() if f == file):
                    yield name, _finite(handle.get_tensor(name), name, file)

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor.

        Raises:
            InputError: If there is none of that name or it holds NaN or infinity.
        """
        if name not in self.file_of:
            raise InputError(f"{self.directory}: no tensor {name!r}")
        with _opened(self.file_of[name]) as handle:
            return _finite(handle.get_tensor(name), name, self.file_of[name])

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Return rows ``start`` to ``stop`` of one tensor (all of one without dimensions).

        Raises:
            InputError: If there is none of that name or they hold NaN or infinity.
        """
        if not self.shape_of.get(name):
            return self.tensor(name)
        with _opened(self.file_of[name]) as handle:
            return _finite(handle.get_slice(name)[start:stop], name, self.file_of[name])

    def view(self, name: str) -> torch.Tensor:
        """Return one tensor as a view of its mapped file: no memory of its own, values unchecked.

        Raises:
            InputError: If there is none of that name.
        """
        if name not in self.file_of:
            raise InputError(f"{self.directory}: no tensor {name!r}")
        file = self.file_of[name]
        if file not in self._mapped:  # opened once: a header is parsed at every opening
            self._mapped[file] = _opened(file)
        return self._mapped[file].get_tensor(name)  # type: ignore[no-any-return]

    def refuse_not_finite(self, name: str) -> None:
        """Refuse a tensor that holds NaN or infinity, in constant memory.

        Raises:
            InputError: Naming file and tensor.
        """
        for piece in self.view(name).reshape(-1).split(_PIECE):
            _finite(piece, name, self.file_of[name])

    @property
    def files(self) -> list[Path]:
        """The files, each once."""
        return list(dict.fromkeys(self.file_of.values()))

    def sha256(self) -> str:
        """Return one hash over all files: of the file itself if there is one, else of hashes."""
        digests = [sha256_of(file) for file in self.files]
        if len(digests) == 1:
            return digests[0]
        return hashlib.sha256("".join(digests).encode()).hexdigest()


def open_checkpoint(directory: Path) -> TensorFiles:
    """Open the tensors of a full checkpoint or an adapter directory.

    Raises:
        InputError: If the directory, its weights or a shard is missing or unreadable.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: no such checkpoint directory")
    index = directory / f"{FULL}.index.json"
    # a model that lies beside an adapter (merged, say) is not what PEFT loads from there
    adapter = (directory / ADAPTER).is_file() or (directory / CONFIG).is_file()
    single = directory / (ADAPTER if adapter else FULL)
    if single.is_file():
        names = _names(single)
        return TensorFiles(directory, dict.fromkeys(names, single), names)
    if index.is_file() and not adapter:
        return _open_sharded(directory, index)
    pickles = sorted(p.name for p in directory.glob("*.bin"))
    if pickles:
        raise InputError(
            f"{directory / pickles[0]}: a pickle, which can run code when read; load it once with "
            "transformers or peft and save it again with safe_serialization"
        )
    if quantised := sorted(p.name for p in directory.glob("*.gguf")):
        raise InputError(
            f"{directory / quantised[0]}: a GGUF file; de-quantise it once with `python -m "
            f"pacbayes_sft.checkpoints.gguf {directory / quantised[0]} DIR` and give DIR"
        )
    if adapter:
        raise InputError(f"{directory}: holds {CONFIG} but no {ADAPTER}")
    raise InputError(f"{directory}: holds neither {FULL}, {FULL}.index.json nor {ADAPTER}")


def settings_sha256(directory: Path) -> str:
    """Return a hash of what lies beside the weights and decides what they do.

    That is configuration, tokenizer and code; names count as well as contents.
    """
    whole = hashlib.sha256()
    for file in sorted(directory.iterdir()):
        if file.is_file() and file.suffix in SETTINGS:
            whole.update(f"{file.name}\x00{sha256_of(file)}\x00".encode())
    return whole.hexdigest()


def _open_sharded(directory: Path, index: Path) -> TensorFiles:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index}: has no weight_map")
    file_of: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for shard in sorted({str(s) for s in weight_map.values()}):
        if Path(shard).name != shard:
            raise InputError(f"{index}: the shard {shard!r} points outside the directory")
        if not (directory / shard).is_file():
            raise InputError(f"{directory / shard}: missing, but named in {index.name}")
        for name, shape in _names(directory / shard).items():
            if weight_map.get(name) == shard:
                file_of[name], shapes[name] = directory / shard, shape
    missing = [name for name in weight_map if name not in file_of]
    if missing:
        raise InputError(f"{index}: tensor {missing[0]!r} is not in the shard it names")
    return TensorFiles(directory, file_of, shapes)


def _names(file: Path) -> dict[str, tuple[int, ...]]:
    with _opened(file) as handle:
        return {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{file}: not a readable safetensors file ({error}); it may be truncated, copy it again"
        ) from None


def _finite(tensor: torch.Tensor, name: str, file: Path) -> torch.Tensor:
    values = tensor.float() if tensor.element_size() == 1 else tensor  # no isfinite for float8
    if tensor.is_floating_point() and not bool(torch.isfinite(values).all()):
        raise InputError(f"{file}: tensor {name!r} holds NaN or infinity; no KL exists for it")
    return tensor
