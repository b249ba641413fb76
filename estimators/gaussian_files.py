"""A Gaussian on disk: one safetensors file that gives back the same numbers bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from estimators.gaussian import DiagonalGaussian

MEAN, SCALE = "mean.", "scale."


def save_gaussian(
    gaussian: DiagonalGaussian, file: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write means as they are and scales in float64 (floats as scalars).

    Args:
        gaussian: What to write.
        file: Where.
        metadata: Strings to keep beside it.
    """
    tensors = {MEAN + name: t.detach().cpu().contiguous() for name, t in gaussian.mean.items()}
    for name, scale in gaussian.scale.items():
        tensors[SCALE + name] = torch.as_tensor(scale, dtype=torch.float64).cpu().contiguous()
    save_file(tensors, str(file), metadata=dict(metadata or {}))


def load_gaussian(file: Path) -> DiagonalGaussian:
    """Read what `save_gaussian` wrote; a scale that was a float is one again.

    Raises:
        ValueError: If the file holds no Gaussian.
    """
    mean: dict[str, torch.Tensor] = {}
    scale: dict[str, float | torch.Tensor] = {}
    with safe_open(str(file), framework="pt") as handle:
        for key in handle.keys():  # noqa: SIM118 - not a dict
            tensor = handle.get_tensor(key)
            if key.startswith(MEAN):
                mean[key.removeprefix(MEAN)] = tensor
            elif key.startswith(SCALE):
                scale[key.removeprefix(SCALE)] = tensor if tensor.ndim else float(tensor)
    if not mean or mean.keys() != scale.keys():
        raise ValueError(f"{file}: holds no Gaussian (mean.* and scale.* of the same names)")
    return DiagonalGaussian(mean, scale)
