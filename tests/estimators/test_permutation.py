from itertools import combinations

import numpy as np
import pytest

from estimators import clopper_pearson, permutation_p_value


def test_against_all_relabellings():
    generator = np.random.default_rng(0)
    scores, label = generator.normal(size=9), np.arange(9) % 2 == 0
    seen = scores[label].sum()
    high = [scores[list(c)].sum() >= seen - 1e-9 for c in combinations(range(9), 5)]
    p = permutation_p_value(scores, label, permutations=20_000)
    assert p == pytest.approx(np.mean(high), abs=0.015)


def test_pairs_are_swapped_and_nothing_else():
    """Four pairs, each with the higher score on the test side: one labelling in sixteen."""
    scores = [0, 1, 10, 11, 20, 21, 30, 31]
    groups = ["a", "a", "b", "b", "c", "c", "d", "d"]
    p = permutation_p_value(scores, [False, True] * 4, groups=groups, permutations=20_000)
    assert p == pytest.approx(1 / 16, abs=0.01)
    alone = permutation_p_value(scores, [False, True] * 4, permutations=20_000)
    assert alone > 0.3


@pytest.mark.parametrize("ties", [False, True], ids=["continuous", "decisions"])
def test_the_level_is_kept(ties):
    generator, repeats, label = np.random.default_rng(1), 2000, np.repeat([False, True], [12, 8])
    p = []
    for seed in range(repeats):
        scores = generator.normal(size=20)
        p.append(
            permutation_p_value(scores > 0 if ties else scores, label, permutations=19, seed=seed)
        )
    for level in (0.05, 0.1, 0.3):
        assert clopper_pearson(sum(x <= level for x in p), repeats, 0.01).lower <= level
    assert min(p) == 1 / 20


def test_without_the_two_ones_it_would_not_be():
    """Planted: b/B says 0 as often as 1/(1+B), so it lies below any level that often."""
    generator, repeats, label = np.random.default_rng(2), 2000, np.repeat([False, True], 10)
    false = 0
    for seed in range(repeats):
        p = permutation_p_value(generator.normal(size=20), label, permutations=19, seed=seed)
        false += (20 * p - 1) / 19 <= 0.01
    assert clopper_pearson(false, repeats, 0.01).lower > 0.01


@pytest.mark.parametrize(
    ("scores", "label", "groups", "said"),
    [
        ([1.0, 2.0], [True, True], None, "both sides"),
        ([1.0], [True, False], None, "one finite score"),
        ([1.0, float("nan")], [True, False], None, "one finite score"),
        ([1.0, 2.0, 3.0], [True, True, False], ["a", "a", "b"], "several rows on one side"),
        ([1.0, 2.0], [True, False], ["a"], "differ in number"),
    ],
)
def test_bad_input(scores, label, groups, said):
    with pytest.raises(ValueError, match=said):
        permutation_p_value(scores, label, groups=groups)
