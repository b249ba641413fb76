"""Find a base's tensor by the name that the loaded model gives it, and read it in pieces.

Files and loaded models differ in their names: a prefix is left out, the experts of a mixture lie
one by one, a tied head is not stored, replicated layers are stored once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from pacbayes_sft.checkpoints.adapter_files import EMBEDDINGS, HEADS
from pacbayes_sft.checkpoints.files import TensorFiles
from pacbayes_sft.checkpoints.precision import quantisation, refuse_quantised
from pacbayes_sft.errors import InputError
from pacbayes_sft.reading import read_json

BLOCK = 1 << 20  # entries held at a time
_PREFIXES = ("transformer.", "model.")
# A fused parameter of a loaded mixture of experts: what its pieces are called in the files.
_EXPERTS = {
    "gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")),
    "down_proj": (("down_proj",), ("w2",)),
}
_LAYER = re.compile(r"^((?:.*?\.)?(?:layers|layer|h)\.)(\d+)(\..+)$")


@dataclass(frozen=True)
class Stored:
    """A tensor of a loaded model as it lies in files.

    Attributes:
        files: Where.
        pieces: Names in the files: one, or of each expert those that are put under each other.
        shape: Its shape in the model.
        beyond: Row that stands for rows which the files do not have; shape (columns,).
        zero: Whether it is nowhere stored and zero (a bias that the base does not have).
    """

    files: TensorFiles
    pieces: tuple[tuple[str, ...], ...]
    shape: tuple[int, ...]
    beyond: torch.Tensor | None = None
    zero: bool = False

    @property
    def name(self) -> str:
        """Its (first) name in the files."""
        return self.pieces[0][0]

    @property
    def fused(self) -> bool:
        """Whether it is put together of several stored tensors."""
        return len(self.pieces) > 1 or len(self.pieces[0]) > 1

    @property
    def as_stored(self) -> bool:
        """Whether it is one floating tensor, whole and in the shape that its file has."""
        if self.zero or self.fused or self.files.shape_of.get(self.name) != self.shape:
            return False
        stored = self.files.view(self.name)
        return stored.is_floating_point() and stored.element_size() > 1

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Return some rows (of a mixture: experts) in float64.

        Raises:
            InputError: If they are not there, are codes, or hold NaN or infinity.
        """
        if self.zero:
            return torch.zeros((stop - start, *self.shape[1:]), dtype=torch.float64)
        if self.fused:
            experts = self.pieces[start:stop]
            return torch.stack([torch.cat([self._whole(n) for n in names]) for names in experts])
        if not self.shape:
            return self._whole(self.name)
        stored = self.files.shape_of[self.name][0]
        parts = []
        if start < stored:
            found = self.files.rows(self.name, start, min(stop, stored))
            parts.append(self._values(found))
        if stop > stored and self.beyond is not None:
            new = stop - max(start, stored)
            parts.append(self.beyond.expand(new, *self.beyond.shape))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield (start, stop) so that each block of rows has about ``BLOCK`` entries."""
        rows = self.shape[0] if self.shape else 1
        width = max(1, _count(self.shape) // max(rows, 1))
        step = max(1, BLOCK // width)
        for start in range(0, rows, step):
            yield start, min(start + step, rows)

    def whole(self) -> torch.Tensor:
        """Return all of it in float64."""
        return self.rows(0, self.shape[0] if self.shape else 1).reshape(self.shape)

    def with_rows(self, rows: int) -> Stored:
        """Return it with another number of rows; new ones stand at the average of the old."""
        if rows <= self.shape[0]:
            return replace(self, shape=(rows, *self.shape[1:]))
        total = torch.zeros(self.shape[1:], dtype=torch.float64)
        for start, stop in self.blocks():
            total += self.rows(start, stop).sum(0)
        return replace(self, shape=(rows, *self.shape[1:]), beyond=total / self.shape[0])

    def _whole(self, name: str) -> torch.Tensor:
        return self._values(self.files.tensor(name))

    def _values(self, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point() or tensor.element_size() == 1:
            refuse_quantised(self.files.directory)
            raise InputError(
                f"{self.files.file_of[self.name]}: tensor {self.name!r} is stored as "
                f"{str(tensor.dtype).removeprefix('torch.')}, not as weights; de-quantise it first"
            )
        return tensor.double()


class BaseWeights:
    """A base's tensors by their names in the loaded model.

    Args:
        files: The base's files.
        replication: ``[start, stop)`` ranges of base layers that the model's layers are copies of.
    """

    def __init__(self, files: TensorFiles, replication: list[list[int]] | None = None) -> None:
        self.files = files
        self._layers = [i for start, stop in replication or [] for i in range(start, stop)]
        file = files.directory / "config.json"
        self.config = read_json(file) if file.is_file() else {}
        self.stored_as_codes = bool(quantisation(files.directory))

    def find(self, name: str) -> Stored | None:
        """Return the tensor that a loaded model calls so, or None if the base has none."""
        name = self.source(name)
        for candidate in _spellings(name):
            if candidate in self.files.shape_of:
                return Stored(self.files, ((candidate,),), self.files.shape_of[candidate])
        return self._experts(name) or self._tied(name)

    def source(self, name: str) -> str:
        """Return the name in the base of a tensor of a replicated layer.

        Raises:
            InputError: If the replication does not reach that layer.
        """
        match = _LAYER.match(name) if self._layers else None
        if not match:
            return name
        layer = int(match[2])
        if layer >= len(self._layers):
            raise InputError(
                f"{name!r} lies in layer {layer}, but layer_replication makes only "
                f"{len(self._layers)} layers"
            )
        return f"{match[1]}{self._layers[layer]}{match[3]}"

    @cached_property
    def embedding(self) -> str | None:
        """The file's name of the input embedding."""
        ends = tuple(f"{name}.weight" for name in EMBEDDINGS)
        return next((n for n in self.files.shape_of if n.endswith(ends)), None)

    def is_head(self, name: str) -> bool:
        """Return whether a name is that of the output head."""
        return name.removesuffix(".weight").rpartition(".")[2] in HEADS and name.endswith(".weight")

    def is_embedding(self, name: str) -> bool:
        """Return whether a name of the loaded model is that of the input embedding."""
        if self.embedding is None or self.is_head(name):
            return False
        found = self.find(name)
        return found is not None and found.name == self.embedding

    @property
    def ties_head(self) -> bool:
        """Whether the base's head is its embedding: not stored, or stored twice."""
        embedding = self.embedding
        if embedding is None:
            return False
        heads = [n for n in self.files.shape_of if self.is_head(n)]
        if not heads:
            return self.config.get("tie_word_embeddings", True) is not False
        head = self.find(heads[0])
        source = self.find(embedding)
        return head is not None and source is not None and same(head, source)

    def parameters_of(self, module: str) -> dict[str, Stored]:
        """Return the 3-D parameters of a module (the experts of a mixture), by full name."""
        found = {}
        under = tuple(f"{m}." for m in _spellings(self.source(f"{module}.x")[:-2]))
        leaves = {n.rpartition(".")[2] for n in self.files.shape_of if n.startswith(under)}
        for leaf in sorted({*_EXPERTS, *leaves}):
            tensor = self.find(f"{module}.{leaf}")
            if tensor is not None and len(tensor.shape) == 3:
                found[f"{module}.{leaf}"] = tensor
        return found

    def _experts(self, name: str) -> Stored | None:
        """A mixture's fused parameter, put together of experts that lie one by one."""
        module, _, leaf = name.rpartition(".")
        shapes = self.files.shape_of
        for start in _spellings(module):
            for parts in _EXPERTS.get(leaf, ()):
                pieces: list[tuple[str, ...]] = []
                while f"{start}.{len(pieces)}.{parts[0]}.weight" in shapes:
                    pieces.append(tuple(f"{start}.{len(pieces)}.{p}.weight" for p in parts))
                found = {shapes.get(name) for names in pieces for name in names}
                one = found.pop() if len(found) == 1 else None
                if one is not None and len(one) == 2:
                    shape = (len(pieces), one[0] * len(parts), one[1])
                    return Stored(self.files, tuple(pieces), shape)
        return None

    def _tied(self, name: str) -> Stored | None:
        if not self.is_head(name) or self.config.get("tie_word_embeddings", True) is False:
            return None
        embedding = self.embedding
        return self.find(embedding) if embedding else None


def same(left: Stored, right: Stored) -> bool:
    """Return whether two tensors hold the same values."""
    if left.shape != right.shape:
        return False
    if left.pieces == right.pieces and left.files is right.files:
        return True
    return all(torch.equal(left.rows(*b), right.rows(*b)) for b in left.blocks())


def _spellings(name: str) -> list[str]:
    """The names that files may use for a tensor or module of a loaded model, likeliest first."""
    found = [name]
    found += [name.removeprefix(p) for p in _PREFIXES if name.startswith(p)]
    found += [p + name for p in _PREFIXES if not name.startswith(p)]
    return found + [n.replace(".mlp.", ".block_sparse_moe.") for n in found if ".mlp." in n]


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
