"""What ``benchmarks/advice.py`` judges under: test laws, measured risks, extrapolated accuracy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pacbayes_sft.advise.pilots import Pilot
from pacbayes_sft.advise.predict import reweighted
from pacbayes_sft.advise.ties import first_least
from pacbayes_sft.scan.windows import edges

LARGEST_PILOT = 1024
BOUND = "checkpoint"  # the map's primary posterior
ACCURACY = "pilot accuracy, a line in ln n"
UNTOUCHED = "the base, not fine-tuned"
LAST = "pilot accuracy at the largest pilot"
Law = dict[float, float]
Table = dict[tuple[str, int], float]  # (window, size): risk under a law, mean over seeds


def laws_of(levels: Sequence[float]) -> dict[str, Law]:
    """Return the test laws: uniform on the easiest third of the slices, on all, on the hardest."""
    ordered, third = sorted(levels), -(-len(levels) // 3)
    parts = {"easy": ordered[:third], "flat": ordered, "hard": ordered[-third:]}
    return {name: {level: 1 / len(part) for level in part} for name, part in parts.items()}


def measured(pilots: Sequence[Pilot], law: Law) -> Table:
    """Return the risk under a law of every window and size, mean over seeds."""
    found: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for p in pilots:
        found[p.window, p.size].append(reweighted(p.profile, law).value)
    return {key: float(np.mean(values)) for key, values in found.items()}


def windows_of(pilots: Sequence[Pilot]) -> list[str]:
    """Return the windows, easiest first."""
    return sorted({p.window for p in pilots}, key=edges)


def full_sweep(pilots: Sequence[Pilot], base: str, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Fine-tune on every window at the budget itself, one seed, and keep the best: what it regrets.

    What a whole sweep gets, that is; noise misleads it too, so a lucky constant window can do
    better. By the mean over all seeds, as rules are judged, its own seed is part of its judge; by
    the others alone it is not (and the least of fewer fine-tunes is noisier).

    Args:
        pilots: Fine-tunes of one base, every window with the same seeds.
        base: Its name, to be noted.
        sizes: The budgets.
    """
    windows, found = windows_of(pilots), []
    for name, law in laws_of(list(pilots[0].profile)).items():
        for size in sizes:
            here = [p for p in pilots if p.size == size]
            seeds = sorted({p.seed for p in here})
            risk = {(p.seed, p.window): reweighted(p.profile, law).value for p in here}
            if len(risk) < len(windows) * len(seeds) or len(seeds) < 2:
                continue
            for seed in seeds:
                best = easiest_of_least({w: risk[seed, w] for w in windows})
                found.append(
                    {"base": base, "budget": size, "law": name, "seed": seed, "window": best,
                     "regret": _regret(risk, windows, seeds, best),
                     "by_other_seeds": _regret(risk, windows, [*{*seeds} - {seed}], best)}
                )  # fmt: skip
    return found


def _regret(
    risk: Mapping[tuple[int, str], float], windows: Sequence[str], seeds: Sequence[int], taken: str
) -> float:
    means = {w: float(np.mean([risk[s, w] for s in seeds])) for w in windows}
    return means[taken] - min(means.values())


def by_line(seen: Sequence[Pilot], law: Law, budget: int) -> str:
    """Extrapolate each window's own test risk by a straight line in ln n, and take the least."""
    table, best = measured(seen, law), {}
    sizes = sorted({p.size for p in seen})
    for window in windows_of(seen):
        line = np.polyfit(np.log(sizes), [table[window, n] for n in sizes], 1)
        best[window] = float(np.polyval(line, np.log(budget)))
    return easiest_of_least(best)


def by_last(seen: Sequence[Pilot], law: Law, budget: int) -> str:
    """Take the window that is best at the largest pilot."""
    table, size = measured(seen, law), max(p.size for p in seen)
    return easiest_of_least({window: table[window, size] for window in windows_of(seen)})


def easiest_of_least(values: Mapping[str, float]) -> str:
    """Return the window of least value; of those equal up to rounding, the easiest."""
    windows = sorted(values, key=edges)
    return windows[first_least(np.array([values[w] for w in windows]))]


PLAIN: dict[str, Callable[[Sequence[Pilot], Law, int], str]] = {ACCURACY: by_line, LAST: by_last}
