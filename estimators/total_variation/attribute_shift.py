"""`AttributeShift`: one estimator for every class of risk profiles, from samples or known laws.

All profiles (TV of the attribute's law), non-decreasing ones (D⁺), γ-slack (D⁺ + γ·TV) and
Lipschitz ones; McDiarmid's limit, the fixed design, the robust form on labelled held-out rows, the
linear programme over slice limits, and the γ at which a conclusion breaks. The mathematics is that
of `risk_profiles` and `robust`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from estimators.concentration import check_delta
from estimators.estimate import Estimate, Guarantee
from estimators.total_variation.attribute import total_variation_attribute
from estimators.total_variation.risk_profiles import (
    ALL,
    NON_DECREASING,
    Law,
    Profiles,
    breakdown_gamma,
    profile_shift,
)
from estimators.total_variation.robust import RobustShift, robust_shift, slice_limit_shift

HeldOut = Mapping[float, tuple[int, int]]


class AttributeShift(BaseEstimator):  # type: ignore[misc]
    """The most that R_test - R_train can be when only an attribute shifts.

    Args:
        profiles: The class that the predictor's risk profile belongs to, fixed in advance.
        delta: Probability with which `limit_` may fail; each other limit is a claim of its own.
        fixed_design: Whether R_train means the average over the very rows given.

    Attributes:
        shift_: D_C for the class; ``upper`` or ``exact`` for all profiles, else ``estimate`` (its
            limit holds under the class's assumption).
        tv_: The same for all profiles.
        d_plus_: The same for non-decreasing profiles; None where values are not numbers.
        robust_: D⁺ + γ·TV with γ limited by labelled held-out rows; None without such rows.
        programme_: The linear programme over the slices' limits; None unless laws are known and
            held-out rows are given.
        limit_: The sharpest of what is ``upper`` or ``exact``; `shift_` if nothing is.

    >>> found = AttributeShift(NON_DECREASING).fit_laws({1: 0.5, 2: 0.5}, {1: 0.2, 2: 0.8})
    >>> round(found.shift_.value, 3), round(found.breakdown(0.3), 3), str(found.shift_.guarantee)
    (0.3, 0.0, 'estimate')
    """

    def __init__(
        self, profiles: Profiles = ALL, *, delta: float = 0.05, fixed_design: bool = False
    ) -> None:
        self.profiles = profiles
        self.delta = delta
        self.fixed_design = fixed_design

    def fit(self, X: Any, y: Any, held_out: HeldOut | None = None) -> AttributeShift:  # noqa: N803
        """Estimate from samples.

        Args:
            X: The attribute of each independent unit; shape (n,) or (n, 1). Anything hashable for
                all profiles, else numbers.
            y: The side of each: ``"train"`` or ``"test"``, or two numbers, the smaller of which is
                the train side.
            held_out: For each difficulty (errors, rows), see `robust_shift`.

        Raises:
            ValueError: If there are not two sides, or words that do not say which is which.
        """
        values = np.asarray(X, dtype=object)
        values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
        y = np.asarray(np.asarray(y).tolist())  # numbers that lie as objects are numbers
        if values.ndim != 1 or len(values) != len(y):
            raise ValueError("give one attribute and one side a unit")
        sides = np.unique(y)
        if len(sides) != 2:
            raise ValueError(f"Only two sides can be compared, got {len(sides)} label(s)")
        if sides.dtype.kind not in "biuf":
            if {str(side) for side in sides} != {"train", "test"}:
                raise ValueError(
                    "sides are 'train' and 'test', or two numbers (train: the smaller)"
                )
            sides = sides[::-1]  # in the order of their letters the test comes first
        train, test = (values[y == side].tolist() for side in sides)
        return self._fit(train, test, held_out)

    def fit_laws(self, train: Law, test: Law, held_out: HeldOut | None = None) -> AttributeShift:
        """Compute from laws {value: probability}; either may be a sample instead.

        Raises:
            ValueError: As `profile_shift`.
        """
        return self._fit(train, test, held_out)

    def at_slack(self, gamma: float) -> Estimate:
        """Return D⁺ + γ·TV, an ``estimate`` whose limit holds if the risk falls by at most γ."""
        check_is_fitted(self)
        return self._profile(Profiles(slack=gamma))

    def breakdown(self, allowed: float) -> float:
        """Return the largest γ at which D⁺ + γ·TV stays within what a conclusion allows.

        Limits, not point values, where there are samples.
        """
        check_is_fitted(self)
        if self.d_plus_ is None:
            raise ValueError("these attributes are not numbers, so no risk can rise with them")
        return breakdown_gamma(self.d_plus_.upper, self.tv_.upper, allowed)

    def _fit(self, train: Any, test: Any, held_out: HeldOut | None) -> AttributeShift:
        check_delta(self.delta)
        self._train, self._test = train, test
        known = isinstance(train, Mapping) and isinstance(test, Mapping)
        numeric = known or all(_is_number(v) for v in [*train, *test])
        robust = held_out is not None
        # `limit_` is the best of two limits where there are held-out rows, so each gets half
        self._share = self.delta / 2 if robust else self.delta
        if not numeric and (self.profiles != ALL or robust or self.fixed_design):
            raise ValueError("a class of risk profiles needs attributes that are numbers")
        self.tv_ = self._profile(ALL) if numeric else total_variation_attribute(
            train, test, self._share
        )  # fmt: skip
        self.d_plus_ = self._profile(NON_DECREASING) if numeric else None
        self.shift_ = self.tv_ if self.profiles == ALL else self._profile(self.profiles)
        self.robust_: RobustShift | None = None
        self.programme_: Estimate | None = None
        if held_out is not None:
            self.robust_ = robust_shift(
                train, test, held_out, self._share, fixed_design=self.fixed_design
            )
            if known:
                self.programme_ = slice_limit_shift(train, test, held_out, self._share)
        robust_limit = self.robust_.limit if self.robust_ else None
        sound = [
            e
            for e in (self.tv_, self.shift_, robust_limit, self.programme_)
            if e is not None and e.guarantee in (Guarantee.EXACT, Guarantee.UPPER)
        ]
        best = min(sound, key=lambda e: e.upper) if sound else self.shift_
        exact = best.guarantee is Guarantee.EXACT
        self.limit_ = best if exact else replace(best, confidence=1 - self.delta)
        return self

    def _profile(self, profiles: Profiles) -> Estimate:
        return profile_shift(
            self._train, self._test, profiles, self._share, fixed_design=self.fixed_design
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
