"""What lies in the directory of a certified adapter, and how it is read back.

DIR/adapter_model.safetensors, adapter_config.json   what PEFT loads: the draw, rounded
DIR/README.md                                        a model card with the certificate in words
DIR/certificate/certificate.json                     the numbers
DIR/certificate/draw.safetensors                     the draw as drawn, float32
DIR/certificate/posterior.safetensors                Q
DIR/certificate/prior.safetensors                    P's centre and shape; its grid: the numbers
DIR/certificate/units.jsonl                          the certified units: row hashes and losses
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from estimators import DiagonalGaussian, load_gaussian
from estimators.gaussian import typical_scale
from pacbayes_sft.checkpoints.files import ADAPTER
from pacbayes_sft.checkpoints.lora import CONFIG
from pacbayes_sft.errors import InputError
from pacbayes_sft.reading import read_json, sha256_of

FOLDER = "certificate"
CARD = "README.md"
CERTIFICATE = f"{FOLDER}/certificate.json"
DRAW = f"{FOLDER}/draw.safetensors"
POSTERIOR = f"{FOLDER}/posterior.safetensors"
PRIOR = f"{FOLDER}/prior.safetensors"
UNITS = f"{FOLDER}/units.jsonl"
HASHED = {
    "adapter": ADAPTER,
    "draw": DRAW,
    "posterior": POSTERIOR,
    "prior": PRIOR,
    "units": UNITS,
}
DTYPES = ("float32", "bfloat16", "float16")

# Says where the base lies and what PEFT was asked to do with it, not what the adapter does to it.
_ADDRESS = ("base_model_name_or_path", "revision")


def hashes_of(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of the certificate and of the adapter's settings.

    Raises:
        InputError: If a file is missing.
    """
    found = {}
    for name, file in HASHED.items():
        if not (directory / file).is_file():
            raise InputError(
                f"{directory / file}: missing, and the certificate cannot be recomputed without "
                "it; copy the adapter again"
            )
        found[name] = sha256_of(directory / file)
    return found | {"adapter_config": config_sha256(directory / CONFIG)}


def config_sha256(file: Path) -> str:
    """Return a hash of what ``adapter_config.json`` means; the base's address may change."""
    config = {k: _plain(v) for k, v in read_json(file).items() if k not in _ADDRESS}
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _plain(value: object) -> object:
    """Sets of module names come in any order; of patterns the first that fits counts."""
    if isinstance(value, dict) and value:
        return list(value.items())
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return sorted(value)
    return value


def rounded(draw: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return the tensors of the adapter's file: PEFT's names, the deployment's dtype."""
    return {
        f"base_model.model.{name}.weight": tensor.to(dtype).contiguous()
        for name, tensor in draw.items()
    }


def mixture(prior: DiagonalGaussian, sigmas: tuple[float, ...]) -> list[DiagonalGaussian]:
    """Return the components of P: its shape at every scale of the grid, equally weighted."""
    unit = typical_scale(prior)
    return [
        DiagonalGaussian(prior.mean, {k: s * (sigma / unit) for k, s in prior.scale.items()})
        for sigma in sigmas
    ]


def read_gaussian(file: Path) -> DiagonalGaussian:
    """Read Q or P.

    Raises:
        InputError: If the file holds no Gaussian.
    """
    try:
        return load_gaussian(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{file}: not readable ({error}); copy the adapter again") from None


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Read a file of tensors.

    Raises:
        InputError: If it is not a safetensors file.
    """
    try:
        return load_file(str(file))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not readable ({error}); copy the adapter again") from None
