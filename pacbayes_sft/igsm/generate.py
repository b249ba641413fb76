"""Draw problems with an exact number of operations.

The law of a problem given its operation count is one fixed law, so two data sets that differ
only in the law of the count are exactly as far apart as those laws: TV(D, D') = TV of the
operation marginals. That is what makes the shift term of a bound known here.

A problem is built from the query backwards. Each parameter that is needed but not yet defined
gets a definition out of parameters that are not yet defined either, so no cycle can arise, until
the operations are spent; what is left becomes plain numbers. The edges that the query does not
need are defined last, from anything: they are the distractors.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pacbayes_sft.igsm.expressions import (
    MODULUS,
    OPERATORS,
    Abstract,
    Expression,
    Instance,
    Item,
    Operand,
    Parameter,
    count_operations,
    parameters_in,
)
from pacbayes_sft.igsm.problem import Problem, abstract_definition

VERSION = 1
LAYERS = 4
ITEMS_PER_LAYER = 4
MAX_OPERATIONS = 36

_NUMBER_OPERAND = 0.3
_ABSTRACT_OPERAND = 0.25
_REUSED_OPERAND = 0.3


@dataclass(frozen=True)
class OpLaw:
    """The law of the operation count: ``weights[k]`` is P(count = k).

    >>> OpLaw.uniform(2, 4).weights[3]
    0.3333333333333333
    """

    weights: Mapping[int, float]

    def __post_init__(self) -> None:
        """Refuse what is not a law on 1..MAX_OPERATIONS."""
        bad = [k for k in self.weights if not 1 <= k <= MAX_OPERATIONS]
        if bad or not self.weights:
            raise ValueError(f"operation counts must lie in 1..{MAX_OPERATIONS}, got {bad}")
        total = sum(self.weights.values())
        if not (all(w >= 0 for w in self.weights.values()) and abs(total - 1) <= 1e-9):
            raise ValueError(f"the weights of an op law must be >= 0 and sum to 1, not {total}")

    @classmethod
    def uniform(cls, low: int, high: int) -> OpLaw:
        """Return the uniform law on ``low..high``, both included."""
        if high < low:
            raise ValueError(f"an op range runs from low to high, got {low}:{high}")
        return cls({k: 1 / (high - low + 1) for k in range(low, high + 1)})

    @classmethod
    def parse(cls, text: str) -> OpLaw:
        """Read ``LO:HI`` (uniform) or ``k=w,k=w,...`` (weights).

        >>> OpLaw.parse("2=0.5,6=0.5").weights
        {2: 0.5, 6: 0.5}
        """
        try:
            if "=" in text:
                pairs = (part.split("=") for part in text.split(","))
                return cls({int(k): float(w) for k, w in pairs})
            low, high = text.split(":") if ":" in text else (text, text)
            bounds = int(low), int(high)
        except ValueError as error:
            if "op law" in str(error) or "operation counts" in str(error):
                raise
            raise ValueError(
                f"cannot read the op law {text!r}: write LO:HI, or k=w,k=w,..."
            ) from None
        return cls.uniform(*bounds)

    @property
    def namespace(self) -> tuple[int, ...]:
        """Key of this law's random streams, so that two laws share none under one seed."""
        return (1, zlib.crc32(repr(sorted(self.weights.items())).encode()))

    def draw(self, generator: np.random.Generator) -> int:
        """Draw one operation count."""
        counts = list(self.weights)
        return int(generator.choice(counts, p=[self.weights[k] for k in counts]))


def problem_stream(seed: int, index: int, namespace: tuple[int, ...] = ()) -> np.random.Generator:
    """Return the random stream of problem ``index`` of data set ``seed``.

    Streams that differ in seed, index or namespace are independent; close seeds do not overlap.
    The empty namespace is that of pre-training, so no data file can repeat what a base has seen.
    """
    return np.random.default_rng(
        np.random.SeedSequence(entropy=seed, spawn_key=(*namespace, index))
    )


def draw_problem(
    operations: int, generator: np.random.Generator, *, abstract: bool = True
) -> Problem:
    """Draw a problem whose canonical solution has exactly ``operations`` binary operations.

    Args:
        operations: The difficulty, in 1..36.
        generator: The random stream; consumed.
        abstract: Whether abstract parameters may be asked for and used.

    Raises:
        ValueError: If ``operations`` is out of range.
    """
    if not 1 <= operations <= MAX_OPERATIONS:
        raise ValueError(f"operations must lie in 1..{MAX_OPERATIONS}, got {operations}")
    while True:  # a draft that cannot spend its operations exactly is thrown away (rare)
        children = _draw_structure(operations, generator)
        draft = _Draft(children, generator, operations, abstract)
        query = draft.define_needed()
        if query is not None:
            draft.define_distractors()
            return Problem(draft.shuffled_definitions(), query)


def _draw_structure(operations: int, generator: np.random.Generator) -> dict[Item, list[Instance]]:
    """Draw layers of items and the edges between neighbouring layers (every upper item has one).

    There are a few more edges than the operations need, so that distractors remain.
    """
    wanted = operations + 2 + int(generator.integers(0, 5))
    while True:
        sizes = generator.integers(2, ITEMS_PER_LAYER + 1, size=LAYERS)
        possible = [
            Instance(Item(layer, i), Item(layer + 1, j))
            for layer in range(LAYERS - 1)
            for i in range(sizes[layer])
            for j in range(sizes[layer + 1])
        ]
        if len(possible) >= wanted:
            break
    order = [possible[i] for i in generator.permutation(len(possible))]
    first_of: dict[Item, Instance] = {}
    for edge in order:
        first_of.setdefault(edge.upper, edge)
    kept = list(first_of.values())
    more = [edge for edge in order if first_of[edge.upper] is not edge]
    kept += more[: max(0, wanted - len(kept))]
    children: dict[Item, list[Instance]] = {}
    for edge in sorted(kept):
        children.setdefault(edge.upper, []).append(edge)
    return children


@dataclass
class _Draft:
    """A problem under construction."""

    children: dict[Item, list[Instance]]
    generator: np.random.Generator
    budget: int
    abstract: bool
    definitions: dict[Parameter, Expression] = field(default_factory=dict)
    open: list[Instance] = field(default_factory=list)

    def __post_init__(self) -> None:
        edges = [edge for below in self.children.values() for edge in below]
        self.fresh = [edges[i] for i in self.generator.permutation(len(edges))]

    def define_needed(self) -> Parameter | None:
        """Define the query and all it needs, spending the budget exactly; None if it cannot."""
        query = self._operand(allow_number=False)
        assert not isinstance(query, int)
        while self.open and self.budget:
            parameter = self.open.pop(int(self.generator.integers(len(self.open))))
            if self.open and self.generator.random() < 0.15:
                self.definitions[parameter] = (self._number(),)
            else:
                self._define_by_operation(parameter)
        if self.budget:
            return None
        for parameter in self.open:
            self.definitions[parameter] = (self._number(),)
        self.open = []
        return query

    def define_distractors(self) -> None:
        """Define the edges that the query does not need, from numbers and earlier parameters."""
        for edge in self.fresh:
            earlier = [p for p in self.definitions if isinstance(p, Instance)]
            if self.generator.random() < 0.4:
                self.definitions[edge] = (self._number(),)
            else:
                left = earlier[int(self.generator.integers(len(earlier)))]
                right: Operand = earlier[int(self.generator.integers(len(earlier)))]
                if self.generator.random() < _NUMBER_OPERAND or right == left:
                    right = self._number()
                self.definitions[edge] = (left, self._operator(), right)

    def shuffled_definitions(self) -> dict[Instance, Expression]:
        """Return the definitions of the edges in random order."""
        edges = [p for p in self.definitions if isinstance(p, Instance)]
        return {e: self.definitions[e] for e in map(edges.__getitem__, self._shuffle(edges))}

    def _define_by_operation(self, parameter: Instance) -> None:
        self.budget -= 1
        self.definitions[parameter] = ()  # taken: no operand may lead back here
        left = self._operand(allow_number=False)
        right = self._operand(allow_number=True, but=left)
        pair = [left, right]
        if self.generator.random() < 0.5:
            pair.reverse()
        self.definitions[parameter] = (pair[0], self._operator(), pair[1])

    def _operand(self, *, allow_number: bool, but: Operand | None = None) -> Operand:
        """Return a number, or a parameter that is not defined yet (or an abstract one)."""
        if allow_number and self.generator.random() < _NUMBER_OPERAND:
            return self._number()
        if self.abstract and self.generator.random() < _ABSTRACT_OPERAND:
            candidate = self._abstract()
            if candidate is not None and candidate != but:
                return candidate
        reusable = [p for p in self.open if p != but]
        reuse = self.generator.random() < _REUSED_OPERAND or not self.fresh
        if reusable and reuse:
            return reusable[int(self.generator.integers(len(reusable)))]
        if self.fresh:
            self.open.append(self.fresh.pop())
            return self.open[-1]
        return self._number()

    def _abstract(self) -> Abstract | None:
        """Define one abstract parameter out of undefined edges, if the budget has room for it."""
        uppers = [item for item in self.children if item.layer < LAYERS - 1]
        upper = uppers[int(self.generator.integers(len(uppers)))]
        target = Abstract(upper, int(self.generator.integers(upper.layer + 1, LAYERS)))
        needed: dict[Parameter, Expression] = {}
        queue: list[Parameter] = [target]
        while queue:
            parameter = queue.pop()
            if isinstance(parameter, Instance):
                if parameter in self.definitions:
                    return None  # it may depend on what is being defined: a cycle
                needed[parameter] = ()
            elif parameter not in needed:
                needed[parameter] = abstract_definition(parameter, self.children)
                queue += parameters_in(needed[parameter])
        cost = sum(
            count_operations(expression)
            for parameter, expression in needed.items()
            if parameter not in self.definitions
        )
        if cost > self.budget:
            return None
        self.budget -= cost
        for parameter, expression in needed.items():
            if isinstance(parameter, Abstract):
                self.definitions[parameter] = expression
            elif parameter not in self.open:
                self.fresh.remove(parameter)
                self.open.append(parameter)
        return target

    def _number(self) -> int:
        return int(self.generator.integers(MODULUS))

    def _operator(self) -> str:
        return OPERATORS[int(self.generator.integers(len(OPERATORS)))]

    def _shuffle(self, items: list[Instance]) -> list[int]:
        return [int(i) for i in self.generator.permutation(len(items))]
