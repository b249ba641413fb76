"""De-quantise a GGUF file into a base that every command reads, and that says what it is.

python -m pacbayes_sft.checkpoints.gguf model-q4_0.gguf bases/model
"""

from __future__ import annotations

import argparse
import contextlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pacbayes_sft.errors import InputError


def dequantise_gguf(
    file: Path, out: Path, *, dtype: str = "bfloat16", note: str | None = None
) -> Path:
    """Write the values of a GGUF file as an ordinary checkpoint, through transformers.

    Its ``config.json`` carries ``dequantized_from``, so that every report names the base so: the
    numbers are those of the de-quantised weights, not of the model before it was quantised.

    Args:
        file: The GGUF file; the package ``gguf`` must be installed.
        out: Directory to write; it must not exist.
        dtype: Dtype to store.
        note: What to call the file in reports; its name if left out.

    Raises:
        InputError: If the file cannot be read or the directory exists.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such GGUF file")
    if out.exists():
        raise InputError(f"{out}: exists already; give another directory")
    if find_spec("gguf") is None:
        raise InputError(f"{file}: needs the package gguf: `pip install 'pacbayes-sft[real]'`")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": file.name}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(file.parent), dtype=torch.float32, **where
        )
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:300]
        raise InputError(f"{file}: transformers could not read it ({reason})") from None
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dequantized_from = note or f"GGUF {file.name}"
    plain = type(loaded)(config)
    plain.load_state_dict(loaded.state_dict())
    partial = out.with_name(out.name + ".partial")
    plain.to(getattr(torch, dtype)).save_pretrained(partial)
    with contextlib.suppress(Exception):  # without a tokenizer it is still a base for `kl`
        AutoTokenizer.from_pretrained(str(file.parent), **where).save_pretrained(partial)
    partial.rename(out)
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="De-quantise a GGUF file into a base.")
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16", "float16"))
    words = parser.parse_args()
    try:
        print(dequantise_gguf(words.file, words.out, dtype=words.dtype))
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
