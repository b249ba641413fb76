"""Rows from reasoning-gym (`pip install 'pacbayes-sft[real]'`): no download, any number of them.

Item i of seed s is drawn from seed s + i, so close seeds overlap: pool and test lie a million
apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pacbayes_sft.errors import InputError

POOL_SEED, TEST_SEED = 1_000_000, 3_000_000
TERMS = (2, 6)


def chain_sum(test: bool, size: int) -> Iterator[dict[str, Any]]:
    """Yield sums of two-digit numbers; the difficulty is the number of terms, uniform on 2..6."""
    low, high = TERMS
    items = _items(
        "chain_sum", test, size, min_terms=low, max_terms=high, min_digits=2, max_digits=2
    )
    for item in items:
        yield {
            "prompt": item["question"],
            "completion": f" {item['answer']}",
            "answer": item["answer"],
            "difficulty": item["metadata"]["num_terms"],
        }


def gsm_symbolic(test: bool, size: int) -> Iterator[dict[str, Any]]:
    """Yield GSM8K-style questions with their chain of thought; the unit is the template.

    Some chains hold wrong intermediate figures (reasoning-gym 0.1.25: "receives 48=48 emails");
    they are trained on as they are, the answers are right.
    """
    items = _items("gsm_symbolic", test, size)
    for item, template in zip(items, items.task_indices, strict=True):
        chain = item["metadata"]["answer_cot"].strip()
        yield {
            "prompt": item["question"] + "\n",
            "completion": chain if "####" in chain else f"{chain}\n#### {item['answer']}",
            "answer": item["answer"],
            "unit": f"template {template}",
        }


GENERATORS = {"chain-sum": chain_sum, "gsm-symbolic": gsm_symbolic}


def _items(task: str, test: bool, size: int, **knobs: Any) -> Any:
    try:
        from reasoning_gym import create_dataset
    except ImportError:
        raise InputError(
            "this recipe needs reasoning-gym; pip install 'pacbayes-sft[real]'"
        ) from None
    return create_dataset(task, size=size, seed=TEST_SEED if test else POOL_SEED, **knobs)
