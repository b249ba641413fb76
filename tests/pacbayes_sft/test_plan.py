"""A dry run says what the bound then does, and costs no forward pass."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from estimators.posteriors.refined import Schedule
from pacbayes_sft import gibbs, refine
from pacbayes_sft.bound_json import to_record
from pacbayes_sft.certify import bound
from pacbayes_sft.checkpoints.files import open_checkpoint
from pacbayes_sft.cost import matrix_weights, operations
from pacbayes_sft.errors import InputError
from pacbayes_sft.igsm import OpLaw
from pacbayes_sft.igsm.files import write_problems
from pacbayes_sft.models import load_model, resolve_base
from pacbayes_sft.options import Options
from pacbayes_sft.plan import plan
from pacbayes_sft.posteriors import PLACES, Refinement
from pacbayes_sft.shift.term import FROM_MANY_ROWS

QUICK = Options(
    refinement=Refinement(Schedule(steps=8), 8), prior_scales=(0.02, 0.1), batch_size=32, draws=2
)


@pytest.fixture(scope="module")
def files(rows_dir):
    return str(rows_dir / "train.jsonl"), str(rows_dir / "test.jsonl")


@pytest.fixture
def seen(monkeypatch):
    """Rows through the model, counted where they go through it."""
    seen = {"evaluated": 0, "refined": 0}
    evaluate, collate = gibbs.row_losses, refine.collate

    def counting(model, rows, *rest, **named):
        seen["evaluated"] += len(rows)
        return evaluate(model, rows, *rest, **named)

    def collating(rows, *rest):
        seen["refined"] += len(rows)
        return collate(rows, *rest)

    monkeypatch.setattr(gibbs, "row_losses", counting)
    monkeypatch.setattr(refine, "collate", collating)
    return seen


def test_no_model_is_loaded(lora_run, files, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)
    assert plan("strong", lora_run, *files).guarantee == "upper"


@pytest.mark.parametrize("without", ["certified", "test", "labelled"])
def test_rows_without_the_profiles_number_are_refused_before_a_model_is_loaded(
    without, lora_run, files, rows_dir, tmp_path, monkeypatch
):
    """It was refused at the very end, behind hours of passes."""
    train, test, labelled = *files, str(rows_dir / "heldout.jsonl")
    bare = tmp_path / "bare.jsonl"
    rows = [json.loads(line) for line in Path(labelled).read_text().splitlines()]
    del rows[7]["difficulty"]
    bare.write_text("".join(json.dumps(row) + "\n" for row in rows))
    column = "nosuch" if without == "certified" else "difficulty"
    options = replace(QUICK, profile=column, shift="none")
    test, labelled = (
        str(bare) if without == w else f for w, f in (("test", test), ("labelled", labelled))
    )
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)
    for call in (plan, bound):
        with pytest.raises(InputError, match=f"'{column}' is not a number"):
            call("strong", lora_run, train, test, options, labelled=labelled)


@pytest.mark.parametrize(
    ("model", "prior", "further"),
    [
        pytest.param("strong", "base", {}, marks=pytest.mark.slow),
        ("strong", "checkpoint", {}),
        (  # a tiny base, which loses everywhere: whatever the losses, these cost as much
            "tiny",
            "checkpoint",
            {"units": 10, "baselines": False, "posterior": "isotropic", "dtype": "bfloat16"},
        ),
    ],
)
def test_cost_ledger_and_label_are_those_of_the_bound(
    model, prior, further, lora_run, tiny_base, small_run, files, rows_dir, seen
):
    base, run = ("strong", lora_run) if model == "strong" else (str(tiny_base), small_run)
    kept = run / "pacbayes_sft" / "prior"
    options = replace(QUICK, prior=kept if prior == "checkpoint" else "base", **further)
    held = str(rows_dir / "heldout.jsonl")
    planned = plan(base, run, *files, options, train_heldout=held)
    certificate = bound(base, run, *files, options, train_heldout=held)
    assert seen == {"evaluated": planned.rows_evaluated, "refined": planned.rows_refined}
    assert planned.ledger.rows() == certificate.ledger.rows()
    assert planned.guarantee == certificate.bound.guarantee
    assert planned.floor <= min(on_train.upper for _, on_train in certificate.bounds.values())
    assert set(planned.least.assumptions) == set(certificate.bound.assumptions)
    assert planned.floor + 1 / 3 == pytest.approx(planned.least.upper)  # U{2..4} against U{3..5}
    record, done = planned.to_dict(), to_record(certificate)
    assert {k: record[k] for k in ("n", "n_train", "space", "squared_distance")} == {
        k: done[k] for k in ("n", "n_train", "space", "squared_distance")
    }


def test_an_interpolated_posterior_costs_pilots_and_no_refinement(
    tiny_base, small_run, files, rows_dir, seen
):
    """A profile's held-out rows go through too; the search for the best place may stop early."""
    prior = small_run / "pacbayes_sft" / "prior"
    options = replace(QUICK, posterior="interpolated", prior=prior, profile="difficulty")
    held = str(rows_dir / "heldout.jsonl")
    planned = plan(str(tiny_base), small_run, *files, options, train_heldout=held)
    bound(str(tiny_base), small_run, *files, options, train_heldout=held)
    assert seen["refined"] == planned.rows_refined == 0
    pilot, most = 32, len(options.prior_scales) * len(PLACES)  # all 32 certified units
    assert (planned.rows_evaluated - seen["evaluated"]) / pilot in range(most)


def test_the_work_is_nearly_what_a_counter_counts(lora_run, files):
    """`torch`'s own counter on a forward and a backward pass through the finished model."""
    from torch.utils.flop_counter import FlopCounterMode

    planned = plan("strong", lora_run, *files, QUICK)
    shapes = open_checkpoint(Path(resolve_base("strong"))).shape_of
    model = load_model(resolve_base("strong"), lora_run)
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name)
    ids = torch.arange(64)[None]
    with FlopCounterMode(display=False) as forward:
        loss = model(ids).logits.sum()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    weights = matrix_weights(shapes)
    for counted, (evaluated, refined) in (
        (forward.get_total_flops(), (1, 0)),
        (forward.get_total_flops() + backward.get_total_flops(), (0, 1)),
    ):
        least = operations(weights, 64, evaluated, refined, all_trained=False)
        assert 0.6 < least / counted < 1
    assert planned.operations > 64 * 2 * weights and planned.seconds > 0
    whole = operations(weights, 64, 0, 1, all_trained=True)
    assert whole == 3 * operations(weights, 64, 1, 0, all_trained=True)


def test_a_given_checkpoint_prior_is_not_called_missing(lora_run, files, tmp_path):
    """Without a run record it is the user's own word, and it is there."""
    bare = shutil.copytree(lora_run, tmp_path / "bare", ignore=shutil.ignore_patterns("run.json"))
    prior = shutil.move(bare / "pacbayes_sft" / "prior", tmp_path / "prior")
    (tmp_path / "seen.jsonl").write_text("".join(Path(files[0]).read_text().splitlines(True)[:40]))
    options = replace(QUICK, prior=prior, prior_train=str(tmp_path / "seen.jsonl"))
    planned = plan("strong", bare, *files, options)
    assert planned.priors[2].available and "24 units" in planned.priors[2].remark
    assert not any(words.startswith("checkpoint prior") for words in planned.missing)


def test_a_sample_of_the_units_can_be_planned(lora_run, files):
    planned = plan("strong", lora_run, *files, replace(QUICK, units=10))
    whole = plan("strong", lora_run, *files, QUICK)
    assert planned.rows_evaluated < whole.rows_evaluated
    assert not any(event.startswith("recursive") for event in planned.ledger.events)
    assert 0 < planned.floor < 1


def test_what_the_bound_assumes_of_prior_and_charges_is_what_the_plan_says(lora_run, files):
    shaped = plan("strong", lora_run, *files, replace(QUICK, prior_shape="curvature")).least
    assert any("shape is its curvature on text that" in s for s in shaped.assumptions)
    named = replace(QUICK, theorem="catoni")
    most = "catoni gets most of δ"
    assert any(most in s for s in plan("strong", lora_run, *files, named).least.assumptions)
    sampled = plan("strong", lora_run, *files, replace(named, units=10)).least
    assert not any(most in s for s in sampled.assumptions)  # 0.3 of it, see SAMPLED_SHARES


def test_what_is_missing_is_said(lora_run, files, tmp_path):
    assert [part.available for part in plan("strong", lora_run, *files).priors] == [True] * 3
    bare = shutil.copytree(lora_run, tmp_path / "bare", ignore=shutil.ignore_patterns("pacbayes_*"))
    for file in files:  # without the sidecars, but with the column
        shutil.copy(file, tmp_path)
    names = [str(tmp_path / name) for name in ("train.jsonl", "test.jsonl")]
    planned = plan("strong", bare, *names)
    assert [part.available for part in planned.priors] == [True, False, False]
    assert planned.shift_method == "difficulty" and planned.guarantee == "upper"
    said = " ".join(planned.missing)
    for words in ("initial adapter was not kept", "--prior-fraction", "run record", "heldout"):
        assert words in said
    assert any("zero" in sentence for sentence in planned.inputs.pair.assumptions)
    for name in names:
        rows = [json.loads(line) for line in Path(name).read_text().splitlines()]
        kept = [{k: row[k] for k in ("prompt", "completion")} for row in rows]
        Path(name).write_text("\n".join(map(json.dumps, kept)))
    planned = plan("strong", bare, *names)
    assert planned.shift_method == "classifier" and planned.guarantee == "estimate"
    assert any("frozen before the held-out rows" in s for s in planned.least.assumptions)
    assert FROM_MANY_ROWS not in planned.least.assumptions
    lines = [json.loads(line) for line in Path(names[1]).read_text().splitlines()]
    two = [json.dumps(row | {"unit": f"u{i // 2}"}) for i, row in enumerate(lines)]
    Path(names[1]).write_text("\n".join(two))
    assert FROM_MANY_ROWS in plan("strong", bare, *names).least.assumptions


def test_a_checkpoint_of_other_rows_is_not_called_available(lora_run, files, rows_dir):
    other = plan("strong", lora_run, str(rows_dir / "heldout.jsonl"), files[1]).priors[2]
    assert not other.available and "not the file that" in other.remark


def test_a_limit_from_samples_is_not_looked_at(lora_run, files, tmp_path):
    """Its value before the choice of a method would be a choice that no ledger pays for."""
    slack = []
    for name, difficulty in (("near", 3), ("far", 99)):
        rows = [json.loads(line) for line in Path(files[1]).read_text().splitlines()]
        file = tmp_path / f"{name}.jsonl"
        file.write_text("\n".join(json.dumps(r | {"difficulty": difficulty}) for r in rows))
        slack.append(plan("strong", lora_run, files[0], str(file), Options(delta=0.5)).least.upper)
    assert slack[0] == slack[1]


def test_a_shift_that_leaves_nothing_is_said_in_advance(lora_run, files, tmp_path):
    write_problems(tmp_path / "far.jsonl", OpLaw.uniform(6, 8), size=30, seed=5)
    planned = plan("strong", lora_run, files[0], str(tmp_path / "far.jsonl"))
    assert planned.least.upper > 1 > planned.floor
    assert any("vacuous in advance" in warning for warning in planned.to_dict()["warnings"])


def test_it_refuses_what_the_bound_refuses(lora_run, files, tmp_path):
    with pytest.raises(InputError, match="no such"):
        plan("strong", tmp_path / "nowhere", *files)
    with pytest.raises(InputError, match="'colour'"):
        plan("strong", lora_run, *files, Options(shift="colour"))
    with pytest.raises(InputError, match=r"row 1: \d+ tokens, but the model reads at most 20"):
        plan("strong", lora_run, *files, Options(max_length=20))
    rows = [{"messages": [{"role": r, "content": "x"} for r in ("user", "assistant")]}] * 40
    (tmp_path / "talk.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match="no chat template"):
        plan("strong", lora_run, files[0], str(tmp_path / "talk.jsonl"))
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(Path(files[1]).read_text().splitlines()[:5]))
    with pytest.raises(InputError, match="at least 10 independent units"):
        plan("strong", lora_run, files[0], str(few), Options(shift="classifier"))


def test_remote_code_is_refused_before_it_runs(lora_run, files, tmp_path):
    base = shutil.copytree(resolve_base("strong"), tmp_path / "strong")
    remote = {"model_type": "wild", "auto_map": {"AutoConfig": "wild.Config"}}
    (base / "config.json").write_text(json.dumps(remote))
    (base / "wild.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(InputError, match="give --trust-remote-code"):
        plan(str(base), lora_run, *files)


def test_it_is_called_by_its_public_name_however_it_was_imported(tmp_path):
    code = (
        "import pacbayes_sft as p;"
        "names = p.plan, p.plan; import pacbayes_sft.plan; names += (p.plan,);"
        "assert all(map(callable, names))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    from pacbayes_sft import plan as module

    with pytest.raises(InputError, match="no such"):
        module("strong", tmp_path / "nowhere", "a.jsonl", "b.jsonl")


def test_too_few_units_are_refused_with_the_number_it_takes(lora_run, files, tmp_path):
    lines = Path(files[0]).read_text().splitlines()[:2]
    (tmp_path / "two.jsonl").write_text("\n".join(lines))
    for run in (plan, bound):
        with pytest.raises(InputError, match=r"2 certified units are too few.* takes \d+ or more"):
            run("strong", lora_run, str(tmp_path / "two.jsonl"), files[1])
