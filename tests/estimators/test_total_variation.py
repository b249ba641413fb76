import numpy as np
import pytest

from estimators import (
    ClassifierTwoSample,
    Guarantee,
    classifier_two_sample,
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


class TestClassifier:
    def rule(self):
        """Finds the threshold by itself; features are single numbers."""
        from sklearn.tree import DecisionTreeClassifier

        return DecisionTreeClassifier(max_depth=1, class_weight="balanced", random_state=0)

    def sides(self, generator, n, tv):
        """U{0..9} against the same with ``tv`` of its mass moved to 100."""
        left = generator.integers(0, 10, n)
        right = np.where(generator.random(n) < tv, 100, generator.integers(0, 10, n))
        return left.reshape(-1, 1).tolist(), right.reshape(-1, 1).tolist()

    @pytest.mark.parametrize("repeats", [200, pytest.param(1500, marks=pytest.mark.slow)])
    def test_no_lower_certificate_above_the_truth_too_often(self, repeats):
        generator, delta, truth = np.random.default_rng(8), 0.2, 0.1
        false = 0
        for seed in range(repeats):
            left, right = self.sides(generator, 60, truth)
            test = ClassifierTwoSample(
                self.rule(), delta=delta, folds=2, permutations=1, random_state=seed
            )
            test.fit([*left, *right], np.repeat([0, 1], 60))
            false += test.tv_.lower > truth
        assert clopper_pearson(false, repeats, 0.02).upper <= delta

    def test_the_truth_is_found_and_labelled(self):
        left, right = self.sides(np.random.default_rng(9), 2000, 0.4)
        result = classifier_two_sample(left, right, self.rule(), 0.05)
        assert result.tv.value == pytest.approx(0.4, abs=0.04)
        assert 0.3 < result.tv.lower < 0.4 and result.tv.upper == 1.0
        assert result.tv.guarantee is Guarantee.LOWER
        assert result.detection_floor < result.detection_floor_80
        assert result.detection_floor == pytest.approx(1.96 / np.sqrt(2000), rel=0.02)

    def test_duplicates_do_not_buy_certainty(self):
        """Ten rows twenty times over are ten groups, not two hundred rows."""
        left = [[i] for i in range(20)] * 20
        right = [[i + 0.5] for i in range(20)] * 20
        groups = [f"l{i}" for i in range(20)] * 20, [f"r{i}" for i in range(20)] * 20
        result = classifier_two_sample(
            left, right, self.rule(), 0.05, train_groups=groups[0], test_groups=groups[1]
        )
        assert sum(result.held_out) == 20

    def test_one_file_twice_is_no_shift(self):
        rows = [[i] for i in range(400)]
        names = list(range(400))
        result = classifier_two_sample(
            rows, rows, self.rule(), 0.05, train_groups=names, test_groups=names
        )
        assert result.tv.lower == 0 and result.tv.value < 0.1

    def test_too_few_rows(self):
        with pytest.raises(ValueError, match="independent units"):
            classifier_two_sample([[1]] * 3, [[2]] * 50, self.rule(), 0.05)
