"""Write a recipe out: ``pool.jsonl``, ``test.jsonl`` and the ``scan.yaml`` that names them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pacbayes_sft.atomic import replacing
from pacbayes_sft.data.encode import encode
from pacbayes_sft.data.rows import Row, Table
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import load_tokenizer, resolve_base
from pacbayes_sft.progress import track
from pacbayes_sft.recipes.generated import GENERATORS
from pacbayes_sft.recipes.records import COLUMNS, CONVERT

HERE = Path(__file__).parent
THIRDS = ("easy", "medium", "hard")
SHUFFLE = 10_000  # records that a stream is shuffled among


@dataclass(frozen=True)
class Public:
    """A public data set.

    Attributes:
        kind: Which function of `records` reads it.
        id: Its hub id.
        config: Its configuration.
        split: Its split.
    """

    kind: str
    id: str
    config: str | None
    split: str


@dataclass(frozen=True)
class Recipe:
    """A setting.

    Attributes:
        what: In words.
        base: The base.
        pool: Where training rows come from; None: `generated`.
        test: Where test rows come from.
        rows: Most rows of the pool.
        test_rows: Test rows, for those generated.
        context: Most tokens of prompt and completion; longer rows are left out.
        new_tokens: Tokens that a solution of a test row may take.
    """

    what: str
    base: str
    pool: Public | None = None
    test: Public | None = None
    rows: int = 200_000
    test_rows: int = 256
    context: int = 4096
    new_tokens: int | None = None


OPENR1 = Public("openr1", "open-r1/OpenR1-Math-220k", "default", "train")
OPENMATH = Public("openmath", "nvidia/OpenMathReasoning", None, "cot")
OPENSCIENCE = Public("openscience", "nvidia/OpenScience", "OS-Q3-235B-4", "train")
MATH500 = Public("math500", "HuggingFaceH4/MATH-500", None, "test")
MMLU = Public("mmlu", "cais/mmlu", "all", "test")
SMALL, LARGE = "Qwen/Qwen2.5-Math-1.5B", "Qwen/Qwen2.5-Math-7B"
SMOL = "runs/real/base"  # SmolLM2-135M-Instruct: where benchmarks/real.py puts it

RECIPES: dict[str, Recipe] = {
    "openr1-math500": Recipe(
        "Table 1, first row: OpenR1-Math-94k, Math500",
        SMALL,
        OPENR1,
        MATH500,
        94_000,
        new_tokens=3072,
    ),
    "openmath-math500": Recipe(
        "Table 1, second row: OpenMath, Math500", SMALL, OPENMATH, MATH500, new_tokens=3072
    ),
    "openscience-mmlu": Recipe(
        "Table 1, third row: OpenScience, MMLU", SMALL, OPENSCIENCE, MMLU, new_tokens=3072
    ),
    "openmath-7b": Recipe(
        "Figures 3 and 4: OpenMath over n and difficulty", LARGE, OPENMATH, MATH500, new_tokens=3072
    ),
    "chain-sum": Recipe("SmolLM2 on chain_sum by terms", SMOL, rows=8192, test_rows=512),
    "gsm-symbolic": Recipe("SmolLM2 on gsm_symbolic by chain length", SMOL, rows=2048, context=512),
}


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
        InputError: If there is no such recipe, or a data set lacks its columns.
    """
    recipe = RECIPES.get(name)
    if recipe is None:
        raise InputError(f"recipe {name}: there is none; {', '.join(RECIPES)}")
    base, wanted = base or recipe.base, rows or recipe.rows
    tokenizer = load_tokenizer(resolve_base(base))
    said: dict[str, Any] = {"recipe": name, "what": recipe.what, "base": base}
    kept = {}
    for side, public, local, most in (
        ("pool", recipe.pool, pool, wanted),
        ("test", recipe.test, test, None if recipe.test else recipe.test_rows),
    ):
        if public is None:
            if local is not None:
                raise InputError(f"recipe {name}: makes its rows; leave --pool and --test")
            found: Iterable[dict[str, Any]] = GENERATORS[name](side == "test", most or wanted)
        else:
            found = _converted(public, local, seed if most else None)
        kept[side], said[side] = _measured(found, tokenizer, recipe, side, most)
    if recipe.test is not None or name == "gsm-symbolic":
        _cut_into_thirds(kept["pool"], kept["test"], own=recipe.test is not None)
    for side, side_rows in kept.items():
        with replacing(out / f"{side}.jsonl") as partial:
            partial.write_text("".join(json.dumps(row) + "\n" for row in side_rows), "utf-8")
    text = (HERE / f"{name}.yaml").read_text(encoding="utf-8")
    text = text.replace("{out}", out.as_posix()).replace("{base}", base)
    with replacing(out / "scan.yaml") as partial:
        partial.write_text(text, encoding="utf-8")
    return said | {"scan": str(out / "scan.yaml")}


def _converted(public: Public, local: Path | None, seed: int | None) -> Iterator[dict[str, Any]]:
    """Yield rows of a data set, one solution a problem, in random order if a seed is given.

    A stream is shuffled by its shards and among `SHUFFLE` records; that is not a uniform sample.
    """
    seen: set[str] = set()
    for number, record in enumerate(_records(public, local, seed), start=1):
        missing = [column for column in COLUMNS[public.kind] if column not in record]
        if missing:
            raise InputError(
                f"{local or public.id}, record {number}: no column {missing[0]!r}; it has "
                f"{', '.join(sorted(record))}"
            )
        row = CONVERT[public.kind](record)
        if row is not None and row["unit"] not in seen:
            seen.add(row["unit"])
            yield row


def _records(public: Public, local: Path | None, seed: int | None) -> Iterable[dict[str, Any]]:
    from datasets import load_dataset

    try:
        if local is None:
            stream = load_dataset(public.id, public.config, split=public.split, streaming=True)
        else:
            if not local.is_file():
                raise InputError(f"{local}: no such file")
            kind = "parquet" if local.suffix == ".parquet" else "json"
            stream = load_dataset(kind, data_files=str(local), split="train", streaming=True)
    except InputError:
        raise
    except Exception as error:
        first = str(error).strip().split("\n")[0][:200]
        raise InputError(
            f"{local or public.id}: cannot be loaded ({first}); give a local copy with --pool or "
            "--test"
        ) from None
    return stream if seed is None else stream.shuffle(seed=seed, buffer_size=SHUFFLE)


def _measured(
    found: Iterable[dict[str, Any]], tokenizer: Any, recipe: Recipe, side: str, most: int | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Count tokens, leave out what the base cannot read; stop at ``most`` rows."""
    kept: list[dict[str, Any]] = []
    too_long = 0
    for row in found:
        if most is not None and len(kept) == most:
            break
        one = Table(side, [Row(row["prompt"], row["completion"])], "")
        (encoded,) = encode(one, tokenizer, None)
        room = encoded.prompt_length + (recipe.new_tokens or 0) if side == "test" else 0
        if max(len(encoded.ids), room) > recipe.context:
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


def _cut_into_thirds(
    pool: Sequence[dict[str, Any]], test: Sequence[dict[str, Any]], own: bool
) -> None:
    """Give every row its ``third``: 0 easy, 1 medium, 2 hard, by the mean difficulty of its unit.

    Args:
        pool: Rows of the pool; their units' thirds make the edges.
        test: Test rows.
        own: Whether the test is cut at its own thirds: solutions of another kind have other
            lengths.
    """
    edges = _edges(_levels(pool))
    _mark(pool, _levels(pool), edges)
    levels = _levels(test) if own else {**_levels(test), **_levels(pool)}
    _mark(test, levels, _edges(_levels(test)) if own else edges)


def _levels(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    of_unit: dict[str, list[float]] = {}
    for row in rows:
        of_unit.setdefault(row["unit"], []).append(row["difficulty"])
    return {unit: float(np.mean(values)) for unit, values in of_unit.items()}


def _edges(levels: dict[str, float]) -> list[float]:
    cuts = np.quantile(list(levels.values()), [1 / 3, 2 / 3], method="inverted_cdf")
    return [float(cut) for cut in cuts]


def _mark(rows: Sequence[dict[str, Any]], levels: dict[str, float], edges: list[float]) -> None:
    for row in track(rows, "thirds"):
        row["third"] = int(np.searchsorted(edges, levels[row["unit"]], side="left"))
