"""THTB's hardness against its own formulas, worked by hand."""

import json

import numpy as np
import pytest

from pacbayes_sft.data.rows import read_table
from pacbayes_sft.difficulty import measure_difficulty
from pacbayes_sft.difficulty.hardness import bloom_proxy, extrinsic, irei, silhouettes
from pacbayes_sft.errors import InputError


def table(tmp_path, rows):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_table(file)


def test_irei_is_the_mean_of_two_scaled_lengths(tmp_path):
    lengths = [(10, 10), (10, 30), (20, 100)]  # sums 20, 40, 120; ratios 1, 3, 5
    found = irei(table(tmp_path, [{"prompt": "p" * p, "completion": "c" * c} for p, c in lengths]))
    assert found == pytest.approx([0, (0.2 + 0.5) / 2, 1])
    alike = irei(table(tmp_path, [{"prompt": "p", "completion": "c"}] * 3))
    assert alike == pytest.approx([0.5] * 3)


def test_silhouettes_of_separate_topics_are_high_and_of_one_text_none():
    topics = ["apples pears plums", "matrix vector tensor", "violin cello flute"]
    texts = [f"{topic} number {i}" for i in range(8) for topic in topics]
    assert silhouettes(texts).min() > 0.6
    for flat in ([], ["same words"] * 9, ["1 2 3", "4", "5", "6", "7"], ["a b", "c d", "e f"]):
        assert silhouettes(flat).tolist() == [0] * len(flat)


def test_extrinsic_lies_in_the_unit_interval_and_says_that_it_looks_across_rows(tmp_path):
    rows = [{"prompt": f"topic {i % 3} " * (i + 1), "completion": "c" * i} for i in range(1, 30)]
    file = table(tmp_path, rows).source
    found = measure_difficulty(file, metrics=("thtb_extrinsic",))
    values = found.columns["thtb_extrinsic"]
    assert 0 <= values.min() < values.max() <= 1 and "across" in found.said["thtb_extrinsic"]
    assert np.array_equal(values, extrinsic(read_table(file)))


def test_intrinsic_is_read_from_thtbs_columns_or_refused(tmp_path):
    row = {"prompt": "p", "completion": "c"}
    both = row | {"normalized_bloom_score": 0.2, "bge_ICS": 0.6}
    for rows, expected in (([both], 0.4), ([row | {"IHS": 0.7}], 0.7)):
        file = table(tmp_path, rows).source
        found = measure_difficulty(file, metrics=("thtb_intrinsic",))
        assert found.columns["thtb_intrinsic"] == pytest.approx([expected])
    for rows, says in (([row], "judgement"), ([row | {"IHS": "high"}], "not a number")):
        with pytest.raises(InputError, match=says):
            measure_difficulty(table(tmp_path, rows).source, metrics=("thtb_intrinsic",))


def test_the_proxy_is_called_one_and_takes_the_highest_level(tmp_path):
    prompts = ["List the primes.", "Compute 1 + 1.", "List them and prove it.", "1 + 1 = ?"]
    rows = table(tmp_path, [{"prompt": p, "completion": "c"} for p in prompts])
    assert bloom_proxy(rows).tolist() == [1, 3, 5, 0]
    assert (
        "a proxy" in measure_difficulty(rows.source, metrics=("bloom_proxy",)).said["bloom_proxy"]
    )


@pytest.mark.parametrize("metric", ["cot_tokens", "base_loss", "pass_rate"])
def test_a_metric_of_a_model_asks_for_one(metric, tmp_path):
    file = table(tmp_path, [{"prompt": "p", "completion": "c", "answer": "1"}]).source
    with pytest.raises(InputError, match=f"{metric}: give"):
        measure_difficulty(file, metrics=(metric,))


def test_two_texts_are_two_clusters():
    """As THTB's code has it, with any number of clusters that k-means finds above one."""
    texts = ["What is 3 plus 4?", "What is 3 times 4?"] * 20  # digits are stripped
    assert silhouettes(texts) == pytest.approx(np.ones(40))
