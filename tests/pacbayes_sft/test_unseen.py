"""What a checkpoint prior never saw is a sample of the train distribution, or it is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from pacbayes_sft.checkpoints.record import RECORD_DIR, RunRecord
from pacbayes_sft.data.rows import Row, Table
from pacbayes_sft.errors import InputError
from pacbayes_sft.unseen import DECLARED, NO_COINCIDENCES, certified_rows

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
    split = certified_rows(train, record(train, order, len(order) // 2), RUN, PRIOR)
    left = sorted(set(split.certified.units))
    share = sum(u.startswith("big") for u in left) / len(left)
    assert share == pytest.approx(0.5, abs=0.08) and not split.warnings


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
    split = certified_rows(train, None, RUN, Path("stray"), "seen.jsonl")
    assert len(set(split.certified.units)) == 20 and len(split.assumptions) == 1


def texts(split):
    return [row.prompt for row in split.certified.rows]


def test_what_is_left_has_the_law_of_the_train_distribution(listed):
    """Half of the mass is one text: as many rows that read so go as the list holds, not all."""
    rows = [Row("the same", "") if i % 2 else Row(f"row {i}", "") for i in range(40)]
    train = Table("train.jsonl", rows, "")
    listed(Table("seen.jsonl", rows[:20], "seen"))
    split = certified_rows(train, None, RUN, Path("stray"), "seen.jsonl")
    assert sorted(texts(split)) == sorted(row.prompt for row in rows[20:])
    assert (
        len(split.assumptions) == 1
        and "10 certified rows have the same text" in (split.warnings[0])
    )
    listed(Table("seen.jsonl", [*rows[:20], Row("elsewhere", "")], "seen"))
    partly = certified_rows(train, None, RUN, Path("stray"), "seen.jsonl")
    assert texts(partly) == texts(split)
    assert partly.assumptions[1] == NO_COINCIDENCES.format(file="seen.jsonl")


def test_a_text_of_several_units_is_taken_out_of_the_unit_that_is_listed(listed):
    rows = [Row("alike", "", unit=unit) for unit in "abc"]
    train = Table("train.jsonl", rows, "")
    listed(Table("seen.jsonl", rows[1:2], "seen"))
    split = certified_rows(train, None, RUN, Path("stray"), "seen.jsonl")
    assert split.certified.units == ["a", "c"]


@pytest.mark.parametrize(
    ("state", "least"),
    [
        ({"global_step": 20, "train_batch_size": 8, "epoch": 1.25}, 121),  # 128 rows, all seen
        ({"global_step": 8, "train_batch_size": 8, "epoch": 0.5}, 64),
        ({"global_step": 8, "epoch": 0.5}, 0),  # says too little
        (None, 0),
    ],
)
def test_a_list_shorter_than_what_a_checkpoint_says_it_saw_is_refused(
    state, least, listed, tmp_path
):
    """A finished run as its own earlier checkpoint, with four rows listed, was once certified."""
    rows = [Row(f"row {i}", "") for i in range(128)]
    train, prior = Table("train.jsonl", rows, ""), tmp_path / "checkpoint"
    prior.mkdir()
    if state is not None:
        (prior / "trainer_state.json").write_text(json.dumps(state))
    for count in {4, max(1, least - 1), max(1, least)}:
        listed(Table("seen.jsonl", rows[:count], "seen"))
        if count < least:
            with pytest.raises(InputError, match=f"had seen at least {least}"):
                certified_rows(train, None, RUN, prior, "seen.jsonl")
        else:
            split = certified_rows(train, None, RUN, prior, "seen.jsonl")
            assert DECLARED in split.warnings


@pytest.mark.parametrize("recorded", [True, False])
def test_what_the_prior_saw_is_known_by_index_whatever_the_certified_rows_read_like(
    recorded, listed
):
    """What may shape the prior must not change with the certified rows."""
    first = [Row(f"row {i}", "") for i in range(6)]
    for others in (["row 0", "row 1"], ["new", "newer"]):
        rows = [*first, *(Row(text, "") for text in others)]
        train = Table("train.jsonl", rows, "train.jsonl")
        listed(Table("seen.jsonl", first, "seen"))
        split = (
            certified_rows(train, record(train, range(8), 6), RUN, PRIOR)
            if recorded
            else certified_rows(train, None, RUN, Path("stray"), "seen.jsonl")
        )
        assert [row.prompt for row in split.seen.rows] == [row.prompt for row in first]
        assert len(split.certified.rows) == 2
