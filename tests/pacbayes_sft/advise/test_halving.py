"""Successive halving of the windows, in a world whose order is known."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacbayes_sft.advise.halving import better_half, halve, halving_said
from pacbayes_sft.advise.pilots import Measured, Pilot, read_pilots
from pacbayes_sft.advise.report import as_markdown
from pacbayes_sft.advise.run import advise_on
from pacbayes_sft.errors import InputError
from tests.pacbayes_sft.advise.cases import SMALL, WINDOWS, law, truth, world


def pilot(window, size, risk, objective="nll", seed=0):
    profile = {2.0: Measured(risk, 0.01)}
    return Pilot(window, objective, size, seed, risk, Measured(risk, 0.01), profile, risk, 1, 1, 1)


@pytest.mark.parametrize("levels", [(2, 3, 4), range(2, 11), (8, 9, 10)])
def test_the_windows_kept_are_those_of_least_true_risk_on_this_test_law(levels):
    q = law(levels)
    found = halve(read_pilots(world()), q)
    ranked = sorted(WINDOWS, key=lambda w: truth(w, 64, q))
    assert set(found.kept) == set(ranked[:2]) and list(found.dropped) == ranked[2:]
    assert found.dropped[ranked[2]] == pytest.approx(truth(ranked[2], 64, q))
    assert found.worst_kept == pytest.approx(truth(ranked[1], 64, q))


def test_larger_pilots_are_not_looked_at():
    small = [pilot(w, 64, r) for w, r in (("2:4", 0.5), ("5:7", 0.4), ("8:10", 0.3))]
    large = [pilot(w, 256, r) for w, r in (("2:4", 0.0), ("5:7", 0.9), ("8:10", 0.9))]
    assert halve(small + large, {2.0: 1.0}) == halve(small, {2.0: 1.0})
    assert halve(small, {2.0: 1.0}).kept == ("5:7", "8:10")


def test_seeds_are_averaged_and_a_window_counts_with_its_best_objective():
    made = [pilot("2:4", 64, r, seed=s) for s, r in enumerate((0.1, 0.7))]  # 0.4 on average
    made += [pilot("5:7", 64, r, seed=s) for s, r in enumerate((0.5, 0.5))]
    made += [pilot("8:10", 64, r, seed=s) for s, r in enumerate((0.3, 0.3))]
    assert halve(made, {2.0: 1.0}).kept == ("2:4", "8:10")
    made += [pilot("5:7", 64, 0.2, "dft", s) for s in (0, 1)]
    assert halve(made, {2.0: 1.0}).kept == ("5:7", "8:10")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=9))
def test_the_half_is_rounded_up_and_equals_are_kept_together(tenths):
    made = [pilot(f"{k}:{k + 1}", 64, r / 10) for k, r in enumerate(tenths)]
    found = halve(made, {2.0: 1.0})
    assert len(found.kept) >= better_half(len(made)) and len(found.kept) + len(
        found.dropped
    ) == len(made)
    assert all(risk > found.worst_kept for risk in found.dropped.values())
    by_name = {p.window: p.heldout.value for p in made}
    assert sum(by_name[w] < found.worst_kept for w in found.kept) < better_half(len(made))


def test_a_test_law_that_the_pilots_do_not_see_is_refused():
    with pytest.raises(InputError, match="cover 50% of the test law"):
        halve([pilot("2:4", 64, 0.3)], {2.0: 0.5, 9.0: 0.5})


def test_the_dropped_windows_get_no_further_pilot_and_are_named(files, faked, tmp_path):
    def ask(**changes):
        how = dataclasses.replace(SMALL, sizes=(64, 128, 256), **changes)
        return advise_on("strong", *files, (256, 1024), tmp_path / "w", windows=WINDOWS, how=how)

    halved = ask(halving=True)
    assert len(faked) == 3 + 2 * 2  # three windows at the smallest size, two of them beyond
    (dropped,) = halved.halved.dropped
    assert {(p.window, p.size) for p in halved.pilots if p.window == dropped} == {(dropped, 64)}
    advised = {p.window for choice in halved.advice.choices for p in choice.predictions}
    assert advised == set(halved.halved.kept) == set(WINDOWS) - {dropped}
    text = as_markdown(halved)
    assert f"{dropped} {halved.halved.dropped[dropped]:.3f} had the highest risk" in text
    assert dropped in halved.prepared.shifts and f"| {dropped} |" in text  # its shift term stands
    whole = ask()
    assert len(faked) == 9 and whole.halved is None and halving_said(None) == []
    assert halved.cost["share_of_sweep"] < whole.cost["share_of_sweep"]
    assert halved.to_dict()["halved"]["size"] == 64 and whole.to_dict()["halved"] is None


def test_a_tie_up_to_rounding_is_one():
    profiles = {"4:8": (0.1, 0.2, 0.3), "6:10": (0.3, 0.2, 0.1), "8:12": (0.0, 0.0, 0.0)}
    made = []
    for window, risks in profiles.items():
        profile = {float(k): Measured(r, 0.01) for k, r in enumerate(risks)}
        made.append(Pilot(window, "nll", 64, 0, 0, Measured(0, 0), profile, 0, 1, 1, 1))
    found = halve(made, {0.0: 1 / 3, 1.0: 1 / 3, 2.0: 1 / 3})
    assert found.kept == ("4:8", "6:10", "8:12") and not found.dropped
