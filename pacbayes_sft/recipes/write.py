"""Write a recipe out: ``pool.jsonl``, ``test.jsonl`` and the ``scan.yaml`` that names them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from pacbayes_sft.atomic import replacing
from pacbayes_sft.data.encode import encode
from pacbayes_sft.data.rows import Row, Table
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import load_config, load_tokenizer, resolve_base
from pacbayes_sft.recipes.generated import GENERATORS
from pacbayes_sft.recipes.settings import MMLU, RECIPES, Recipe
from pacbayes_sft.recipes.stream import rows_of
from pacbayes_sft.recipes.thirds import cut_into_thirds

HERE = Path(__file__).parent


def write_recipe(
    name: str,
    out: Path,
    *,
    pool: Path | None = None,
    test: Path | None = None,
    base: str | None = None,
    rows: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Write the files of a recipe.

    Args:
        name: One of `RECIPES`.
        out: Directory for ``pool.jsonl``, ``test.jsonl`` and ``scan.yaml``.
        pool: A local copy (JSON lines or Parquet) of the training data set, else the hub's.
        test: A local copy of the test data set.
        base: Another base; its tokenizer counts tokens.
        rows: Fewer rows of the pool.
        seed: Which rows are taken, where there are more.

    Returns:
        What was kept and left out, JSON-ready.

    Raises:
        InputError: If there is no such recipe, a data set lacks its columns, or a file that would
            be written is there with another content; nothing is written then.
    """
    recipe = RECIPES.get(name)
    if recipe is None:
        raise InputError(f"recipe {name}: there is none; {', '.join(RECIPES)}")
    if any(p is None and f is not None for p, f in ((recipe.pool, pool), (recipe.test, test))):
        raise InputError(f"recipe {name}: makes its rows; leave --pool and --test")
    base, wanted = base or recipe.base, rows or recipe.rows
    files = {out / "scan.yaml": _configuration(name, out, base)}
    _refuse_other_content(files)  # before any work
    place = resolve_base(base)
    tokenizer = load_tokenizer(place)
    own = getattr(load_config(place), "max_position_embeddings", None)
    room = min(recipe.context, own or recipe.context)
    said: dict[str, Any] = {"recipe": name, "what": recipe.what, "base": base}
    kept: dict[str, list[dict[str, Any]]] = {}
    for side, public, local, most in (
        ("test", recipe.test, test, None if recipe.test else recipe.test_rows),
        ("pool", recipe.pool, pool, wanted),
    ):
        if public is None:
            found: Iterable[dict[str, Any]] = GENERATORS[name](
                side == "test", wanted if most is None else most
            )
        else:
            tested = {row["unit"] for row in kept.get("test", ())}
            found = rows_of(public, local, seed if most else None, tested)
        kept[side], said[side] = _measured(found, tokenizer, recipe, side, most, room)
    if recipe.test is not None or name == "gsm-symbolic":
        cut_into_thirds(kept["pool"], kept["test"], own=recipe.test is not None)
    texts = {
        out / f"{side}.jsonl": "".join(json.dumps(row) + "\n" for row in side_rows)
        for side, side_rows in kept.items()
    }
    _refuse_other_content(texts)
    for file, text in (texts | files).items():  # the configuration last: it names the others
        with replacing(file) as partial:
            partial.write_bytes(text.encode())
    return said | {"scan": str(out / "scan.yaml")}


def _configuration(name: str, out: Path, base: str) -> str:
    """The recipe's template with its paths and base, which may hold quotes or braces."""
    values = {"{base}": base}
    for side in ("pool", "test"):
        values[f"{{out}}/{side}.jsonl"] = (out / f"{side}.jsonl").as_posix()
    # all at once, so that nothing is put into a value that was put in
    return re.sub(
        "|".join(re.escape(f'"{key}"') for key in values),
        lambda found: _quoted(values[found[0][1:-1]]),
        (HERE / f"{name}.yaml").read_text(encoding="utf-8"),
    )


def _quoted(value: str) -> str:
    """A string as a scalar of YAML in double quotes, on one line."""
    width = float("inf")
    text: str = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=width)
    return text.rstrip("\n")


def _refuse_other_content(texts: Mapping[Path, str]) -> None:
    """Raise if a file is there that holds something else: it may have been edited.

    Raises:
        InputError: Naming it.
    """
    for file, text in texts.items():
        if file.exists() and not (file.is_file() and file.read_bytes() == text.encode()):
            raise InputError(
                f"{file}: is there already with other content; remove it, or give another --out "
                "(nothing was overwritten)"
            )


def _measured(
    found: Iterable[dict[str, Any]],
    tokenizer: Any,
    recipe: Recipe,
    side: str,
    most: int | None,
    context: int,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Count tokens, leave out what the base cannot read; stop at ``most`` rows."""
    kept: list[dict[str, Any]] = []
    too_long = 0
    for row in found:
        if most is not None and len(kept) == most:
            break
        one = Table(side, [Row(row["prompt"], row["completion"])], "")
        (encoded,) = encode(one, tokenizer, None)
        asked = encoded.prompt_length + (recipe.new_tokens or 0) if side == "test" else 0
        if max(len(encoded.ids), asked) > context:
            too_long += 1
            continue
        tokens = len(encoded.ids) - encoded.prompt_length
        row.setdefault("difficulty", tokens if side == "pool" or recipe.test is not MMLU
                       else encoded.prompt_length)  # fmt: skip
        if recipe.new_tokens is not None:
            row["max_new_tokens"] = recipe.new_tokens
        kept.append(row)
    if not kept:
        raise InputError(f"the {side}: no row is left, {too_long} were longer than the base reads")
    return kept, {"rows": len(kept), "too_long": too_long}
