"""The shift term of every window from data alone: before any fine-tune, and with its label."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from estimators import Estimate, Guarantee
from estimators.total_variation import ALL, NON_DECREASING, profile_shift
from estimators.total_variation.risk_profiles import Law, law_of
from pacbayes_sft.errors import InputError
from pacbayes_sft.scan.windows import edges

LEVELS_OF_SAMPLE = (
    "the levels' edges are taken from the pool's own rows, not fixed without them: difficulties "
    "that a level holds together are treated as one, so this is an estimate"
)
WINDOWS_OF_SAMPLE = (
    "the windows' edges are quantiles of the pool whose rows the limit counts, not fixed without "
    "them, so this is an estimate"
)


@dataclass(frozen=True)
class WindowShift:
    """What lies between training on a window and the test law.

    Attributes:
        tv: TV of the difficulty: ``exact`` of known laws, ``upper`` from samples, ``estimate``
            where the edges came from the pool's sample.
        d_plus: D⁺, for a risk that does not fall with difficulty: an ``estimate``.
        law: Law of the difficulty within the window.
    """

    tv: Estimate
    d_plus: Estimate
    law: Mapping[float, float]

    def with_slack(self, gamma: float) -> float:
        """Return D⁺ + γ·TV, at most TV; point values."""
        return min(self.tv.value, self.d_plus.value + gamma * self.tv.value)


def window_shifts(
    pool: Law,
    test: Law,
    windows: Sequence[str],
    delta: float = 0.05,
    *,
    levels_of_sample: bool = False,
    windows_of_sample: bool = False,
) -> dict[str, WindowShift]:
    """Return the shift term of every window.

    Args:
        pool: Difficulty of every unit of the pool's pilot side, or the pool's known law.
        test: Difficulty of every test unit, or its known law.
        windows: ``LO:HI``, both included.
        delta: Probability with which all limits from samples together may fail.
        levels_of_sample: Whether ``pool`` and ``test`` are in levels whose edges the pool's sample
            decided: nothing is then more than an ``estimate``.
        windows_of_sample: Whether the windows are quantiles of the pool: limits from samples are
            then ``estimate``; a TV of known laws is exact for any window.

    Raises:
        InputError: If a difficulty is constant, ranges do not overlap, or a window is empty.
    """
    values, weights, size = law_of(pool)
    others, _, _ = law_of(test)
    if len(values) < 2:
        raise InputError(
            f"the pool's difficulty is constant ({values[0]:g}): no window is harder than another"
        )
    if values[-1] < others[0] or others[-1] < values[0]:
        raise InputError(
            f"the pool's difficulty ({values[0]:g} to {values[-1]:g}) and the test's "
            f"({others[0]:g} to {others[-1]:g}) do not overlap in these rows, so no pilot on this "
            "pool can show how a fine-tune does there; give a pool that reaches the test's range"
        )
    found = {}
    for window in windows:
        low, high = edges(window)
        inside = (values >= low) & (values <= high)
        mass = float(weights[inside].sum())
        if mass == 0:
            raise InputError(f"--windows {window}: no row of the pool's pilot side lies in it")
        law = {
            float(v): float(w) / mass for v, w in zip(values[inside], weights[inside], strict=True)
        }
        rows: Law = law
        if size is not None:  # a sample: its limit counts the window's own rows
            counts = [round(float(w) * size) for w in weights[inside]]
            rows = [
                v for v, c in zip(values[inside].tolist(), counts, strict=True) for _ in range(c)
            ]
        each = delta / (2 * len(windows))
        tv, d_plus = (profile_shift(rows, test, kind, each) for kind in (ALL, NON_DECREASING))
        if levels_of_sample:
            tv, d_plus = (term.without_promise(LEVELS_OF_SAMPLE) for term in (tv, d_plus))
        if windows_of_sample and tv.guarantee is not Guarantee.EXACT:
            tv, d_plus = (term.without_promise(WINDOWS_OF_SAMPLE) for term in (tv, d_plus))
        found[window] = WindowShift(tv, d_plus, law)
    return found


def covered(test_law: Mapping[float, float], levels: Collection[float]) -> float:
    """Return the share of the test law at levels that pilots were measured on."""
    return sum(weight for level, weight in test_law.items() if level in levels)
