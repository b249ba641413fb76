"""The two-sample test by betting: predict, bet, look, learn. Every row is bet on before it teaches.

The rows are dealt into steps, each with rows of both sides. At step i a rule f_i with values in
[0, 1], fitted on earlier steps alone, pays D_i = mean f_i(its test rows) - mean f_i(its train
rows), in [-1, 1]. Given the past E D_i = E_test f_i - E_train f_i <= TV, whatever the rule. So with
stakes λ_i in [0, 1] that depend on the past alone,

    W_t(τ) = Π_{i<=t} (1 + λ_i (D_i - τ)/2)

never goes below 0 (D_i - τ >= -2) and, wherever TV <= τ, is a supermartingale from 1. Ville's
inequality: P(sup_t W_t(τ) >= 1/δ) <= δ. Hence

* 1/max_t W_t(0) is a p-value of "one law" at whatever step one stops, W_t(0) an e-value;
* each factor falls in τ, so {τ : max_t W_t(τ) >= 1/δ} is an interval [0, L]; the true TV lies in
  it with probability <= δ, so TV >= L with confidence 1-δ. Unlike pooled folds, this is no
  heuristic: order takes the place of independence.

Two rules bet, each with half of the money (the mean of supermartingales is one): the hard decision
1[f > ½], whose pay is TV for the best classifier, and the probability itself, which stays out of
the noise where a shift is rare. Stakes are the plug-in √(2 ln(1/δ)/(σ̂²_{i-1} m)).

Sources: Lhéritier & Cazals 2018 (sequential two-sample tests by prediction), Shekhar & Ramdas 2023
(by betting, arXiv 2112.09162), Waudby-Smith & Ramdas 2024 (the stakes).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.concentration import check_delta
from estimators.estimate import Estimate, Guarantee
from estimators.total_variation.assumptions import INDEPENDENT
from estimators.total_variation.samples import (
    number_groups,
    one_row_a_group,
    pool,
    pool_groups,
    take,
)

FEWEST_STEPS = 10
FIRST_FIT = 0.1  # share of the steps that only teach
GROWTH = 1.5  # rows at a refit over rows at the one before: all refits together cost about 3 fits
PREDICTABLE = "each row was bet on by rules that no row of its own or a later step had shaped"


@dataclass(frozen=True)
class PrequentialTest:
    """Outcome of `prequential_two_sample`.

    Attributes:
        tv: Lower certificate; its ``value`` is what the hard decision was paid on the later half
            of the bets (never below the certificate).
        p_value: P-value of "both sides have one law", valid at whatever step one had stopped.
        log_e_value: ln of the e-value of the same after the last step, in nats.
        rows: Rows of (train side, test side) that were used, to teach or to bet.
        steps: Steps that were bet on.
        classifier: What was fitted.

    >>> from sklearn.tree import DecisionTreeClassifier
    >>> stump = DecisionTreeClassifier(max_depth=1)
    >>> found = prequential_two_sample([[0.0]] * 60, [[1.0]] * 60, stump, delta=0.05)
    >>> isinstance(found, PrequentialTest), found.rows, found.steps, found.p_value < 0.05
    (True, (60, 60), 54, True)
    """

    tv: Estimate
    p_value: float
    log_e_value: float
    rows: tuple[int, int]
    steps: int
    classifier: str


def prequential_two_sample(
    train: Sequence[Any],
    test: Sequence[Any],
    classifier: Any,
    delta: float,
    *,
    train_groups: Sequence[Hashable] | None = None,
    test_groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> PrequentialTest:
    """Bound TV(test, train) from below by betting, on all rows; see the module for the proof.

    There are as many steps as the smaller side has units; the rows of the larger are shared out.
    The first tenth of the steps only teaches; the classifier is refitted as they grow by half.
    One row of a group is used a side; a group that occurs on both sides stands in one step, where
    its rows may depend on each other.

    Args:
        train: Examples of the train side: texts, or rows of a feature matrix.
        test: Examples of the test side.
        classifier: Any scikit-learn classifier or pipeline that weighs the classes equally; it is
            cloned. Without ``predict_proba`` its decision bets with all of the money.
        delta: Probability with which the lower certificate may fail.
        train_groups: Group of each train example; each its own if None.
        test_groups: Group of each test example.
        seed: Seed of the order.

    Raises:
        ValueError: If a side has fewer than ten groups.

    >>> from sklearn.tree import DecisionTreeClassifier
    >>> stump = DecisionTreeClassifier(max_depth=1)
    >>> found = prequential_two_sample([[0.0]] * 60, [[1.0]] * 60, stump, delta=0.05)
    >>> found.tv.value, round(found.tv.lower, 2), str(found.tv.guarantee)
    (1.0, 0.88, 'lower')
    """
    sizes = [x.shape[0] if hasattr(x, "shape") else len(x) for x in (train, test)]
    y = np.repeat([0, 1], sizes)
    group = number_groups(pool_groups(train_groups, test_groups, *sizes), len(y))
    generator = np.random.default_rng(seed)
    kept = one_row_a_group(group, y, generator)
    return prequential_of(
        take(pool(train, test), kept), y[kept], group[kept], classifier, delta, generator
    )


def prequential_of(
    x: Any, y: Any, group: Any, classifier: Any, delta: float, generator: np.random.Generator
) -> PrequentialTest:
    """`prequential_two_sample` of pooled rows, one a group and side; see there.

    Args:
        x: The rows.
        y: Their sides, 0 or 1.
        group: Their groups, numbered.
        classifier: Is cloned.
        delta: Probability with which the lower certificate may fail.
        generator: Of the order.
    """
    from sklearn.base import clone

    check_delta(delta)
    rows = int((y == 0).sum()), int((y == 1).sum())
    if min(rows) < FEWEST_STEPS:
        raise ValueError(
            f"a test by betting needs at least {FEWEST_STEPS} independent units a side, got "
            f"{list(rows)}"
        )
    step = _step_of(group, y, generator)
    paid = []
    for begin, end in _blocks(min(rows)):
        fitted = clone(classifier).fit(take(x, step < begin), y[step < begin])
        now = (step >= begin) & (step < end)
        bets = _bets(fitted, take(x, now))
        paid.append([_pay(bet, y[now], step[now] - begin, end - begin) for bet in bets])
    payoffs = np.concatenate([np.stack(block) for block in paid], axis=1)
    stakes = _stakes(payoffs, delta)
    wealth = _log_wealth(payoffs, stakes, 0.0)
    lower = _certificate(payoffs, stakes, delta)
    point = float(payoffs[0, payoffs.shape[1] // 2 :].mean())
    tv = Estimate(
        min(1.0, max(point, lower)), lower, 1.0, 1 - delta, Guarantee.LOWER,
        "prequential two-sample test by betting", (PREDICTABLE, INDEPENDENT), "probability",
    )  # fmt: skip
    return PrequentialTest(
        tv,
        math.exp(-max(0.0, float(wealth.max()))),
        float(wealth[-1]),
        rows,
        payoffs.shape[1],
        repr(classifier).split("(")[0],
    )


def betting_certificate(payoffs: ArrayLike, delta: float) -> float:
    """Return L such that sup_i E[D_i | past] >= L with confidence 1-δ, from payoffs in order.

    Args:
        payoffs: What each rule was paid at each step, in [-1, 1]; shape (rules, steps). The rules
            share the money equally.
        delta: Probability with which the limit may fail.

    Raises:
        ValueError: If a payoff lies outside [-1, 1] or delta is no confidence.

    >>> [round(betting_certificate([paid] * 100, delta=0.05), 2) for paid in (0.8, 0.0)]
    [0.74, 0.0]
    """
    check_delta(delta)
    d = np.atleast_2d(np.asarray(payoffs, dtype=np.float64))
    if not (d.size and np.isfinite(d).all() and np.abs(d).max() <= 1):
        raise ValueError("payoffs must lie in [-1, 1]")
    return _certificate(d, _stakes(d, delta), delta)


def _certificate(payoffs: NDArray[Any], stakes: NDArray[Any], delta: float) -> float:
    """The largest τ at which the money once reached 1/δ, approached from below."""
    goal = math.log(1 / delta)
    inside, outside = 0.0, 1.0
    if _log_wealth(payoffs, stakes, inside).max() < goal:
        return 0.0
    for _ in range(30):
        middle = (inside + outside) / 2
        if _log_wealth(payoffs, stakes, middle).max() >= goal:
            inside = middle
        else:
            outside = middle
    return inside


def _stakes(payoffs: NDArray[Any], delta: float) -> NDArray[Any]:
    """λ_i = min(1, √(2 ln(1/δ)/(σ̂²_{i-1} m))), σ̂² of (1+D)/2 before step i; the same for all τ."""
    unit = (1 + payoffs) / 2
    count = np.arange(1, unit.shape[1] + 1)
    mean = (0.5 + np.cumsum(unit, axis=1)) / (count + 1)
    spread = (0.25 + np.cumsum((unit - mean) ** 2, axis=1)) / (count + 1)
    before = np.concatenate([np.full((len(unit), 1), 0.25), spread[:, :-1]], axis=1)
    wanted: NDArray[Any] = np.sqrt(2 * math.log(1 / delta) / (before * unit.shape[1]))
    wanted[wanted > 1] = 1.0
    return wanted


def _log_wealth(payoffs: NDArray[Any], stakes: NDArray[Any], tau: float) -> NDArray[Any]:
    """Ln of the rules' mean money after each step; shape (steps,)."""
    with np.errstate(divide="ignore"):
        each = np.cumsum(np.log1p(stakes * (payoffs - tau) / 2), axis=1)
    together: NDArray[Any] = np.logaddexp.reduce(each, axis=0)
    return together - math.log(len(each))


def _blocks(steps: int) -> Iterator[tuple[int, int]]:
    """(first, last+1) step of each block; the steps before it teach the rule that bets on it."""
    begin = max(FEWEST_STEPS // 2, int(FIRST_FIT * steps))
    while begin < steps:
        end = min(steps, math.ceil(GROWTH * begin))
        yield begin, end
        begin = end


def _step_of(group: Any, y: Any, generator: np.random.Generator) -> Any:
    """The step of each row: both rows of a group that both sides have stand in one."""
    steps = int(np.bincount(y).min())
    shared = generator.permutation(np.intersect1d(group[y == 0], group[y == 1]))
    rank = {int(name): i for i, name in enumerate(shared)}
    label = generator.permutation(steps)
    step = np.empty(len(y), dtype=np.int64)
    for side in (0, 1):
        mine = generator.permutation(np.flatnonzero(y == side))
        first = sorted(mine, key=lambda i: rank.get(int(group[i]), len(rank)))
        step[first] = label[np.arange(len(first)) % steps]
    return step


def _bets(fitted: Any, x: Any) -> list[NDArray[Any]]:
    """The hard decision, and the probability of the test side where the classifier has one."""
    bets = [(fitted.predict(x) == 1).astype(np.float64)]
    if hasattr(fitted, "predict_proba"):
        bets.append(np.clip(fitted.predict_proba(x)[:, 1], 0, 1))
    return bets


def _pay(bet: Any, y: Any, step: Any, steps: int) -> NDArray[Any]:
    """Mean bet on the test rows of each step minus the mean on its train rows."""
    means = [
        np.bincount(step[y == side], bet[y == side], steps)
        / np.bincount(step[y == side], minlength=steps)
        for side in (0, 1)
    ]
    return means[1] - means[0]
