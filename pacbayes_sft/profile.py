"""The Gibbs predictor's losses by difficulty: what shift terms that know the predictor ask for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from estimators import DiagonalGaussian
from pacbayes_sft.choices import Space
from pacbayes_sft.data.levels import levels_of
from pacbayes_sft.data.overlap import counted_before
from pacbayes_sft.data.rows import Table
from pacbayes_sft.empirical import Empirical
from pacbayes_sft.gibbs import Evaluator, Rows
from pacbayes_sft.inputs import Inputs
from pacbayes_sft.slots import Slots

Sums = Mapping[float, tuple[float, int]]


@dataclass(frozen=True)
class RiskProfile:
    """Losses of the Gibbs predictor at each difficulty.

    Attributes:
        column: The difficulty.
        certified: Value: (sum of losses, units looked at) among the certified units.
        units: Value: certified units there are, looked at or not.
        labelled: Value: (sum of losses, units) on labelled rows that nothing was fitted on, of the
            test and of the train distribution; each unit met one draw of its own.
        one_row_a_unit: Whether each of those units is one row, so that a 0-1 loss of it is a trial
            and no mean.
    """

    column: str
    certified: Sums
    units: Mapping[float, int]
    labelled: Sums
    one_row_a_unit: bool = True

    def to_dict(self) -> dict[str, object]:
        """Return a JSON-ready object; values of the difficulty are strings."""
        return {
            "column": self.column,
            "certified": {_key(v): list(pair) for v, pair in sorted(self.certified.items())},
            "units": {_key(v): count for v, count in sorted(self.units.items())},
            "labelled": {_key(v): list(pair) for v, pair in sorted(self.labelled.items())},
            "one_row_a_unit": self.one_row_a_unit,
        }


def _key(level: float) -> str:
    """The level as text, short where that is all of it: levels that are close are two still."""
    short = f"{level:g}"
    return short if float(short) == level else repr(float(level))


def risk_profile(
    column: str,
    inputs: Inputs,
    empirical: Empirical,
    evaluator: Evaluator,
    slots: Slots,
    posterior: DiagonalGaussian,
    rows: Callable[[Table], Rows],
) -> RiskProfile:
    """Return the Gibbs losses by difficulty; labelled rows meet fresh draws.

    In ``weights`` space rows share their draws, so their losses are not independent given the
    difficulty: no labelled rows are counted there. Held-out rows are left out as a whole where
    some are labelled rows too: keeping the others would choose by text and change the law.

    Args:
        column: The difficulty, a number in every certified and labelled row.
        inputs: Checkpoints and rows.
        empirical: What the empirical risk was taken from.
        evaluator: The model and the loss.
        slots: Where the tensors live in it.
        posterior: Q, frozen.
        rows: Encodes a table.

    Raises:
        InputError: If a row has no number there, or a unit several.
    """
    levels = levels_of(inputs.certified, column)
    labelled: dict[float, tuple[float, int]] = {}
    tables = _labelled_tables(inputs) if slots.space is Space.FACTORS else {}
    for name, table in tables.items():
        draws = evaluator.gibbs(slots, posterior, rows(table), f"profile, {name} rows")
        losses = dict(zip(dict.fromkeys(table.units), draws.units.tolist(), strict=True))
        for level, (wrong, count) in sums_by(losses, levels_of(table, column)).items():
            before = labelled.get(level, (0.0, 0))
            labelled[level] = (before[0] + wrong, before[1] + count)
    single = all(len(set(table.units)) == len(table.rows) for table in tables.values())
    units = dict(sorted(Counter(levels.values()).items()))
    return RiskProfile(column, sums_by(empirical.by_unit, levels), units, labelled, single)


def _labelled_tables(inputs: Inputs) -> dict[str, Table]:
    """Every file with rows that nothing was fitted on, as far as none of them counts twice."""
    labelled, held = inputs.labelled, inputs.heldout
    if labelled is not None and held is not None and counted_before(labelled, held):
        held = None
    found = {"labelled": labelled, "held-out": held}
    return {name: table for name, table in found.items() if table is not None}


def sums_by(
    losses: Mapping[str, float], levels: Mapping[str, float]
) -> dict[float, tuple[float, int]]:
    """Return the sum and the number of units' losses at each difficulty."""
    found: dict[float, list[float]] = defaultdict(list)
    for unit, loss in losses.items():
        found[levels[unit]].append(loss)
    return {level: (sum(here), len(here)) for level, here in sorted(found.items())}


def check_levels(inputs: Inputs, column: str) -> None:
    """Refuse, before anything is computed, rows without the number that a profile needs.

    Raises:
        InputError: If a row of any of the files has no number there, or a unit several.
    """
    for table in (inputs.train, inputs.test, inputs.labelled, inputs.heldout):
        if table is not None:
            levels_of(table, column)
