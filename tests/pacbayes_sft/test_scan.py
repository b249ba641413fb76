"""The map: configuration, keys, resumption, workers, and what its numbers say."""

import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from typer.testing import CliRunner

from pacbayes_sft.cli import app, main
from pacbayes_sft.cli.scan import EXAMPLE
from pacbayes_sft.errors import InputError
from pacbayes_sft.processes import SIZES
from pacbayes_sft.scan import jobs, on_ray
from pacbayes_sft.scan import run as running
from pacbayes_sft.scan.cells import Keys, list_cells
from pacbayes_sft.scan.config import Config, Windows
from pacbayes_sft.scan.config_file import read_config
from pacbayes_sft.scan.frame import _resampled, agreement, cells_frame, slices_frame, summary
from pacbayes_sft.scan.jobs import list_jobs
from pacbayes_sft.scan.measure import _settings
from pacbayes_sft.scan.pictures import plot_scan
from pacbayes_sft.scan.progress import Watch
from pacbayes_sft.scan.records import read_records
from pacbayes_sft.scan.rows import Pool, cut, open_pool, write_rows
from pacbayes_sft.scan.run import hours_left, run_scan
from pacbayes_sft.scan.store import Store
from pacbayes_sft.scan.where import Where
from pacbayes_sft.scan.windows import edges

TINY = {
    "name": "tiny",
    "data": {"kind": "igsm", "test": "3:5", "test_rows": 24, "heldout_rows": 16},
    "windows": ["2:3", "3:4"],
    "sizes": [48],
    "fine_tune": {"least_steps": 2, "batch_size": 16, "lora_rank": 4},
    "bounds": {"plain": {"posterior": "isotropic", "prior_scales": [0.05]}},
    "primary": {"bound": "plain", "theorem": "proposition_4_1"},
}


def config(**changes):
    return Config.model_validate(TINY | changes)


# --- configuration ---------------------------------------------------------------------------


def test_the_printed_example_is_a_configuration():
    assert len(list_cells(Config.model_validate(yaml.safe_load(EXAMPLE)))) == 12


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sizes": []}, "sizes"),
        ({"sizes": [0]}, "sizes.0"),
        ({"sizes": [64, 64]}, "twice"),
        ({"windows": ["5:2"]}, "from high to low"),
        ({"windows": ["a"]}, "not LO:HI"),
        ({"windows": {"by": "quantile", "count": 3}}, "rows from files"),
        ({"methods": ["qlora"]}, "methods.0"),
        ({"data": {"kind": "web"}}, "data.kind: must be one of igsm, rows"),
        ({"data": {"kind": "rows", "pool": "p"}}, "data.test: is missing"),
        (
            {"data": {"kind": "rows", "pool": "p", "test": "t", "column": "pass_rate_72b"}},
            "data.column: column pass_rate_72b: a pass rate is high where rows are easy",
        ),
        ({"windows": "2:6"}, "windows: '2:6' is not a list; write ["),
        ({"fine_tune": 3}, "fine_tune: holds no keys; see"),
        ({"windows": 5}, "windows: is not a list; write"),
        ({"windows": {"by": "thirds", "count": 3}}, "windows.by: Input should be"),
        ({"windows": ["2:4", "02:04"]}, "windows: '2:4' and '02:04' are one"),
        ({"windows": []}, "windows: holds nothing"),
        ({"bounds": {"plain": {"draw": 3}}}, "bounds.plain.draw: no such key; there are draws"),
        ({"fine_tune": {"epochs": 1e308}}, "fine_tune.epochs: Input should be less than"),
        ({"sizes": [10**400]}, "sizes.0: Input should be less than"),
        ({"data": TINY["data"] | {"tets": "1:2"}}, "data.tets: no such key; there are abstract,"),
        ({"bounds": {"plain": {"prior_scales": [-1]}}}, "bounds.plain.prior_scales.0"),
        ({"bounds": {"plain": {"prior_scales": [0.02, 0.02]}}}, "bounds.plain.prior_scales"),
        ({"bounds": {"plain": {"prior_scales": []}}}, "bounds.plain.prior_scales"),
        ({"device": "gpu"}, "device: 'gpu' is no device"),
        ({"primary": {"bound": "none"}}, "primary.bound"),
        ({"primary": {"bound": "plain", "shift": "d_plus"}}, "primary.shift"),
        (
            {"methods": ["lora", "full"], "bounds": {"plain": {"shifts": ["tv", "robust"]}}},
            "bounds.plain.shifts: importance, robust, slices need",
        ),
        ({"bounds": {"plain": {"shifts": ["kl"]}}}, "bounds.plain.shifts"),
        ({"bounds": {"plain": {"shifts": ["slack:2"]}}}, "bounds.plain.shifts"),
        ({"delta": 1.5}, "delta"),
        ({"fine_tune": {"epochs": float("inf")}}, "fine_tune.epochs: Input should be a finite"),
        ({"speed": 3}, "speed"),
        # what only a finished fine-tune would have shown
        ({"bounds": {"plain": {"shifts": ["tv", "robust"]}}}, "robust needs labelled rows"),
        (
            {
                "data": TINY["data"] | {"labelled_rows": 9},
                "bounds": {"plain": {"shifts": ["tv", "slices"]}},
                "loss": "token_error",
            },
            "slices needs a 0-1 loss",
        ),
        (
            {
                "data": {"kind": "rows", "pool": "p", "test": "t", "labelled": "l"},
                "bounds": {"plain": {"shifts": ["tv", "slices"]}},
            },
            "laws of both sides on record",
        ),
        ({"data": TINY["data"] | {"test": "nonsense"}}, "data.test"),
        ({"windows": ["2:3", "8:40"]}, "windows: '8:40'"),
        ({"windows": ["2.5:4"]}, "windows: '2.5:4'"),
        ({"windows": [126]}, 'write windows and laws in quotes, "2:6"'),  # YAML's 2:6
        ({"data": TINY["data"] | {"test": 366}}, "366 is a number to YAML"),
        (
            {
                "bounds": {"plain": {"prior": "checkpoint"}},
                "fine_tune": {"prior_fraction": 0.01},
            },
            "prior_fraction: 0.01 of n = 48",
        ),
    ],
)
def test_a_wrong_key_is_named(changes, says, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(TINY | changes))
    with pytest.raises(InputError, match="yaml") as caught:
        read_config(file)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "\x00"])
def test_what_is_no_configuration_is_refused(text, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match="yaml"):
        read_config(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nname: 2024-13-45\n", "line 2: name is there twice; keep one"),
        ("name: 2024-13-45\n", "line 1: 2024-13-45 cannot be read (month must be in 1..12)"),
        (f"name: a\nsizes: [{'9' * 5000}]\n", "line 2: 9999"),
        ("primary: {bound: a}\nsizes: [1]\nprimary: {bound: b}\n", "line 3: primary is there"),
        ("fine_tune:\n  epochs: 1\n  epochs: 2\n", "line 3: epochs is there twice"),
        ("windows: " + "[" * 3000, "nested too deep"),
        ("name: !!bool x\n", "line 1: x cannot be read"),
    ],
)
def test_what_yaml_lets_through_is_refused_by_line(text, says, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match="yaml: ") as caught:
        read_config(tmp_path / "c.yaml")
    assert says in str(caught.value) and len(str(caught.value)) < 300 + len(str(tmp_path))


def test_an_epoch_is_a_pass_over_rows_of_which_a_unit_may_have_several(tmp_path):
    file = tmp_path / "train.jsonl"
    file.write_text("".join(f'{{"unit": "{i // 4}"}}\n' for i in range(4 * 48)))
    asked = config()
    assert _settings(asked, list_cells(asked)[0], file).steps == 12  # 48 units, batches of 16 rows


# --- keys ------------------------------------------------------------------------------------


def test_a_key_changes_with_every_input_and_with_nothing_else():
    cell = list_cells(config())[0]
    key = Keys(config()).of(cell)
    assert key == Keys(config(name="other", sizes=[48, 64], seeds=[0, 1])).of(cell)
    others = [
        {"data": TINY["data"] | {"test": "3:6"}},
        {"loss": "token_error"},
        {"fine_tune": TINY["fine_tune"] | {"learning_rate": 1e-3}},
        {"bounds": {"plain": {"posterior": "isotropic", "prior_scales": [0.02]}}},
        {"delta": 0.1},
    ]
    keys = {Keys(config(**changes)).of(cell) for changes in others}
    for changes in ({"size": 64}, {"window": "3:4"}, {"seed": 1}, {"method": "full"}):
        keys.add(Keys(config()).of(replace(cell, **changes)))
    keys.add(Keys(config(bases=["weak"])).of(replace(cell, base="weak")))
    keys.add(Keys(config(levels_of_sample=True)).of(cell))  # other labels
    assert len(keys) == 11 and key not in keys


# --- rows ------------------------------------------------------------------------------------


@pytest.fixture
def pool(tmp_path):
    rows = [
        {"prompt": f"p{i}", "completion": f"c{i}", "length": i // 2, "unit": f"u{i // 2}"}
        for i in range(200)
    ]
    for name, kept in (("pool", rows), ("test", rows[:20])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in kept))
    data = {
        "kind": "rows",
        "pool": str(tmp_path / "pool.jsonl"),
        "test": str(tmp_path / "test.jsonl"),
        "column": "length",
        "heldout_rows": 5,
    }
    return config(data=data, windows={"by": "quantile", "count": 4}, sizes=[10])


def test_a_pool_is_cut_by_units_and_held_out_units_are_trained_on_by_none(pool, tmp_path):
    cells = list_cells(pool)
    assert [cell.window for cell in cells] == ["0:24", "24:49", "49:74", "74:99"]
    seen, held = set(), set()
    for seed in range(4):
        sources = write_rows(pool.data, replace(cells[1], seed=seed), tmp_path)
        units = [json.loads(line)["unit"] for line in sources.train.read_text().splitlines()]
        assert len(set(units)) == 10 and len(units) == 20
        assert all(24 <= int(unit[1:]) <= 49 for unit in units)
        seen |= set(units)
        held |= {json.loads(line)["unit"] for line in sources.heldout.read_text().splitlines()}
    assert len(held) == 5 and not held & seen and len(seen) > 10


def test_sliding_and_equal_windows(pool):
    of = open_pool(pool.data).windows
    rule = type(pool.windows)
    assert of(rule(by="equal", count=2)) == ("0:49.5", "49.5:99")
    sliding = [tuple(map(float, w.split(":"))) for w in of(rule(by="equal", count=3, overlap=0.5))]
    assert sliding == [(0, 49.5), (24.75, 74.25), (49.5, 99)]


def test_the_edges_of_a_rule_are_those_of_the_rows(pool, tmp_path):
    """Six digits of them would leave the easiest and the hardest unit outside every window."""
    levels = [0.12345678, 0.5, 0.98765432]
    for name in ("pool", "test"):
        rows = [{"prompt": f"{name}{x}", "completion": "c", "length": x} for x in levels]
        (tmp_path / f"{name}2.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    files = {name: str(tmp_path / f"{name}2.jsonl") for name in ("pool", "test")}
    rule = type(pool.windows)
    for by in ("equal", "quantile"):
        found = Pool(pool.data.model_copy(update=files)).windows(rule(by=by, count=2))
        ends = [float(edge) for window in found for edge in window.split(":")]
        assert (ends[0], ends[-1]) == (levels[0], levels[-1])


def test_a_checkpoint_prior_needs_two_steps_of_rows_not_of_units(pool):
    alone = {"plain": {"prior": "checkpoint"}}
    single = {"least_steps": 1, "batch_size": 48}
    with pytest.raises(InputError, match="least_steps: at n = 48 a fine-tune takes a single step"):
        list_jobs(config(bounds=alone, fine_tune=single))
    # four units of two rows each: eight rows, two batches
    files = {"data": pool.data.model_dump(), "windows": pool.windows, "sizes": [4]}
    assert list_jobs(config(**files, bounds=alone, fine_tune={"least_steps": 1, "batch_size": 4}))


@given(
    levels=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40),
    by=st.sampled_from(["equal", "quantile"]),
    count=st.integers(1, 7),
    overlap=st.floats(0, 0.9),
)
def test_no_rule_leaves_the_easiest_or_the_hardest_out(levels, by, count, overlap):
    """Rounding did: an end of 7.209999999999999 where the hardest is 7.21."""
    windows = cut(levels, Windows(by=by, count=count, overlap=overlap))
    assert edges(windows[0])[0] == min(levels) and edges(windows[-1])[1] == max(levels)


def test_labelled_rows_are_known_by_their_content(pool, tmp_path):
    rows = tmp_path / "labelled.jsonl"

    def key(**further):
        asked = pool.model_copy(update={"data": pool.data.model_copy(update=further)})
        return Keys(asked).of(list_cells(pool)[0])

    rows.write_text('{"prompt": "p", "completion": "c", "length": 1}\n')
    before = key(labelled=str(rows))
    assert before == key(labelled=str(rows)) != key()
    rows.write_text('{"prompt": "p", "completion": "d", "length": 1}\n')
    assert key(labelled=str(rows)) != before


def test_a_window_without_rows_enough_is_said(pool, tmp_path):
    cell = replace(list_cells(pool)[0], size=21)
    with pytest.raises(InputError, match=r"window 0:24 holds 25 units, 5 held out"):
        write_rows(pool.data, cell, tmp_path)
    large = pool.model_copy(update={"sizes": (1, 21)})  # said before the small ones are measured
    with pytest.raises(InputError, match="so 21 to train on are not there"):
        list_jobs(large)


def test_a_labelled_file_without_the_column_is_refused_before_any_fine_tune(pool, tmp_path):
    rows = tmp_path / "labelled.jsonl"
    rows.write_text('{"prompt": "p", "completion": "c"}\n')
    asked = pool.model_copy(update={"data": pool.data.model_copy(update={"labelled": str(rows)})})
    with pytest.raises(InputError, match="'length' is not a number"):
        list_jobs(asked)


def test_a_size_that_leaves_nothing_to_certify_on_is_refused_before_any_fine_tune():
    prior = {"plain": {"prior": "checkpoint", "posterior": "isotropic"}}
    with pytest.raises(InputError, match="sizes: at n = 2 a bound is left 1 unit"):
        list_jobs(config(sizes=[2, 8], bounds=prior))
    assert list_jobs(config(sizes=[8], bounds=prior))


# --- running ---------------------------------------------------------------------------------


def fake(config, cell, key, folder, processes=1):
    low = int(cell.window[0])
    risk = abs(low - math.log2(cell.size) / 2) / 10 + 0.01 * cell.seed
    estimate = {"value": risk, "lower": risk - 0.02, "upper": risk + 0.02}
    entry = {"raw": risk + 0.3, "train_raw": risk, "guarantee": "upper", "vacuous": False}
    terms = dict.fromkeys(("empirical_risk", "generalization", "extrapolation", "epsilon"), 0.1)
    return {
        "key": key,
        "cell": {**cell.__dict__, "objective": cell.objective.value},
        "measured": {
            "test_risk": estimate,
            "slices": {"3": estimate},
            "train_distribution_risk": estimate,
            "train_risk": 0.1,
            "generalization_gap": 0.1,
            "extrapolation_gap": 0.1,
        },
        "bounds": {
            "plain": {
                "bounds": {"proposition_4_1": entry},
                "shifts": {"tv": {"upper": 0.3, "guarantee": "exact"}},
                "kl_nats": 1.0,
                "tv": {"value": 0.1},
                "terms": terms,
                "gibbs": {"test_risk": estimate},
            }
        },
        "seconds": {"all": 2.0},
    }


@pytest.mark.parametrize(
    ("of_shift", "label"), [("exact", "upper"), ("lower", "estimate"), ("estimate", "estimate")]
)
def test_a_lower_limit_on_the_shift_gives_no_upper_bound(of_shift, label):
    asked = config()
    record = fake(asked, list_cells(asked)[0], "key", None)
    record["bounds"]["plain"]["shifts"]["tv"]["guarantee"] = of_shift
    assert list(cells_frame([record])["guarantee"]) == [label]


def fake_base(config, base, key, folder):
    return {"key": key, "base": base, "measured": {"test_risk": {}, "slices": {"3": {"value": 1}}}}


@pytest.fixture
def faked(monkeypatch):
    monkeypatch.setattr(jobs, "measure_cell", fake)
    monkeypatch.setattr(jobs, "measure_base", fake_base)


def test_an_interrupted_scan_goes_on_and_does_nothing_twice(faked, tmp_path, monkeypatch):
    asked, done = config(sizes=[16, 64], seeds=[0, 1]), []

    def stops(config, cell, key, folder, processes=1):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(key)
        return fake(config, cell, key, folder)

    monkeypatch.setattr(jobs, "measure_cell", stops)
    with pytest.raises(KeyboardInterrupt):
        run_scan(asked, tmp_path / "a")
    assert len(list(Store(tmp_path / "a").all())) == 4  # three cells and the base

    def counts(config, cell, key, folder, processes=1):
        done.append(key)
        return fake(config, cell, key, folder)

    monkeypatch.setattr(jobs, "measure_cell", counts)
    records = run_scan(asked, tmp_path / "a")
    assert len(done) == len(set(done)) == 8
    assert records == run_scan(asked, tmp_path / "b")


def test_a_record_that_is_there_is_never_written_again(tmp_path):
    store = Store(tmp_path)
    store.put({"key": "k", "x": 1})
    store.put({"key": "k", "x": 2})
    assert store.get("k")["x"] == 1
    (tmp_path / "records" / "j.json").write_text('{"key": "k"}')
    with pytest.raises(InputError, match="not the record of j"):
        store.get("j")


def put(record, path, value=None, *, gone=False):
    """Return a copy of a record with a field changed, or without it."""
    changed = json.loads(json.dumps(record))
    *way, last = path.split(".")
    part = changed
    for step in way:
        part = part[step]
    part[last] = value
    if gone:
        del part[last]
    return changed


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("bounds", ..., "bounds is missing"),
        ("bounds", {}, "bounds is not an object that holds something"),
        ("bounds.plain", [], "bounds.plain is not an object"),
        ("bounds.plain.terms", ..., "bounds.plain.terms is missing"),
        ("cell", None, "cell is not an object"),
        ("cell.window", "hard", "cell.window is not a window LO:HI"),
        ("cell.window", 3, "cell.window is not a window LO:HI"),
        ("cell.size", "big", "cell.size is not a whole number"),
        ("cell.seed", 0.5, "cell.seed is not a whole number"),
        ("cell.base", 3, "cell.base is not text"),
        ("seconds", ..., "seconds is missing"),
        ("seconds.all", True, "seconds.all is not a number"),
        ("measured.test_risk.value", None, "measured.test_risk.value is not a number"),
        ("measured.slices.3.value", float("nan"), "measured.slices.3.value is not a number"),
    ],
)
def test_a_record_of_another_shape_is_refused_where_it_is_read(path, value, says, tmp_path):
    made = fake(config(), list_cells(config())[0], "k", None)
    file = tmp_path / "records" / "k.json"
    file.parent.mkdir()
    file.write_text(json.dumps(put(made, path, value, gone=value is ...)))
    with pytest.raises(InputError) as caught:
        list(Store(tmp_path).all())
    assert str(caught.value) == f"{file}: {says}; remove it and scan again"
    file.write_text(json.dumps(made))
    assert list(Store(tmp_path).all())  # as it was it is read
    file.write_text(json.dumps(made)[:-9])
    with pytest.raises(InputError, match=r"not valid JSON .*; remove it and scan again"):
        list(Store(tmp_path).all())


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("bounds.plain.shifts", ..., "bounds.plain.shifts is missing"),
        ("bounds.plain.shifts.tv.guarantee", "sure", "bounds.plain.shifts.tv.guarantee is not a"),
        ("bounds.plain.gibbs", ..., "bounds.plain.gibbs is missing"),
        ("bounds.plain.tv", 0.1, "bounds.plain.tv is not an object"),
        ("measured.generalization_gap", None, "measured.generalization_gap is not a number"),
    ],
)
def test_what_a_picture_lacks_is_said_before_it_is_drawn(path, value, says, faked, tmp_path):
    made = run_scan(config(), tmp_path)[-1]
    file = tmp_path / "records" / f"{made['key']}.json"
    file.write_text(json.dumps(put(made, path, value, gone=value is ...)))
    with pytest.raises(InputError, match=re.escape(f"{file}: {says}")):
        read_records(tmp_path)
    with pytest.raises(InputError, match=re.escape(f"record {made['key']}: {says}")):
        cells_frame(run_scan(config(), tmp_path))


@pytest.mark.parametrize("measured", [None, {"slices": 3}, {"slices": {"3": {"value": None}}}])
def test_a_base_of_another_shape_is_refused_where_it_is_read(measured, tmp_path):
    Store(tmp_path).put({"key": "k", "base": "strong", "measured": measured})
    with pytest.raises(InputError, match=r"k\.json: measured.* is not an?.*; remove it and scan"):
        Store(tmp_path).get("k")


def test_a_base_without_slices_and_a_cell_in_its_place_are_refused(faked, tmp_path):
    base = run_scan(config(), tmp_path)[0]
    file = tmp_path / "records" / f"{base['key']}.json"
    file.write_text(json.dumps(put(base, "measured.slices", gone=True)))
    with pytest.raises(InputError, match=r"measured\.slices is missing; remove it"):
        read_records(tmp_path)
    with pytest.raises(InputError, match=r"measured\.slices is missing; remove it"):
        slices_frame(run_scan(config(), tmp_path))
    file.write_text(json.dumps(fake(config(), list_cells(config())[0], base["key"], None)))
    with pytest.raises(InputError, match="cell is there, in a base's record; remove it"):
        run_scan(config(), tmp_path)


COMMITTED = sorted((Path(__file__).parents[2] / "benchmarks/results").glob("*/records"))


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.parent.name)
def test_every_committed_record_is_read(folder):
    records = read_records(folder.parent)
    assert len(records) == len(list(folder.glob("*.json"))) > 0


def test_a_kill_while_the_work_is_removed_costs_nothing(faked, tmp_path, monkeypatch):
    """The record is written first; what is left of the folder goes with the next call."""
    asked, remove = config(windows=["2:3"]), running._remove

    def works(config, cell, key, folder, processes=1):
        (folder / "finetune").mkdir(parents=True)
        (folder / "finetune" / "half").write_text("x")
        return fake(config, cell, key, folder)

    def dies(folder):
        if folder.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "measure_cell", works)
    monkeypatch.setattr(running, "_remove", dies)
    with pytest.raises(KeyboardInterrupt):
        run_scan(asked, tmp_path)
    monkeypatch.setattr(running, "_remove", remove)
    monkeypatch.setattr(jobs, "measure_cell", None)  # nothing is measured again
    assert len(run_scan(asked, tmp_path)) == 2
    assert [left.name for left in (tmp_path / "work").iterdir()] == [".lock"]


def test_a_part_of_a_record_is_no_record(faked, tmp_path):
    run_scan(config(), tmp_path)
    (tmp_path / "records" / ".partial-42-0123.json").write_text('{"key": ')
    assert len(read_records(tmp_path)) == 3


def test_rows_that_change_during_a_scan_are_not_measured_under_their_old_name(
    pool, tmp_path, monkeypatch
):
    file = Path(pool.data.pool)

    def rewrites(config, cell, key, folder, processes=1):
        file.write_text(file.read_text().replace("c10", "new"))
        return fake(config, cell, key, folder)

    monkeypatch.setattr(jobs, "measure_base", fake_base)
    monkeypatch.setattr(jobs, "measure_cell", rewrites)
    with pytest.raises(InputError, match=r"data.pool: the file was changed while the scan ran"):
        run_scan(pool, tmp_path / "out")
    assert [r["key"] for r in Store(tmp_path / "out").all() if "cell" in r] == []


def test_a_base_is_called_as_the_configuration_spells_it_and_is_the_same_beside_its_weights(
    faked, tmp_path, tiny_base
):
    copy = shutil.copytree(tiny_base, tmp_path / "copy")
    run_scan(config(bases=[str(tiny_base)]), tmp_path / "out")
    more = config(bases=[str(copy)], windows=["2:3", "3:4", "4:5"])
    assert {r["cell"]["base"] for r in run_scan(more, tmp_path / "out")[1:]} == {str(copy)}
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | {"hidden_act": "relu"}))
    with pytest.raises(InputError, match=r"another config\.json or tokenizer"):
        run_scan(more, tmp_path / "out")


def test_what_a_bound_warns_of_is_kept_and_said_once(faked, tmp_path, monkeypatch, capsys):
    def warns(config, cell, key, folder, processes=1):
        made = fake(config, cell, key, folder)
        made["bounds"]["plain"]["warnings"] = [f"{cell.size} rows (as {key}) stand in both"]
        return made

    monkeypatch.setattr(jobs, "measure_cell", warns)
    run_scan(config(sizes=[16, 64]), tmp_path)
    assert capsys.readouterr().err.count("stand in both") == 1


@pytest.mark.parametrize("where", [Where(address="foo"), Where(workers=1)])
def test_a_cluster_that_cannot_be_had_is_a_sentence(where, faked, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")

    def refuses(**_):
        raise ValueError("Invalid address format: foo")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuses)
    with pytest.raises(InputError, match=r"--(address foo|workers 1): Ray could not be reached"):
        run_scan(config(), tmp_path, where)


def test_two_scans_do_not_train_in_one_folder(faked, tmp_path, monkeypatch):
    def another(config, cell, key, folder, processes=1):
        with pytest.raises(InputError, match="another scan is at work there"):
            run_scan(asked, tmp_path)
        return fake(config, cell, key, folder)

    asked = config()
    monkeypatch.setattr(jobs, "measure_cell", another)
    whole = run_scan(asked, tmp_path)
    with running._alone(Store(tmp_path)):
        assert run_scan(asked, tmp_path) == whole  # nothing is missing, so nothing is trained


def test_a_worker_that_dies_is_a_sentence_and_leaves_no_work(faked, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    roots = []

    class Task:
        def options(self, **_):
            return self

        def remote(self, shared, job, threads, root):
            roots.append(root)
            left = root / "pacbayes-sft-x" / job.key
            left.mkdir(parents=True)
            return left

    def get(_):
        raise ray.exceptions.OutOfMemoryError("9 GB used")

    named = {
        "is_initialized": lambda: True,
        "nodes": lambda: [{"Alive": True, "Resources": {"CPU": 2}}],
        "remote": lambda work: Task(),
        "put": lambda content: content,
        "wait": lambda waiting, num_returns: (waiting[:1], waiting[1:]),
        "get": get,
        "cancel": lambda reference, force: None,
    }
    for name, instead in named.items():
        monkeypatch.setattr(ray, name, instead)
    stale = Store(tmp_path).work("ray") / "stale"
    stale.mkdir(parents=True)
    with pytest.raises(InputError, match=r"died on one cell 4 times \(OutOfMemoryError\)"):
        run_scan(config(), tmp_path, Where(workers=2))
    assert set(roots) == {stale.parent} and not stale.parent.exists()


def test_a_worker_works_beside_the_records(faked, tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray.loaded, "keep", lambda on: None)
    folders = []
    monkeypatch.setattr(jobs, "measure_base", lambda *words: folders.append(words[-1]) or {})
    root = tmp_path / "work" / "ray"
    on_ray.work(config().model_dump(mode="json"), list_jobs(config())[0], Where(), root)
    assert folders[0].is_relative_to(root) and not any(root.iterdir())


def test_hours_come_from_what_was_measured(faked, tmp_path):
    asked = config(sizes=[16])
    records = run_scan(asked, tmp_path)
    assert hours_left([], list_cells(asked), 0) is None
    assert hours_left(records, list_cells(asked), 0) == pytest.approx(2 * 2 / 3600)
    assert hours_left(records, list_cells(config(sizes=[32])), 2) == pytest.approx(2 * 4 / 7200)


def test_the_best_so_far_is_said_group_by_group():
    """A base that has only reached its easy windows must not look best there."""
    watch = Watch(0, 9)
    for base, window, risk in (("a", "2:3", 0.4), ("a", "3:4", 0.3), ("b", "2:3", 0.1)):
        cell = {"size": 64, "window": window, "base": base, "objective": "nll", "method": "lora"}
        record = {"cell": cell, "measured": {"test_risk": {"value": risk}}}
        watch.saw(record, finished=False)
    assert "a, nll, lora, n=64: 3:4; b, nll, lora, n=64: 2:3" in watch.line()


# --- what it says ----------------------------------------------------------------------------


def test_agreement_finds_minimisers_ranks_and_violations(faked, tmp_path):
    asked = config(windows=["2:3", "3:4", "4:5", "5:6"], sizes=[16, 256], seeds=[0, 1])
    frame = cells_frame(run_scan(asked, tmp_path))
    frame = frame.astype({"value": float})
    found = agreement(frame)
    assert found.minimiser == {16: ("2:3", "2:3", 0), 256: ("4:5", "4:5", 0)}
    assert found.spearman == pytest.approx(1) and found.violations == 0
    wrong = frame.assign(value=-frame["value"])
    assert agreement(wrong).minimiser[16] == ("2:3", "5:6", 3)
    assert agreement(wrong).spearman == pytest.approx(-1)
    assert agreement(wrong).violations == len(frame)
    flat = frame.assign(value=1.0)  # a bound that cannot tell is not right by the alphabet
    assert [d for *_, d in agreement(flat).minimiser.values()] == [3, 2]
    assert agreement(wrong).exceeded == agreement(wrong).labelled_upper == len(frame)
    assert agreement(wrong).could_fail == agreement(wrong).informative == len(frame)
    vacuous = agreement(flat.assign(value=[1.0, 0.9, *[1.5] * (len(frame) - 2)]))
    assert vacuous.informative == vacuous.could_fail == 1 and vacuous.labelled_upper == len(frame)
    said = summary(frame, "plain", "proposition_4_1", "tv")
    assert said["groups"]["strong, nll, lora"]["primary"]["minimiser_distance"] == {16: 0, 256: 0}
    json.dumps(said)
    slices = slices_frame(run_scan(asked, tmp_path))
    assert len(slices) == len(frame) and (slices["change"] < 0).all()


def test_the_bootstrap_of_a_rank_correlation_is_scipys():
    generator = np.random.default_rng(0)
    value, risk = pd.Series(generator.integers(5, size=12)), pd.Series(generator.random(12))
    chosen = np.random.default_rng(3).integers(12, size=(20, 12))
    each = [spearmanr(value.to_numpy()[i], risk.to_numpy()[i]).statistic for i in chosen]
    assert _resampled(value, risk, 20, seed=3) == pytest.approx(each)
    assert np.isnan(_resampled(pd.Series([1.0, 1.0]), pd.Series([1.0, 2.0]), 2, seed=0)).all()


def test_a_constant_bound_has_no_rank_correlation():
    frame = pd.DataFrame(
        {
            "size": [1, 1],
            "window": ["1:2", "2:3"],
            "low": [1, 2],
            "high": [2, 3],
            "value": [1.0, 1.0],
            "test_risk": [0.1, 0.2],
            "guarantee": "upper",
            "gibbs_test_risk": 0.1,
            "gibbs_test_lower": 0.0,
        }
    )
    assert agreement(frame, resamples=3).to_dict()["spearman"] is None
    assert agreement(frame, resamples=3).violations == 0
    blind = frame.assign(gibbs_test_lower=None, value=0.01)  # nobody could see a violation
    assert agreement(blind, resamples=3).violations is None


def test_an_estimate_violates_nothing_and_is_exceeded(faked, tmp_path, monkeypatch):
    """Its count would be 0 by construction, and a target would be passed by it."""
    asked = config(windows=["2:3", "3:4", "4:5"], sizes=[16, 256])
    frame = cells_frame(run_scan(asked, tmp_path)).astype({"value": float})
    low = frame.assign(value=0.0, guarantee="estimate", shift="slack:0.3")
    found = agreement(low).to_dict()
    assert found["violations"] is None and found["labelled_upper"] == 0
    assert found["exceeded"] == (frame["gibbs_test_risk"] > 0).sum() > 0
    bench = benchmark_of_the_map(monkeypatch)
    vacuous = frame.assign(value=1.0)  # no risk exceeds it, so no target is met by it
    for others, expected in (
        (frame, True), (frame.assign(value=-1.0), False), (None, None), (vacuous, None),
    ):  # fmt: skip
        both = low if others is None else pd.concat([low, others])
        said = summary(both, "plain", "proposition_4_1", "slack:0.3")["groups"]
        group = said["strong, nll, lora"]
        held = bench.targets(group["primary"], group["others"])
        assert held["no violation by a bound labelled upper"] is expected
        counts = bench.labelled_upper(group["primary"], group["others"])
        assert counts["comparisons"] == (0 if others is None else len(frame))
        said = {"primary": dict(bound="plain", theorem="proposition_4_1", shift="slack:0.3"),
                **group["primary"], "others": {}, "labelled_upper_in_group": counts}  # fmt: skip
        first = bench.table(said).splitlines()[2]
        assert first.endswith(f"| {len(frame)} of {len(frame)} | {found['exceeded']} | - |")


def benchmark_of_the_map(monkeypatch):
    folder = Path(__file__).parents[2] / "benchmarks"
    monkeypatch.syspath_prepend(folder)
    spec = importlib.util.spec_from_file_location("map_bench", folder / "map.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    return bench


def test_a_cell_of_the_map_is_measured_on_one_device_and_counts_on_either(
    faked, tmp_path, monkeypatch
):
    bench = benchmark_of_the_map(monkeypatch)
    asked = config(sizes=[16, 256], seeds=[0, 1], objectives=["nll", "dft"])
    some = {"windows": asked.windows[:1], "objectives": ("nll",), "device": "cuda"}
    run_scan(asked.model_copy(update=some), tmp_path)
    records, missing = bench.finished_records(asked, tmp_path)
    assert len(records) == 1 + 4 and len(missing) == 16 - 4
    bench.measure(asked, tmp_path, [256], [1], "cpu")  # a piece, and only what is missing there
    records, missing = bench.finished_records(asked, tmp_path)
    assert len(missing) == 9 and (256, 1) not in {(c.size, c.seed) for c in missing}
    bench.measure(asked, tmp_path, [], [], "cpu")
    records, missing = bench.finished_records(asked, tmp_path)
    assert not missing and "cell" not in records[0]
    assert len(list(Store(tmp_path).all())) == 2 + 16  # each device's base, and no cell twice


def test_a_slice_knows_its_rows_and_the_limits_of_both_sides(faked, tmp_path):
    records = run_scan(config(), tmp_path)
    for record in records:
        for estimate in record["measured"]["slices"].values():
            estimate["method"] = "mean loss of 49 units, Clopper-Pearson interval"
    found = slices_frame(records)
    assert set(found["rows"]) == {49} and (found["upper"] > found["lower"]).all()
    assert found["base_lower"].isna().all()  # this base has no limits on record


def test_pictures_of_every_kind_are_drawn(faked, tmp_path):
    asked = config(sizes=[16, 256])
    files = plot_scan(run_scan(asked, tmp_path), tmp_path / "p", "plain", "proposition_4_1")
    assert {file.stem.rpartition("-")[2] for file in files} == {
        "curves", "maps", "saturation", "optimum", "slices",
    }  # fmt: skip
    assert all(file.stat().st_size > 10_000 for file in files)
    assert all(file.with_suffix(".svg").exists() for file in files)


def test_records_of_two_configurations_are_not_drawn_together(faked, tmp_path):
    """The mean over both would be of neither; another delta gives the same cell another record."""
    for name, delta in (("a", 0.05), ("b", 0.1)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(TINY | {"delta": delta}))
        run_scan(config(delta=delta), tmp_path / "out")
    words = ["plot", str(tmp_path / "out"), "--bound", "plain", "--theorem", "proposition_4_1"]
    drawn = CliRunner().invoke(app, words)
    assert isinstance(drawn.exception, InputError) and "--config" in str(drawn.exception)
    named = CliRunner().invoke(app, [*words, "--config", str(tmp_path / "b.yaml")])
    assert named.exit_code == 0, named.output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss": "token_error"}, ["(loss ", "exact_match", "token_error"]),
        ({"delta": 0.1}, ["(delta ", "0.05", "0.1"]),
        ({"fine_tune": {"epochs": 2}}, ["different configurations; name"]),
    ],
)
def test_records_of_two_losses_are_not_drawn_together_though_no_two_are_of_one_cell(
    change, said, faked, tmp_path
):
    run_scan(config(), tmp_path)
    run_scan(config(sizes=[64], **change), tmp_path)
    with pytest.raises(InputError, match="--config") as caught:
        read_records(tmp_path)
    assert all(word in str(caught.value) for word in said)


def test_sizes_seeds_windows_and_devices_are_drawn_together(faked, tmp_path):
    run_scan(config(), tmp_path)
    more = {"sizes": [64], "seeds": [1], "windows": ["3:5"]}
    run_scan(config(**more, device="cuda", batch_size=8), tmp_path)
    records = read_records(tmp_path)
    assert len({r["shared"] for r in records}) == 1 and len(records) == 2 * 1 + 2 + 1


def test_old_records_that_cannot_be_of_one_scan_are_not_drawn_together(tmp_path):
    """They do not tell what they share."""
    own = {"slices": {"3": {"value": 0.5, "lower": 0.4, "upper": 0.6}}}
    store = Store(tmp_path)
    store.put({"key": "a", "base": "strong", "measured": own})
    store.put({"key": "b", "base": "strong", "measured": put(own, "slices.3.value", 0.51)})
    assert len(read_records(tmp_path)) == 2  # of two devices
    store.put({"key": "c", "base": "strong", "measured": put(own, "slices.3.value", 0.9)})
    with pytest.raises(InputError, match="a and c are records of different configurations"):
        read_records(tmp_path)
    (tmp_path / "records" / "c.json").unlink()
    cell = fake(config(), list_cells(config())[0], "d", None)
    store.put(put(cell, "measured.slices", {"4": {"value": 0.5}}))
    with pytest.raises(InputError, match="a and d are records of different configurations"):
        read_records(tmp_path)


def test_a_name_with_dollars_is_drawn_as_it_is_written(faked, tmp_path):
    name = "lr_$5_vs_$_"
    records = []
    for record in run_scan(config(sizes=[16, 256]), tmp_path):
        if "cell" in record:
            record["bounds"] = {name: record["bounds"]["plain"]}
            for base in ("$a_$_", "$b_$_"):
                records.append(record | {"cell": record["cell"] | {"base": base}})
    assert plot_scan(records, tmp_path / "p", name, "proposition_4_1")


def test_the_commands(faked, tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(TINY))
    words = ["scan", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out"), "--json"]
    dry = CliRunner().invoke(app, [*words, "--dry-run"])
    assert json.loads(dry.stdout) == {"cells": 2, "missing": 2, "hours": None}
    shared = CliRunner().invoke(app, [*words, "--dry-run", "--processes", "3"])
    assert "cannot be shared evenly" in str(shared.exception)  # as the scan itself would say
    assert not (tmp_path / "out").exists()
    found = json.loads(CliRunner().invoke(app, words).stdout)
    assert found["primary"] == {"bound": "plain", "theorem": "proposition_4_1", "shift": "tv"}
    assert (tmp_path / "out" / "cells.csv").exists()
    drawn = CliRunner().invoke(
        app, ["plot", str(tmp_path / "out"), "--bound", "plain", "--theorem", "proposition_4_1"]
    )
    assert drawn.exit_code == 0
    assert not list((tmp_path / "out").rglob(".partial*"))


def weighted(config, cell, key, folder, processes=1):
    """A cell with two bounds: one by importance weights too, one without."""
    record = fake(config, cell, key, folder)
    plain = record["bounds"]["plain"]
    shifts = plain["shifts"] | {"importance": {"upper": 0.4, "guarantee": "upper"}}
    record["bounds"]["weighted"] = plain | {"shifts": shifts}
    return record


def test_importance_weights_can_be_the_primary_term_and_be_drawn(faked, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "measure_cell", weighted)
    bound = {"posterior": "isotropic", "prior_scales": [0.05], "shifts": ["tv", "importance"]}
    primary = {"bound": "weighted", "shift": "importance"}
    asked = TINY | {"bounds": TINY["bounds"] | {"weighted": bound}, "primary": primary}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(asked))
    words = ["scan", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out"), "--json"]
    found = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    assert found["primary"] == primary | {"theorem": "importance"}
    assert found["groups"]["strong, nll, lora"]["primary"]["cells"] == 2
    plot = ["plot", str(tmp_path / "out"), "--json", "--shift"]
    drawn = CliRunner().invoke(app, [*plot, "importance", "--bound", "weighted"])
    assert len(json.loads(drawn.stdout)["files"]) == 5
    nowhere = ("importance --bound plain", "tv --bound weighted --theorem importance")
    for further in map(str.split, nowhere):
        with pytest.raises(InputError, match="no record holds"):
            CliRunner().invoke(app, [*plot, *further], catch_exceptions=False)


@pytest.mark.parametrize(
    "words", [["scan"], ["scan", "nowhere.yaml"], ["plot", "nowhere", "--bound", "x"]]
)
def test_bad_input_ends_in_a_sentence(words, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["pacbayes-sft", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and "error:" in capsys.readouterr().err


# --- for real --------------------------------------------------------------------------------


def plain(record):
    return {k: v for k, v in record.items() if k != "seconds"}


def test_a_cell_for_real(tmp_path):
    asked = config(windows=["2:3"])
    base, cell = run_scan(asked, tmp_path, Where(threads=1))
    assert set(base["measured"]["slices"]) == {"3", "4", "5"} == set(cell["measured"]["slices"])
    found, measured = cell["bounds"]["plain"], cell["measured"]
    for estimate in (*measured["slices"].values(), measured["train_distribution_risk"]):
        rows = int(
            re.search(r"mean loss of (\d+) units", estimate["method"])[1]
        )  # losses are 0 or 1
        wrong = (round(estimate["value"] * rows) + 1) / (rows + 2)
        assert estimate["standard_error"] == pytest.approx(
            (wrong * (1 - wrong) / (rows + 2)) ** 0.5
        )
    assert isinstance(found["warnings"], list)
    assert found["n"] == 48 and found["bounds"]["kl"]["guarantee"] == "upper"
    assert found["tv"]["value"] == pytest.approx(2 / 3)
    gap = measured["train_distribution_risk"]["value"] - measured["train_risk"]
    assert measured["generalization_gap"] == gap
    assert sum(found["terms"].values()) == pytest.approx(
        found["bounds"]["proposition_4_1"]["raw"], rel=1e-6
    )
    assert [left.name for left in (tmp_path / "work").iterdir()] == [".lock"]
    assert str(tmp_path) not in json.dumps([base, cell])  # a record holds no place
    assert cell["device"] == "cpu" and {*cells_frame([cell])["device"]} == {"cpu"}


def test_a_cell_killed_after_its_fine_tune_goes_on_from_it(tiny_base, tmp_path, monkeypatch):
    from pacbayes_sft.scan import measure

    asked = config(windows=["2:3"], bases=[str(tiny_base)])
    whole = run_scan(asked, tmp_path / "whole", Where(threads=1))[1]
    honest = measure.bound

    def dies(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "bound", dies)
    with pytest.raises(KeyboardInterrupt):
        run_scan(asked, tmp_path / "killed", Where(threads=1))
    monkeypatch.setattr(measure, "bound", honest)
    monkeypatch.setattr(measure, "run_sft", dies)  # nothing is trained twice
    (took,) = (tmp_path / "killed" / "work").rglob("fine_tune_seconds.json")
    took.write_text("1000")  # as if that fine-tune had taken long: it is part of the cost
    again = run_scan(asked, tmp_path / "killed", Where(threads=1))[1]
    assert plain(again) == plain(whole)
    assert again["seconds"]["fine_tune"] == pytest.approx(1000)
    assert again["seconds"]["all"] > 1000


@pytest.mark.slow
def test_killed_and_run_again_equals_uninterrupted(tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(TINY))

    def command(out):
        words = ["scan", str(tmp_path / "c.yaml"), "--out", str(out), "--threads", "1"]
        return subprocess.Popen([sys.executable, "-m", "pacbayes_sft", *words])

    assert command(tmp_path / "whole").wait() == 0
    killed = command(tmp_path / "killed")
    records = tmp_path / "killed" / "records"
    while not records.is_dir() or len(list(records.glob("*.json"))) < 2:
        time.sleep(0.2)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert len(list(records.glob("*.json"))) < 3
    assert command(tmp_path / "killed").wait() == 0
    one, other = Store(tmp_path / "whole"), Store(tmp_path / "killed")
    assert [plain(r) for r in one.all()] == [plain(r) for r in other.all()]


@pytest.mark.slow
def test_two_ray_workers_one_killed_nothing_lost_nothing_doubled(tmp_path):
    ray = pytest.importorskip("ray")
    asked = config(sizes=[48, 64])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        import threading

        def kill():
            import psutil

            while True:  # the first worker that is at work
                for process in psutil.process_iter(["cmdline", "cpu_times"]):
                    words = " ".join(process.info["cmdline"] or [])
                    if "ray::work" in words and process.info["cpu_times"].user > 4:
                        process.kill()
                        return
                time.sleep(0.2)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        records = run_scan(asked, tmp_path / "ray", Where(workers=2))
        assert not killer.is_alive(), "no worker was killed: the test tested nothing"
    finally:
        ray.shutdown()
    assert len(records) == 5 == len(list(Store(tmp_path / "ray").all()))
    alone = run_scan(asked, tmp_path / "alone", Where(threads=1))
    assert [plain(r) for r in records] == [plain(r) for r in alone]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_cell_whose_fine_tune_two_processes_share_is_that_of_one(workers, tmp_path):
    """48 rows in steps of 16: the same rows a step, so weights differ by rounding.

    Here, and where a Ray worker starts the two.
    """
    if workers:
        pytest.importorskip("ray")
    asked, two = config(windows=["2:3"]), Where(workers=workers, threads=1, processes=2)
    one, two = (
        run_scan(asked, tmp_path / str(where.processes), where)[1]
        for where in (Where(threads=1), two)
    )
    assert one["key"] == two["key"] and two["processes"] == 2
    risks = [r["measured"]["test_risk"]["value"] for r in (one, two)]
    assert risks[0] == pytest.approx(risks[1], abs=1 / 24)  # a row may flip
    kl = [r["bounds"]["plain"]["kl_nats"] for r in (one, two)]
    assert kl[0] == pytest.approx(kl[1], rel=1e-3) and kl[0] != kl[1]


@pytest.mark.slow
def test_a_launcher_of_two_processes_is_refused_and_accelerate_on_a_cpu_writes_one_record(tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(TINY | {"windows": ["2:3"]}))
    scan = ["-m", "pacbayes_sft", "scan", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out")]

    def launch(*words):
        command = [sys.executable, "-m", *words, *scan]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    two = launch("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    assert two.returncode != 0 and "started as one of 2 processes" in two.stderr
    assert not (tmp_path / "out" / "records").exists()
    # without MPI, accelerate starts one process on a CPU whatever number is asked for
    how = ["--cpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    one = launch("accelerate.commands.launch", *how, "--num_processes", "2")
    assert one.returncode == 0, one.stderr
    assert len(list(Store(tmp_path / "out").all())) == 2  # the base and the cell


def test_processes_share_the_fine_tune_of_a_cell_and_nothing_else(tiny_base, tmp_path, monkeypatch):
    """They are started with the very settings; what came of it is evaluated in this process."""
    from pacbayes_sft.scan import measure
    from pacbayes_sft.sft import run_sft

    asked = config(windows=["2:3"], bases=[str(tiny_base)])
    started = []

    def start(processes, base, train, out, settings):
        started.append(processes)
        run_sft(base, train, out, settings)

    monkeypatch.setattr(measure, "run_sft_on", start)
    here, there = (
        run_scan(asked, tmp_path / str(k), Where(threads=1, processes=k))[1] for k in (1, 2)
    )
    assert started == [2] and plain(here) == plain(there)
    assert here["processes"] == 1  # as the fine-tune's record says, made by one here
    for where, says in ((Where(processes=5), "cannot be shared evenly"),
                        (Where(workers=1, gpus=0.5, processes=2), "give --gpus 2")):  # fmt: skip
        with pytest.raises(InputError, match=says):
            run_scan(asked, tmp_path / "none", where)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", SIZES)
def test_one_of_several_processes_is_refused(name, faked, tmp_path, monkeypatch):
    monkeypatch.setenv(name, "2")
    with pytest.raises(InputError, match="one of 2 processes"):
        run_scan(config(), tmp_path)
    monkeypatch.setenv(name, "1")
    assert len(run_scan(config(), tmp_path)) == 3


def test_a_cell_may_take_a_fraction_of_a_gpu_and_never_what_is_not_there():
    options = on_ray.task_options(Where(workers=4, gpus=0.25))
    assert options["num_gpus"] == 0.25 and options["num_cpus"] == 1
    assert on_ray.task_options(Where(address="auto", threads=3))["num_cpus"] == 3
    on_ray.refuse_unmet([{"CPU": 2, "GPU": 1}], Where(workers=2, gpus=0.5))
    on_ray.refuse_unmet([{"CPU": 2}, {"CPU": 8}], Where(address="auto", threads=8))
    two = [{"CPU": 2}, {"CPU": 2}]  # four cores, but no node has more than two
    for has, where, says in (
        ([{"CPU": 2}], Where(workers=2, gpus=0.5), r"--gpus: a cell asks for 0\.5 GPU"),
        (two, Where(address="auto", threads=4), "--threads: a cell asks for 4 CPU.*more than 2"),
        (two, Where(address="auto", processes=4), "--processes: a cell asks for 4 CPU"),
    ):
        with pytest.raises(InputError, match=says):
            on_ray.refuse_unmet(has, where)


@pytest.mark.slow
def test_bad_input_in_a_worker_is_still_a_sentence(tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(InputError, match="--device mps"):  # whether it is there shows in the worker
        run_scan(config(device="mps"), tmp_path, Where(workers=1))


def test_every_job_has_a_name_of_its_own():
    asked = list_jobs(config(seeds=[0, 1], bases=["strong", "weak"]))
    assert len({job.key for job in asked}) == len(asked) == 2 + 8
