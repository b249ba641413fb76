"""What is known before any fine-tune: levels, shift terms, and the scan that the pilots will be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from estimators.total_variation.risk_profiles import Law, law_of
from pacbayes_sft.advise.halving import FEWEST
from pacbayes_sft.advise.levels import (
    Ladder,
    build_ladder,
    law_in_levels,
    read_test_levels,
)
from pacbayes_sft.advise.predict import (
    check_sizes,
    refuse_unseen,
)
from pacbayes_sft.advise.shifts import WindowShift, covered, window_shifts
from pacbayes_sft.advise.split import LEVEL, pilot_side, split_judges, write_units
from pacbayes_sft.choices import Loss, Objective, Posterior
from pacbayes_sft.data.levels import levels_of
from pacbayes_sft.data.overlap import drawn_apart
from pacbayes_sft.data.rows import Table, json_records, read_table
from pacbayes_sft.difficulty.direction import refuse_high_is_easy
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import resolve_base
from pacbayes_sft.scan.config import Bound, Config, Files, FineTune, Primary, Windows
from pacbayes_sft.scan.rows import cut
from pacbayes_sft.scan.windows import check_windows, edges

NAME = "pilot"
# around the half-data checkpoint, on the units it never saw: cheap, and not vacuous
NEAR = Bound(posterior=Posterior.INTERPOLATED, prior="checkpoint", prior_scales=(0.03,))
# where the command has another word, or another that is to be changed
OPTIONS = {"sizes": "pilot-sizes", "seeds": "pilot-seeds", "prior_fraction": "pilot-sizes"}
T = TypeVar("T")


@dataclass(frozen=True)
class Pilots:
    """How the pilots are made.

    Attributes:
        sizes: Training sizes, in units.
        seeds: How many seeds.
        objectives: Training objectives; each is an arm like a window.
        halving: Whether the poorer half of the windows is piloted at the smallest size alone.
        fine_tune: As in a scan.
        bound: What KL and Gibbs risk come from; its shift is not used.
        share: Share of the pool's units that pilots may train on or be judged by.
        judges: Units set aside to measure the risk by level, over all levels.
        heldout: Units of each window set aside to measure its own risk.
        loss: A loss in [0, 1].
        delta: δ of the predicted bounds, and of all shift limits together.
        seed: Which rows judge, the first seed of the pilots, and of the bootstrap.
        batch_size: Rows a forward pass.
        device: Of every pilot.
        dtype: Of every pilot.
    """

    sizes: tuple[int, ...] = (64, 256, 1024)
    seeds: int = 1
    objectives: tuple[Objective, ...] = (Objective.NLL,)
    halving: bool = False
    fine_tune: FineTune = field(default_factory=FineTune)
    bound: Bound = NEAR
    share: float = 0.5
    judges: int = 512
    heldout: int = 128
    loss: Loss = Loss.EXACT_MATCH
    delta: float = 0.05
    seed: int = 0
    batch_size: int = 64
    device: str = "cpu"
    dtype: str = "float32"


@dataclass(frozen=True)
class Prepared:
    """What is known before any fine-tune.

    Attributes:
        table: The pool.
        column: The difficulty.
        levels: Of every unit.
        ladder: Its buckets.
        windows: Candidate windows.
        shifts: Their shift terms.
        laws_known: Whether pool and test both record their law of the difficulty.
        windows_of_sample: Whether the windows' edges are quantiles of the pilots' side.
        test_law: Law of the levels in the test.
        test_units: Units that it was counted on; None where it is on record.
        config: The scan of the pilots.
        pilot_side: Units that pilots may have seen.
        copies: Units with a prompt of the test, which no selection takes (`copies_of_test`).
    """

    table: Table
    column: str
    levels: Mapping[str, float]
    ladder: Ladder
    windows: tuple[str, ...]
    shifts: Mapping[str, WindowShift]
    laws_known: bool
    windows_of_sample: bool
    test_law: Mapping[float, float]
    test_units: int | None
    config: Config
    pilot_side: frozenset[str]
    copies: frozenset[str] = frozenset()

    def units_in(self, window: str) -> list[str]:
        """Return the units of the pool that a selection from a window may take."""
        low, high = edges(window)
        return [u for u, at in self.levels.items() if low <= at <= high and u not in self.copies]

    @property
    def rows_a_unit(self) -> float:
        """Rows of the pool over its units: steps read rows, sizes count units."""
        return len(self.table.rows) / len(self.levels)


def prepare(
    base: str,
    pool: str,
    test: str,
    work: Path,
    windows: Sequence[str] = (),
    column: str = "difficulty",
    how: Pilots | None = None,
    select: int | None = None,
) -> Prepared:
    """Read pool and test, compute every window's shift term, and set the pilots' rows apart.

    Args:
        base: Path or hub id of the base, or the name of a shipped one.
        pool: Rows to choose from, with the column.
        test: A sample of the test distribution; the column suffices.
        work: Where the pilots' files are written.
        windows: ``LO:HI``; none takes five quantile windows that half overlap.
        column: The difficulty.
        how: See `Pilots`.
        select: Units that a selection will ask of the advised window.

    Raises:
        InputError: If the data cannot carry advice, or no window holds what a selection asks for.
    """
    how = how or Pilots()
    resolve_base(base)
    refuse_high_is_easy(column)
    check_sizes(how.sizes)
    table = read_table(pool)
    levels = levels_of(table, column)
    # the selection is free to certify on: its side decides neither windows, levels nor shift terms
    side = {unit: levels[unit] for unit in pilot_side(levels, how.share, how.seed)}
    seen = list(side.values())
    if not seen:
        raise InputError(
            f"{pool}: the coin gave the pilots' side none of {len(levels)} units; the pool is too "
            "small for advice"
        )
    tested, metadata = read_test_levels(test, column)
    own = table.metadata
    if own and metadata and own.generator != metadata.generator:
        own = metadata = None  # two laws on record, but not of one generator: rows are counted
    windows_given = bool(windows)
    if not windows:
        windows = cut(seen, Windows(by="quantile", count=5, overlap=0.5))
    if how.halving and len(windows) <= FEWEST:
        raise InputError(
            f"--halving: of {len(windows)} windows none would be dropped; leave it out, or give "
            "more --windows"
        )
    try:
        check_windows(windows)
    except ValueError as error:
        raise InputError(f"--{error}") from None
    ladder = build_ladder(seen, windows)
    pool_law = law_in_levels(ladder, seen, own, column)
    test_law = law_in_levels(ladder, tested, metadata, column)
    laws_known = all(isinstance(law, Mapping) for law in (pool_law, test_law))
    recorded = [v for law in (own, metadata) if law and law.attribute == column
                for v in map(float, law.law)]  # fmt: skip
    shifts = window_shifts(
        pool_law,
        test_law,
        windows,
        how.delta,
        levels_of_sample=ladder.merges([*seen, *tested, *recorded]),
        windows_of_sample=not windows_given,
    )
    train, judges = split_judges(side, ladder, how.judges, how.seed)
    refuse_unseen(covered(_as_law(test_law), {ladder.level(side[unit]) for unit in judges}))
    most = max(how.sizes)
    for window in windows:
        low, high = edges(window)
        inside = sum(low <= level <= high for level in levels.values())
        room = sum(low <= levels[unit] <= high for unit in train) - how.heldout
        if room < most:
            raise InputError(
                f"window {window}: of its {inside} units {max(0, room)} are left for pilots, fewer "
                f"than the largest ({most}): {1 - how.share:.0%} of the pool are kept for the "
                f"selection, {len(judges)} units of all levels judge the pilots, {how.heldout} of "
                "each window are held out; give smaller --pilot-sizes, --judges or --heldout, "
                "wider --windows, or a larger pool"
            )
    written = {
        name: str(write_units(table, units, ladder, column, work, name))
        for name, units in (("pool", train), ("judges", judges))
    }
    config = _checked(
        Config,
        name="pilots",
        data=Files(
            kind="rows",
            pool=written["pool"],
            test=written["judges"],
            column=LEVEL,
            heldout_rows=how.heldout,
        ),
        windows=tuple(windows),
        sizes=how.sizes,
        seeds=tuple(range(how.seed, how.seed + how.seeds)),
        bases=(base,),
        objectives=how.objectives,
        loss=how.loss,
        delta=how.delta,
        fine_tune=how.fine_tune,
        bounds={NAME: how.bound},
        primary=Primary(bound=NAME),
        batch_size=how.batch_size,
        device=how.device,
        dtype=how.dtype,
    )
    found = Prepared(
        table,
        column,
        levels,
        ladder,
        tuple(windows),
        shifts,
        laws_known,
        not windows_given,
        _as_law(test_law),
        None if isinstance(test_law, Mapping) else len(tested),
        config,
        frozenset(side),
        copies_of_test(table, test),
    )
    if select is not None:
        room_for = {window: len(found.units_in(window)) for window in found.windows}
        widest = max(room_for, key=room_for.__getitem__)
        if room_for[widest] < select:
            raise InputError(
                f"--select {select}: no window holds so many units, the largest ({widest}) "
                f"{room_for[widest]} of {pool}; select fewer, or give wider --windows or a larger "
                "pool"
            )
    return found


def copies_of_test(pool: Table, test: str) -> frozenset[str]:
    """Return the units of the pool that have a prompt of the test.

    None where the two files were drawn apart (`overlap.drawn_apart`), nor where the test has no
    prompts, or not as text.
    """
    try:
        rows = read_table(test)
    except InputError:  # the difficulty is all that advice asks of it
        prompts = _plain_prompts(test)
    else:
        if drawn_apart(pool, rows):
            return frozenset()
        prompts = {row.prompt for row in rows.rows}
    pairs = zip(pool.units, pool.rows, strict=True)
    return frozenset(unit for unit, row in pairs if row.prompt in prompts)


def _plain_prompts(test: str) -> set[str]:
    path = Path(test)
    if path.suffix != ".jsonl" or not path.is_file():
        return set()
    prompts = (r.get("prompt") for _, r in json_records(path) if isinstance(r, dict))
    return {prompt for prompt in prompts if isinstance(prompt, str)}


def fine_tune(**words: float) -> FineTune:
    """Return how pilots are fine-tuned.

    Args:
        words: Fields of `FineTune`.

    Raises:
        InputError: If a number is out of its range.
    """
    return _checked(FineTune, **words)


def _checked(made: Callable[..., T], **words: Any) -> T:
    """Make a part of a scan's configuration; what it refuses is said in the words of `advise`."""
    try:
        return made(**words)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        if first["loc"]:
            said = f"{first['loc'][0]}: {said}"
        key, _, why = said.partition(": ")
        raise InputError(f"--{OPTIONS.get(key, key).replace('_', '-')}: {why}") from None


def _as_law(law: Law) -> dict[float, float]:
    values, weights, _ = law_of(law)
    return dict(zip(values.tolist(), weights.tolist(), strict=True))
