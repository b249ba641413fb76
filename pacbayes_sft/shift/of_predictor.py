"""Several shift terms for one posterior: each a bound of its own, at the δ that was set aside.

``tv``: TV of the laws of the difficulty. ``d_plus``: one-sided, for risks that do not fall with it.
``slack:γ``: D⁺ + γ·TV, for one that falls by at most γ. ``robust``: the same with γ limited by the
predictor's own risk on labelled rows, at the difficulties on record or, without recorded laws, in
the two files (assumed to be all there are). ``slices``: the linear programme over those limits.
``importance``: no shift term but a bound on the re-weighted risk of the certified rows.

Each is a claim of its own; the first is the bound's own, the others spend the leaf of
`Options.profile`. Quoting the best of several would have to pay for the choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from estimators import Estimate, Guarantee, kl_inverse_upper, with_shift
from estimators.importance import importance_weighted_bound, importance_weights
from estimators.total_variation import NON_DECREASING, Profiles, profile_shift
from estimators.total_variation.attribute import SAMPLES
from estimators.total_variation.robust import robust_shift, slice_limit_shift
from pacbayes_sft.certify import Certificate
from pacbayes_sft.choices import ZERO_ONE, Space
from pacbayes_sft.data.levels import levels_of
from pacbayes_sft.data.rows import Table
from pacbayes_sft.errors import InputError
from pacbayes_sft.profile import RiskProfile
from pacbayes_sft.shift.methods import TERMS, check_shift, laws_are_known, laws_of_numbers
from pacbayes_sft.shift.term import of_units

Law = Mapping[float, float] | Sequence[float]
TEST_UNSEEN = "the test rows did not shape the posterior"


def shift_terms(certificate: Certificate, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return for each shift term its JSON-ready estimate, or for ``importance`` the whole bound.

    Args:
        certificate: Of a bound with `Options.profile`.
        names: Which terms.

    Raises:
        InputError: If one needs labelled rows or a 0-1 loss that are not there.
    """
    profile = certificate.profile
    assert profile is not None
    laws = _laws(certificate, profile.column)
    found = {}
    for name in names:
        if name == "importance":
            found[name] = _importance(certificate, profile, laws[1]).to_dict()
        else:
            found[name] = _shift(name, certificate, profile, laws).to_dict()
    return found


def bounds_by_shift(certificate: Certificate) -> dict[str, Estimate]:
    """Return the bound on test risk by each shift term that the certificate allows.

    Each is the least bound on the train distribution plus that term (for ``importance`` the bound
    itself), a claim of its own: the ledger pays for one of them, not for the best.

    Args:
        certificate: Of a bound with `Options.profile`.
    """
    profile = certificate.profile
    assert profile is not None
    on_train = certificate.bounds[certificate.primary][1]
    laws, found = _laws(certificate, profile.column), {}
    for name in TERMS:
        try:
            if name == "importance":
                found[name] = _importance(certificate, profile, laws[1])
            else:
                term = with_shift(on_train, _shift(name, certificate, profile, laws))
                confidence = on_train.confidence if term.guarantee is Guarantee.UPPER else 0.0
                found[name] = replace(term, confidence=confidence)
        except InputError:  # not with these files
            continue
    return found


def _laws(certificate: Certificate, column: str) -> tuple[Law, Law]:
    """The laws of a column: known where the files record this very one, else one value a unit."""
    train, test = certificate.inputs.train, certificate.inputs.test
    if laws_are_known(train, test, column):
        return laws_of_numbers(train, test)
    return _levels(train, column), _levels(test, column)


def _levels(table: Table, column: str) -> list[float]:
    return list(levels_of(table, column).values())


def _shift(
    name: str, certificate: Certificate, profile: RiskProfile, laws: tuple[Law, Law]
) -> Estimate:
    found = _from_laws(name, certificate, profile, laws)
    if name == "tv" or all(isinstance(law, Mapping) for law in laws):
        return found
    return of_units(found, certificate.inputs.train, certificate.inputs.test)


def _from_laws(
    name: str, certificate: Certificate, profile: RiskProfile, laws: tuple[Law, Law]
) -> Estimate:
    delta = certificate.leaves.profile
    if name == "tv":
        return certificate.shift.tv
    if name == "d_plus":
        return profile_shift(*laws, NON_DECREASING, delta)
    gamma = check_shift(name)
    if gamma is not None:
        return profile_shift(*laws, Profiles(slack=gamma), delta)
    if certificate.options.loss not in ZERO_ONE or not profile.labelled:
        raise InputError(
            f"shift term {name!r}: needs labelled rows (--labelled; data.labelled_rows or "
            "data.labelled of a scan), a 0-1 loss and the noise of a LoRA's factors"
        )
    known = {level for law in laws for level in law}
    binary = profile.one_row_a_unit  # else a unit's loss is a mean, and no trial
    counts = {
        level: (round(wrong) if binary else wrong, rows)
        for level, (wrong, rows) in profile.labelled.items()
        if level in known
    }
    if name == "robust":
        return robust_shift(*laws, counts, delta, binary=binary).limit
    if not (isinstance(laws[0], Mapping) and isinstance(laws[1], Mapping)):
        raise InputError("shift term 'slices': needs the laws of both sides on record")
    return slice_limit_shift(laws[0], laws[1], counts, delta, binary=binary)


def _importance(certificate: Certificate, profile: RiskProfile, test: Law) -> Estimate:
    """Bound the test risk by importance weights over the difficulty, at fixed design.

    See `estimators.importance`. The Monte-Carlo limit of the weighted risk, the PAC-Bayes event and
    what an empirical test law pays take a third of the leaf each.
    """
    if certificate.inputs.pair.space is not Space.FACTORS:
        raise InputError("shift term 'importance': needs the noise of a LoRA's factors")
    delta, n = certificate.leaves.profile / 3, sum(profile.units.values())
    levels = [level for level, count in profile.units.items() for _ in range(count)]
    weights = importance_weights(levels, test)
    looked_at = sum(rows for _, rows in profile.certified.values())
    # several draws of a unit are as good as so many units only where every unit is looked at
    draws = looked_at * (certificate.draws_a_unit if looked_at == n else 1)
    mean = limit = 0.0
    if weights.largest > 0:
        of = dict(zip(levels, weights.weights.tolist(), strict=True))
        sums = sum(of[level] * wrong for level, (wrong, _) in profile.certified.items())
        mean = min(1.0, sums / looked_at / weights.largest)
        limit = kl_inverse_upper(mean, math.log(1 / delta) / draws)
    of_a_scale = delta / len(certificate.options.prior_scales)
    # the same draws as those of the empirical risk, so what that assumes of them holds here too
    risk = Estimate(
        mean,
        -math.inf,
        max(mean, limit),
        1 - delta,
        Guarantee.UPPER,
        f"Monte Carlo, {draws} independent draws, kl-Chernoff limit",
        certificate.empirical_risk.assumptions,
        "probability",
    )
    found = importance_weighted_bound(risk, certificate.kl, weights, of_a_scale, delta)
    sampled = () if weights.test_rows is None else (SAMPLES, TEST_UNSEEN)
    found = replace(
        found,
        confidence=1 - certificate.ledger.spent,
        assumptions=(*found.assumptions, *sampled),
    )
    return of_units(found, certificate.inputs.train, certificate.inputs.test)
