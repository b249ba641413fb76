"""One certificate and one adapter drawn from it, shared by the tests of this folder."""

import shutil
from dataclasses import replace

import pytest

from estimators.posteriors.refined import Schedule
from pacbayes_sft.certified.emit import emit_adapter
from pacbayes_sft.certify import bound
from pacbayes_sft.options import Options
from pacbayes_sft.posteriors import Refinement

OPTIONS = Options(
    posterior="refined",
    refinement=Refinement(Schedule(steps=4), batch_size=16, start="finished"),
    prior_scales=(0.05,),
    baselines=False,
    draws=1,
)


@pytest.fixture(scope="session")
def files(rows_dir):
    return str(rows_dir / "train.jsonl"), str(rows_dir / "test.jsonl")


@pytest.fixture(scope="session")
def run(lora_run, tmp_path_factory):
    """A copy, since the draws are counted beside the fine-tune."""
    return shutil.copytree(lora_run, tmp_path_factory.mktemp("counted") / "run")


@pytest.fixture(scope="session")
def certificate(run, files):
    return bound("strong", run, *files, OPTIONS)


@pytest.fixture(scope="session")
def emitted(certificate, tmp_path_factory):
    directory = tmp_path_factory.mktemp("emitted") / "adapter"
    return directory, emit_adapter(certificate, directory)


@pytest.fixture
def fresh(certificate, lora_run, tmp_path):
    """The certificate of a fine-tune from which nothing was drawn yet."""
    run = shutil.copytree(lora_run, tmp_path / "run")
    return replace(certificate, inputs=replace(certificate.inputs, finetuned=run))
