"""Whom a certificate speaks of: only a posterior nearer to the fine-tune is "around" it."""

import pytest

from pacbayes_sft.whereabouts import Place, drawn_from, not_around, place_of, what_is_certified

REFINED = "refined from the finished weights at prior scale 0.02"
FROM_PRIOR = "refined from the prior's centre at prior scale 0.02"


def record(left, distance, reason=REFINED):
    drift = {
        "distance_finished_to_prior": 2.7,
        "distance_to_prior": left,
        "distance": distance,
    }
    posterior = {"family": "refined", "reason": reason}
    return {"drift": drift, "posterior": posterior, "prior": {"centre": "the base"}}


@pytest.mark.parametrize(
    ("left", "distance", "place"),
    [
        (2.7, 0.0, Place.FINE_TUNE),
        (1.4, 1.3, Place.FINE_TUNE),
        (1.3, 1.4, Place.BETWEEN),
        (0.7503933714878388, 2.391284793406326, Place.BETWEEN),  # runs/tightness_real, r1-q,v
        (0.27, 2.6, Place.PRIOR),
        (0.0, 2.7, Place.PRIOR),
    ],
)
def test_around_is_what_is_nearer_to_the_fine_tune(left, distance, place):
    made = record(left, distance)
    assert place_of(made["drift"]) is place
    said = drawn_from(made, "run")
    assert (said == "the refined Gaussian posterior around run") == (place is Place.FINE_TUNE)
    assert bool(not_around(made["drift"], "the base")) == (place is not Place.FINE_TUNE)
    assert bool(what_is_certified(made, "run")) == (place is not Place.FINE_TUNE)


def test_between_the_two_both_distances_are_said():
    said = drawn_from(record(0.75, 2.39), "run")
    assert "between the prior's centre (the base) and run, nearer to the former (0.75" in said
    assert "in part at most" in what_is_certified(record(0.75, 2.39), "run")


def test_a_fit_that_began_at_the_prior_is_not_called_one_of_the_fine_tune():
    said = drawn_from(record(0.1, 2.65, FROM_PRIOR), "run")
    assert said.startswith("a Gaussian around the base, where") and "run" not in said
    assert "fitted from the prior's centre" in said
    assert "posterior of run ended" in drawn_from(record(0.1, 2.65), "run")


def test_a_record_without_the_distance_and_a_fine_tune_that_never_moved():
    old = record(0.1, 2.65)
    del old["drift"]["distance_to_prior"]
    assert place_of(old["drift"]) is Place.FINE_TUNE
    still = {"distance_finished_to_prior": 0.0, "distance_to_prior": 0.0, "distance": 0.0}
    assert place_of(still) is Place.FINE_TUNE
