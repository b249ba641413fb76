"""Features: each row's own, whatever stands beside it."""

import numpy as np
import pytest
from sklearn.base import clone

from pacbayes_sft.choices import Features, View
from pacbayes_sft.data.rows import Row
from pacbayes_sft.views import COUNT_NAMES, CountsAndWords, count_features, featurise, text_of

ROWS = [
    Row(f"What is {i} + {i}?", f" {2 * i};", difficulty=1.0, attributes={"kind": "xy"[i % 2]})
    for i in range(40)
]


def test_views_of_a_row():
    row = ROWS[3]
    assert text_of(row, View.PROMPT) == "What is 3 + 3?"
    assert text_of(row, View.FULL) == "What is 3 + 3? 6;"
    assert text_of(row, View.ATTRIBUTES, ("kind", "difficulty")) == "kind=y\ndifficulty=1.0"


def test_twelve_counts_with_names():
    counts = dict(zip(COUNT_NAMES, count_features(["1 + 22 = 23;\nso 23"])[0], strict=True))
    assert counts["words"] == 7 and counts["numbers"] == 4 and counts["digits"] == 7
    assert counts["'+' signs"] == counts["'=' signs"] == counts["';' signs"] == 1
    assert counts["lines"] == 1 and len(COUNT_NAMES) == 12
    assert count_features([]).shape == (0, 12)


@pytest.mark.parametrize("features", [f for f in Features if f is not Features.HIDDEN])
def test_no_row_shapes_anothers_features(features):
    both = featurise(ROWS[:20], ROWS[20:], View.FULL, features)
    alone = featurise(ROWS[:1], ROWS[20:21], View.FULL, features)
    first = both.train[:1].toarray() if hasattr(both.train, "toarray") else both.train[:1]
    only = alone.train.toarray() if hasattr(alone.train, "toarray") else alone.train
    assert np.array_equal(first, only)


def test_words_are_chosen_by_the_rows_that_teach():
    generator = np.random.default_rng(0)
    x = (generator.random((400, 12 + 300)) < 0.3).astype(float)
    y = np.repeat([0, 1], 200)
    x[:, 12 + 77] = y
    from scipy.sparse import csr_matrix

    rule = CountsAndWords(words=4).fit(csr_matrix(x), y)
    assert 77 in rule.chosen_ and len(rule.chosen_) == 4
    assert (rule.predict(csr_matrix(x)) == y).all()
    assert not hasattr(clone(rule), "chosen_")


def test_names_and_numbers_of_attributes():
    looked = featurise(ROWS[:20], ROWS[20:], View.ATTRIBUTES, Features.DEFAULT,
                       columns=("difficulty", "kind"))  # fmt: skip
    assert looked.name == "attributes (difficulty, kind)"
    assert looked.train[:, 0].toarray().tolist() == [[1.0]] * 20
    assert looked.classifier.dense == 1
