"""Find and load a base model, its tokenizer, and a fine-tune of it."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pacbayes_sft import loaded
from pacbayes_sft.checkpoints.adapter_files import is_adapter, refuse_renamed
from pacbayes_sft.checkpoints.files import open_checkpoint
from pacbayes_sft.checkpoints.full_weights import WRAPPED, is_wrapped
from pacbayes_sft.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BASES = Path(__file__).parent / "bases"
AUTOCAST = "autocast"  # a dtype: float32 weights, products in bfloat16, as trainers' bf16=True


def resolve_base(name: str | Path) -> str:
    """Return a path or hub id.

    The name of a shipped base (``strong``) becomes its directory, ``owner/name@revision`` that of
    the snapshot, so that weights, tokenizer and hash are of one revision. Give what it returns to
    `transformers`, `peft` or `trl` to use a shipped base in a script of your own.

    >>> Path(resolve_base("strong")).name, resolve_base("./mine")
    ('strong', './mine')
    """
    shipped = BASES / str(name)
    if (shipped / "config.json").is_file():
        return str(shipped)
    if "@" in str(name) and not Path(name).exists():
        return str(local_directory(str(name)))
    return str(name)


def refuse_adapter_in(base: str) -> None:
    """Refuse a base whose directory holds an adapter too: transformers would put it on top, unsaid.

    Then what is evaluated is not what the KL and the hashes are of.

    Raises:
        InputError: Naming the directory.
    """
    folder = local_directory(base)
    if is_adapter(folder):
        raise InputError(
            f"{folder}: an adapter lies beside the base's weights, and transformers would load it "
            "on top of them; give a directory without adapter_config.json and "
            "adapter_model.safetensors as --base"
        )


def public_name(base: str) -> str:
    """Return the name that a resolved base has on any machine, where it has one.

    A shipped base's own name, ``owner/name@revision`` for a hub snapshot, else the path as given.
    """
    path = Path(base)
    if path.parent == BASES:
        return path.name
    if path.parent.name == "snapshots" and path.parent.parent.name.startswith("models--"):
        return path.parent.parent.name.removeprefix("models--").replace("--", "/", 1) + (
            f"@{path.name}"
        )
    return base


def computes_in_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16; True where torch does not tell (not x86)."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    ways = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, way, lambda: True)() for way in ways)


def resolve_device(name: str) -> str:
    """Turn ``auto`` into the device there is.

    Raises:
        InputError: If the device named cannot be used here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: cannot be used here ({_first_line(error)})") from None
    return name


def device_name(name: str) -> str:
    """Return what a record says of where it was measured: ``cpu``, or the GPU's own name.

    Raises:
        InputError: If the device named cannot be used here.
    """
    device = torch.device(resolve_device(name))
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def local_directory(base: str) -> Path:
    """Return the directory of a base's files: the path itself, or a hub id's snapshot.

    Raises:
        InputError: If it is neither a directory here nor a hub id that can be had.
    """
    if Path(base).is_dir():
        return Path(base)
    if base.endswith(".gguf") and Path(base).is_file():
        raise InputError(
            f"{base}: a GGUF file; de-quantise it once with `python -m "
            f"pacbayes_sft.checkpoints.gguf {base} DIR` and give DIR as --base"
        )
    if Path(base).exists() or base.startswith((".", "/", "~")) or base.count("/") != 1:
        raise InputError(f"{base}: no such model directory (nor a hub id 'owner/name')")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, _, revision = base.partition("@")
    try:
        found = snapshot_download(
            name,
            revision=revision or None,
            # code is fetched but run only if trusted; a pinned snapshot has no second chance
            allow_patterns=[
                "*.json",
                "*.safetensors",
                "*.jinja",
                "*.txt",
                "*.model",
                "*.py",
                "*.md",
            ],
        )
    except LocalEntryNotFoundError:
        at = f" --revision {revision}" if revision else ""
        raise InputError(
            f"{base}: not a directory here, and the hub could not give it: it is not in the cache, "
            f"and the hub is offline (HF_HUB_OFFLINE) or out of reach; get it once with "
            f"`hf download {name}{at}`"
        ) from None
    except Exception as error:
        raise InputError(
            f"{base}: not a directory here, and the hub could not give it ({_first_line(error)})"
        ) from None
    return Path(found)


def cached_directory(base: str, revision: str | None = None) -> Path | None:
    """Return where a base's files lie on this machine already, without asking the hub, or None.

    >>> cached_directory("strong").name, cached_directory("nobody/nothing")
    ('strong', None)
    """
    for here in (BASES / base, Path(base)):
        if os.path.isfile(here / "config.json"):  # noqa: PTH113 - false if it is too long
            return here
    if base.startswith((".", "/", "~")) or base.count("/") != 1:
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, _, pinned = base.partition("@")
    try:
        return Path(snapshot_download(name, revision=pinned or revision, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):  # not here, or no hub id at all
        return None


def load_tokenizer(base: str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the base's tokenizer; one without a padding token pads with end of sequence.

    Code that lies beside the weights runs only if it is trusted.

    Raises:
        InputError: If it cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = loaded.tokenizer(
            base,
            trust_remote_code,
            lambda: AutoTokenizer.from_pretrained(base, trust_remote_code=trust_remote_code),
        )
    except Exception as error:
        _refuse_remote_code(base, error)
        raise InputError(f"{base}: no tokenizer could be loaded ({_first_line(error)})") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(
    base: str,
    finetuned: Path | None = None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    trust_remote_code: bool = False,
    runs_on: str | None = None,
) -> torch.nn.Module:
    """Load a base, or a fine-tune of it (adapter through PEFT, or full checkpoint), to evaluate.

    With dtype ``autocast`` the weights are float32 and every forward pass, also one that trains,
    multiplies matrices in bfloat16, on ``device`` or, where a trainer moves it, on ``runs_on``.
    Code that lies beside the weights runs only if it is trusted.

    Raises:
        InputError: If transformers or PEFT cannot load it.
    """
    from transformers import AutoModelForCausalLM

    device = resolve_device(device)
    refuse_adapter_in(base)
    adapter = finetuned is not None and is_adapter(finetuned)
    weights = str(finetuned) if finetuned is not None and not adapter else base

    def load() -> Any:
        renamed = {}
        if weights != base and is_wrapped(open_checkpoint(Path(weights))):
            renamed = {"key_mapping": {WRAPPED: ""}}
        read: Any = AutoModelForCausalLM.from_pretrained(
            weights,
            dtype=torch.float32 if dtype == AUTOCAST else getattr(torch, dtype),
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **renamed,
        )
        if missing := sorted(read[1]["missing_keys"]):
            raise InputError(
                f"{weights}: holds no {missing[0]!r}{_and_more(missing)}, so that would be "
                "initialised at random; save the whole model again"
            )
        return read[0]

    try:
        again = weights == base  # a finished full checkpoint is read by its own cell alone
        model: Any = loaded.model(base, (dtype, trust_remote_code), load) if again else load()
    except InputError:
        raise
    except Exception as error:
        _refuse_remote_code(weights, error)
        raise InputError(f"{weights}: no model could be loaded ({_first_line(error)})") from None
    if finetuned is not None and adapter:
        from peft import PeftModel, load_peft_weights, set_peft_model_state_dict

        refuse_renamed(finetuned)
        try:
            with warnings.catch_warnings():
                # else PEFT goes on with those factors as they were initialised
                warnings.filterwarnings("error", message="Found missing adapter keys")
                model = PeftModel.from_pretrained(model, str(finetuned))
            # PEFT says nothing of stored tensors that it has no place for
            stored = load_peft_weights(str(finetuned), device="cpu")
            placed: Any = set_peft_model_state_dict(model, stored)
            prompts = model.active_peft_config.is_prompt_learning  # which it checks by itself
            placeless = [] if prompts else sorted(placed.unexpected_keys)
        except Exception as error:
            raise InputError(
                f"{finetuned}: PEFT could not load it onto {base} ({_first_line(error)})"
            ) from None
        if placeless:
            raise InputError(
                f"{finetuned}: PEFT finds no place in {base} for {placeless[0]!r}"
                f"{_and_more(placeless)}; it was made for another base or under another config"
            )
    if dtype == AUTOCAST:
        model.forward = torch.autocast(torch.device(runs_on or device).type, torch.bfloat16)(
            model.forward
        )
    ready: torch.nn.Module = model.to(device).eval().requires_grad_(False)
    return ready


def _and_more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def load_config(
    base: str, finetuned: Path | None = None, *, trust_remote_code: bool = False
) -> Any:
    """Load the config of the model that `load_model` would load, and none of its weights.

    Raises:
        InputError: In the words of `load_model`.
    """
    from transformers import AutoConfig

    refuse_adapter_in(base)
    adapter = finetuned is not None and is_adapter(finetuned)
    source = str(finetuned) if finetuned is not None and not adapter else base
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    except Exception as error:
        _refuse_remote_code(source, error)
        raise InputError(f"{source}: no model could be loaded ({_first_line(error)})") from None


def _refuse_remote_code(source: str, error: Exception) -> None:
    if "trust_remote_code" in str(error):
        raise InputError(
            f"{source}: needs code that lies beside its weights, and no such code is run unless "
            "asked for; read it, then give --trust-remote-code"
        ) from None


def context_length(model: torch.nn.Module) -> int | None:
    """Return the longest input the model's positions allow, if its config says so."""
    return getattr(model.config, "max_position_embeddings", None)


def vocabulary_size(model: torch.nn.Module) -> int:
    """Return how many tokens the model has an embedding of; PEFT's wrappers have a weight too."""
    return int(model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
