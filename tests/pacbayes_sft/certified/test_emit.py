"""One draw as an ordinary adapter: what is written, and what is refused."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from estimators import log_density_ratio_mixture
from estimators.posteriors import isotropic
from pacbayes_sft.certified.card import model_card
from pacbayes_sft.certified.draws import DRAWS
from pacbayes_sft.certified.emit import _write_rounded, emit_adapter, refuse_early
from pacbayes_sft.certified.files import mixture
from pacbayes_sft.certified.verify import verify_adapter
from pacbayes_sft.certify import bound
from pacbayes_sft.choices import Space
from pacbayes_sft.cli import main
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import resolve_base
from pacbayes_sft.options import Options
from pacbayes_sft.terms import risk_term

CERTIFICATE = "certificate/certificate.json"


def test_plain_peft_loads_it_and_it_has_the_certified_risk(emitted, files):
    directory, record = emitted
    model = AutoModelForCausalLM.from_pretrained(resolve_base("strong"))
    loaded = PeftModel.from_pretrained(model, str(directory))
    assert sum("lora_A" in name for name, _ in loaded.named_parameters()) == 28
    again = risk_term("strong", files[0], directory)
    assert again.risk.value == pytest.approx(record["empirical_risk"]["value"])
    assert record["bound"]["upper"] == pytest.approx(record["train_bound"]["upper"] + 1 / 3)
    assert record["predictor"] == "draw" and record["n"] == 32
    card = (directory / "README.md").read_text()
    assert "## Certificate" in card and "It does not speak of the fine-tune itself" in card


def test_the_card_is_around_the_fine_tune_only_if_the_posterior_is(emitted):
    record = emitted[1]
    assert "posterior around the fine-tune `run`" in model_card(record)
    far = {"distance": 2.4, "distance_to_prior": 0.1, "distance_finished_to_prior": 2.7}
    said = model_card(record | {"drift": far})
    assert "posterior around" not in said and "One draw from a Gaussian around the base" in said
    assert "This certifies the base and the saved initial factors, not what" in said
    assert "each counted once" in said


def test_what_the_record_says(emitted, certificate):
    record = emitted[1]
    assert record == json.loads((emitted[0] / CERTIFICATE).read_text())
    assert {"version", "hashes", "sources", "versions", "deployed", "shift"} <= record.keys()
    assert record["empirical_risk"]["guarantee"] == record["log_ratio"]["guarantee"] == "exact"
    assert record["bound"]["guarantee"] == "upper" and record["bound"]["confidence"] == 0.95
    assert record["vacuous"] == (record["bound"]["upper"] >= 1)
    assert record["sources"]["base"] == "strong"  # no machine's path
    assert sum(row["delta"] for row in record["delta_ledger"]) <= record["delta"]
    assert any("prior scales was fixed" in a for a in record["assumptions"])
    assert any("base model did not depend" in a for a in record["assumptions"])
    assert any("shift term were named" in a for a in record["assumptions"])
    made = certificate.measured.test_risk_finetuned.to_dict()
    assert record["measured"]["test_risk_finetuned"] == made
    assert "base_model: strong" in (emitted[0] / "README.md").read_text()


def test_the_ratio_is_that_of_the_unrounded_draw_and_the_risk_that_of_the_rounded(
    certificate, tmp_path, files
):
    record = emit_adapter(certificate, tmp_path / "half", dtype="bfloat16")
    draw = load_file(tmp_path / "half" / "certificate" / "draw.safetensors")
    stored = load_file(tmp_path / "half" / "adapter_model.safetensors")
    assert {t.dtype for t in draw.values()} == {torch.float32}
    assert {t.dtype for t in stored.values()} == {torch.bfloat16}
    q, p = certificate.fitted.posterior, certificate.fitted.prior
    at = [log_density_ratio_mixture(t, q, mixture(p, certificate.options.prior_scales)) for t in (
        draw, {k: t.bfloat16().float() for k, t in draw.items()}
    )]  # fmt: skip
    assert record["log_ratio"]["value"] == pytest.approx(at[0], abs=1e-9)
    assert abs(at[0] - at[1]) > 1e-6
    assert risk_term("strong", files[0], tmp_path / "half").risk.value == pytest.approx(
        record["empirical_risk"]["value"]
    )
    assert verify_adapter(tmp_path / "half", files[0])


def test_what_cannot_be_emitted_is_refused_and_leaves_nothing(certificate, full_run, tmp_path):
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
    with pytest.raises(InputError, match="a full checkpoint"):
        refuse_early(full_run, tmp_path / "new", None, None, None)
    tensors = {"model.lora_A": torch.full((1, 1), 1e6)}
    with pytest.raises(InputError, match="overflows"):
        _write_rounded(tensors, "float16", tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]


def test_an_adapter_whose_initial_was_lost_can_be_certified_too(
    tiny_base, small_run, files, tmp_path
):
    bare = shutil.copytree(
        small_run, tmp_path / "bare", ignore=shutil.ignore_patterns("pacbayes_*")
    )
    options = Options(posterior="isotropic", prior_scales=(0.02,), loss="token_error")
    record = emit_adapter(bound(str(tiny_base), bare, *files, options), tmp_path / "out")
    assert json.loads((bare / "pacbayes_sft" / DRAWS).read_text())["draws"][0]["seed"] == 0
    assert any("centred on zero" in sentence for sentence in record["assumptions"])
    assert verify_adapter(tmp_path / "out", files[0])


def test_the_command_line_emits_and_verifies(
    tiny_base, small_run, files, tmp_path, monkeypatch, capsys
):
    run = shutil.copytree(small_run, tmp_path / "run")
    monkeypatch.chdir(tmp_path)

    def command(*words):
        monkeypatch.setattr("sys.argv", ["pacbayes-sft", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code, capsys.readouterr().out

    words = [
        "bound",
        "--loss",
        "token_error",
        "--base",
        tiny_base,
        "--finetuned",
        run,
        "--train",
        files[0],
        "--test",
    ]
    words += [files[1], "--posterior", "isotropic", "--prior-scales", "0.02", "--out", "out"]
    words += ["--emit-adapter", "made", "--emit-dtype", "float16", "--draw-seed", 3]
    code, out = command(*words, "--declared-draws", 2, "--device", "cpu", "--json")
    made = json.loads(out)["certified_adapter"]
    assert code == 0 and made["deployed"]["dtype"] == "float16"
    assert made["draw"]["seed"] == 3 and made["draw"]["declared"] == 2
    code, out = command("verify", "made", "--train", files[0], "--base", tiny_base)
    assert code == 0 and "made: verified" in out
    assert command("verify", "run", "--train", files[0])[0] == 2
    assert command(*words, "--declared-draws", 3)[0] == 2  # before anything is computed


def test_a_tiny_posterior_is_the_finished_model(run, certificate, tmp_path):
    still = isotropic.fit(certificate.inputs.pair.posterior, 1e-7)
    fitted = replace(certificate.fitted, posterior=still)
    record = emit_adapter(replace(certificate, fitted=fitted), tmp_path / "still")
    finished = certificate.measured.train_risk_finetuned.value
    assert record["empirical_risk"]["value"] == pytest.approx(finished, abs=0.011)
    assert record["bound"]["upper"] >= 1 and record["vacuous"]
    assert math.isfinite(record["log_ratio"]["value"])
    card = (tmp_path / "still" / "README.md").read_text()
    assert "Vacuous" in card and "# An adapter with a vacuous certificate" in card
    assert "- certified" not in card.partition("# An")[0]


def test_the_card_is_read_by_the_hub_s_own_reader(emitted):
    from huggingface_hub import ModelCard

    directory, record = emitted
    data = ModelCard.load(directory / "README.md").data
    assert data.library_name == "peft" and "pac-bayes" in data.tags
    kinds = {r.metric_type: r.metric_value for r in data.eval_results}
    assert kinds["exact_match_loss"] == record["measured"]["test_risk"]["value"]
    promises = record["bound"]["guarantee"] == "upper" and not record["vacuous"]
    assert ("pac_bayes_upper_bound" in kinds) == promises == ("certified" in data.tags)
