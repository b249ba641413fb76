"""Pairs of text data sets whose total variation is known by construction.

Each pair is two laws over one key (an operation count, a number of terms) under one generator, so
the TV of the texts is that of the two laws (`estimators.total_variation_known`): a text tells its
key. So it is for mixtures (1-λ)P + λD' with D' disjoint from P: λ. The solution of another problem
could fit by accident, with a probability too small to matter here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Law = Mapping[int, float]
Draw = Callable[[int, int], tuple[str, str]]  # (key, index) -> prompt, completion


@dataclass(frozen=True)
class Pair:
    """Two laws under one generator.

    Attributes:
        name: Name in the records.
        draw: Draws one row of a given key; rows of different indices are independent.
        train: Law of the key on the train side.
        test: Law of the key on the test side.
        prompt_only: Whether only the prompt is looked at.
    """

    name: str
    draw: Draw
    train: Law
    test: Law
    prompt_only: bool = False

    @property
    def truth(self) -> float:
        """Total variation of the two laws, which is that of the texts."""
        keys = {*self.train, *self.test}
        return sum(abs(self.train.get(k, 0.0) - self.test.get(k, 0.0)) for k in keys) / 2

    def rows(self, n: int, seed: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Return n independent rows a side as (prompt, completion); sides share no stream."""
        sides = []
        for side, law in enumerate((self.train, self.test)):
            generator = np.random.default_rng([seed, side])
            keys = generator.choice(list(law), n, p=list(law.values()))
            start = (2 * seed + side) * 1_000_000
            found = [self.draw(int(k), start + i) for i, k in enumerate(keys)]
            sides.append([(p, "") for p, _ in found] if self.prompt_only else found)
        return sides[0], sides[1]


def uniform(low: int, high: int) -> Law:
    """Return the uniform law on low..high."""
    return {k: 1 / (high - low + 1) for k in range(low, high + 1)}


def mixed(first: Law, second: Law, share: float) -> Law:
    """Return (1-λ)·first + λ·second."""
    keys = sorted({*first, *second})
    return {k: (1 - share) * first.get(k, 0.0) + share * second.get(k, 0.0) for k in keys}


def igsm(rendering: str) -> Draw:
    """Return a generator of iGSM problems by operation count."""
    from pacbayes_sft.igsm import english, symbolic
    from pacbayes_sft.igsm.generate import draw_problem, problem_stream

    renderer = {"symbolic": symbolic, "english": english}[rendering]

    def draw(operations: int, index: int) -> tuple[str, str]:
        problem = draw_problem(operations, problem_stream(77, index, (9,)))
        return renderer.render_prompt(problem), renderer.render_steps(problem.solution())

    return draw


def chain_sum(terms: int, index: int) -> tuple[str, str]:
    """Draw a sum with that many two-digit terms, through reasoning-gym."""
    from reasoning_gym import create_dataset

    (item,) = create_dataset(
        "chain_sum", size=1, seed=index,
        min_terms=terms, max_terms=terms, min_digits=2, max_digits=2,
    )  # fmt: skip
    return item["question"], f" {item['answer']}"


def tasks(kind: int, index: int) -> tuple[str, str]:
    """Draw a sum (0) or a worded problem with its chain of thought (1)."""
    from reasoning_gym import create_dataset

    if kind == 0:
        return chain_sum(_dice(index, 2, 4), index)
    (item,) = create_dataset("gsm_symbolic", size=1, seed=index)
    return item["question"], " " + item["metadata"]["answer_cot"]


def polite(kind: int, index: int) -> tuple[str, str]:
    """Draw an English problem; kind 1 closes with a phrase that no problem of kind 0 has."""
    prompt, completion = igsm("english")(_dice(index, 3, 6), index)
    return prompt + (" Please think step by step." if kind else ""), completion


def swapped(kind: int, index: int) -> tuple[str, str]:
    """Draw a symbolic problem whose solution (kind 1) is that of another: the pairing differs."""
    draw = igsm("symbolic")
    prompt, completion = draw(3, index)
    return prompt, draw(3, index + 500_000)[1] if kind else completion


def wrong(kind: int, index: int) -> tuple[str, str]:
    """Draw a symbolic problem; kind 1 ends in a wrong number: only arithmetic can tell."""
    prompt, completion = igsm("symbolic")(_dice(index, 2, 6), index)
    if kind:
        steps, _, answer = completion.rpartition(" ")
        completion = f"{steps} {(int(answer) + _dice(index + 1, 1, 22)) % 23}"
    return prompt, completion


def _dice(index: int, low: int, high: int) -> int:
    return int(np.random.default_rng([index, 5]).integers(low, high + 1))


def pairs() -> tuple[Pair, ...]:
    """Return all pairs, near ones and far ones."""
    symbolic, english = igsm("symbolic"), igsm("english")
    easy, hard = uniform(1, 8), uniform(5, 12)
    same = uniform(2, 6)
    return (
        Pair("igsm symbolic, ops 1-8 / 5-12", symbolic, easy, hard),
        Pair("igsm english, ops 1-8 / 5-12", english, easy, hard),
        Pair("igsm symbolic, ops 2-6 / 3-7", symbolic, same, uniform(3, 7)),
        Pair("igsm english, ops 2-6 / 3-7", english, same, uniform(3, 7)),
        Pair("igsm symbolic, P = Q", symbolic, same, same),
        Pair("igsm english, P = Q", english, same, same),
        Pair("igsm symbolic, 10 % of ops 7-10", symbolic, same, mixed(same, uniform(7, 10), 0.1)),
        Pair("igsm symbolic, 2 % of op 12 (rare)", symbolic, same, mixed(same, {12: 1.0}, 0.02)),
        Pair("igsm symbolic, ops 2-4 / 6-8 (disjoint)", symbolic, uniform(2, 4), uniform(6, 8)),
        Pair("chain_sum, terms 2-4 / 2-6", chain_sum, uniform(2, 4), uniform(2, 6)),
        Pair("chain_sum, terms 2-5 / 2-6", chain_sum, uniform(2, 5), uniform(2, 6)),
        Pair("chain_sum, P = Q", chain_sum, uniform(2, 4), uniform(2, 4)),
        Pair("tasks, 25 % worded problems", tasks, {0: 1.0}, {0: 0.75, 1: 0.25}),
        Pair("a phrase in 5 % of prompts (rare)", polite, {0: 1.0}, {0: 0.95, 1: 0.05}),
        Pair("igsm symbolic, prompts, ops 1-8 / 5-12", symbolic, easy, hard, prompt_only=True),
        Pair("igsm symbolic, solution of another problem in 50 %", swapped, {0: 1.0},
             {0: 0.5, 1: 0.5}),
        Pair("igsm symbolic, wrong last number in 50 %", wrong, {0: 1.0}, {0: 0.5, 1: 0.5}),
    )  # fmt: skip


def texts(rows: list[tuple[str, str]]) -> list[str]:
    """Return the rows as texts."""
    return [prompt + completion for prompt, completion in rows]
