"""The test of the most different share: exact, blind to labels, and sharp where little differs."""

import numpy as np
import pytest
from scipy import stats
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from estimators import ClassifierTwoSample, share_difference_p_value
from estimators.total_variation import share_differences


def sides(n, m):
    return np.repeat([False, True], [n, m])


def test_one_rule_is_fishers_exact_test():
    x = np.repeat([0.0, 1.0, 0.0, 1.0], [22, 8, 12, 18]).reshape(-1, 1)
    found = share_difference_p_value(x, sides(30, 30), permutations=20_000)
    exact = stats.fisher_exact([[22, 8], [12, 18]]).pvalue
    assert found == pytest.approx(exact, abs=0.004)


def test_equal_laws_are_called_different_no_more_often_than_alpha():
    """Dense columns with ties and rare marks; groups on both sides, some of whom are pairs."""
    runs, alarms = 600, {0.05: 0, 0.2: 0}
    for seed in range(runs):
        generator = np.random.default_rng([seed, 9])
        dense = np.column_stack([generator.normal(size=60), generator.integers(1, 5, 60)])
        marks = generator.random((60, 12)) < 0.15
        pairs = [*range(10), *range(20, 40), *range(10), *range(60, 80)]  # ten on either side
        dense[30:40] = dense[:10] + 0.1 * generator.normal(size=(10, 2))  # a pair is dependent
        p = share_difference_p_value(
            csr_matrix(np.hstack([dense, marks])), sides(30, 30),
            groups=pairs, permutations=99, seed=seed,
        )  # fmt: skip
        for alpha in alarms:
            alarms[alpha] += p <= alpha
    for alpha, count in alarms.items():
        assert stats.binom.sf(count - 1, runs, alpha) > 1e-3, (alpha, count)
    assert alarms[0.2] > 0.1 * runs  # and it is a test: not so cautious that it never speaks


def test_a_few_rows_beyond_all_others_are_found_long_before_a_classifier_learns_them():
    found = {"p": 0, "classifier": 0}
    for seed in range(20):
        generator = np.random.default_rng(seed)
        x = generator.integers(2, 7, (400, 1)).astype(float)
        x[200:216] += generator.integers(4, 8, (16, 1))  # 8 % of the test side
        x = np.hstack([x, generator.normal(size=(400, 6))])
        tree = DecisionTreeClassifier(max_depth=2, class_weight="balanced", random_state=seed)
        test = ClassifierTwoSample(tree, folds=0, random_state=seed).fit(x, np.repeat([0, 1], 200))
        found["p"] += test.p_value_ <= 0.05
        found["classifier"] += test.classifier_p_value_ <= 0.05
    assert found["p"] >= 18 > found["classifier"] + 3


def test_a_mark_in_a_few_rows_is_found():
    marks = csr_matrix(
        np.r_[np.zeros((300, 8)), np.repeat([[1.0], [0.0]], [20, 280], 0) * np.eye(8)[3]]
    )
    assert share_difference_p_value(csr_matrix(marks), sides(300, 300)) == 0.001


def test_many_marks_that_differ_a_little_are_found_together():
    """None of them is large: what the largest difference alone would miss."""
    found = 0
    for seed in range(10):
        generator = np.random.default_rng([seed, 4])
        marks = generator.random((600, 300)) < np.where(sides(300, 300), 0.14, 0.10)[:, None]
        found += share_difference_p_value(csr_matrix(marks, dtype=float), sides(300, 300)) <= 0.01
    assert found >= 9


def test_dense_and_sparse_are_one():
    generator = np.random.default_rng(3)
    x = generator.poisson(0.7, (80, 9)).astype(float)
    label = generator.permutation(sides(40, 40))
    assert share_difference_p_value(x, label) == share_difference_p_value(csr_matrix(x), label)


def test_a_stored_zero_is_no_mark():
    generator = np.random.default_rng(0)
    dense = (generator.random((60, 4)) < 0.3).astype(float)
    dense[:, 3] = 0
    stored = csr_matrix(dense)
    stored[:8, 3] = 1.0
    stored.data[stored.indices == 3] = 0.0
    assert stored.nnz == np.count_nonzero(dense) + 8
    given = stored.copy()
    found = share_difference_p_value(stored, sides(30, 30), permutations=199)
    assert found == share_difference_p_value(dense, sides(30, 30), permutations=199) > 0
    assert stored.nnz == given.nnz  # what was handed in is as it was


def test_labels_do_not_choose_columns_and_the_p_value_is_at_home_in_its_null():
    """The p-value of every labelling of one small sample: at most a share α of them is <= α."""
    from itertools import combinations

    x = np.array([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9.0]]).T
    found = []
    for chosen in combinations(range(10), 5):
        label = np.isin(np.arange(10), chosen)
        found.append(share_difference_p_value(x, label, permutations=2_000))
    assert all(np.mean(np.array(found) <= alpha) <= alpha + 0.02 for alpha in (0.01, 0.05, 0.3))


def test_of_many_rows_a_part_is_looked_at_and_pairs_stay_pairs(monkeypatch):
    monkeypatch.setattr(share_differences, "MOST_ROWS", 30)
    label = sides(500, 100)
    groups = np.r_[np.arange(500), np.arange(100)]
    kept = share_differences._part(label, groups, seed=1)
    inside, count = np.unique(groups[kept], return_counts=True)
    assert sorted(np.bincount(count)[1:]) == [30, 30]  # thirty alone, thirty pairs
    assert (groups[kept][label[kept]] < 100).all() and len(inside) == 60


@pytest.mark.parametrize(
    ("x", "label", "permutations"),
    [
        (np.ones((4, 1)), [True] * 4, 9),
        (np.ones((4, 1)), [True, False], 9),
        (np.full((4, 1), np.nan), [True, True, False, False], 9),
        (np.ones(4), [True, True, False, False], 9),
        (np.ones((4, 1)), [True, True, False, False], 0),
    ],
)
def test_refused(x, label, permutations):
    with pytest.raises(ValueError, match="test"):
        share_difference_p_value(x, label, permutations=permutations)


def test_nothing_to_look_at_is_no_evidence():
    assert share_difference_p_value(np.ones((40, 2)), sides(20, 20)) == 1.0


def test_the_two_p_values_pay_for_each_other():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(200, 3)), np.repeat([0, 1], 100)
    test = ClassifierTwoSample(LogisticRegression(), folds=0).fit(x, y)
    both = test.classifier_p_value_, test.share_p_value_
    assert test.p_value_ == min(1.0, 2 * min(both))
    x[y == 1] += 9
    test.fit(x, y)
    assert test.share_p_value_ is None and test.p_value_ == 2 * test.classifier_p_value_ == 0.002
    texts = ["one two" if side else "one three" for side in y]
    test = ClassifierTwoSample(make_pipeline(CountVectorizer(), LogisticRegression()), folds=0)
    assert test.fit(texts, y).share_p_value_ is None and test.p_value_ == 0.002


def test_few_rows_of_many_columns_have_no_rule():
    x = np.random.default_rng(0).random((4, 5000))
    assert share_difference_p_value(x, [0, 0, 1, 1]) == 1
