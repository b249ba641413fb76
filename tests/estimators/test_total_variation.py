import numpy as np
import pytest

from estimators import (
    Guarantee,
    clopper_pearson,
    total_variation_attribute,
    total_variation_known,
)


def uniform(low, high):
    return {k: 1 / (high - low + 1) for k in range(low, high + 1)}


def test_known_laws():
    assert total_variation_known(uniform(1, 8), uniform(5, 12)).value == pytest.approx(0.5)
    assert total_variation_known(uniform(1, 8), uniform(1, 8)).value == 0
    assert total_variation_known(uniform(1, 2), uniform(3, 4)).value == 1
    assert total_variation_known(uniform(1, 8), uniform(5, 12)).guarantee is Guarantee.EXACT
    with pytest.raises(ValueError, match="sum to 1"):
        total_variation_known({1: 0.5}, {1: 1.0})


@pytest.mark.parametrize(
    ("train", "test"),
    [((2, 6), (2, 6)), ((2, 6), (4, 8)), ((1, 40), (11, 50)), ((1, 2), (1, 2))],
    ids=["equal", "shifted", "many values", "two values"],
)
def test_the_attribute_limit_holds_its_level(train, test):
    generator, delta, repeats = np.random.default_rng(5), 0.2, 2000
    truth = total_variation_known(uniform(*train), uniform(*test)).value
    misses = 0
    for _ in range(repeats):
        left = generator.integers(train[0], train[1] + 1, 60).tolist()
        right = generator.integers(test[0], test[1] + 1, 90).tolist()
        misses += total_variation_attribute(left, right, delta).upper < truth
    assert clopper_pearson(misses, repeats, 0.02).upper <= delta


def test_the_plug_in_alone_would_be_noticed():
    """Without McDiarmid's slack the plug-in of a two-point shift is too small half the time."""
    generator, misses = np.random.default_rng(6), 0
    for _ in range(300):
        left = generator.random(60) < 0.8
        right = generator.random(90) < 0.2
        misses += total_variation_attribute(left.tolist(), right.tolist(), 0.2).value < 0.6
    assert misses > 60


def test_an_empty_side_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        total_variation_attribute([], [1], 0.1)
