"""The simplest adapter of all: PEFT and TRL alone, none of our code, the initial adapter lost."""

import json

import pytest
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from pacbayes_sft.bound_json import to_record
from pacbayes_sft.certify import bound
from pacbayes_sft.options import Options


@pytest.fixture(scope="module")
def plain(tiny_base, rows_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("plain")
    lines = (rows_dir / "train.jsonl").read_text().splitlines()
    rows = [{k: json.loads(x)[k] for k in ("prompt", "completion")} for x in lines]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_base),
        processing_class=AutoTokenizer.from_pretrained(tiny_base),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
        args=SFTConfig(
            output_dir=str(out),
            max_steps=3,
            report_to="none",
            use_cpu=True,
            bf16=False,
            save_strategy="no",
        ),
    )
    trainer.train()
    trainer.save_model(str(out))
    return out


def test_it_goes_through_with_what_can_be_said_of_it(plain, tiny_base, rows_dir):
    files = [str(rows_dir / name) for name in ("train.jsonl", "test.jsonl")]
    certificate = bound(
        str(tiny_base), plain, *files, Options(posterior="isotropic", prior_scales=(0.05,), draws=1)
    )
    record = to_record(certificate)
    assert record["n"] == 64 and record["provenance"]["saw"]["run_record"] is False
    assert any("initial A was not kept" in sentence for sentence in record["assumptions"])
    assert record["prior"]["centre"] == "the base and zero factors"
    assert certificate.kl.value > 0
