"""JSON objects and hashes of files; apart, so that reading rows does not load torch."""

from __future__ import annotations

import hashlib
import json
import re
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


def not_utf8(file: Path) -> InputError:
    """Return the refusal of a text file, which says where its first byte is that is no UTF-8.

    Decoding reads ahead and cannot tell.
    """
    place = ""
    with file.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
            if found := re.search("[\udc80-\udcff]", line):  # what such a byte is read as
                place = f", line {number}, column {found.start() + 1}"
                break
    return InputError(f"{file}{place}: not UTF-8 text; save the file as UTF-8")
