"""From files to advice: levels, sides of the pool, the command, and a real run."""

import dataclasses
import itertools
import json
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from estimators import kl_inverse_upper
from pacbayes_sft.advise.cost import cost_of
from pacbayes_sft.advise.levels import build_ladder, read_test_levels
from pacbayes_sft.advise.predict import Extra, Rule, Train, _kl_inverse
from pacbayes_sft.advise.prepare import Pilots, copies_of_test, prepare
from pacbayes_sft.advise.report import as_markdown, untouched_said
from pacbayes_sft.advise.run import advise_on
from pacbayes_sft.advise.select import How, select_rows, what_it_does
from pacbayes_sft.advise.shifts import LEVELS_OF_SAMPLE, WINDOWS_OF_SAMPLE
from pacbayes_sft.advise.split import pilot_side, split_judges
from pacbayes_sft.choices import Objective, Rendering
from pacbayes_sft.cli import app, main
from pacbayes_sft.data.levels import levels_of
from pacbayes_sft.data.rows import read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.igsm import OpLaw
from pacbayes_sft.igsm.files import write_problems
from pacbayes_sft.scan.cells import Keys, list_cells
from pacbayes_sft.scan.config import FineTune
from pacbayes_sft.scan.rows import open_pool
from pacbayes_sft.shift import shift_term
from tests.pacbayes_sft.advise.cases import SMALL, WINDOWS, write

# --- levels and sides ------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(0, 100), min_size=30, max_size=120),
    edges=st.lists(st.floats(0, 100), min_size=2, max_size=6),
)
def test_no_window_cuts_a_level(values, edges):
    windows = [f"{min(a, b)!r}:{max(a, b)!r}" for a, b in itertools.pairwise(edges)]
    ladder = build_ladder(values, windows)
    for window in windows:
        low, high = map(float, window.split(":"))
        for value in values:
            level = ladder.level(value)
            assert (low <= value <= high) == (low <= level <= high)
    assert len(set(map(ladder.level, values))) <= max(16, 8 + 2 * len(windows) + 2)


def test_few_values_are_their_own_levels_and_unknown_ones_stay_apart():
    ladder = build_ladder([1.0, 2.0, 5.0], ["1:2"])
    assert [ladder.level(x) for x in (1, 2, 5)] == [1, 2, 5]
    assert ladder.level(9.0) == 9.0  # harder than the pool: a level that no pilot covers


def test_sides_of_the_pool_are_apart_and_judges_spread():
    levels = {f"u{i}": float(i % 3 + (i % 30 == 0)) for i in range(300)}
    side = pilot_side(levels, 0.4, 0)
    assert len(side) == 120 == len(set(side))
    ladder = build_ladder(list(levels.values()), ["0:1"])
    train, judges = split_judges({u: levels[u] for u in side}, ladder, 30, 0)
    assert not set(train) & set(judges) and len(train) + len(judges) == 120
    counts = np.unique([levels[u] for u in judges], return_counts=True)[1]
    assert counts.max() <= 10


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({}, "has no value"),
        ({"difficulty": "x"}, "is not a number"),
        ({"difficulty": 10**400}, "is not a number"),
        ({"difficulty": float("nan")}, "is not a number"),
        ([1], "not an object"),
        ({"difficulty": 1, "attributes": [1]}, "'attributes' must be an object"),
        ({"difficulty": 3, "attributes": {"difficulty": 9}}, "'attributes' holds 'difficulty'"),
    ],
)
def test_a_test_row_without_its_column(row, says, tmp_path):
    file = write(tmp_path / "t.jsonl", [{"difficulty": 1}, row])
    with pytest.raises(InputError, match=f"line 2.*{says}"):
        read_test_levels(file, "difficulty")


def test_a_test_file_is_read_as_every_other_file_of_rows(tmp_path):
    file = tmp_path / "t.jsonl"
    rows = [{"difficulty": 1, "unit": None}, {"difficulty": 2, "unit": None}, {"difficulty": 3}]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8-sig")
    assert read_test_levels(str(file), "difficulty")[0] == [1.0, 2.0, 3.0]  # null names no unit
    file.write_bytes('{"difficulty": "é"}'.encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_test_levels(str(file), "difficulty")


def test_units_of_a_test_file_agree_and_nameless_rows_are_their_own(tmp_path):
    rows = [{"unit": "line 2", "difficulty": 1}, {"difficulty": 1}, {"unit": 7, "difficulty": 3}]
    levels, _ = read_test_levels(write(tmp_path / "t.jsonl", rows), "difficulty")
    assert levels == [1, 1, 3]
    rows.append({"unit": "7", "difficulty": 4})
    with pytest.raises(InputError, match=r"line 4: unit '7' has several values"):
        read_test_levels(write(tmp_path / "t.jsonl", rows), "difficulty")


def test_a_unit_with_two_difficulties(tmp_path):
    rows = [{"prompt": "p", "completion": "c", "unit": "u", "difficulty": d} for d in (1, 2)]
    with pytest.raises(InputError, match="several values"):
        levels_of(read_table(write(tmp_path / "p.jsonl", rows)), "difficulty")


def test_the_kl_inverse_of_arrays():
    risk, budget = np.array([[0.0, 0.2, 0.9]]), np.array([[0.01, 0.3, 0.05]])
    found = _kl_inverse(risk, budget)
    expected = [kl_inverse_upper(r, b) for r, b in zip(risk[0], budget[0], strict=True)]
    assert found[0] == pytest.approx(expected, abs=1e-9)


# --- the whole, with fine-tunes from formulas ------------------------------------------------


def test_from_files_to_advice_and_nothing_twice(files, faked, tmp_path):
    def ask(**changes):
        how = Pilots(**(SMALL.__dict__ | changes))
        return advise_on("strong", *files, (32, 1024), tmp_path / "w", windows=WINDOWS, how=how)

    found = ask()
    assert [c.budget for c in found.advice.choices] == [32, 1024] and len(faked) == 9
    assert found.cost["units"] == 3 * (8 + 32 + 96)
    assert found.prepared.shifts["2:4"].tv.guarantee == "upper"  # samples, no law on record
    again = ask(seeds=2)
    assert len(faked) == 18 and again.cost["pilots"] == 18
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_limit_whose_edges_came_from_the_pool_is_an_estimate(tmp_path):
    """Cut at the pool's own quantiles, the levels were not fixed without the rows that count."""
    pool = [
        {"prompt": f"p{i}", "completion": f"c{i}", "difficulty": i % 40, "unit": f"u{i}"}
        for i in range(2000)
    ]
    files = (
        write(tmp_path / "pool.jsonl", pool),
        write(tmp_path / "test.jsonl", [{"difficulty": i % 40} for i in range(80)]),
    )
    prepared = prepare("strong", *files, tmp_path / "w", ("0:19", "20:39"), how=SMALL)
    for shift in prepared.shifts.values():
        assert shift.tv.guarantee == "estimate" and LEVELS_OF_SAMPLE in shift.tv.assumptions
        assert LEVELS_OF_SAMPLE in shift.d_plus.assumptions and shift.tv.upper > shift.tv.value


def test_levels_are_the_pools_too_where_a_test_value_falls_between_them(files, tmp_path):
    between = write(tmp_path / "between.jsonl", [{"difficulty": 2 + i % 5 / 2} for i in range(90)])
    given = prepare("strong", *files, tmp_path / "w", WINDOWS, how=SMALL).shifts["2:4"].tv
    assert given.guarantee == "upper"
    merged = prepare("strong", files[0], between, tmp_path / "w", WINDOWS, how=SMALL)
    assert merged.shifts["2:4"].tv.guarantee == "estimate"


def test_quantile_windows_of_a_sample_give_an_estimate(files, tmp_path):
    prepared = prepare("strong", *files, tmp_path / "w", how=SMALL)
    for shift in prepared.shifts.values():
        assert shift.tv.guarantee == "estimate" and WINDOWS_OF_SAMPLE in shift.tv.assumptions


def test_keys_of_pilots_do_not_depend_on_where_they_are_kept(files, tmp_path):
    keys = []
    for place in ("a", "b"):
        prepared = prepare("strong", *files, tmp_path / place, WINDOWS, how=SMALL)
        keys.append([Keys(prepared.config).of(cell) for cell in list_cells(prepared.config)])
    assert keys[0] == keys[1]


def test_another_seed_in_the_same_folder_is_another_scan(files, tmp_path):
    """In one process too: its pilots must not be trained on what it calls fresh or judges by."""
    first, other = (
        prepare("strong", *files, tmp_path / "w", WINDOWS, how=dataclasses.replace(SMALL, seed=s))
        for s in (0, 1)
    )
    cell = list_cells(first.config)[0]
    assert Keys(first.config).of(cell) != Keys(other.config).of(cell)
    assert (first.config.seeds, other.config.seeds) == ((0,), (1,))
    for prepared in (first, other):
        open_pool(prepared.config.data).write(cell, tmp_path / "t.jsonl", tmp_path / "h.jsonl")
        judges = Path(prepared.config.data.test).read_text().splitlines()
        judging = {json.loads(line)["unit"] for line in judges}
        trained = {json.loads(x)["unit"] for x in (tmp_path / "t.jsonl").read_text().splitlines()}
        assert trained <= prepared.pilot_side and not trained & judging


def test_the_base_as_it_is_stands_beside_the_advice(files, faked, tmp_path):
    found = advise_on("strong", *files, (32, 1024), tmp_path / "w", windows=WINDOWS, how=SMALL)
    assert found.untouched.value == pytest.approx(0.5)  # the test law is uniform over its levels
    assert found.untouched.error == pytest.approx(0.1 / 3.92 / 3)  # nine levels of equal error
    predicted = {c.budget: c.predictions[0].value for c in found.advice.choices}
    assert predicted[1024] < 0.5 < predicted[32]
    text = as_markdown(found)
    assert "has 0.500 under the test law" in text
    assert "at n = 32 the advised window is predicted no lower" in text
    assert found.to_dict()["untouched"]["value"] == found.untouched.value
    bound = advise_on(
        "strong", *files, (32,), tmp_path / "w", windows=WINDOWS, how=SMALL,
        rule=Rule(Train.BOUND, Extra.TV),
    )  # fmt: skip
    assert (
        untouched_said(bound) and "predicted" not in untouched_said(bound)[0]
    )  # a bound is no risk


def test_steps_read_rows_and_a_unit_may_have_several():
    pilot = types.SimpleNamespace(size=64, arm="w", seconds=1.0)
    recipe = FineTune(least_steps=4, batch_size=16)
    one, three = (cost_of([pilot], [128], recipe, k) for k in (1.0, 3.0))
    assert (one["rows_read"], three["rows_read"]) == (64, 192)
    assert one["share_of_sweep"] == three["share_of_sweep"] == 0.5


def test_what_pilots_cost_is_what_their_steps_read(files, faked, tmp_path):
    recipe = FineTune(least_steps=4, batch_size=16)
    how = dataclasses.replace(SMALL, fine_tune=recipe)
    where = tmp_path / "w"
    found = advise_on("strong", *files, (96, 128, 10**6), where, windows=WINDOWS, how=how)
    read = 3 * (64 + 64 + 96)  # three windows; four steps of sixteen at the least
    assert found.cost["rows_read"] == read and found.cost["units"] == 3 * (8 + 32 + 96)
    assert found.cost["share_of_sweep"] == read / (3 * (96 + 128))  # the refused budget costs none
    text = as_markdown(found)
    assert f"read {read} rows" in text and "Below n = 64 that is more passes" in text
    assert "one seed a pilot" in text and found.to_dict()["recipe"]["least_steps"] == 4
    two = advise_on(
        "strong", *files, (128,), where, windows=WINDOWS, how=dataclasses.replace(how, seeds=2)
    )
    assert "one seed a pilot" not in as_markdown(two)


@pytest.mark.parametrize(("shift", "said"), [("profile", False), ("nothing", False), ("tv", True),
                                            ("robust", True)])  # fmt: skip
def test_a_shift_side_whose_sampling_is_not_drawn_is_said(shift, said, files, faked, tmp_path):
    rule = Rule(Train.HELDOUT, Extra(shift))
    found = advise_on(
        "strong", *files, (128,), tmp_path / "w", windows=WINDOWS, how=SMALL, rule=rule
    )
    counted = f"counted on {found.prepared.test_units} units, and the sampling error"
    assert found.prepared.test_units and (counted in as_markdown(found)) is said
    known = dataclasses.replace(
        found, prepared=dataclasses.replace(found.prepared, test_units=None)
    )
    assert "sampling error" not in as_markdown(known)


def test_the_fresh_side_decides_nothing(tmp_path):
    """Rows that are certified later must not have helped to choose the window."""
    units = [f"u{i:03}" for i in range(600)]
    pilots = set(pilot_side(units, SMALL.share, SMALL.seed))
    spread = {u: 2 + i % 9 for i, u in enumerate(units)}
    other = {u: spread[u] if u in pilots else 2 + (i * i) % 7 for i, u in enumerate(units)}
    test = write(tmp_path / "test.jsonl", [{"difficulty": 2 + i % 9} for i in range(90)])
    how = dataclasses.replace(SMALL, sizes=(8, 32), judges=60, heldout=16)
    found = []
    for name, levels in (("a", spread), ("b", other)):
        rows = [{"prompt": u, "completion": "c", "difficulty": d + i % 5 / 10, "unit": u}
                for i, (u, d) in enumerate(levels.items())]  # fmt: skip
        pool = write(tmp_path / f"{name}.jsonl", rows)
        found.append(prepare("strong", pool, test, tmp_path / name, how=how))
    a, b = found
    assert a.levels != b.levels and a.shifts == b.shifts
    assert (a.windows, a.ladder, a.pilot_side) == (b.windows, b.ladder, b.pilot_side)


def test_laws_of_two_generators_are_not_exact(tmp_path):
    from pacbayes_sft.igsm import OpLaw
    from pacbayes_sft.igsm.files import write_problems

    write_problems(tmp_path / "pool.jsonl", OpLaw.uniform(2, 6), size=400, seed=1)
    how = dataclasses.replace(SMALL, sizes=(8, 32), judges=60, heldout=16)
    for rendering, label in (("symbolic", "exact"), ("english", "upper")):
        test = tmp_path / f"{rendering}.jsonl"
        write_problems(test, OpLaw.uniform(4, 6), size=60, seed=2, rendering=Rendering(rendering))
        files = (str(tmp_path / "pool.jsonl"), str(test))
        found = prepare("strong", *files, tmp_path / "w", ("2:4", "3:6"), how=how)
        assert found.shifts["3:6"].tv.guarantee == label
        assert found.laws_known is (label == "exact")


def test_a_test_law_beyond_the_pool_is_refused_before_any_pilot(files, faked, tmp_path):
    test = write(tmp_path / "far.jsonl", [{"difficulty": d} for d in (4, *range(11, 30))])
    with pytest.raises(InputError, match="cover 5% of the test law"):
        advise_on("strong", files[0], test, (32,), tmp_path / "w", windows=WINDOWS, how=SMALL)
    assert not faked


def test_halving_of_two_windows_is_refused(files, tmp_path):
    how = dataclasses.replace(SMALL, halving=True)
    with pytest.raises(InputError, match="--halving: of 2 windows none would be dropped"):
        prepare("strong", *files, tmp_path / "w", WINDOWS[:2], how=how)


def test_gamma_of_every_objective_stands_in_the_report(files, faked, tmp_path):
    how = dataclasses.replace(SMALL, objectives=tuple(map(Objective, ("p0.5", "dft"))))
    text = as_markdown(advise_on("strong", *files, (32,), tmp_path / "w", windows=WINDOWS, how=how))
    row = next(line for line in text.splitlines() if line.startswith("| 2:4 |"))
    assert "p0.5, γ = " in row and "dft, γ = " in row


def test_default_windows_come_from_the_pool(files, tmp_path):
    prepared = prepare("strong", *files, tmp_path / "w", how=SMALL)
    assert len(prepared.windows) >= 3 and all(":" in w for w in prepared.windows)


def test_a_window_too_small_for_the_pilots(files, tmp_path):
    with pytest.raises(InputError, match=r"fewer than the largest \(1024\).*--judges"):
        prepare("strong", *files, tmp_path / "w", WINDOWS, how=Pilots())


def test_the_command_writes_report_and_rows(files, faked, tmp_path):
    words = ["advise", "--base", "strong", "--pool", files[0], "--test", files[1]]
    words += ["--budgets", "128,99999", "--windows", ",".join(WINDOWS), "--pilot-sizes", "8,32,96"]
    words += ["--pilots", str(tmp_path / "w"), "--report", str(tmp_path / "r"), "--json"]
    words += ["--select", "128", "--out", str(tmp_path / "train.jsonl"), "--device", "cpu"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["guarantee"] == "estimate" and "99999" in found["refused"]
    assert found["selection"]["rows"] == 128
    low, high = map(int, found["choices"][0]["window"].split(":"))
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 128 and all(low <= row["difficulty"] <= high for row in rows)
    text = (tmp_path / "r" / "advice.md").read_text()
    for part in ("What would change this", "Shift terms", "What it cost", "largest pilot"):
        assert part in text
    assert "(5%, all at once)" in text
    assert (tmp_path / "r" / "advice.png").stat().st_size > 10_000
    again = [str(tmp_path / "2.jsonl") if w.endswith("train.jsonl") else w for w in words]
    table = CliRunner().invoke(app, [word for word in again if word != "--json"])
    assert table.exit_code == 0 and "threshold" in table.stdout
    (tmp_path / "2.jsonl").unlink()
    dry = CliRunner().invoke(app, [*again, "--dry-run"])
    assert json.loads(dry.stdout)["pilots"] == 9
    dry = CliRunner().invoke(app, [*again, "--dry-run", "--halving"])
    assert json.loads(dry.stdout)["pilots"] == 3 + 2 * 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--budgets", "x"], "not whole numbers"),
        (["--budgets", "0"], "at least 1"),
        (["--budgets", "9" * 400], "must be at most 1,000,000,000"),
        (["--objectives", "rl"], "must be one of nll"),
        (["--column", "length"], "pacbayes-sft difficulty"),
        (["--windows", "5:2"], "from high to low"),
        (["--windows", "5:7,5:7"], "--windows: '5:7' and '5:7' are one"),
        (["--windows", "5:7, 05:7"], "--windows: '5:7' and ' 05:7' are one"),
        (["--objectives", "nll,nll"], "--objectives: names a value twice"),
        (["--epochs", "inf"], "--epochs: Input should be a finite number"),
        (["--learning-rate", "inf"], "--learning-rate: Input should be a finite number"),
        (["--windows", "20:30"], "no row of the pool"),
        (["--select", "77", "--out", "o.jsonl"], "one of the --budgets"),
        (["--select", "128"], "go together"),
        (["--out", "o.jsonl"], "go together"),
        (["--budgets", "99999", "--select", "99999", "--out", "o.jsonl"], "largest pilot (96)"),
        (["--pilot-sizes", "16"], "cannot be extrapolated"),
        (["--base", "strng"], "strng"),
        (["--column", "pass_rate_72b"], "give 1 - pass_rate_72b"),
        (["--budgets", "1000", "--select", "1000", "--out", "o.jsonl"], "no window holds so many"),
        (
            ["--select", "128", "--out", "r/advice.md", "--report", "r"],
            "writes a file of that name",
        ),
    ],
)
def test_bad_input_ends_in_a_sentence(change, says, files, faked, tmp_path, monkeypatch, capsys):
    words = ["advise", "--base", "strong", "--pool", files[0], "--test", files[1]]
    words += ["--budgets", "128", "--windows", ",".join(WINDOWS), "--pilot-sizes", "8,32,96"]
    words += ["--pilots", str(tmp_path / "w"), "--device", "cpu", *change]
    monkeypatch.setattr("sys.argv", ["pacbayes-sft", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and says in " ".join(capsys.readouterr().err.split())
    assert not faked  # said before any pilot was paid for


@pytest.mark.parametrize("dry", [True, False])
def test_the_selection_writes_over_nothing(dry, files, faked, tmp_path):
    (tmp_path / "mine.jsonl").write_text("{}")
    words = ["advise", "--base", "strong", "--pool", files[0], "--test", files[1]]
    words += ["--budgets", "128", "--windows", ",".join(WINDOWS), "--pilot-sizes", "8,32,96"]
    words += ["--pilots", str(tmp_path / "w"), "--select", "128", *(["--dry-run"] * dry)]
    for out, says in ((files[0], "files to be read"), (tmp_path / "mine.jsonl", "there already")):
        before = Path(out).read_bytes()
        done = CliRunner().invoke(app, [*words, "--out", str(out)])
        assert says in str(done.exception) and Path(out).read_bytes() == before
    assert not faked


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize("flag", ["--out", "--report"])
def test_what_could_not_be_written_is_said_before_any_pilot(flag, dry, files, faked, tmp_path):
    words = ["advise", "--base", "strong", "--pool", files[0], "--test", files[1]]
    words += ["--budgets", "128", "--windows", ",".join(WINDOWS), "--pilot-sizes", "8,32,96"]
    words += ["--pilots", str(tmp_path / "w"), *(["--dry-run"] * dry), flag, f"{files[1]}/x.jsonl"]
    words += ["--select", "128"] if flag == "--out" else []
    done = CliRunner().invoke(app, words)
    assert "is a file, no directory" in str(done.exception) and flag in str(done.exception)
    assert not faked


def test_a_selection_that_fails_at_last_takes_the_advice_with_it_nowhere(files, faked, tmp_path):
    """The wide window could have filled it; another is advised, and the pilots are paid for."""
    words = ["advise", "--base", "strong", "--pool", files[0], "--test", files[1]]
    words += ["--budgets", "128,1000", "--windows", "2:4,5:7,7:10", "--pilot-sizes", "8,32,96"]
    words += ["--pilots", str(tmp_path / "w"), "--device", "cpu", "--json"]
    words += ["--select", "1000", "--out", str(tmp_path / "o.jsonl")]
    done = CliRunner().invoke(app, words)
    assert "holds 900 units" in str(done.exception) and not (tmp_path / "o.jsonl").exists()
    assert [c["window"] for c in json.loads(done.stdout)["choices"]][1] == "2:4"
    shown = CliRunner().invoke(app, [*words[: words.index("--select")]])
    assert shown.exit_code == 0
    told = CliRunner().invoke(app, [w for w in words[: words.index("--select")] if w != "--json"])
    assert "n = 1,000: window" in " ".join(told.stdout.replace("│", " ").split())


# --- selection -------------------------------------------------------------------------------


def test_what_stands_in_the_test_is_not_selected(files, tmp_path):
    """Prompts alone tell, as a test needs no completions; it is said, and before any pilot."""
    copied = [{"difficulty": 2 + i % 9, "prompt": f"p{i}"} for i in range(90)]
    test = write(tmp_path / "copied.jsonl", copied)
    prepared = prepare("strong", files[0], test, tmp_path / "w", WINDOWS, how=SMALL)
    assert prepared.copies == {f"u{i}" for i in range(90)}
    taken = select_rows(prepared, "5:7", 870, tmp_path / "rows.jsonl")
    assert not prepared.copies & {*taken.units} and "30 units of the window" in taken.says[-1]
    with pytest.raises(InputError, match="holds 870 units"):
        select_rows(prepared, "5:7", 871, tmp_path / "more.jsonl")
    none = prepare("strong", *files, tmp_path / "w", WINDOWS, how=SMALL)
    assert not none.copies and len(select_rows(none, "5:7", 870, tmp_path / "rows.jsonl").says) == 2


def test_coincidences_of_two_seeds_of_one_generator_are_no_copies(tmp_path):
    pool, test = tmp_path / "pool.jsonl", tmp_path / "test.jsonl"
    write_problems(pool, OpLaw.uniform(2, 3), size=400, seed=0)
    for seed, found in ((1, False), (0, True)):
        write_problems(test, OpLaw.uniform(2, 3), size=200, seed=seed)
        table = read_table(str(pool))
        assert bool(copies_of_test(table, str(test))) is found


def test_selected_rows_are_fresh_first_and_what_that_costs_is_said(files, tmp_path):
    prepared = prepare("strong", *files, tmp_path / "w", WINDOWS, how=SMALL)
    few = select_rows(prepared, "5:7", 200, tmp_path / "few.jsonl")
    assert few.reused == 0 and "costs nothing" not in few.says[1]
    # no law is on record: the test rows that chose the window are those a shift limit counts
    assert "δ_shift/3" in few.says[1] and "ln 3 = 1.10" in few.says[1]
    many = select_rows(prepared, "5:7", 600, tmp_path / "many.jsonl")
    assert many.reused > 0 and "ln 3" in many.says[1]
    hard = select_rows(prepared, "5:7", 100, tmp_path / "hard.jsonl", how=How.HARDEST)
    assert {prepared.levels[u] for u in hard.units} == {7.0} and "no certificate" in hard.says[0]
    assert len(hard.says) == 1
    with pytest.raises(InputError, match="holds 900 units"):
        select_rows(prepared, "5:7", 901, tmp_path / "no.jsonl")
    assert "are independent draws" in few.says[0] and not prepared.windows_of_sample
    said = what_it_does(How.WINDOW, 5, 0, 3, arms=3, laws_known=True, edges_of_selected=False)
    assert "are independent draws" in said[0] and "costs nothing" in said[1]


def test_what_the_choice_of_an_objective_and_of_the_sample_itself_cost_is_said(files, tmp_path):
    """Pilots that chose among windows and objectives chose among all pairs of the two."""
    how = dataclasses.replace(SMALL, objectives=tuple(Objective)[:2])
    prepared = prepare("strong", *files, tmp_path / "w", WINDOWS, how=how)
    many = select_rows(prepared, "5:7", 600, tmp_path / "many.jsonl")
    assert "6 arms" in many.says[1] and "ln 6 = 1.79 nats (δ/6)" in many.says[1]
    few = select_rows(prepared, "5:7", 200, tmp_path / "few.jsonl")
    assert "δ_shift/3" in few.says[1]  # a shift limit does not know the objective
    quantiles = prepare("strong", *files, tmp_path / "q", how=SMALL)
    assert quantiles.windows_of_sample
    for count, says in ((50, "a later certificate holds"), (700, "not quite independent")):
        taken = select_rows(quantiles, quantiles.windows[0], count, tmp_path / f"{count}.jsonl")
        assert bool(taken.reused) is (count == 700) and says in taken.says[0]
    across = dataclasses.replace(prepared, column="thtb_extrinsic")
    assert "across the rows" in select_rows(across, "5:7", 9, tmp_path / "across.jsonl").says[0]


def test_a_known_law_is_kept_through_the_selection(tmp_path):
    from pacbayes_sft.igsm import OpLaw
    from pacbayes_sft.igsm.files import write_problems

    write_problems(tmp_path / "pool.jsonl", OpLaw.uniform(2, 5), size=700, seed=1)
    write_problems(tmp_path / "test.jsonl", OpLaw.uniform(4, 5), size=40, seed=2)
    prepared = prepare(
        "strong", str(tmp_path / "pool.jsonl"), str(tmp_path / "test.jsonl"), tmp_path / "w",
        ("2:3", "4:5"), how=Pilots(sizes=(4, 8, 16), judges=40, heldout=16),
    )  # fmt: skip
    assert prepared.shifts["4:5"].tv.value == 0 and prepared.shifts["2:3"].tv.guarantee == "exact"
    taken = select_rows(prepared, "4:5", 40, tmp_path / "train.jsonl")
    assert prepared.laws_known and (taken.reused or "costs nothing" in taken.says[1])
    shift = shift_term(
        read_table(tmp_path / "train.jsonl"), read_table(tmp_path / "test.jsonl"), "known", 0.05
    )
    assert shift.tv.guarantee == "exact" and shift.tv.value == 0
    some = frozenset(u for u in prepared.units_in("4:5")[:3])
    without = dataclasses.replace(prepared, copies=some)  # the test's rows bend the pool's law
    left = select_rows(without, "4:5", 40, tmp_path / "left.jsonl")
    assert "not on record" in left.says[-1]
    assert read_table(tmp_path / "left.jsonl").metadata is None
    of_sample = dataclasses.replace(prepared, windows_of_sample=True)
    fresh = select_rows(of_sample, "4:5", 40, tmp_path / "fresh.jsonl")  # no edge is one of these
    assert not fresh.reused and read_table(tmp_path / "fresh.jsonl").metadata is not None
    most = select_rows(of_sample, "4:5", 300, tmp_path / "of_sample.jsonl")
    assert most.reused and read_table(tmp_path / "of_sample.jsonl").metadata is None


# --- for real --------------------------------------------------------------------------------


@pytest.mark.slow
def test_advice_for_real(tmp_path):
    from pacbayes_sft.igsm import OpLaw
    from pacbayes_sft.igsm.files import write_problems
    from pacbayes_sft.scan.config import FineTune

    write_problems(tmp_path / "pool.jsonl", OpLaw.uniform(2, 7), size=1200, seed=1)
    write_problems(tmp_path / "test.jsonl", OpLaw.uniform(4, 7), size=60, seed=2)
    how = Pilots(
        sizes=(8, 16, 32),
        judges=48,
        halving=True,
        fine_tune=FineTune(least_steps=2, batch_size=16, lora_rank=4),
    )
    found = advise_on(
        "strong", str(tmp_path / "pool.jsonl"), str(tmp_path / "test.jsonl"), (32, 256),
        tmp_path / "w", windows=("2:4", "3:5", "5:7"), how=how,
    )  # fmt: skip
    kept = len(found.halved.kept)
    assert len(found.advice.choices) == 2 and len(found.pilots) == 3 + 2 * kept and kept >= 2
    assert all(set(p.profile) == {2, 3, 4, 5, 6, 7} for p in found.pilots)
    assert all(0 < p.certified < 1 and p.kl >= 0 for p in found.pilots)


def test_a_pool_that_leaves_the_pilots_nothing_is_refused(tmp_path):
    pool = write(tmp_path / "one.jsonl", [{"prompt": "p", "completion": "c", "difficulty": 3}])
    test = write(tmp_path / "test.jsonl", [{"difficulty": 3}])
    levels = levels_of(read_table(pool), "difficulty")
    seed = next(s for s in itertools.count() if not [*pilot_side(levels, SMALL.share, s)])
    how = dataclasses.replace(SMALL, seed=seed)
    with pytest.raises(InputError, match="none of 1 units; the pool is too small"):
        prepare("strong", pool, test, tmp_path / "w", how=how)
