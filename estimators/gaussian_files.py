"""Gaussians on disk: a safetensors file that gives back every bit of mean and scale."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from estimators.gaussian import DiagonalGaussian

MEAN, SCALE, LEFT, RIGHT = "mean/", "scale/", "left/", "right/"


def save_gaussian(
    gaussian: DiagonalGaussian, file: Path | str, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a Gaussian to ``file``, whole or not at all, in the dtypes that its tensors have.

    The tensor ``name`` becomes ``mean/name`` and ``scale/name``; a scale that is one number is
    stored as a float64 scalar. A basis becomes ``left/name`` and ``right/name``.

    Args:
        gaussian: What to keep.
        file: A path, ``.safetensors`` by custom; an existing file is replaced.
        metadata: Strings to keep beside it, read back by `gaussian_metadata`.

    Raises:
        TypeError: If a key or value of the metadata is no string.
        OSError: If the file cannot be written.

    >>> import tempfile
    >>> q = DiagonalGaussian({"w": torch.ones(2)}, {"w": 0.1})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_gaussian(q, f"{folder}/q.safetensors", {"base": "strong"})
    ...     load_gaussian(f"{folder}/q.safetensors").mean["w"].tolist()
    [1.0, 1.0]
    """
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"metadata are strings, got {key!r}: {value!r}")
    tensors: dict[str, torch.Tensor] = {}
    for name, mean in gaussian.mean.items():
        scale = gaussian.scale[name]
        if not isinstance(scale, torch.Tensor):
            scale = torch.tensor(float(scale), dtype=torch.float64)
        # Cloned, since safetensors refuses tensors that share memory (tied or expanded ones do).
        tensors[MEAN + name] = mean.detach().cpu().contiguous().clone()
        tensors[SCALE + name] = scale.detach().cpu().contiguous().clone()
    for name, sides in gaussian.basis.items():
        for prefix, side in zip((LEFT, RIGHT), sides, strict=True):
            tensors[prefix + name] = side.detach().cpu().contiguous().clone()
    path = Path(file)
    partial = path.with_name(path.name + ".tmp")
    try:
        save_file(tensors, partial, metadata=dict(metadata or {}))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_gaussian(file: Path | str) -> DiagonalGaussian:
    """Read back what `save_gaussian` wrote, bit for bit, on the CPU, its names sorted.

    A float64 scalar scale comes back as a float. The order of names decides which noise
    `DiagonalGaussian.sample` gives each tensor: draw from the loaded one where a draw must be
    repeatable from the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds no Gaussian.

    >>> import tempfile
    >>> q = DiagonalGaussian({"w": torch.ones(2)}, {"w": 0.1})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_gaussian(q, f"{folder}/q.safetensors")
    ...     load_gaussian(f"{folder}/q.safetensors").scale
    {'w': 0.1}
    """
    mean: dict[str, torch.Tensor] = {}
    scale: dict[str, float | torch.Tensor] = {}
    sides: dict[str, dict[str, torch.Tensor]] = {LEFT: {}, RIGHT: {}}
    try:
        with safe_open(file, framework="pt") as stored:
            for key in sorted(stored.keys()):
                tensor = stored.get_tensor(key)
                if key.startswith(MEAN):
                    mean[key.removeprefix(MEAN)] = tensor
                elif key.startswith(SCALE):
                    number = tensor.ndim == 0 and tensor.dtype == torch.float64
                    scale[key.removeprefix(SCALE)] = float(tensor) if number else tensor
                for prefix, found in sides.items():
                    if key.startswith(prefix):
                        found[key.removeprefix(prefix)] = tensor
    except SafetensorError as broken:
        raise ValueError(f"{file}: no safetensors file ({broken})") from broken
    if not mean:
        raise ValueError(f"{file}: holds no Gaussian; its tensors would be named {MEAN}…")
    try:
        if sides[LEFT].keys() != sides[RIGHT].keys():
            raise ValueError("a basis has two sides")
        basis = {name: (left, sides[RIGHT][name]) for name, left in sides[LEFT].items()}
        return DiagonalGaussian(mean, scale, basis)
    except ValueError as broken:
        raise ValueError(f"{file}: {broken}") from broken


def gaussian_metadata(file: Path | str) -> dict[str, str]:
    """Return the strings that `save_gaussian` kept beside a Gaussian.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no safetensors file.

    >>> import tempfile
    >>> q = DiagonalGaussian({"w": torch.ones(2)}, {"w": 0.1})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_gaussian(q, f"{folder}/q.safetensors", {"seed": "0"})
    ...     gaussian_metadata(f"{folder}/q.safetensors")
    {'seed': '0'}
    """
    try:
        with safe_open(file, framework="pt") as stored:
            return dict(stored.metadata() or {})
    except SafetensorError as broken:
        raise ValueError(f"{file}: no safetensors file ({broken})") from broken
