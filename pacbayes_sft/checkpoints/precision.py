"""Which numbers a base's weights are: as stored, quantised, or de-quantised from something."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pacbayes_sft.errors import InputError
from pacbayes_sft.reading import read_json

_NOTE = "dequantized_from"
_BITS = ("bits", "load_in_4bit", "load_in_8bit")


def base_precision(directory: Path) -> str:
    """Say in which precision a base's weights lie there: the risk is that of this very base.

    A base that was de-quantised says so by a key ``dequantized_from`` in its ``config.json``, or
    by a line ``dequantized_from: ...`` in its ``README.md``.
    """
    config = read_json(directory / "config.json")
    if source := config.get(_NOTE) or _noted_in_readme(directory):
        return f"de-quantised from {source}"
    if quantised := quantisation(directory):
        return f"quantised ({_in_words(quantised)})"
    return f"as stored, {config.get('dtype') or config.get('torch_dtype') or 'dtype not stated'}"


def stored_precision(directory: Path) -> str:
    """Say the same of files that may lie there without a ``config.json``."""
    if (directory / "config.json").is_file():
        return base_precision(directory)
    return "as stored, dtype not stated"


def quantisation(directory: Path) -> dict[str, Any]:
    """Return the ``quantization_config`` of a checkpoint; empty if its weights are plain."""
    file = directory / "config.json"
    found = read_json(file).get("quantization_config") if file.is_file() else None
    return found if isinstance(found, dict) else {}


def refuse_quantised(directory: Path) -> None:
    """Refuse weights that are stored as codes where their values are needed.

    Raises:
        InputError: If the checkpoint is quantised.
    """
    if quantised := quantisation(directory):
        raise InputError(
            f"{directory}: its weights are stored quantised ({_in_words(quantised)}), so their "
            "values cannot be read from the files; use a LoRA in --space factors, or de-quantise "
            "and save it"
        )


def _noted_in_readme(directory: Path) -> str | None:
    readme = directory / "README.md"
    if not readme.is_file():
        return None
    text = readme.read_text(encoding="utf-8", errors="replace")
    match = re.search(rf"^{_NOTE}:[ \t]*(\S.*?)[ \t]*$", text, re.MULTILINE)
    return match[1] if match else None


def _in_words(quantised: dict[str, Any]) -> str:
    method = str(quantised.get("quant_method", "unknown method"))
    kind = quantised.get("bnb_4bit_quant_type") if quantised.get("load_in_4bit") else None
    if kind:
        return f"{method} {kind}"
    kept = [f"{k} {v}" for k, v in quantised.items() if k in _BITS and v]
    return ", ".join([method, *kept])
