"""From files to advice: what is known beforehand, the pilots as resumable records, the advice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pacbayes_sft.advise.advice import Advice, advise
from pacbayes_sft.advise.cost import cost_of
from pacbayes_sft.advise.halving import Halved, halve
from pacbayes_sft.advise.pilots import Measured, Pilot, read_base_profile, read_pilots
from pacbayes_sft.advise.predict import (
    DEFAULT,
    Rule,
    reweighted,
    seen_part,
)
from pacbayes_sft.advise.prepare import NAME, Pilots, Prepared, prepare
from pacbayes_sft.scan.run import run_scan
from pacbayes_sft.scan.where import Where


@dataclass(frozen=True)
class Found:
    """Advice and what it cost.

    Attributes:
        advice: See `Advice`.
        prepared: See `Prepared`.
        pilots: What the pilots showed.
        cost: ``pilots`` (fine-tunes), ``units`` (training units, summed), ``rows_read`` (by their
            steps, again and again), ``seconds``, and ``share_of_sweep``: what they read over what
            one fine-tune of every arm at every budget advised on would read (null without one).
        halved: Which windows were piloted further; None: all of them (`Pilots.halving`).
        untouched: Risk of the base itself under the test law, on the rows that judge the pilots.
    """

    advice: Advice
    prepared: Prepared
    pilots: tuple[Pilot, ...]
    cost: Mapping[str, float | None]
    halved: Halved | None = None
    untouched: Measured | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object."""
        shifts = {
            window: {"tv": s.tv.to_dict(), "d_plus": s.d_plus.to_dict()}
            for window, s in self.prepared.shifts.items()
        }
        return {
            **self.advice.to_dict(),
            "shifts": shifts,
            "cost": dict(self.cost),
            "halved": None if self.halved is None else asdict(self.halved),
            "untouched": None if self.untouched is None else asdict(self.untouched),
            "recipe": self.prepared.config.fine_tune.model_dump(),
            "guarantee": "estimate",
        }


def advise_on(
    base: str,
    pool: str,
    test: str,
    budgets: Sequence[int],
    work: Path,
    *,
    windows: Sequence[str] = (),
    column: str = "difficulty",
    how: Pilots | None = None,
    rule: Rule = DEFAULT,
    bound_breaks_ties: bool = True,
    where: Where | None = None,
    select: int | None = None,
) -> Found:
    """Recommend a difficulty window for every budget.

    Pilots are a scan's records under ``work``: called again with the same inputs, none is done
    twice, and more sizes or seeds add to them.

    Args:
        base: Path or hub id of the base, or the name of a shipped one.
        pool: Rows to choose from, with the column.
        test: A sample of the test distribution; the column suffices.
        budgets: Training sizes to advise on.
        work: Directory of the pilots.
        windows: ``LO:HI``; none takes five quantile windows that half overlap.
        column: The difficulty.
        how: See `Pilots`.
        rule: What is minimised.
        bound_breaks_ties: Between arms that tie with the least, take the one of least bound.
        where: Where pilots run.
        select: Units that a selection will ask of the advised window; what no window holds is
            refused before any pilot.

    Raises:
        InputError: If data or pilots cannot carry advice.
    """
    how = how or Pilots()
    prepared = prepare(base, pool, test, work, windows, column, how, select)
    pilots, halved, base_profile = _pilot(prepared, how, work, where)
    advice = advise(
        pilots if halved is None else [p for p in pilots if p.window in halved.kept],
        prepared.shifts,
        prepared.test_law,
        budgets,
        rule,
        bound_breaks_ties=bound_breaks_ties,
        delta=how.delta,
        seed=how.seed,
        test_units=prepared.test_units,
    )
    advised = [choice.budget for choice in advice.choices]
    cost = cost_of(pilots, advised, how.fine_tune, prepared.rows_a_unit)
    untouched = None
    if base_profile:
        law, _ = seen_part([base_profile], prepared.test_law)
        untouched = reweighted(base_profile, law)
    return Found(advice, prepared, tuple(pilots), cost, halved, untouched)


def _pilot(
    prepared: Prepared, how: Pilots, work: Path, where: Where | None
) -> tuple[list[Pilot], Halved | None, Mapping[float, Measured] | None]:
    """Run the pilots; with halving the smallest ones first, then the better windows' others.

    Returns:
        The pilots, what halving kept, and the base's own risk by level.
    """

    def run(**part: Any) -> list[Mapping[str, Any]]:
        return list(run_scan(prepared.config.model_copy(update=part), work, where))

    halved, smallest = None, min(how.sizes)
    records = run(sizes=(smallest,)) if how.halving else run()
    pilots = read_pilots(records, bound=NAME)
    if how.halving:
        halved = halve(pilots, prepared.test_law)
        larger = tuple(n for n in how.sizes if n > smallest)
        pilots += read_pilots(run(sizes=larger, windows=halved.kept), bound=NAME)
    return pilots, halved, read_base_profile(records)
