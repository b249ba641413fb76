"""Shift terms that know the predictor, and the sample of units behind a Monte-Carlo limit."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from estimators import gibbs_risk, kl_bound, kl_inverse_upper
from estimators.importance import DESIGN
from estimators.total_variation.robust import FRESH
from pacbayes_sft import Options
from pacbayes_sft.bound_json import to_record, warnings_of
from pacbayes_sft.certify import bound
from pacbayes_sft.choices import Posterior
from pacbayes_sft.cli.show import show
from pacbayes_sft.data.levels import levels_of
from pacbayes_sft.data.rows import Row, Table
from pacbayes_sft.empirical import SAMPLED
from pacbayes_sft.errors import InputError
from pacbayes_sft.gibbs import Rows
from pacbayes_sft.profile import RiskProfile, sums_by
from pacbayes_sft.shift.of_predictor import bounds_by_shift, shift_terms


@pytest.fixture(scope="module")
def certificate(lora_run, rows_dir):
    options = Options(
        prior=lora_run / "pacbayes_sft" / "prior",
        posterior=Posterior.INTERPOLATED,
        prior_scales=(0.03,),
        draws=2,
        units=20,
        baselines=False,
        profile="difficulty",
    )
    files = [str(rows_dir / f"{name}.jsonl") for name in ("train", "test", "heldout")]
    return bound("strong", lora_run, files[0], files[1], options, train_heldout=files[2])


def test_a_sample_of_the_units_is_looked_at_and_n_stays(certificate):
    assert certificate.inputs.n == 32 and certificate.draws_a_unit == 2
    assert "20 of 32 units" in certificate.empirical_risk.method
    profile = certificate.profile
    assert sum(profile.units.values()) == 32
    assert sum(rows for _, rows in profile.certified.values()) == 20
    assert certificate.baselines == {}
    assert sum(rows for _, rows in profile.labelled.values()) == 48  # the held-out rows
    assert certificate.ledger.spent <= 0.05 and certificate.leaves.profile == pytest.approx(0.01)


def test_the_posterior_lies_between_prior_and_finished_weights(certificate):
    kl, pair = certificate.kl.value, certificate.inputs.pair
    t = math.sqrt(2 * kl * 0.03**2 / pair.squared_distance)
    assert min(abs(t - place) for place in (0, 0.05, 0.1, 0.2, 0.5, 1)) < 1e-3
    assert f"{t:.2g} of the way" in certificate.fitted.reason or t == 0


def test_every_shift_term_is_a_claim_with_its_label(certificate):
    names = ("tv", "d_plus", "slack:0.3", "robust", "slices", "importance")
    found = shift_terms(certificate, names)
    assert found["tv"]["guarantee"] == "exact" and found["d_plus"]["guarantee"] == "estimate"
    tv, d_plus = found["tv"]["upper"], found["d_plus"]["upper"]
    assert tv == pytest.approx(1 / 3) and d_plus == pytest.approx(1 / 3)
    assert found["slack:0.3"]["upper"] == pytest.approx(tv)  # D⁺ + γ·TV never exceeds TV
    assert found["robust"]["upper"] <= tv and found["slices"]["guarantee"] == "upper"
    assert found["robust"]["guarantee"] == "estimate"  # no labelled row has 5 operations


def test_each_shift_term_carries_the_train_bound_over(certificate):
    found = bounds_by_shift(certificate)
    assert set(found) == {"tv", "d_plus", "robust", "slices", "importance"}
    on_train = certificate.bounds[certificate.primary][1].upper
    term = shift_terms(certificate, ("robust",))["robust"]["upper"]
    assert found["robust"].upper == pytest.approx(on_train + term)
    assert found["d_plus"].guarantee == "estimate" and found["d_plus"].confidence == 0
    assert found["tv"].confidence == pytest.approx(1 - certificate.ledger.spent)
    written = to_record(certificate)["bounds_by_shift"]
    assert written["column"] == "difficulty" and written["tv"]["raw"] == found["tv"].upper
    assert "δ pays for one of them" in written["note"]
    for name, of in found.items():
        assert written[name]["assumptions"] == list(of.assumptions)
    assert SAMPLED in found["importance"].assumptions


def test_the_terminal_says_what_a_shift_term_rests_on(certificate):
    console = Console(file=io.StringIO(), width=4000, color_system=None)
    show(certificate, console)
    said = console.file.getvalue()
    assert "robust also assumes: " in said and FRESH in said and DESIGN in said


def test_auto_warns_that_it_assumed_and_a_column_that_was_named_does_not(certificate):
    inputs = certificate.inputs
    train, test = (replace(t, metadata=None) for t in (inputs.train, inputs.test))
    sampled = replace(certificate, inputs=replace(inputs, train=train, test=test))
    said = [w for w in warnings_of(sampled) if "--shift auto" in w]
    assert len(said) == 1 and "pacbayes-sft tv" in said[0] and "--shift difficulty" in said[0]
    named = replace(sampled, options=replace(sampled.options, shift="difficulty"))
    for silent in (named, certificate):  # the user's own; laws on record
        assert not any("--shift auto" in w for w in warnings_of(silent))


def test_the_labelled_file_is_named_with_its_hash(certificate):
    assert to_record(certificate)["provenance"]["labelled"] is None
    inputs = replace(certificate.inputs, labelled=certificate.inputs.heldout)
    written = to_record(replace(certificate, inputs=inputs))["provenance"]["labelled"]
    assert written["sha256"] == inputs.heldout.sha256 and written["rows"] == 48


def test_importance_weights_are_those_of_the_formula(certificate):
    found = shift_terms(certificate, ("importance",))["importance"]
    profile, delta = certificate.profile, certificate.leaves.profile / 3
    weights = {d: (1 / 3 if d >= 3 else 0.0) * 32 / n for d, n in profile.units.items()}
    largest = max(weights.values())
    mean = sum(weights[d] * s for d, (s, _) in profile.certified.items()) / 20 / largest
    limit = kl_inverse_upper(mean, math.log(1 / delta) / 20)
    inner = kl_bound(limit, certificate.kl, 32, delta).upper
    assert found["upper"] == pytest.approx(1 / 3 + largest * inner)  # 5 operations: uncovered
    assert found["guarantee"] == "upper"


def test_a_profile_without_labelled_rows_says_what_it_needs(certificate):
    bare = replace(certificate, profile=replace(certificate.profile, labelled={}))
    with pytest.raises(InputError, match="shift term 'robust': needs labelled rows"):
        shift_terms(bare, ("robust",))


def test_levels_are_one_number_a_unit():
    rows = [Row("p", "c", difficulty=2, unit="a"), Row("p", "c", difficulty=3, unit="a")]
    with pytest.raises(InputError, match="unit 'a' has several values"):
        levels_of(Table("t", rows, ""), "difficulty")
    with pytest.raises(InputError, match="t, row 1: 'length' is not a number"):
        levels_of(Table("t", rows, ""), "length")
    assert sums_by({"a": 1.0, "b": 0.5}, {"a": 2.0, "b": 2.0, "c": 9.0}) == {2.0: (1.5, 2)}


def test_limits_from_a_sample_of_the_units_hold():
    """Few of few units, drawn without replacement, losses with a probability each: 20,000 times."""
    generator, delta = np.random.default_rng(0), 0.1
    risks = generator.beta(0.3, 0.6, size=12)
    failed = 0
    for _ in range(20_000):
        chosen = generator.permutation(12)[:8]
        losses = generator.random(8) < risks[chosen]
        failed += gibbs_risk(losses.astype(float), delta).upper < risks.mean()
    assert failed / 20_000 < delta


def test_a_sample_is_of_whole_units_and_depends_on_the_seed_alone():
    rows = Rows([None] * 30, [f"u{i // 3}" for i in range(30)])
    few = rows.sample(4, seed=1)
    assert len(few.units) == 12 and len(set(few.units)) == 4
    assert few.units == rows.sample(4, seed=1).units != rows.sample(4, seed=2).units
    assert rows.sample(None, 1) is rows and rows.sample(10, 1) is rows


def test_levels_that_agree_in_six_digits_are_two_keys():
    sums = {0.1234567: (1.0, 2), 0.1234568: (0.0, 3), 6.0: (1.0, 1), 1e6: (0.0, 1)}
    counts = {level: count for level, (_, count) in sums.items()}
    found = RiskProfile("d", sums, counts, sums, False).to_dict()
    for name in ("certified", "units", "labelled"):
        assert list(found[name]) == ["0.1234567", "0.1234568", "6", "1e+06"]
    assert found["one_row_a_unit"] is False
