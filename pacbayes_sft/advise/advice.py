"""Advice as a pure function: pilots, shift terms and budgets in, a window for every budget out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pacbayes_sft.advise.doubts import alternatives, what_would_change
from pacbayes_sft.advise.pilots import Pilot, falls_with_difficulty
from pacbayes_sft.advise.predict import (
    DEFAULT,
    Evidence,
    Rule,
    Values,
    arm_name,
    gather,
    place,
)
from pacbayes_sft.advise.scaling import FARTHEST
from pacbayes_sft.advise.shifts import WindowShift
from pacbayes_sft.advise.ties import BOUND, alike, first_least, leader

PATH = 25  # sizes at which the path of the optimum is looked at


@dataclass(frozen=True)
class Prediction:
    """What one arm is predicted to do at one budget.

    Attributes:
        window: Difficulty window.
        objective: Training objective.
        value: What the rule minimises; at 1 or more a bound says nothing.
        lower: 5 % quantile of its draws.
        upper: 95 % quantile.
        train: Its train side.
        shift: Its shift side.
        chance: Share of the draws in which this arm is the best.
        alike: Whether the evidence does not tell it to be worse than the advised one, at 5 % over
            all arms at once (`ties.alike`).
        bound_tv: Proposition 4.1 with TV, as predicted.
        bound_kl: PAC-Bayes-kl with D⁺ + 0.3·TV, as predicted.
    """

    window: str
    objective: str
    value: float
    lower: float
    upper: float
    train: float
    shift: float
    chance: float
    alike: bool
    bound_tv: float
    bound_kl: float


@dataclass(frozen=True)
class Choice:
    """Advice at one budget.

    Attributes:
        budget: Training units n.
        window: The advised window.
        objective: The advised objective.
        predictions: Of all arms, the advised one first, then by value.
        mixture: Shares of the windows that the evidence cannot tell apart, by their chance of
            being best; no pilot was trained on a mixture.
        others: What other rules would advise, by rule.
        changes: What would change this choice, in sentences.
        by_bound: Whether another arm, tied with it (`ties.tied`), is predicted lower, and the least
            bound decided.
    """

    budget: int
    window: str
    objective: str
    predictions: tuple[Prediction, ...]
    mixture: Mapping[str, float]
    others: Mapping[str, str]
    changes: tuple[str, ...]
    by_bound: bool

    @property
    def indifferent(self) -> bool:
        """Whether the evidence tells no arm from the advised one: no preference."""
        return len(self.predictions) > 1 and all(p.alike for p in self.predictions[1:])


@dataclass(frozen=True)
class Move:
    """A size at which the advice moves to another window.

    Attributes:
        size: First size on the path with the new window.
        earliest: 5 % quantile over draws of the size at which what is minimised moves, or ``size``
            if that is less (the bound, which breaks ties, may move first).
        latest: 95 % quantile, or ``size`` if that is more; None where more than 5 % of the draws
            never move on this path.
        before: Window before.
        after: Window after.
        harder: Whether it moves to harder data; None: to another objective on the same, or what is
            hard is not known (`Advice.falls`).
    """

    size: int
    earliest: int
    latest: int | None
    before: str
    after: str
    harder: bool | None


@dataclass(frozen=True)
class Advice:
    """A window for every budget, and what stands behind it.

    Attributes:
        rule: What was minimised.
        ties: What decided between tied arms; None: the least value.
        choices: One a budget that could be advised on.
        refused: For every other budget, why not.
        moves: Where the advice moves.
        misfit: √(χ²/dof) of each fitted form; above 1 it misfits by more than noise; None where the
            pilots are too few to show a misfit.
        sizes: Pilot sizes.
        seeds: Fewest seeds of a pilot; with one, nothing counts the spread over seeds.
        cover: Share of the test law at levels that the pilots were judged on.
        falls: Whether the pilots' risk falls along the column, so that its high values are the easy
            rows: nothing is then called harder, and no bound breaks a tie, since its D⁺ supposes
            the opposite.
        gamma: Per arm: how far its risk falls with difficulty at the largest pilot, point values.
        path: Sizes on which the curves are drawn, and per arm the predicted total with 5 % and
            95 % quantiles.
    """

    rule: str
    ties: str | None
    choices: tuple[Choice, ...]
    refused: Mapping[int, str]
    moves: tuple[Move, ...]
    misfit: Mapping[str, float | None]
    sizes: tuple[int, ...]
    seeds: int
    cover: float
    falls: bool
    gamma: Mapping[str, float]
    path: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object."""
        return asdict(self)


def advise(
    pilots: Sequence[Pilot],
    shifts: Mapping[str, WindowShift],
    test_law: Mapping[float, float],
    budgets: Sequence[int],
    rule: Rule = DEFAULT,
    *,
    bound_breaks_ties: bool = True,
    delta: float = 0.05,
    draws: int = 400,
    seed: int = 0,
    test_units: int | None = None,
) -> Advice:
    """Return the best window for every budget.

    Every number about a budget that was not piloted is an `estimate`: pilots' risks and KLs
    extrapolated by the forms of `scaling`, carried to the test law by a shift term. With the
    default rule that is the risk on held-out rows of the window plus the difference that the
    pilots' own risk by level makes under the test law; besides the form and the pilots' recipe it
    rests on assumption (i) (train and test differ only through the difficulty). Of the arms that
    tie with the least (`ties.tied`), the one with the least predicted bound is advised.

    Args:
        pilots: Short fine-tunes, every window at the same sizes.
        shifts: Per window, from data alone.
        test_law: Law of the difficulty levels under the test.
        budgets: Training sizes to advise on.
        rule: What is minimised; others are reported beside it.
        bound_breaks_ties: Else the least value is taken, however little it is ahead.
        delta: δ of the predicted bounds.
        draws: Bootstrap draws.
        seed: Of the bootstrap.
        test_units: Units that ``test_law`` was counted on; None: it is known.

    Raises:
        InputError: If the pilots cannot carry any advice.
    """
    evidence = gather(
        pilots, shifts, test_law, delta=delta, draws=draws, seed=seed, test_units=test_units
    )
    falls = falls_with_difficulty(pilots)
    bound_breaks_ties = bound_breaks_ties and not falls
    refused = {b: why for b in budgets if (why := out_of_reach(b, evidence.sizes))}
    taken = sorted(set(budgets) - set(refused))
    choices = tuple(_choose(evidence, rule, budget, bound_breaks_ties) for budget in taken)
    ends = (min([*taken, evidence.sizes[0]]), max([*taken, evidence.sizes[-1]]))
    grid = np.unique(np.round(np.geomspace(*ends, PATH)).astype(int))
    totals = [evidence.total(rule, float(n)) for n in grid]
    leaders = [
        leader(evidence, t, float(n), bound_breaks_ties=bound_breaks_ties)
        for n, t in zip(grid, totals, strict=True)
    ]
    return Advice(
        str(rule),
        str(BOUND) if bound_breaks_ties else None,
        choices,
        refused,
        _moves(evidence, grid, totals, leaders, falls),
        {name: fit.misfit for name, fit in evidence.fits.items()},
        evidence.sizes,
        min(Counter((p.arm, p.size) for p in pilots).values()),
        evidence.cover,
        falls,
        {arm_name(*arm): float(g) for arm, g in zip(evidence.arms, evidence.gamma, strict=True)},
        _path(evidence, grid, totals),
    )


def out_of_reach(budget: int, sizes: Sequence[int]) -> str | None:
    """Return why pilots of these sizes say nothing of a budget, or None if they do."""
    least, most = min(sizes), max(sizes)
    reach = FARTHEST[min(len(set(sizes)), 3)]
    if budget > reach * most:
        return (
            f"{budget / most:.0f} times the largest pilot ({most}); with {len(set(sizes))} "
            f"pilot sizes no form is trusted over more than {reach:g} times: pilot at "
            f"{-(-budget // int(reach))} or more"
        )
    if budget < least:
        return f"smaller than the smallest pilot ({least}); pilot at {budget} or less"
    return None


def _choose(evidence: Evidence, rule: Rule, budget: int, bound_breaks_ties: bool) -> Choice:
    totals = evidence.total(rule, float(budget))
    train, shift = evidence.train_side(rule, budget)[0], evidence.shift_side(rule, budget)[0]
    best = leader(evidence, totals, budget, bound_breaks_ties=bound_breaks_ties)
    like = alike(totals, best)
    chance = np.bincount(np.argmin(totals[1:], axis=1), minlength=len(evidence.arms))
    share = chance / max(1, chance.sum())
    low, high = np.quantile(totals, [0.05, 0.95], axis=0)
    bounds = alternatives(evidence, budget)
    predictions = [
        Prediction(
            window,
            objective,
            float(totals[0, i]),
            float(low[i]),
            float(high[i]),
            float(train[i]),
            float(shift[i]),
            float(share[i]),
            bool(like[i]),
            float(bounds["bound + tv"][i]),
            float(bounds["kl_bound + slack"][i]),
        )
        for i, (window, objective) in enumerate(evidence.arms)
    ]
    mixed = [p for p in predictions if p.alike and p.objective == evidence.arms[best][1]]
    mass = sum(p.chance for p in mixed)
    mixture = {p.window: p.chance / mass for p in mixed if p.chance > 0} if mass else {}
    advised = predictions[best]
    return Choice(
        budget,
        *evidence.arms[best],
        tuple(sorted(predictions, key=lambda p: (p is not advised, p.value))),
        mixture,
        {name: arm_name(*evidence.arms[first_least(row)]) for name, row in bounds.items()},
        what_would_change(evidence, rule, budget, best),
        bool(totals[0, best] > totals[0].min()),
    )


def _moves(
    evidence: Evidence,
    grid: Values,
    totals: list[Values],
    leaders: list[int],
    falls: bool = False,
) -> tuple[Move, ...]:
    """Where the leader changes along the grid, and between which sizes in 90 % of the draws.

    A path may turn back, so a move is looked for only after the one before it.
    """
    best = np.stack([np.argmin(t, axis=1) for t in totals])  # (sizes, draws)
    found, start = [], 0
    for k in range(1, len(grid)):
        before, after = leaders[k - 1], leaders[k]
        if before == after:
            continue
        gone = best[start:, 1:] >= after if after > before else best[start:, 1:] <= after
        was, now = (place(evidence.arms[arm][0]) for arm in (before, after))
        first = np.where(gone.any(axis=0), start + np.argmax(gone, axis=0), len(grid))
        start = k
        low, high = (int(np.quantile(first, q, method="inverted_cdf")) for q in (0.05, 0.95))
        found.append(
            Move(
                int(grid[k]),
                int(grid[min(low, k)]),
                int(grid[max(high, k)]) if high < len(grid) else None,
                arm_name(*evidence.arms[before]),
                arm_name(*evidence.arms[after]),
                None if was == now or falls else now > was,
            )
        )
    return tuple(found)


def _path(evidence: Evidence, grid: Values, totals: list[Values]) -> dict[str, Any]:
    found: dict[str, Any] = {"sizes": [int(n) for n in grid], "arms": {}}
    stacked = np.stack(totals)  # (sizes, draws, arms)
    low, high = np.quantile(stacked, [0.05, 0.95], axis=1)
    for i, arm in enumerate(evidence.arms):
        found["arms"][arm_name(*arm)] = {
            "value": stacked[:, 0, i].tolist(),
            "lower": low[:, i].tolist(),
            "upper": high[:, i].tolist(),
        }
    return found
