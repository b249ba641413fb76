"""The settings themselves: bases, data sets, and how much of each."""

from __future__ import annotations

from dataclasses import dataclass


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
    "chain-sum": Recipe("SmolLM2 on chain_sum by terms", SMOL, rows=8192, test_rows=240),
    "gsm-symbolic": Recipe("SmolLM2 on gsm_symbolic by chain length", SMOL, rows=2048, context=512),
}
