"""The advice held against fine-tunes that no rule has seen: seeds of their own, 2,100 test rows.

``benchmarks/advice.py`` judges windows by the map's own fine-tunes, whose seeds and 350 test rows
the pilots share (they are the first 350 of the 2,100 too). Here the windows that every rule has
named stay as they are, and the risks are those of ``benchmarks/results/judges``, made by

    pacbayes-sft scan benchmarks/judges/strong.yaml --out benchmarks/results/judges --threads 1
    pacbayes-sft scan benchmarks/judges/weak.yaml --out benchmarks/results/judges --threads 1
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from advice_cases import UNTOUCHED, laws_of, measured, windows_of
from numpy.typing import NDArray

from pacbayes_sft.advise.pilots import Measured, Pilot
from pacbayes_sft.advise.predict import reweighted

Values = NDArray[np.float64]
Entry = Mapping[str, Any]
Arm = tuple[str, int, str]  # base, training size, window


def whole_seeds(judges: Sequence[Pilot], windows: Sequence[str]) -> list[Pilot]:
    """Keep the sizes and seeds at which every window has its fine-tune.

    A seed that is half made would judge some windows by more fine-tunes than others.
    """
    have: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
    for p in judges:
        have[p.size, p.seed].add(p.window)
    return [p for p in judges if have[p.size, p.seed] >= {*windows}]


def judged_again(
    entries: Sequence[Entry],
    judges: Sequence[Pilot],
    base: str,
    untouched: Mapping[float, Measured] | None = None,
) -> list[dict[str, Any]]:
    """Return the entries of one base with the judges' risks; what they named is left as it is.

    Args:
        entries: As ``replay`` of ``benchmarks/advice.py`` makes them, every window named by one.
        judges: Fine-tunes of that base, as `whole_seeds` returns them.
        base: Its name.
        untouched: The base's own risk by level, for the rule that fine-tunes nothing; None leaves
            that out.

    Returns:
        Those at budgets that have judges. Any other entry that names no window is a window at
        random.
    """
    mine = [e for e in entries if e["base"] == base and (untouched or e["rule"] != UNTOUCHED)]
    windows = sorted({e["window"] for e in mine} - {None})
    budgets, found = sorted({p.size for p in judges}), []
    for name, law in laws_of(list(judges[0].profile)).items():
        truth = measured(judges, law)
        for budget in budgets:
            risks = {w: truth[w, budget] for w in windows}
            least, mean = min(risks.values()), float(np.mean(list(risks.values())))
            for e in (e for e in mine if (e["budget"], e["law"]) == (budget, name)):
                risk = mean if e["window"] is None else risks[e["window"]]
                if e["rule"] == UNTOUCHED and untouched:
                    risk = reweighted(untouched, law).value
                found.append({**e, "risk": risk, "regret": risk - least})
    return found


def difference(
    entries: Sequence[Entry],
    judges: Mapping[str, Sequence[Pilot]],
    over_seeds: Mapping[str, Values],
    rule: str,
    other: str,
) -> dict[str, float]:
    """Return the mean risk after ``rule`` minus that after ``other``, and its standard error.

    The best window cancels, and with it the bias of a least value. The error is of the judges'
    rows and seeds, given the windows that both rules have named: other pilots may name others. Test
    rows are shared, which makes differences more certain than said here.

    Args:
        entries: From `judged_again`, of all bases.
        judges: Fine-tunes by base.
        over_seeds: By base, as `covariance_over_seeds` returns it.
        rule: A rule's name.
        other: Another's.
    """
    levels = list(next(p for of in judges.values() for p in of).profile)
    laws, windows = laws_of(levels), {base: windows_of(of) for base, of in judges.items()}
    shares = shares_of_arms(entries, rule, windows)
    for arm, by_law in shares_of_arms(entries, other, windows).items():
        for law, share in by_law.items():
            shares[arm][law] -= share
    value = variance = 0.0
    for (base, size, window), by_law in shares.items():
        here = [p for p in judges[base] if (p.size, p.window) == (size, window)]
        share = np.array(
            [sum(s * laws[law].get(v, 0) for law, s in by_law.items()) for v in levels]
        )
        risks = np.array([[p.profile[v].value for v in levels] for p in here])
        # of rows that are the same for every seed: no seed averages it out
        errors = np.mean([[p.profile[v].error for v in levels] for p in here], axis=0)
        value += float(share @ risks.mean(axis=0))
        variance += float(np.sum((share * errors) ** 2))
        variance += float(share @ over_seeds[base] @ share) / len(here)
    return {"value": value, "standard_error": variance**0.5}


def together(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Return two estimates of one difference weighed by their errors, as if independent.

    Without an error there is no difference: both rules have named the same windows.
    """
    if not one["standard_error"] * other["standard_error"]:
        return {"value": 0.0, "standard_error": 0.0}
    weights = [d["standard_error"] ** -2 for d in (one, other)]
    value = sum(w * d["value"] for w, d in zip(weights, (one, other), strict=True)) / sum(weights)
    return {"value": value, "standard_error": sum(weights) ** -0.5}


def shared_between_seeds(pilots: Sequence[Pilot], law: Mapping[float, float], size: int) -> float:
    """Return how much of the rows' variance two seeds of a window share, a point value.

    It is rather more: seeds differ in earnest, too. What they differ by on the same rows, over the
    rows' own variance, is the rest of it.
    """
    here = [p for p in pilots if p.size == size]
    share = np.array([law.get(v, 0.0) for v in here[0].profile])
    apart = float(share @ covariance_over_seeds(here, [size]) @ share)
    errors = np.array([[m.error for m in p.profile.values()] for p in here])
    return 1 - apart / float(np.mean(np.sum((share * errors) ** 2, axis=1)))


def shares_of_arms(
    entries: Sequence[Entry], rule: str, windows: Mapping[str, Sequence[str]]
) -> dict[Arm, dict[str, float]]:
    """Return the share that an arm has, under each law, in the mean risk of a rule.

    Pilot seeds are averaged within a case first; no window named is each of the base's alike.
    """
    tried: defaultdict[tuple[str, int, str], list[str | None]] = defaultdict(list)
    for e in entries:
        if e["rule"] == rule:
            tried[e["base"], e["budget"], e["law"]].append(e["window"])
    shares: defaultdict[Arm, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for (base, budget, law), named in tried.items():
        for window in named:
            alike = windows[base] if window is None else [window]
            for w in alike:
                shares[base, budget, w][law] += 1 / (len(tried) * len(named) * len(alike))
    return shares


def covariance_over_seeds(pilots: Sequence[Pilot], sizes: Sequence[int]) -> Values:
    """Return how slices' risks vary together over seeds, pooled over windows and sizes.

    From fine-tunes on the same test rows, so it holds what seeds change on those rows alone too.

    Returns:
        Shape (levels, levels), levels as in a profile; NaN where no arm has two seeds.
    """
    levels = list(pilots[0].profile)
    arms: defaultdict[tuple[str, int], list[list[float]]] = defaultdict(list)
    for p in pilots:
        if p.size in sizes:
            arms[p.window, p.size].append([p.profile[v].value for v in levels])
    within, free = np.zeros((len(levels), len(levels))), 0
    for risks in arms.values():
        centred = np.array(risks) - np.mean(risks, axis=0)
        within += centred.T @ centred
        free += len(risks) - 1
    return within / free if free else np.full_like(within, np.nan)
