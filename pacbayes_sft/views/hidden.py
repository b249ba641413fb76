"""Mean-pooled hidden states of the base: features that know what the model knows.

Batched by length, kept by the hash of each text, so that a second run, or one that was killed,
computes only what is missing. Under ``accelerate launch`` every process takes a share of the
missing texts; all of them return all states.

The base saw neither side's labels ("train" or "test"), so the states are features like any other if
its own training held the rows of neither file. A model that has learnt the training rows, by a
fine-tune or in its pre-training, may remember them and tell the two sides apart by that alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pacbayes_sft.atomic import replacing
from pacbayes_sft.errors import InputError
from pacbayes_sft.progress import track

States = NDArray[np.float32]
PART = 256  # texts a file of the cache: what a kill can cost
NAME = 32  # hexadecimal digits of such a file's name; the folder may hold other files


def hidden_states(
    texts: Sequence[str],
    base: str,
    *,
    layer: int = -1,
    batch_size: int = 64,
    max_length: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    cache: Path | None = None,
    trust_remote_code: bool = False,
) -> States:
    """Return the mean over each text's tokens of the base's hidden states; shape (n, width).

    Args:
        texts: The texts.
        base: Path, hub id, or a shipped base.
        layer: Whose output; -1 is the last.
        batch_size: Texts a forward pass.
        max_length: Tokens beyond this are cut off (default: what the model reads).
        device: Device of the model.
        dtype: Its dtype; the mean is taken in float32.
        cache: Folder to keep states in; nothing is kept if None.
        trust_remote_code: Whether code beside the base's weights may run.

    Raises:
        InputError: If the base cannot be loaded or lacks the layer.
    """
    from accelerate import PartialState

    from pacbayes_sft.checkpoints.files import open_checkpoint, settings_sha256
    from pacbayes_sft.models import local_directory, resolve_base

    process, source = PartialState(cpu=device == "cpu"), resolve_base(base)
    folder = local_directory(source)
    what = {
        "base": open_checkpoint(folder).sha256(),
        "beside_weights": settings_sha256(folder),
        "layer": layer,
        "max_length": max_length,
        "dtype": dtype,
    }
    names = [_name(text, what) for text in texts]
    kept = {} if cache is None else _read(cache, set(names))
    missing = {n: t for n, t in zip(names, texts, strict=True) if n not in kept}
    queue = sorted(missing, key=lambda name: (len(missing[name]), name))
    if queue:
        compute = _pooler(source, layer, max_length, device, dtype, trust_remote_code)
        mine = queue[process.process_index :: process.num_processes]
        parts = [mine[i : i + PART] for i in range(0, len(mine), PART)]
        for part in track(parts, "hidden states"):
            found: dict[str, States] = {}
            for i in range(0, len(part), batch_size):
                batch = part[i : i + batch_size]
                found |= zip(batch, compute([missing[name] for name in batch]), strict=True)
            if cache is not None:
                _write(cache, found)
            kept |= found
    if process.num_processes > 1:
        kept = _gathered(kept)
    return np.stack([kept[name] for name in names]).astype(np.float32)


def hidden_embedding(base: str, **options: Any) -> Callable[[list[str]], States]:
    """Return `hidden_states` of one base as a function of texts alone."""

    def embed(texts: list[str]) -> States:
        return hidden_states(texts, base, **options)

    return embed


def _name(text: str, what: dict[str, Any]) -> str:
    return hashlib.sha256(f"{json.dumps(what, sort_keys=True)}\x00{text}".encode()).hexdigest()


def _pooler(
    base: str, layer: int, max_length: int | None, device: str, dtype: str, trusted: bool
) -> Callable[[list[str]], States]:
    import torch

    from pacbayes_sft.models import context_length, load_model, load_tokenizer

    tokenizer = load_tokenizer(base, trust_remote_code=trusted)
    tokenizer.padding_side = "right"  # positions count from the text's first token
    model: Any = load_model(base, device=device, dtype=dtype, trust_remote_code=trusted)
    limit = max_length or context_length(model)
    layers = getattr(model.config, "num_hidden_layers", None)
    if layers is not None and not -layers - 1 <= layer <= layers:
        raise InputError(f"{base}: has {layers} layers, so no layer {layer}")

    def pooled(texts: list[str]) -> States:
        batch = tokenizer(
            texts, return_tensors="pt", padding=True, truncation=limit is not None,
            max_length=limit, return_token_type_ids=False,
        ).to(device)  # fmt: skip
        with torch.inference_mode():
            states = model(**batch, output_hidden_states=True).hidden_states[layer].float()
        mask = batch["attention_mask"].unsqueeze(-1).float()
        mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        array: States = mean.cpu().numpy()
        return array

    return pooled


def _read(cache: Path, wanted: set[str]) -> dict[str, States]:
    """The states that earlier runs kept; a damaged part is as if it were not there."""
    from safetensors import SafetensorError, safe_open

    kept: dict[str, States] = {}
    for file in sorted(cache.glob(f"{'[0-9a-f]' * NAME}.safetensors")):
        try:
            with safe_open(file, framework="numpy") as part:
                for name in wanted & set(part.keys()):
                    kept[name] = part.get_tensor(name)
        except (SafetensorError, OSError):
            continue
    return kept


def _write(cache: Path, found: dict[str, States]) -> None:
    from safetensors.numpy import save

    if not found:
        return
    name = hashlib.sha256("".join(sorted(found)).encode()).hexdigest()[:NAME]
    with replacing(cache / f"{name}.safetensors") as partial:
        partial.write_bytes(save({k: np.ascontiguousarray(v) for k, v in found.items()}))


def _gathered(kept: dict[str, States]) -> dict[str, States]:
    from accelerate.utils import gather_object

    every: dict[str, States] = {}
    for part in gather_object([kept]):
        every |= part
    return every
