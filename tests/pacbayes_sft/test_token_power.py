"""Token weights p^α: TRL's own training at both ends, something else between."""

import pytest
import torch

from pacbayes_sft.choices import Objective
from pacbayes_sft.igsm import OpLaw
from pacbayes_sft.igsm.files import write_problems
from pacbayes_sft.models import load_model
from pacbayes_sft.scan.config import Config
from pacbayes_sft.sft import Settings, run_sft
from pacbayes_sft.token_power import loss_type, power_trainer, trainer_class


def test_the_powers_of_the_objectives():
    assert [o.power for o in Objective] == [0, 0.25, 0.5, 0.75, 1]
    assert [loss_type(o) for o in Objective] == ["nll", "nll", "nll", "nll", "dft"]
    assert trainer_class(Objective.DFT) is trainer_class(Objective.NLL)
    assert trainer_class(Objective.P50) is power_trainer(0.5)
    for alpha in (-0.1, 1.1):
        with pytest.raises(ValueError, match="power"):
            power_trainer(alpha)


def test_a_scan_takes_them():
    data = {"kind": "igsm", "test": "3:5"}
    found = Config.model_validate(
        {"name": "x", "data": data, "windows": ["2:3"], "sizes": [8], "bounds": {"b": {}},
         "primary": {"bound": "b"}, "objectives": ["nll", "p0.5", "dft"]}
    )  # fmt: skip
    assert found.objectives[1].power == 0.5


@pytest.fixture(scope="module")
def hard_rows(tmp_path_factory):
    file = tmp_path_factory.mktemp("hard") / "train.jsonl"
    write_problems(file, OpLaw.uniform(10, 12), size=16, seed=5)
    return file


def moved(monkeypatch, base, rows, out, objective, trainer=None):
    if trainer is not None:
        monkeypatch.setattr("pacbayes_sft.token_power.trainer_class", lambda _: trainer)
        monkeypatch.setattr("pacbayes_sft.token_power.loss_type", lambda _: "nll")
    settings = Settings(steps=2, batch_size=8, lora_rank=4, device="cpu", objective=objective)
    run_sft(str(base), rows, out, settings)
    monkeypatch.undo()
    return dict(load_model(base, out).named_parameters())


@pytest.mark.parametrize("objective", [Objective.NLL, Objective.DFT])
def test_the_ends_train_as_trl_does(objective, monkeypatch, tiny_base, hard_rows, tmp_path):
    ours = power_trainer(objective.power)
    a = moved(monkeypatch, tiny_base, hard_rows, tmp_path / "a", objective)
    b = moved(monkeypatch, tiny_base, hard_rows, tmp_path / "b", objective, ours)
    c = moved(monkeypatch, tiny_base, hard_rows, tmp_path / "c", Objective.P50)
    assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in a)
    assert max(float((a[k] - c[k]).abs().max()) for k in a) > 1e-4
