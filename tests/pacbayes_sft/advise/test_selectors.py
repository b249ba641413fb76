"""Rules that others follow: each takes the rows that it says."""

import numpy as np
import pytest

from pacbayes_sft.advise.selectors import (
    BaseScores,
    Columns,
    all_windows,
    at_random,
    base_scores,
    by_influence,
    closest,
    curriculum,
    row_gradients,
    thtb,
    unsolved,
)
from pacbayes_sft.data.rows import Row, Table, read_table
from pacbayes_sft.errors import InputError

LEVELS = [float(i % 10) for i in range(200)]
WINDOWS = ("0:3", "3:6", "6:9")


def test_random_rows_and_all_windows():
    rows = at_random(200, 50, 1)
    assert len(set(rows.tolist())) == 50 and (at_random(200, 50, 1) == rows).all()
    rows = all_windows(LEVELS, WINDOWS, 50, 0)
    assert len(set(rows.tolist())) == 50
    thirds = [LEVELS[i] for i in rows]
    assert all(x <= 3 for x in thirds[:16]) and all(x >= 6 for x in thirds[-17:])
    with pytest.raises(InputError, match="asked"):
        at_random(10, 11, 0)
    with pytest.raises(InputError, match="are left"):
        all_windows(LEVELS, ("9:9",), 30, 0)


def test_a_curriculum_replays_the_advice_of_smaller_budgets():
    rows = curriculum(LEVELS, {20: "0:3", 60: "6:9"}, 70, 0)
    levels = [LEVELS[i] for i in rows]
    assert max(levels[:20]) <= 3 and min(levels[20:]) >= 6 and len(set(rows.tolist())) == 70
    assert max(LEVELS[i] for i in curriculum(LEVELS, {20: "0:3", 60: "6:9"}, 15, 0)) <= 3
    with pytest.raises(InputError, match="at least one size"):
        curriculum(LEVELS, {}, 5, 0)


def test_by_the_bases_scores():
    scores = BaseScores(np.array([0.3, 0.1, 0.9, 0.2]), np.array([False, True, False, True]))
    assert closest(scores, 2).tolist() == [1, 3]
    assert set(unsolved(scores, 2, 0).tolist()) == {0, 2}
    assert len(unsolved(scores, 3, 0)) == 3


def test_influence_prefers_the_targets_direction():
    pool = np.array([[1, 0], [0, 5], [-1, 0], [3, 3]], dtype=np.float32)
    target = np.array([[2, 0], [0, 1]], dtype=np.float32)
    assert by_influence(pool, target, 2).tolist() == [3, 0]
    assert by_influence(pool, target, 1, weights=[0, 1]).tolist() == [1]


def test_the_bases_own_scores_and_gradients_for_real(rows_dir):
    table = read_table(rows_dir / "test.jsonl")
    few = Table(table.source, table.rows[:6], table.sha256)
    scores = base_scores(few, "strong")
    assert scores.nll.shape == (6,) and (scores.nll > 0).all() and scores.solved.any()
    turned = base_scores(Table("t", few.rows[::-1], ""), "strong", batch_size=4)
    assert turned.nll[::-1] == pytest.approx(scores.nll, rel=1e-3)
    assert (turned.solved[::-1] == scores.solved).all()
    a, b = (row_gradients(few, "strong", dimensions=32, seed=3) for _ in range(2))
    assert a.shape == (6, 32) and np.isfinite(a).all() and np.allclose(a, b)
    assert by_influence(a, a[:1], 1).tolist() == [0]  # a row is nearest to itself


def table_of(rows):
    return Table("pool", rows, "")


def test_thtb_takes_hard_and_long_rows_and_says_what_is_proxied():
    rows = [
        Row(f"question {i}", "step " * (i % 7 + 1), difficulty=float(i % 5),
            attributes={"reward": float(i)})
        for i in range(100)
    ]  # fmt: skip
    table = table_of(rows)
    taken, said = thtb(table, 10)
    assert len(set(taken.tolist())) == 10 and "skipped" in said[0] and "proxied" in said[1]
    assert np.mean([rows[i].difficulty for i in taken]) > 2.5
    filtered, said = thtb(table, 10, Columns("reward", ("difficulty",), proxy=False))
    assert min(filtered) >= 80 and said == ()  # only the best fifth by reward
    with pytest.raises(InputError, match="is not a number"):
        thtb(table, 10, Columns("missing"))
