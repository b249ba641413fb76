"""What ``adapter_config.json`` says: typed, and refused by name where it cannot be read rightly."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pacbayes_sft.checkpoints.files import CONFIG as CONFIG
from pacbayes_sft.errors import InputError
from pacbayes_sft.reading import read_json

_MOST = 1e9  # of alpha, in size; no one means more
_MOST_LAYERS = 10_000
PLAIN_INITS = (True, False, "gaussian", "orthogonal", None)
# The base is changed when the adapter is made, and in the same way again whenever it is loaded.
RESIDUAL_INITS = ("pissa", "olora")
SEES_DATA = "EVA saw the training data: A and the ranks may shape Q only, never the prior"

_MERGE = (
    "merge it with PEFT (merge_and_unload, then save_pretrained) and give that full checkpoint as "
    "--finetuned"
)
_CONVERT = (
    "convert it to plain LoRA (PEFT: save_pretrained with path_initial_model_for_weight_conversion)"
)
_REFUSED_INITS = {
    "pissa_niter": "starts from a randomised SVD, which a reload does not repeat",
    "lora_ga": "changed the base by gradients on training rows, which a reload does not repeat",
    "corda": "changed the base by a decomposition of sampled activations",
    "loftq": "replaced the base by a quantised one",
}
_REFUSED_FIELDS = {
    "alora_invocation_tokens": "an activated LoRA changes the weights only behind its invocation "
    "tokens, so there is no one change of the weights; train a plain LoRA instead",
    "arrow_config": "Arrow routes each token among several adapters, so there is no one change of "
    "the weights; certify each of them alone",
    "kasa_config": f"KaSA also cuts singular values off the base; {_MERGE}",
    "monteclora_config": f"MonteCLoRA mixes sampled factors; {_MERGE}",
    "velora_config": f"VeLoRA is not supported yet; {_MERGE}",
    "use_qalora": "QA-LoRA pools its inputs in groups; train a plain LoRA instead",
    "use_bdlora": f"block-diagonal factors are not supported yet; {_MERGE}",
    "ensure_weight_tying": f"one adapter for two tied modules is not supported yet; {_MERGE}",
    "megatron_config": "layers split by Megatron cannot be read; save it from a plain PEFT model",
}
_NO_WEIGHTS = {
    "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT",
    "ADAPTION_PROMPT", "CARTRIDGE",
}  # fmt: skip
# Fields that leave the meaning of the stored tensors alone. The configs of initialisations are
# among them: the initialisation itself is judged by `init_lora_weights`.
_HARMLESS = {
    "task_type", "auto_mapping", "revision", "inference_mode", "exclude_modules", "lora_dropout",
    "layers_to_transform", "layers_pattern", "megatron_core", "qalora_group_size",
    "runtime_config", "eva_config", "corda_config", "lora_ga_config", "loftq_config",
}  # fmt: skip


class LoraSettings(BaseModel):
    """The fields of a LoRA's ``adapter_config.json`` that say how its tensors change the weights.

    Attributes:
        r: Rank where no pattern says otherwise.
        rank_pattern: Rank by regular expression on the end of the module path.
        layer_replication: ``[start, stop)`` ranges of base layers that the layers are copies of.
        trainable_token_indices: Rows of the embedding, or rows by module, that were trained.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, protected_namespaces=())

    peft_type: str | None = None
    peft_version: str | None = None
    base_model_name_or_path: str | None = None
    r: int = Field(default=8, gt=0)
    lora_alpha: float = Field(default=8, allow_inf_nan=False, ge=-_MOST, le=_MOST)
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    use_rslora: bool | None = False
    fan_in_fan_out: bool | None = False
    init_lora_weights: bool | str | None = True
    bias: Literal["none", "all", "lora_only"] = "none"
    lora_bias: bool | None = False
    use_dora: bool | None = False
    target_modules: list[str] | str | None = None
    target_parameters: list[str] | None = None
    modules_to_save: list[str] | None = None
    trainable_token_indices: list[int] | dict[str, list[int]] | None = None
    layer_replication: list[list[int]] | None = None

    @property
    def residual_init(self) -> str | None:
        """``pissa`` or ``olora`` where the base is changed at load, else None."""
        init = self.init_lora_weights
        return init if isinstance(init, str) and init in RESIDUAL_INITS else None

    def rank_of(self, key: str) -> int:
        """Return the rank stated for a module path (or, for a bare parameter, its full name)."""
        found = _by_pattern(key, self.rank_pattern, self.r)
        return int(found)

    def scaling_of(self, key: str, rank: int) -> float:
        """Return s in ΔW = s·BA for a module of that rank."""
        alpha = _by_pattern(key, self.alpha_pattern, self.lora_alpha)
        return float(alpha) / (math.sqrt(rank) if self.use_rslora else rank)


def read_settings(directory: Path) -> LoraSettings:
    """Read and judge ``adapter_config.json``.

    Raises:
        InputError: If it is missing or broken, or says something that this version would read
            wrongly; the message names the field and the mend.
    """
    file = directory / CONFIG
    content = read_json(file)
    _refuse_type(content.get("peft_type"), file)
    try:
        settings = LoraSettings.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{file}: {_in_words(error)}") from None
    _refuse_init(settings.init_lora_weights, file)
    _refuse_fields(settings, file)
    _check_patterns(settings, file)
    return settings


def _by_pattern(key: str, patterns: Mapping[str, float] | None, default: float) -> float:
    """PEFT's rule: the first pattern that matches the end of the module path wins."""
    for pattern, value in (patterns or {}).items():
        if re.match(_whole(pattern), key):
            return value
    return default


def _refuse_type(kind: Any, file: Path) -> None:
    if kind == "LORA":
        return
    if kind == "XLORA":
        why = "X-LoRA mixes several adapters anew for each token; certify each of them alone"
    elif isinstance(kind, str) and kind in _NO_WEIGHTS:
        why = "it adds to the input and leaves the weights alone; train a LoRA instead"
    else:
        why = f"only LORA can be read; {_MERGE}"
    raise InputError(f"{file}: peft_type {kind!r}: {why}")


def _refuse_init(init: bool | str | None, file: Path) -> None:
    if init in PLAIN_INITS or init in (*RESIDUAL_INITS, "eva", "mica"):
        return
    for name, why in _REFUSED_INITS.items():
        if str(init).startswith(name):
            raise InputError(f"{file}: init_lora_weights={init!r} {why}; {_CONVERT}")
    raise InputError(f"{file}: init_lora_weights={init!r} is unknown to this version; {_CONVERT}")


def _refuse_fields(settings: LoraSettings, file: Path) -> None:
    for field, value in (settings.model_extra or {}).items():
        if value in (None, False, {}, []) or field in _HARMLESS:
            continue
        if field in _REFUSED_FIELDS:
            raise InputError(f"{file}: {field} is set: {_REFUSED_FIELDS[field]}")
        raise InputError(
            f"{file}: {field}={str(value)[:80]!r} is unknown to this version (the file names PEFT "
            f"{settings.peft_version}), which would therefore compute the change of the weights "
            f"wrongly; {_MERGE}"
        )
    for start_stop in settings.layer_replication or []:
        if len(start_stop) != 2 or not 0 <= start_stop[0] < start_stop[1] <= _MOST_LAYERS:
            raise InputError(
                f"{file}: layer_replication has the range {start_stop}, no start and stop"
            )


def _whole(pattern: str) -> str:
    """What PEFT makes of a pattern: it fits the end of a module's path, from a dot on."""
    return rf"(.*\.)?({pattern})$"


def _check_patterns(settings: LoraSettings, file: Path) -> None:
    for field in ("rank_pattern", "alpha_pattern"):
        for pattern, value in (getattr(settings, field) or {}).items():
            try:
                re.compile(_whole(pattern))
            except re.error as error:
                raise InputError(
                    f"{file}: {field} has the bad pattern {pattern!r} ({error})"
                ) from (None)
            if not abs(value) <= _MOST or (field == "rank_pattern" and value < 1):
                raise InputError(f"{file}: {field} of {pattern!r} is {value}, no rank or alpha")


def _in_words(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(
        str(part) for part in first["loc"] if not str(part).startswith(("list[", "dict["))
    )
    return f"{key} is {str(first['input'])[:60]!r} ({first['msg'].lower()})"
