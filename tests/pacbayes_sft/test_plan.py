"""A dry run says what the bound then does, and costs no forward pass."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from estimators.posteriors.refined import Schedule
from pacbayes_sft.bound_json import to_record
from pacbayes_sft.certify import bound
from pacbayes_sft.errors import InputError
from pacbayes_sft.options import Options
from pacbayes_sft.plan import plan
from pacbayes_sft.posteriors import Refinement

QUICK = Options(refinement=Refinement(Schedule(steps=8), 8), sigmas=(0.02, 0.1), batch_size=32)


@pytest.fixture(scope="module")
def files(rows_dir):
    return str(rows_dir / "train.jsonl"), str(rows_dir / "test.jsonl")


def test_no_model_is_loaded(lora_run, files, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)
    assert plan("strong", lora_run, *files).guarantee == "upper"


@pytest.mark.parametrize("prior", ["base", "checkpoint"])
def test_cost_ledger_and_label_are_those_of_the_bound(
    prior, lora_run, files, rows_dir, monkeypatch
):
    options = replace(
        QUICK, prior=lora_run / "pacbayes_sft" / "prior" if prior == "checkpoint" else "base"
    )
    held = str(rows_dir / "heldout.jsonl")
    planned = plan("strong", lora_run, *files, options, train_heldout=held)
    seen = {"evaluated": 0, "refined": 0}
    from pacbayes_sft import gibbs, refine

    evaluate, collate = gibbs.row_losses, refine.collate

    def counting(model, rows, *rest, **named):
        seen["evaluated"] += len(rows)
        return evaluate(model, rows, *rest, **named)

    def collating(rows, *rest):
        seen["refined"] += len(rows)
        return collate(rows, *rest)

    monkeypatch.setattr(gibbs, "row_losses", counting)
    monkeypatch.setattr(refine, "collate", collating)
    certificate = bound("strong", lora_run, *files, options, train_heldout=held)
    assert seen == {"evaluated": planned.rows_evaluated, "refined": planned.rows_refined}
    assert planned.ledger.rows() == certificate.ledger.rows()
    assert planned.guarantee == certificate.bound.guarantee
    assert planned.floor <= certificate.bounds["kl"][1].upper
    record, done = planned.to_dict(), to_record(certificate)
    assert {k: record[k] for k in ("n", "n_train", "space", "squared_distance")} == {
        k: done[k] for k in ("n", "n_train", "space", "squared_distance")
    }


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


def test_it_refuses_what_the_bound_refuses(lora_run, files, tmp_path):
    with pytest.raises(InputError, match="no such"):
        plan("strong", tmp_path / "nowhere", *files)
    with pytest.raises(InputError, match="'colour'"):
        plan("strong", lora_run, *files, Options(shift="colour"))


def test_too_few_units_are_refused_with_the_number_it_takes(lora_run, files, tmp_path):
    lines = Path(files[0]).read_text().splitlines()[:2]
    (tmp_path / "two.jsonl").write_text("\n".join(lines))
    for run in (plan, bound):
        with pytest.raises(InputError, match=r"2 certified units are too few.* takes \d+ or more"):
            run("strong", lora_run, str(tmp_path / "two.jsonl"), files[1])
