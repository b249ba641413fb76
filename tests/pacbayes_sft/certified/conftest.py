"""One certificate and one adapter drawn from it, shared by the tests of this folder."""

import shutil
from dataclasses import replace

import pytest

from estimators.posteriors.refined import Schedule
from pacbayes_sft.certified.emit import emit_adapter
from pacbayes_sft.certify import bound
from pacbayes_sft.igsm import OpLaw
from pacbayes_sft.igsm.files import write_problems
from pacbayes_sft.options import Options
from pacbayes_sft.posteriors import Refinement
from pacbayes_sft.sft import Settings, run_sft

OPTIONS = Options(
    posterior="refined",
    refinement=Refinement(Schedule(steps=4), batch_size=16, start="finished"),
    prior_scales=(0.05,),
    baselines=False,
    draws=1,
)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Few and short rows: every test here evaluates them again."""
    folder = tmp_path_factory.mktemp("short")
    write_problems(folder / "train.jsonl", OpLaw.uniform(1, 3), size=32, seed=1)
    write_problems(folder / "test.jsonl", OpLaw.uniform(2, 4), size=24, seed=3)
    return str(folder / "train.jsonl"), str(folder / "test.jsonl")


@pytest.fixture(scope="session")
def trained(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    settings = Settings(steps=4, batch_size=8, lora_rank=4, prior_fraction=0.5, device="cpu")
    run_sft("strong", files[0], out, settings)
    return out


@pytest.fixture(scope="session")
def run(trained, tmp_path_factory):
    """A copy, since the draws are counted beside the fine-tune."""
    return shutil.copytree(trained, tmp_path_factory.mktemp("counted") / "run")


@pytest.fixture(scope="session")
def certificate(run, files):
    return bound("strong", run, *files, OPTIONS)


@pytest.fixture(scope="session")
def emitted(certificate, tmp_path_factory):
    directory = tmp_path_factory.mktemp("emitted") / "adapter"
    return directory, emit_adapter(certificate, directory)


@pytest.fixture
def fresh(certificate, trained, tmp_path):
    """The certificate of a fine-tune from which nothing was drawn yet."""
    run = shutil.copytree(trained, tmp_path / "run")
    return replace(certificate, inputs=replace(certificate.inputs, finetuned=run))
