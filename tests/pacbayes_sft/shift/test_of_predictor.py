"""Shift terms that know the predictor, on profiles made by hand: no model."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from estimators import Estimate, Guarantee
from estimators.concentration import clopper_pearson, kl_interval
from estimators.importance import DESIGN
from estimators.monte_carlo import FROZEN
from estimators.total_variation.attribute import ATTRIBUTE_SHIFT, SAMPLES
from estimators.total_variation.robust import THESE
from pacbayes_sft.choices import Loss, Space
from pacbayes_sft.data.metadata import Metadata
from pacbayes_sft.data.rows import Row, Table
from pacbayes_sft.empirical import SAMPLED
from pacbayes_sft.profile import RiskProfile, risk_profile
from pacbayes_sft.shift.gamma import gamma_pair
from pacbayes_sft.shift.of_predictor import TEST_UNSEEN, bounds_by_shift, shift_terms
from pacbayes_sft.shift.term import UNIT_LAW


def table(name, levels, law=None, seed=0, units=None):
    """Rows with a difficulty, and steps = 3 - difficulty."""
    rows = [
        Row(
            f"{name} {i}",
            " yes",
            difficulty=d,
            unit=units and units[i],
            attributes={"steps": 3 - d},
        )
        for i, d in enumerate(levels)
    ]
    metadata = law and Metadata(
        generator="g", attribute="difficulty", law=law, seed=seed, rows=len(rows), data_sha256="x"
    )
    return Table(name, rows, name, metadata)


def certificate(train, test, profile):
    """What the terms ask of one: R_train <= 0.5, KL 0."""
    on_train = Estimate(0.5, -math.inf, 0.5, 0.96, Guarantee.UPPER, "kl")
    return SimpleNamespace(
        inputs=SimpleNamespace(train=train, test=test, pair=SimpleNamespace(space=Space.FACTORS)),
        options=SimpleNamespace(loss=Loss.EXACT_MATCH, prior_scales=(0.1,)),
        leaves=SimpleNamespace(profile=0.01),
        ledger=SimpleNamespace(spent=0.05),
        shift=SimpleNamespace(tv=Estimate.exactly(1.0, method="laws")),
        kl=Estimate.exactly(0.0, method="no KL"),
        empirical_risk=Estimate(0.1, 0.0, 0.2, 0.99, Guarantee.UPPER, "draws", (FROZEN, SAMPLED)),
        draws_a_unit=1,
        profile=profile,
        primary="kl",
        bounds={"kl": (on_train, on_train)},
    )


def test_a_recorded_law_is_that_of_its_own_column_alone():
    """Trained on difficulty 1, tested on 2, profile over steps: no row is as the test's are."""
    train = table("a", [1] * 2000, {"1": 1.0})
    test = table("b", [2] * 2000, {"2": 1.0}, seed=1)
    profile = RiskProfile("steps", {2.0: (0.0, 2000)}, {2.0: 2000}, {2.0: (0.0, 2000)})
    made = certificate(train, test, profile)
    found = shift_terms(made, ("importance", "d_plus", "robust"))
    assert found["importance"]["upper"] >= 1  # the true test risk may be anything
    assert found["d_plus"]["value"] == 0 and found["robust"]["guarantee"] == "estimate"
    assert "slices" not in bounds_by_shift(made)  # the law of steps is on no record


def test_the_importance_bound_lists_what_it_stands_on():
    profile = RiskProfile("difficulty", {1.0: (1.0, 50)}, {1.0: 50}, {})
    known = table("a", [1] * 50, {"1": 1.0}), table("b", [1] * 50, {"1": 1.0}, seed=1)
    (found,) = shift_terms(certificate(*known, profile), ("importance",)).values()
    assert {ATTRIBUTE_SHIFT, DESIGN} <= set(found["assumptions"])
    assert not {SAMPLES, TEST_UNSEEN} & set(found["assumptions"])
    assert {FROZEN, SAMPLED} <= set(found["assumptions"])  # what the draws of R̂ assume
    bare = table("a", [1] * 50), table("b", [1] * 50)
    (found,) = shift_terms(certificate(*bare, profile), ("importance",)).values()
    assert {ATTRIBUTE_SHIFT, DESIGN, SAMPLES, TEST_UNSEEN} <= set(found["assumptions"])


def test_robust_without_recorded_laws_assumes_that_no_other_difficulty_occurs():
    labelled = {1.0: (0.0, 50), 2.0: (10.0, 50)}
    profile = RiskProfile("difficulty", {1.0: (0.0, 9)}, {1.0: 9}, labelled)
    levels = [1, 2] * 20
    bare = table("a", levels), table("b", levels)
    known = [replace(t, metadata=m) for t, m in zip(bare, _laws_of_two(), strict=True)]
    for pair, assumed in ((bare, True), (known, False)):
        found = shift_terms(certificate(*pair, profile), ("robust",))["robust"]
        assert found["guarantee"] == "upper" and (THESE in found["assumptions"]) == assumed


def test_where_units_have_several_rows_the_laws_are_those_of_units():
    labelled = {1.0: (0.0, 50), 2.0: (10.0, 50)}
    profile = RiskProfile("difficulty", {1.0: (0.0, 9)}, {1.0: 9}, labelled)
    levels, names = [1, 2] * 20, [f"u{i // 4}{i % 2}" for i in range(40)]
    terms = ("d_plus", "slack:0.3", "robust", "importance")
    for units, several in ((None, False), (names, True)):
        pair = table("a", levels, units=units), table("b", levels, units=units)
        found = shift_terms(certificate(*pair, profile), terms)
        assert all((UNIT_LAW in found[term]["assumptions"]) == several for term in terms)


def _laws_of_two():
    law = {"1": 0.5, "2": 0.5}
    return [table(name, [1], law, seed=i).metadata for i, name in enumerate("ab")]


def test_training_harder_than_the_test_lowers_the_bound_by_slices():
    laws = {"1": 0.1, "2": 0.9}, {"1": 0.9, "2": 0.1}
    pair = table("a", [1, 2], laws[0]), table("b", [1, 2], laws[1], seed=1)
    labelled, looked = {1.0: (0.0, 500), 2.0: (400.0, 500)}, {1.0: (0.0, 1), 2.0: (1.0, 1)}
    made = certificate(*pair, RiskProfile("difficulty", looked, {1.0: 1, 2.0: 1}, labelled))
    found = bounds_by_shift(made)
    assert 0 <= found["slices"].upper < 0.5 and found["slices"].guarantee is Guarantee.UPPER
    term = shift_terms(made, ("slices",))["slices"]["upper"]
    assert -0.64 <= term < 0 and found["slices"].upper == max(0.0, 0.5 + term)


@pytest.mark.parametrize("single", [True, False])
def test_a_unit_of_several_rows_has_a_mean_and_no_trial(single):
    laws = {"1": 0.5, "2": 0.5}, {"1": 0.5, "2": 0.5}
    pair = table("a", [1, 2], laws[0]), table("b", [1, 2], {"2": 1.0}, seed=1)
    labelled = {1.0: (4.0, 10), 2.0: (4.0 if single else 4.5, 10)}
    profile = RiskProfile("difficulty", {}, {1.0: 1, 2.0: 1}, labelled, single)
    found = shift_terms(certificate(*pair, profile), ("slices",))["slices"]["upper"]
    if single:
        limit = clopper_pearson(4, 10, 0.005)
        assert found == pytest.approx(0.5 * (limit.upper - limit.lower))
    else:
        high, low = kl_interval(0.45, 10, 0.005).upper, kl_interval(0.4, 10, 0.005).lower
        assert found == pytest.approx(0.5 * (high - low))


class TestCountedOnce:
    def profile(self, labelled, heldout, certified=None):
        """A stub of the evaluator: every unit errs."""

        class Evaluator:
            def gibbs(self, slots, posterior, rows, purpose):
                return SimpleNamespace(units=np.ones(len(set(rows.units))))

        certified = certified or table("train", [1, 2])
        inputs = SimpleNamespace(certified=certified, labelled=labelled, heldout=heldout)
        return risk_profile(
            "difficulty",
            inputs,
            SimpleNamespace(by_unit={}),
            Evaluator(),
            SimpleNamespace(space=Space.FACTORS),
            None,
            lambda given: given,
        )

    def test_rows_given_as_both(self):
        same = table("f", [1, 2, 2])
        assert self.profile(same, same).labelled == {1.0: (1.0, 1), 2.0: (2.0, 2)}
        more = Table("more", [*same.rows, *table("g", [1, 1]).rows], "more")
        assert self.profile(more, same).labelled == {1.0: (3.0, 3), 2.0: (2.0, 2)}
        assert self.profile(same, more).labelled == {1.0: (1.0, 1), 2.0: (2.0, 2)}

    def test_units_in_both(self):
        pair = table("f", [1, 1], units=["u", "v"]), table("g", [1, 1], units=["v", "w"])
        assert self.profile(*pair).labelled == {1.0: (2.0, 2)}

    def test_different_rows_are_all_counted(self):
        pair = table("f", [1, 2]), table("g", [1, 2])  # "row 0" of one is not "row 0" of the other
        assert self.profile(*pair).labelled == {1.0: (2.0, 2), 2.0: (2.0, 2)}
        law = {"1": 1.0}
        drawn = [table("f", [1, 1], law, seed=seed) for seed in (1, 2)]  # a coincidence on record
        assert self.profile(*drawn).labelled == {1.0: (4.0, 4)}
        again = [table("f", [1, 1], law, seed=1)] * 2
        assert self.profile(*again).labelled == {1.0: (2.0, 2)}

    def test_whether_a_unit_is_one_row_is_noted(self):
        assert self.profile(table("f", [1, 2]), None).one_row_a_unit
        assert not self.profile(table("f", [1, 1], units=["u", "u"]), None).one_row_a_unit


def test_the_curve_against_gamma_takes_no_law_of_another_attribute():
    """The law on record is of the steps; the difficulties are all 1 against all 2."""
    sides = table("a", [1.0] * 40, {"3": 1.0}), table("b", [2.0] * 40, {"3": 1.0}, seed=1)
    steps = [
        replace(t, metadata=t.metadata.model_copy(update={"attribute": "steps"})) for t in sides
    ]
    _, tv = gamma_pair(*steps, 0.05)
    assert tv.guarantee is Guarantee.UPPER and tv.value == 1.0
    assert gamma_pair(*sides, 0.05)[1].guarantee is Guarantee.EXACT
