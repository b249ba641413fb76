import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import Estimate, Guarantee, weakest

FINITE = st.floats(-1e6, 1e6)


@given(st.floats(0, 1), st.sampled_from(list(Guarantee)))
def test_without_its_promise_a_limit_is_quoted_by_nobody(confidence, guarantee):
    """With a broken assumption the limits hold at no level, not even at one under assumptions."""
    limit = Estimate(0.2, 0.1, 0.6, confidence, guarantee, "m", ("rows are independent",))
    weak = limit.without_promise("the rows chose the window")
    assert weak.as_upper() == (0.2, Guarantee.ESTIMATE) and weak.confidence == 0
    assert weak.assumptions == ("rows are independent", "the rows chose the window")
    assert (weak.lower, weak.value, weak.upper) == (0.1, 0.2, 0.6)  # still shown


@given(FINITE, FINITE, FINITE, st.floats(0, 1), st.sampled_from(list(Guarantee)))
def test_round_trip_through_json(a, b, c, confidence, guarantee):
    low, value, high = sorted((a, b, c))
    estimate = Estimate(value, low, high, confidence, guarantee, "method", ("one",), "nats")
    assert Estimate.from_dict(json.loads(json.dumps(estimate.to_dict()))) == estimate


def test_infinity_is_null_with_a_reason():
    record = Estimate(1.0, -math.inf, math.inf, 0.9, Guarantee.ESTIMATE, "m").to_dict()
    assert record["upper"] is None and record["null_reason"] == {
        "lower": "lower is -inf",
        "upper": "upper is inf",
    }
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize(
    "numbers", [(1.0, 2.0, 3.0, 0.9), (1.0, 0.0, 0.5, 0.9), (math.nan, 0, 1, 0.9), (0, 0, 0, 1.1)]
)
def test_contradictions_are_refused(numbers):
    with pytest.raises(ValueError, match=r"limits|confidence"):
        Estimate(*numbers, Guarantee.UPPER, "m")


def test_only_a_sound_upper_limit_enters_an_upper_slot():
    def make(guarantee):
        return Estimate(0.2, 0.1, 0.4, 0.95, guarantee, "m")

    assert make(Guarantee.UPPER).as_upper() == (0.4, Guarantee.UPPER)
    assert make(Guarantee.LOWER).as_upper() == (0.2, Guarantee.ESTIMATE)
    # the limit of an estimate holds under untested assumptions: it enters, and so does its label
    assert make(Guarantee.ESTIMATE).as_upper() == (0.4, Guarantee.ESTIMATE)
    bare = replace(make(Guarantee.ESTIMATE), confidence=0.0)
    assert bare.as_upper() == (0.2, Guarantee.ESTIMATE)
    assert weakest([Guarantee.EXACT, Guarantee.ESTIMATE]) is Guarantee.ESTIMATE
