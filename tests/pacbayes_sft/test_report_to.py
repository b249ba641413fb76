"""What the callback logs reaches the reporters of ``report_to``: their own files are read back."""

from __future__ import annotations

import pytest

from pacbayes_sft.callback import CertificateCallback
from tests.pacbayes_sft.test_callback import base, rows, sft  # noqa: F401 - fixtures

FIGURES = ("certificate_kl_nats", "certificate_least_bound", "certificate_bound_indication")


@pytest.fixture
def logged(base, rows, tmp_path):  # noqa: F811
    """Train for four steps with a reporter; return what the trainer logged, by figure."""

    def run(reporter):
        out = tmp_path / "run"
        trainer = sft(base, rows, out, max_steps=4, report_to=[reporter], run_name="named")
        CertificateCallback(rows, base=str(base), sigma=0.1).attach(trainer)
        trainer.train()
        history = [entry for entry in trainer.state.log_history if "loss" in entry]
        assert len(history) == 2
        return out, {name: [entry[name] for entry in history] for name in FIGURES}

    return run


def test_tensorboard(logged, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    _, figures = logged("tensorboard")
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    for name, values in figures.items():
        written = board.Scalars(f"train/{name}")
        assert [event.step for event in written] == [2, 4]
        assert [event.value for event in written] == pytest.approx(values, rel=1e-6)


def test_weights_and_biases_offline(logged, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    _, figures = logged("wandb")
    summary = dict(wandb.run.summary)
    wandb.finish()
    for name, values in figures.items():
        assert summary[f"train/{name}"] == pytest.approx(values[-1])
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_mlflow(logged, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'runs.db'}")
    _, figures = logged("mlflow")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["0"])
    for name, values in figures.items():
        kept = [m.value for m in client.get_metric_history(run.info.run_id, name)]
        assert kept == pytest.approx(values)
