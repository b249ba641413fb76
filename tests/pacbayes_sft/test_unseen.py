"""What a checkpoint prior never saw is a sample of the train distribution, or it is refused."""

from pathlib import Path

import numpy as np
import pytest

from pacbayes_sft.checkpoints.record import RECORD_DIR, RunRecord
from pacbayes_sft.data.rows import Row, Table
from pacbayes_sft.errors import InputError
from pacbayes_sft.unseen import SEEN_TEXTS_LEFT_OUT, certified_rows

RUN = Path("run")
PRIOR = RUN / RECORD_DIR / "prior"


def table(units, name="train.jsonl"):
    rows = [Row(f"{unit} {i}", "", unit=unit) for i, unit in enumerate(units)]
    return Table(name, rows, name)


def record(train, order, m):
    return RunRecord(
        base="base",
        base_sha256="",
        train=train.source,
        train_sha256=train.sha256,
        row_sha256=["" for _ in order],
        order=[int(i) for i in order],
        prior_rows=m,
        settings={},
        versions={},
    )


def sizes(count, large=6):
    """Half of the units have ``large`` rows, half one; they stand apart in the file."""
    return [f"big {u}" for u in range(count) for _ in range(large)] + [
        f"small {u}" for u in range(count)
    ]


def test_rows_split_one_by_one_leave_small_units_and_are_refused():
    train = table(sizes(200))
    order = np.random.default_rng(0).permutation(len(train.rows))
    with pytest.raises(InputError, match="1 to 6 rows"):
        certified_rows(train, record(train, order, len(order) // 2), RUN, PRIOR)


@pytest.mark.parametrize("large", [6, 1, 2])
def test_whole_units_and_units_of_one_size_are_sampled_evenly(large):
    units = sizes(300, large)
    train, generator = table(units), np.random.default_rng(1)
    if large == 2:  # all of two rows, shuffled one by one
        train = table(units + [u for u in units if u.startswith("small")])
        order = generator.permutation(len(train.rows))
    else:
        names = generator.permutation(sorted(set(units)))
        order = [i for name in names for i, unit in enumerate(train.units) if unit == name]
    kept, warnings, _ = certified_rows(train, record(train, order, len(order) // 2), RUN, PRIOR)
    left = sorted(set(kept.units))
    share = sum(u.startswith("big") for u in left) / len(left)
    assert share == pytest.approx(0.5, abs=0.08) and not warnings


@pytest.fixture
def listed(monkeypatch):
    def give(seen):
        monkeypatch.setattr("pacbayes_sft.unseen.read_table", lambda _: seen)

    return give


def test_a_list_of_seen_rows_that_splits_units_is_refused(listed):
    train = table(sizes(20))
    chosen = np.random.default_rng(2).permutation(len(train.rows))[:70]
    listed(Table("seen.jsonl", [train.rows[i] for i in chosen], "seen"))
    with pytest.raises(InputError, match=r"seen\.jsonl: holds some rows of a unit"):
        certified_rows(train, None, RUN, Path("stray"), "seen.jsonl")
    whole = {f"big {u}" for u in range(10)} | {f"small {u}" for u in range(10)}
    listed(Table("seen.jsonl", [row for row in train.rows if row.unit in whole], "seen"))
    kept, _, assumptions = certified_rows(train, None, RUN, Path("stray"), "seen.jsonl")
    assert len(set(kept.units)) == 20 and len(assumptions) == 1


def test_rows_left_out_because_they_read_like_a_seen_one_are_said(listed):
    """Half of the mass is one text: without it the train distribution is another."""
    rows = [Row("the same", "") if i % 2 else Row(f"row {i}", "") for i in range(40)]
    train = Table("train.jsonl", rows, "")
    listed(Table("seen.jsonl", rows[:20], "seen"))
    kept, _, assumptions = certified_rows(train, None, RUN, Path("stray"), "seen.jsonl")
    assert len(kept.rows) == 10
    assert SEEN_TEXTS_LEFT_OUT.format(rows=10) in assumptions
