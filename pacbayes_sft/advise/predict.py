"""From pilots to what each arm's risk and bound will be at a budget, as bootstrap draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from estimators import log_maurer_moment
from pacbayes_sft.advise.pilots import Measured, Pilot
from pacbayes_sft.advise.scaling import (
    FEWEST_SIZES,
    LEAST_SPAN,
    Fit,
    fit_kl,
    fit_risk,
    standard_error,
)
from pacbayes_sft.advise.shifts import WindowShift, covered
from pacbayes_sft.errors import InputError

Values = NDArray[np.float64]
Arm = tuple[str, str]
LEAST_COVER = 0.9
SLACK = 0.3
LEAST_KL = 0.1  # nats: a posterior that gave up and stands at the prior's centre has none
KL_ERROR = 0.1  # of ln KL, by decree: records hold no error of a KL


def arm_name(window: str, objective: str) -> str:
    """Return the window, and the objective where it is not plain SFT.

    >>> arm_name("2:6", "nll"), arm_name("2:6", "dft")
    ('2:6', '2:6 (dft)')
    """
    return window if objective == "nll" else f"{window} ({objective})"


class Train(StrEnum):
    """What stands for the risk on the window's own law.

    Attributes:
        HELDOUT: Risk measured on held-out rows of the window: empirical risk plus the
            generalisation gap as observed.
        BOUND: R̂ + √(KL/2n) + ε: empirical risk plus the generalisation gap as Proposition 4.1 has
            it.
        TIGHT: The same by PAC-Bayes-kl.
        EMPIRICAL: R̂ of the finished model alone.
        KL: √(KL/2n) alone.
        NOTHING: 0.
    """

    HELDOUT = "heldout"
    BOUND = "bound"
    TIGHT = "kl_bound"
    EMPIRICAL = "empirical"
    KL = "kl"
    NOTHING = "nothing"


class Extra(StrEnum):
    """What stands for the way from the window to the test law.

    Attributes:
        PROFILE: Σ(q_j - p_j)·r_j with the pilots' own risk by level: the gap as observed.
        ROBUST: D⁺ + γ·TV, γ as observed.
        SLACK: D⁺ + 0.3·TV, the slack fixed in advance.
        D_PLUS: D⁺.
        TV: Total variation of the difficulty.
        NOTHING: 0.
    """

    PROFILE = "profile"
    ROBUST = "robust"
    SLACK = "slack"
    D_PLUS = "d_plus"
    TV = "tv"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Rule:
    """What advice minimises: a train side plus a shift side.

    Attributes:
        train: See `Train`.
        shift: See `Extra`.
    """

    train: Train = Train.HELDOUT
    shift: Extra = Extra.PROFILE

    def __str__(self) -> str:
        """Return its two words."""
        return f"{self.train.value} + {self.shift.value}"


DEFAULT = Rule()


@dataclass(frozen=True)
class Evidence:
    """Fits of all arms.

    Attributes:
        arms: In order of difficulty.
        sizes: Pilot sizes.
        fits: ``heldout``, ``empirical``, ``gibbs``, ``kl`` and ``test`` (Σ q_j·r_j), each a `Fit`.
        gamma: Per arm: how far the risk falls with difficulty, at the largest pilot.
        shifts: Per arm.
        delta: δ of the bounds.
        certified: Share of the n units that stand behind the bound.
        cover: Share of the test law at levels that were measured; the rest is left out for all
            arms alike.
    """

    arms: tuple[Arm, ...]
    sizes: tuple[int, ...]
    fits: Mapping[str, Fit]
    gamma: Values
    shifts: tuple[WindowShift, ...]
    delta: float
    certified: float
    cover: float

    def train_side(self, rule: Rule, n: float) -> Values:
        """Return the train side at size n, shape (draws, arms)."""
        units = max(1.0, n * self.certified)
        if rule.train is Train.HELDOUT:
            return self.fits["heldout"].at(n)
        if rule.train is Train.EMPIRICAL:
            return self.fits["empirical"].at(n)
        complexity = np.sqrt(self.fits["kl"].at(n) / (2 * units))
        if rule.train is Train.KL:
            return complexity
        if rule.train is Train.NOTHING:
            return np.zeros_like(complexity)
        if rule.train is Train.TIGHT:
            moment = log_maurer_moment(round(units)) - np.log(self.delta)
            return _kl_inverse(self.fits["gibbs"].at(n), (self.fits["kl"].at(n) + moment) / units)
        epsilon = np.sqrt(np.log(2 * np.sqrt(units) / self.delta) / (2 * units))
        total: Values = self.fits["gibbs"].at(n) + complexity + epsilon
        return total

    def shift_side(self, rule: Rule, n: float) -> Values:
        """Return the shift side at size n, shape (draws, arms)."""
        if rule.shift is Extra.PROFILE:
            gap: Values = self.fits["test"].at(n) - self.fits["heldout"].at(n)
            return gap
        per_arm = {
            Extra.ROBUST: lambda s, g: s.with_slack(g),
            Extra.SLACK: lambda s, g: s.with_slack(SLACK),
            Extra.D_PLUS: lambda s, g: s.d_plus.value,
            Extra.TV: lambda s, g: s.tv.value,
            Extra.NOTHING: lambda s, g: 0.0,
        }[rule.shift]
        row = [per_arm(s, float(g)) for s, g in zip(self.shifts, self.gamma, strict=True)]
        return np.broadcast_to(np.array(row), self.fits["heldout"].at(n).shape)

    def total(self, rule: Rule, n: float) -> Values:
        """Return what the rule minimises at size n, shape (draws, arms); the first is the fit."""
        sides: Values = self.train_side(rule, n) + self.shift_side(rule, n)
        return sides


def check_sizes(sizes: Sequence[int]) -> None:
    """Refuse pilot sizes that nothing can be extrapolated from.

    Raises:
        InputError: If they are too few or too close together.
    """
    if len(set(sizes)) < FEWEST_SIZES or max(sizes) < LEAST_SPAN * min(sizes):
        raise InputError(
            f"pilots at n = {', '.join(map(str, sorted(set(sizes))))} cannot be extrapolated: give "
            f"at least {FEWEST_SIZES} sizes, the largest {LEAST_SPAN:g} times the smallest"
        )


def gather(
    pilots: Sequence[Pilot],
    shifts: Mapping[str, WindowShift],
    test_law: Mapping[float, float],
    *,
    delta: float,
    draws: int,
    seed: int,
    test_units: int | None = None,
) -> Evidence:
    """Fit every arm's numbers in n.

    What the bootstrap draws with: for ``heldout`` and ``test`` the standard error from rows (in
    part common to all sizes, which the same rows judge) and seeds, for ``test`` also other test
    samples of as many units (a multinomial, the same for all arms) where its law is that of a
    sample; for ``empirical`` and ``gibbs`` their own spread over seeds with the *held-out* rows'
    error in place of their own, which records do not hold; for ``kl`` `KL_ERROR` whatever its
    spread. The default rule uses the first two alone.

    Raises:
        InputError: If the pilots are too few or too small to be extrapolated, or see too little of
            the test law.
    """
    arms = sorted({p.arm for p in pilots}, key=lambda arm: (place(arm[0]), arm[1]))
    sizes = sorted({p.size for p in pilots})
    check_sizes(sizes)
    for arm in arms:
        missing = set(sizes) - {p.size for p in pilots if p.arm == arm}
        if missing:
            raise InputError(
                f"window {arm[0]} ({arm[1]}): no pilot of size {min(missing)}; every window needs "
                "the same sizes"
            )
        if arm[0] not in shifts:
            raise InputError(f"window {arm[0]}: its shift term is not given")
    seen, cover = seen_part([p.profile for p in pilots], test_law)
    generator = np.random.default_rng(seed)
    x = np.array(sizes, dtype=float)

    def risk_fit(
        of: dict[tuple[Arm, int], list[Measured]], judges: bool, shared: Values | None = None
    ) -> Fit:
        """Fit a risk; ``judges``: on rows that are the same at every size."""
        most = max(map(len, of.values()))
        values = np.full((len(arms), len(sizes), most), np.nan)
        within = np.zeros((len(arms), len(sizes)))
        for (arm, size), found in of.items():
            i, j = arms.index(arm), sizes.index(size)
            values[i, j, : len(found)] = [m.value for m in found]
            within[i, j] = np.mean([m.error for m in found])
        errors = standard_error(values, within)
        rows = within if judges else None
        return fit_risk(x, np.nanmean(values, axis=2), errors, generator, draws, shared, rows)

    def by_cell(of) -> dict[tuple[Arm, int], list[Measured]]:  # type: ignore[no-untyped-def]
        found: dict[tuple[Arm, int], list[Measured]] = {}
        for pilot in sorted(pilots, key=lambda p: p.seed):
            found.setdefault((pilot.arm, pilot.size), []).append(of(pilot))
        return found

    def other_samples() -> Values | None:
        """What another test sample would add to every arm's risk, shape (draws, arms, sizes)."""
        if test_units is None:
            return None
        weights = np.array(list(seen.values()))
        risks = np.array(
            [
                [
                    np.mean([[p.profile[v].value for v in seen]
                             for p in pilots if p.arm == arm and p.size == n], axis=0)
                    for n in sizes
                ]
                for arm in arms
            ]
        )  # fmt: skip
        others = generator.multinomial(test_units, weights / weights.sum(), draws) / test_units
        moved: Values = np.einsum("dl,anl->dan", others - weights, risks)
        return moved

    fits = {
        "heldout": risk_fit(by_cell(lambda p: p.heldout), True),
        "test": risk_fit(by_cell(lambda p: reweighted(p.profile, seen)), True, other_samples()),
        "empirical": risk_fit(by_cell(lambda p: Measured(p.train_risk, p.heldout.error)), False),
        "gibbs": risk_fit(
            by_cell(lambda p: Measured(min(1.0, p.empirical), p.heldout.error)), False
        ),
    }
    logs = np.array(
        [
            [
                np.mean([np.log(max(p.kl, LEAST_KL)) for p in pilots if p.arm == a and p.size == n])
                for n in sizes
            ]
            for a in arms
        ]
    )
    fits["kl"] = fit_kl(x, logs, np.full_like(logs, KL_ERROR), generator, draws)
    last = [[p.profile for p in pilots if p.arm == a and p.size == sizes[-1]] for a in arms]
    return Evidence(
        tuple(arms),
        tuple(sizes),
        fits,
        np.array([np.mean([observed_gamma(r) for r in profiles]) for profiles in last]),
        tuple(shifts[window] for window, _ in arms),
        delta,
        float(np.mean([p.certified for p in pilots])),
        cover,
    )


def refuse_unseen(cover: float) -> None:
    """Refuse pilots that are judged on too little of the test law.

    Raises:
        InputError: If it is less than `LEAST_COVER`.
    """
    if cover < LEAST_COVER:
        raise InputError(
            f"the pilots' rows by level cover {cover:.0%} of the test law; advice needs at least "
            f"{LEAST_COVER:.0%}: a pool (or pilots) without the test's difficulties cannot tell "
            "how a fine-tune does there"
        )


def seen_part(
    profiles: Sequence[Mapping[float, Measured]], test_law: Mapping[float, float]
) -> tuple[dict[float, float], float]:
    """Return the test law on the levels that all profiles hold, and those levels' share of it.

    Raises:
        InputError: If that share is less than `LEAST_COVER`.
    """
    levels = set.intersection(*map(set, profiles))
    cover = covered(test_law, levels)
    refuse_unseen(cover)
    return {level: w / cover for level, w in test_law.items() if level in levels}, cover


def reweighted(profile: Mapping[float, Measured], law: Mapping[float, float]) -> Measured:
    """Return the risk under a law of the levels: Σ q_j·r_j, its error from independent slices."""
    value = sum(weight * profile[level].value for level, weight in law.items() if weight > 0)
    variance = sum((w * profile[level].error) ** 2 for level, w in law.items() if w > 0)
    return Measured(float(value), float(np.sqrt(variance)))


def observed_gamma(profile: Mapping[float, Measured]) -> float:
    """Return sup over d' <= d of r(d') - r(d), point values: biased upward by noise."""
    highest, gamma = 0.0, 0.0
    for level in sorted(profile):
        highest = max(highest, profile[level].value)
        gamma = max(gamma, highest - profile[level].value)
    return gamma


def _kl_inverse(risk: Values, budget: Values) -> Values:
    """Return sup{r: kl(risk‖r) <= budget}, entry by entry: `kl_inverse_upper` for arrays."""
    low, high = risk.copy(), np.ones_like(risk)
    for _ in range(40):
        middle = (low + high) / 2
        inside = rel_entr(risk, middle) + rel_entr(1 - risk, 1 - middle) <= budget
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return high


def place(window: str) -> tuple[float, float]:
    """Return what windows are ordered by: the middle, then the upper end."""
    low, _, high = window.partition(":")
    return (float(low) + float(high)) / 2, float(high)
