"""JSON objects and hashes of files; apart, so that reading rows does not load torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pacbayes_sft.errors import InputError

_CHUNK = 1 << 22


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while piece := handle.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: If the file is missing or is not a JSON object.
    """
    if not file.is_file():
        raise InputError(f"{file}: missing")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or beyond what is read
        raise InputError(f"{file}: not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{file}: holds a {type(content).__name__}, not a JSON object")
    return content
