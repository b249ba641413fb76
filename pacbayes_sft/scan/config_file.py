"""A configuration from its file; what is wrong with it is said in the file's own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pacbayes_sft.errors import InputError
from pacbayes_sft.scan.config import Bound, Config, Files, FineTune, Igsm, Primary, Windows


class _Refused(yaml.YAMLError):
    """What is YAML, and yet no configuration."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, and says where a value is that Python cannot hold."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, ArithmeticError, AttributeError, LookupError) as error:
            # a date without such a day, a number of 5,000 digits: PyYAML lets these through
            text = str(node.value)
            text = text if len(text) <= 40 else f"{text[:40]}..."
            raise _Refused(
                f"line {node.start_mark.line + 1}: {text} cannot be read "
                f"({str(error).partition(';')[0]}); write text in quotes"
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise _Refused(
                        f"line {key.start_mark.line + 1}: {key.value} is there twice; keep one"
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep=deep)


def read_config(file: Path) -> Config:
    """Read and check a configuration.

    Raises:
        InputError: Naming the key and what is wrong with it.
    """
    try:
        text = Path(file).read_text(encoding="utf-8")
        content: Any = yaml.load(text, Loader=_Loader)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except _Refused as error:
        raise InputError(f"{file}: {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not YAML ({' '.join(str(error).split())[:200]})") from None
    except RecursionError:
        raise InputError(f"{file}: nested too deep to be a configuration") from None
    if not isinstance(content, dict):
        raise InputError(f"{file}: holds no keys; see `pacbayes-sft scan --example`")
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{file}: {_said(error)}") from None


_Models = dict[str, type[BaseModel]]
_TAGS: dict[str, _Models] = {
    "data": {"igsm": Igsm, "rows": Files},
    "windows": {"list": Config, "rule": Windows},
}
_PARTS: _Models = {"fine_tune": FineTune, "bounds": Bound, "primary": Primary}


def _said(error: ValidationError) -> str:
    """Say the first thing that is wrong, its key as the file writes it."""
    first = error.errors()[0]
    place = list(first["loc"])
    model: type[BaseModel] = Config
    if len(place) > 1:
        tags = _TAGS.get(str(place[0]), {})
        model = tags.get(str(place[1])) or _PARTS.get(str(place[0]), Config)
        if place[1] in tags:  # which of two forms was tried; no key of the file
            del place[1]
    key = ".".join(str(part) for part in place) or "config"
    kind, said = first["type"], first["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        said = f"no such key; there are {', '.join(sorted(model.model_fields))}"
    elif kind == "missing":
        said = "is missing; see `pacbayes-sft scan --example`"
    elif kind == "tuple_type":
        said = "is not a list; write its values in [ ]"
    elif kind in ("dict_type", "model_type", "model_attributes_type"):
        said = "holds no keys; see `pacbayes-sft scan --example`"
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        key, said = f"{key}.kind", f"must be one of {', '.join(_TAGS['data'])}"
    return f"{key}: {said}"
