"""One draw as an ordinary adapter, with a certificate that notices every change."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from estimators import draw_delta, log_density_ratio_mixture
from estimators.posteriors import isotropic
from estimators.posteriors.refined import Schedule
from pacbayes_sft.certified.emit import emit_adapter, mixture
from pacbayes_sft.certified.verify import verify_adapter
from pacbayes_sft.certify import bound
from pacbayes_sft.choices import Space
from pacbayes_sft.cli import main
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import resolve_base
from pacbayes_sft.options import Options
from pacbayes_sft.posteriors import Refinement
from pacbayes_sft.terms import risk_term

OPTIONS = Options(
    posterior="refined",
    refinement=Refinement(Schedule(steps=6), batch_size=16),
    sigmas=(0.02, 0.05),
)


@pytest.fixture(scope="module")
def files(rows_dir):
    return str(rows_dir / "train.jsonl"), str(rows_dir / "test.jsonl")


@pytest.fixture(scope="module")
def run(lora_run, tmp_path_factory):
    """A copy, since the draws are counted beside the fine-tune."""
    return shutil.copytree(lora_run, tmp_path_factory.mktemp("counted") / "run")


@pytest.fixture(scope="module")
def certificate(run, files):
    return bound("strong", run, *files, OPTIONS)


@pytest.fixture(scope="module")
def emitted(certificate, tmp_path_factory):
    directory = tmp_path_factory.mktemp("emitted") / "adapter"
    return directory, emit_adapter(certificate, directory)


def test_plain_peft_loads_it_and_it_has_the_certified_risk(emitted, files):
    directory, record = emitted
    model = AutoModelForCausalLM.from_pretrained(resolve_base("strong"))
    loaded = PeftModel.from_pretrained(model, str(directory))
    assert sum("lora_A" in name for name, _ in loaded.named_parameters()) == 28
    again = risk_term("strong", files[0], directory)
    assert again.risk.value == pytest.approx(record["empirical_risk"]["value"])
    assert record["bound"]["upper"] == pytest.approx(record["train_bound"]["upper"] + 1 / 3)
    assert record["predictor"] == "draw" and record["n"] == 96
    card = (directory / "README.md").read_text()
    assert "## Certificate" in card and "does **not** speak of the fine-tune itself" in card


def test_verify_passes_on_what_was_written(emitted, files):
    found = verify_adapter(emitted[0], files[0])
    assert found, found
    assert "0.00 losses away" in {c.name: c for c in found.checks}["empirical risk"].remark


def test_the_ratio_is_that_of_the_unrounded_draw_and_the_risk_that_of_the_rounded(
    certificate, tmp_path, files
):
    record = emit_adapter(certificate, tmp_path / "half", dtype="bfloat16")
    draw = load_file(tmp_path / "half" / "certificate" / "draw.safetensors")
    stored = load_file(tmp_path / "half" / "adapter_model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.bfloat16}
    q, p = certificate.fitted.posterior, certificate.fitted.prior
    at = [log_density_ratio_mixture(t, q, mixture(p, OPTIONS.sigmas)) for t in (
        draw, {k: t.bfloat16().float() for k, t in draw.items()}
    )]  # fmt: skip
    assert record["log_ratio"]["value"] == at[0] != at[1]
    assert risk_term("strong", files[0], tmp_path / "half").risk.value == pytest.approx(
        record["empirical_risk"]["value"]
    )
    assert verify_adapter(tmp_path / "half", files[0])


def test_the_same_draw_is_counted_once_and_the_next_one_pays_more(certificate, emitted, tmp_path):
    first = emitted[1]
    again = emit_adapter(certificate, tmp_path / "again")
    assert again["draw"]["k"] == first["draw"]["k"]
    assert again["provenance"]["adapter_sha256"] == first["provenance"]["adapter_sha256"]
    other = replace(certificate, options=replace(OPTIONS, seed=1))
    second = emit_adapter(other, tmp_path / "second")
    assert second["draw"]["k"] == first["draw"]["k"] + 1
    assert second["provenance"]["adapter_sha256"] != first["provenance"]["adapter_sha256"]
    paid = {row["event"]: row["delta"] for row in second["delta_ledger"]}
    assert list(paid.values()) == pytest.approx([draw_delta(0.05, k=second["draw"]["k"])])
    with pytest.raises(InputError, match="--declared-draws says 1"):
        emit_adapter(other, tmp_path / "third", declared_draws=1)
    assert not (tmp_path / "third").exists()
    declared = emit_adapter(other, tmp_path / "fourth", declared_draws=4)
    assert declared["delta_ledger"][0]["delta"] == pytest.approx(0.05 / 4)


def change_tensor(file):
    tensors = load_file(file)
    name = sorted(k for k in tensors if not k.startswith("scale/"))[3]
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[0] += 0.01
    save_file(tensors, file)


def change_number(file, *path):
    record = json.loads(file.read_text())
    place = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = place[path[-1]] * 0.9 if isinstance(place[path[-1]], float) else 3
    file.write_text(json.dumps(record))


CERTIFICATE = "certificate/certificate.json"


@pytest.mark.parametrize(
    ("what", "fails"),
    [
        ("adapter_model.safetensors", "deployed weights"),
        ("certificate/draw.safetensors", "draw file"),
        ("certificate/posterior.safetensors", "log density ratio"),
        ("certificate/prior.safetensors", "log density ratio"),
        (("bound", "upper"), "bound"),
        (("train_bound", "upper"), "bound"),
        (("bound", "confidence"), "bound"),
        (("log_ratio", "value"), "log density ratio"),
        (("empirical_risk", "value"), "bound"),
        (("delta",), "ledger"),
        (("delta_ledger", 0, "delta"), "ledger"),
        (("draw", "declared"), "ledger"),
        (("shift", "tv", "upper"), "bound"),
        (("n",), "bound"),
        ("row", "certified rows"),
        ("answer", "certified rows"),
    ],
)
def test_every_change_is_noticed(what, fails, emitted, files, tmp_path, monkeypatch, capsys):
    directory = shutil.copytree(emitted[0], tmp_path / "changed")
    train = tmp_path / "train.jsonl"
    shutil.copy(files[0], train)
    if what in ("row", "answer"):
        lines = train.read_text().splitlines()
        row = json.loads(lines[5])
        row["completion" if what == "row" else "answer"] += "1"
        train.write_text("\n".join([*lines[:5], json.dumps(row), *lines[6:]]))
    elif isinstance(what, tuple):
        if what == ("shift", "tv", "upper"):
            change_number(directory / CERTIFICATE, "shift", "tv", "value")
            change_number(directory / CERTIFICATE, "shift", "tv", "lower")
        change_number(directory / CERTIFICATE, *what)
    else:
        change_tensor(directory / what)
    words = ["pacbayes-sft", "verify", str(directory), "--train", str(train), "--json"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert fails in {check["name"] for check in checks if not check["passed"]}


def test_what_cannot_be_verified_is_bad_input(emitted, files, tmp_path):
    with pytest.raises(InputError, match="missing"):
        verify_adapter(tmp_path, files[0])
    directory = shutil.copytree(emitted[0], tmp_path / "x")
    (directory / "certificate" / "draw.safetensors").unlink()
    with pytest.raises(InputError, match=r"draw.safetensors: missing"):
        verify_adapter(directory, files[0])
    (directory / CERTIFICATE).write_text("{}")
    with pytest.raises(InputError, match="not a certificate"):
        verify_adapter(directory, files[0])


def test_what_cannot_be_emitted_is_refused_and_leaves_nothing(certificate, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        emit_adapter(certificate, tmp_path / "full")
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine"]
    with pytest.raises(InputError, match="--emit-dtype int8"):
        emit_adapter(certificate, tmp_path / "new", dtype="int8")
    pair = replace(certificate.inputs.pair, space=Space.WEIGHTS)
    dense = replace(certificate, inputs=replace(certificate.inputs, pair=pair))
    with pytest.raises(InputError, match="full rank"):
        emit_adapter(dense, tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]


def test_an_adapter_whose_initial_was_lost_can_be_certified_too(lora_run, files, tmp_path):
    bare = shutil.copytree(lora_run, tmp_path / "bare", ignore=shutil.ignore_patterns("pacbayes_*"))
    certificate = bound("strong", bare, *files, OPTIONS)
    record = emit_adapter(certificate, tmp_path / "out")
    assert any("centred on zero" in sentence for sentence in record["assumptions"])
    assert verify_adapter(tmp_path / "out", files[0])


def test_a_tiny_posterior_is_the_finished_model(run, certificate, tmp_path):
    still = isotropic.fit(certificate.inputs.pair.posterior, 1e-7)
    fitted = replace(certificate.fitted, posterior=still)
    record = emit_adapter(replace(certificate, fitted=fitted), tmp_path / "still")
    finished = certificate.measured.train_risk_finetuned.value
    assert record["empirical_risk"]["value"] == pytest.approx(finished, abs=0.011)
    assert record["bound"]["upper"] >= 1 and record["vacuous"]
    assert math.isfinite(record["log_ratio"]["value"])
    assert "Vacuous" in (tmp_path / "still" / "README.md").read_text()
