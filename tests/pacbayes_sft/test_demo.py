"""The demo removes and overwrites what a demo made, and nothing else."""

import json
from dataclasses import asdict, replace

import pytest

from pacbayes_sft import demo
from pacbayes_sft.checkpoints.record import RunRecord, write_record
from pacbayes_sft.errors import InputError


@pytest.fixture
def asked(monkeypatch):
    """What the demo trains and bounds with; nothing is trained or bounded."""
    seen = []

    def train(base, rows, out, settings):
        seen.append(settings.seed)
        write_record(
            RunRecord(
                base=base, base_sha256="", train=rows, train_sha256="", row_sha256=[], order=[],
                prior_rows=0, settings=json.loads(json.dumps(asdict(settings))), versions={},
            ),
            out,
        )  # fmt: skip

    monkeypatch.setattr(demo, "TRAIN_SIZE", 2)
    monkeypatch.setattr(demo, "TEST_SIZE", 2)
    monkeypatch.setattr(demo, "run_sft", train)
    monkeypatch.setattr(demo, "bound", lambda *words, **_: seen.append(words[-1].seed))
    return seen


def test_it_overwrites_its_own_whatever_the_seed(asked, tmp_path):
    demo.run_demo(tmp_path)
    (tmp_path / "finetune" / "stale").touch()
    demo.run_demo(tmp_path, seed=3)
    assert asked == [0, 0, 0, 3, 3, 3] and not (tmp_path / "finetune" / "stale").exists()


@pytest.mark.parametrize("name", ["train.jsonl", "heldout.jsonl", "test.jsonl"])
def test_rows_of_a_users_own_stay(name, asked, tmp_path):
    (tmp_path / name).write_text('{"prompt": "p", "completion": "c"}\n')
    with pytest.raises(InputError, match=f"{name}: not the rows that a demo draws"):
        demo.run_demo(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name] and not asked
    (tmp_path / name).unlink()
    demo.run_demo(tmp_path)
    with (tmp_path / name).open("a") as rows:  # edited since
        rows.write("{}\n")
    with pytest.raises(InputError, match="not the rows"):
        demo.run_demo(tmp_path)


def test_a_fine_tune_of_a_users_own_stays(asked, tmp_path, monkeypatch):
    kept = tmp_path / "finetune" / "adapter_model.safetensors"
    kept.parent.mkdir()
    kept.write_text("weeks of work")
    with pytest.raises(InputError, match="finetune: not what a demo left there"):
        demo.run_demo(tmp_path)
    assert kept.exists() and len(list(tmp_path.iterdir())) == 1
    kept.unlink()
    kept.parent.rmdir()
    monkeypatch.setattr(demo, "SETTINGS", replace(demo.SETTINGS, steps=9))
    demo.run_demo(tmp_path)
    monkeypatch.undo()
    with pytest.raises(InputError, match="not what a demo left there"):
        demo.run_demo(tmp_path)
