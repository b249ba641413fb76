import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pacbayes_sft import sft
from pacbayes_sft.callback import CertificateCallback
from pacbayes_sft.checkpoints.files import ADAPTER
from pacbayes_sft.checkpoints.record import read_record, write_record
from pacbayes_sft.data.rows import Row, Table, read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import load_model, resolve_base
from pacbayes_sft.sft import (
    Settings,
    _lora_config,
    run_sft,
    training_order,
)
from pacbayes_sft.sft_folder import (
    DONE,
    LOCK,
    PARTIAL,
    _note_what_was_asked,
    is_finished,
)


def test_a_run_keeps_what_a_bound_needs(lora_run, rows_dir):
    record = read_record(lora_run)
    table = read_table(rows_dir / "train.jsonl")
    assert sorted(record.order) == list(range(64)) and record.prior_rows == 32
    assert record.train_sha256 == table.sha256
    assert record.row_sha256 == [table.rows[i].sha256() for i in record.order]
    stages = [lora_run / "pacbayes_sft" / "initial", lora_run / "pacbayes_sft" / "prior", lora_run]
    initial, prior, final = (load_file(s / ADAPTER) for s in stages)
    assert initial.keys() == prior.keys() == final.keys()
    moved = [
        sum(float((b[k] - a[k]).abs().sum()) for k in a)
        for a, b in ((initial, prior), (prior, final))
    ]
    assert min(moved) > 0
    assert not (lora_run / PARTIAL).exists()


def test_shared_steps_read_the_unseen_rows_next(tiny_base, rows_dir, tmp_path, monkeypatch):
    """Of four steps the checkpoint takes two; the rest begins where it stopped."""
    from pacbayes_sft import sft

    read, honest = [], sft._trainer

    def spy(model, tokenizer, table, order, steps, work, settings, team):
        read.append((list(order), steps))
        return honest(model, tokenizer, table, order, steps, work, settings, team)

    monkeypatch.setattr(sft, "_trainer", spy)
    settings = Settings(
        steps=4, batch_size=16, lora_rank=2, prior_fraction=0.5, shared_steps=True, device="cpu",
        dtype="autocast",
    )  # fmt: skip
    record = run_sft(str(tiny_base), rows_dir / "train.jsonl", tmp_path / "run", settings)
    (first, before), (second, after) = read
    assert (before, after) == (2, 2) and first == record.order[:32] and record.prior_rows == 32
    assert second == record.order[32:] + record.order[:32]
    assert record == read_record(tmp_path / "run") and sorted(record.order) == list(range(64))


def test_rows_that_read_alike_have_an_order_here(tiny_base, tmp_path):
    """One prompt, many short answers: no text tells the order, but the run made the data set."""
    train = tmp_path / "train.jsonl"
    rows = [{"prompt": "define <a> as", "completion": f" {k % 7}"} for k in range(32)]
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = Settings(steps=1, batch_size=8, lora_rank=2, prior_fraction=0.5, device="cpu")
    record = run_sft(str(tiny_base), train, tmp_path / "run", settings)
    assert sorted(record.order) == list(range(32)) and record.prior_rows == 16


def test_full_runs_keep_no_adapter(full_run):
    assert (full_run / "model.safetensors").is_file() and not (full_run / ADAPTER).exists()
    assert read_record(full_run).settings["objective"] == "dft"


def test_units_are_never_cut(rows_dir):
    rows = [Row("p", str(i), unit=f"u{i // 3}") for i in range(30)]
    order, seen = training_order(Table("t", rows, ""), 0.5, seed=1)
    assert seen == 15 and sorted(order) == list(range(30))
    before = {rows[i].unit for i in order[:seen]}
    assert not before & {rows[i].unit for i in order[seen:]}
    assert training_order(Table("t", rows, ""), 0.5, seed=2)[0] != order


def test_nothing_is_overwritten(rows_dir, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="not empty"):
        run_sft("strong", rows_dir / "train.jsonl", tmp_path, Settings(steps=1))
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_an_unfinished_run_is_not_continued_with_other_settings(rows_dir, tmp_path):
    (tmp_path / PARTIAL).mkdir()
    (tmp_path / PARTIAL / "asked.json").write_text(json.dumps({"settings": {}}))
    with pytest.raises(InputError, match="other settings"):
        run_sft("strong", rows_dir / "train.jsonl", tmp_path, Settings(steps=1))


def test_names_of_modules_may_have_spaces_between_them():
    for words, names in (("q_proj, v_proj", {"q_proj", "v_proj"}), (" all-linear ", "all-linear")):
        assert _lora_config(Settings(target_modules=words)).target_modules == names


def test_a_note_that_was_cut_short_ends_in_a_sentence(rows_dir, tmp_path):
    (tmp_path / PARTIAL).mkdir()
    (tmp_path / PARTIAL / "asked.json").write_text('{"settings": {"ste')
    with pytest.raises(InputError, match=r"asked\.json: cut short.*another --out"):
        run_sft("strong", rows_dir / "train.jsonl", tmp_path, Settings(steps=1))


@pytest.mark.parametrize("note", ["run.json", "asked.json"])
def test_what_a_run_notes_is_written_whole_or_not_at_all(note, lora_run, tmp_path, monkeypatch):
    """A kill while the text goes to the disk leaves what was there, or nothing."""
    record = read_record(lora_run)
    honest = Path.write_text

    def dies(self, text, *rest, **words):
        honest(self, text[: len(text) // 2], *rest, **words)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", dies)
    with pytest.raises(KeyboardInterrupt):
        if note == "run.json":
            write_record(record, tmp_path)
        else:
            _note_what_was_asked(tmp_path, {"settings": {}})
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_a_killed_run_goes_on_to_the_same_weights(tiny_base, rows_dir, tmp_path, monkeypatch):
    """Stop the second of four steps' checkpoints dead, start again: as if nothing had happened."""
    settings = Settings(steps=4, batch_size=16, lora_rank=2, device="cpu")
    run_sft(str(tiny_base), rows_dir / "train.jsonl", tmp_path / "whole", settings)
    from transformers import Trainer

    class Killed(BaseException):
        pass

    honest = Trainer._save_checkpoint

    def dies_after_saving(self, *args, **kwargs):
        honest(self, *args, **kwargs)
        if self.state.global_step == 2:
            raise Killed

    monkeypatch.setattr(Trainer, "_save_checkpoint", dies_after_saving)
    with pytest.raises(Killed):
        run_sft(str(tiny_base), rows_dir / "train.jsonl", tmp_path / "cut", settings)
    monkeypatch.undo()
    assert not (tmp_path / "cut" / ADAPTER).exists()
    (saved,) = (tmp_path / "cut" / PARTIAL / "2").glob("checkpoint-*")
    half = shutil.copytree(saved, saved.with_name("checkpoint-3"))  # killed within the next save
    (half / "trainer_state.json").write_text('{"global_st')
    saved.with_name("checkpoint-4").mkdir()
    late = shutil.copytree(saved, saved.with_name("checkpoint-5"))  # its generators half
    (late / "rng_state.pth").write_bytes(b"PK")
    run_sft(str(tiny_base), rows_dir / "train.jsonl", tmp_path / "cut", settings)
    whole, cut = (load_file(tmp_path / name / ADAPTER) for name in ("whole", "cut"))
    assert all(torch.equal(whole[k], cut[k]) for k in whole)


def test_a_run_killed_before_its_weights_are_saved_keeps_its_order(
    tiny_base, rows_dir, tmp_path, monkeypatch
):
    """The record is written at the end of the training, the weights after it."""
    settings = Settings(
        steps=2, batch_size=16, lora_rank=2, device="cpu", prior_fraction=0.5, shared_steps=True
    )
    whole = run_sft(str(tiny_base), rows_dir / "train.jsonl", tmp_path / "whole", settings)

    class Killed(BaseException):
        pass

    honest = CertificateCallback.on_train_end

    def dies(self, *args, **given):
        honest(self, *args, **given)
        raise Killed

    monkeypatch.setattr(CertificateCallback, "on_train_end", dies)
    with pytest.raises(Killed):
        run_sft(str(tiny_base), rows_dir / "train.jsonl", tmp_path / "cut", settings)
    monkeypatch.undo()
    assert not (tmp_path / "cut" / ADAPTER).exists() and not is_finished(tmp_path / "cut")
    cut = run_sft(str(tiny_base), rows_dir / "train.jsonl", tmp_path / "cut", settings)
    assert (cut.order, cut.prior_rows) == (whole.order, whole.prior_rows) and cut.prior_rows
    assert read_record(tmp_path / "cut") == cut and cut.kept_sha256 == whole.kept_sha256
    both = [load_file(tmp_path / name / ADAPTER) for name in ("whole", "cut")]
    assert all(torch.equal(both[0][k], both[1][k]) for k in both[0])


def test_a_single_step_trains(tiny_base, rows_dir, tmp_path):
    """Its rate was that of a warm-up's first step: 0."""
    settings = Settings(steps=1, batch_size=4, lora_rank=2, device="cpu")
    run_sft(str(tiny_base), rows_dir / "train.jsonl", tmp_path, settings)
    moved = load_file(tmp_path / ADAPTER)
    assert any(moved[name].abs().max() > 0 for name in moved if "lora_B" in name)


def test_a_prior_that_would_see_nothing_is_refused(rows_dir, tmp_path):
    with pytest.raises(InputError, match=r"--prior-fraction 0\.001: of \d+ units .* none to see"):
        run_sft(
            "strong", rows_dir / "train.jsonl", tmp_path / "run", Settings(prior_fraction=0.001)
        )
    assert not (tmp_path / "run").exists()
    for units in (1, 3, 7, 30, 64):
        rows = [{"prompt": f"p{i}", "completion": "c"} for i in range(units)]
        file = tmp_path / f"{units}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        with pytest.raises(InputError, match="more units") as refused:
            run_sft("strong", file, tmp_path / "run", Settings(prior_fraction=1e-6))
        said = re.search(r"give ([\d.]+) or more", str(refused.value))
        assert said is None if units == 1 else int(float(said[1]) * units) == 1


def test_autocast_is_that_of_the_device_that_trains(rows_dir, tmp_path, monkeypatch):
    """It was the CPU's on every device, so a GPU trained in float32 under another name."""
    asked = []
    monkeypatch.setattr(torch, "autocast", lambda kind, _: asked.append(kind) or (lambda f: f))
    monkeypatch.setattr(sft, "resolve_device", lambda _: "cuda")
    monkeypatch.setattr(sft, "_fine_tune", None)  # nothing is trained
    with pytest.raises(TypeError):
        run_sft("strong", rows_dir / "train.jsonl", tmp_path, Settings(steps=1, dtype="autocast"))
    load_model(resolve_base("strong"), dtype="autocast")
    assert asked == ["cuda", "cpu"]


def test_two_runs_do_not_train_in_one_folder(tiny_base, rows_dir, tmp_path, monkeypatch):
    """Nor does what a run that was killed at its first breath left there block the next."""
    settings = Settings(steps=1, batch_size=16, lora_rank=2, device="cpu")
    asked = str(tiny_base), rows_dir / "train.jsonl", tmp_path / "out", settings
    honest, seen = sft._train, []

    def another(*given):
        if not seen:
            seen.append(True)
            with pytest.raises(InputError, match="another sft is at work there"):
                run_sft(*asked)
        return honest(*given)

    monkeypatch.setattr(sft, "_train", another)
    (tmp_path / "out" / PARTIAL).mkdir(parents=True)
    (tmp_path / "out" / PARTIAL / LOCK).touch()
    run_sft(*asked)
    assert seen and is_finished(tmp_path / "out")
    assert not {PARTIAL, DONE} & {file.name for file in (tmp_path / "out").iterdir()}
    with pytest.raises(InputError, match="not empty"):
        run_sft(*asked)


def test_what_another_run_finished_meanwhile_is_not_written_over(
    tiny_base, rows_dir, tmp_path, monkeypatch
):
    settings = Settings(steps=1, batch_size=16, lora_rank=2, device="cpu")
    asked = str(tiny_base), rows_dir / "train.jsonl", tmp_path / "out", settings
    honest, seen = sft._with_factors, []

    def meanwhile(*given):
        if not seen:
            seen.append(None)
            seen[0] = run_sft(*asked)
        return honest(*given)

    monkeypatch.setattr(sft, "_with_factors", meanwhile)
    with pytest.raises(InputError, match="not empty"):
        run_sft(*asked)
    assert is_finished(tmp_path / "out") and read_record(tmp_path / "out") == seen[0]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"max_length": 5}, "longer|tokens"),
        ({"target_modules": "nonsense"}, "PEFT cannot put factors there"),
        ({"target_modules": "q_proj, v_prj"}, "no module 'v_prj'; the other names match q_proj"),
    ],
)
def test_bad_input_leaves_nothing_that_blocks_the_next_try(bad, says, rows_dir, tmp_path):
    with pytest.raises(InputError, match=says):
        run_sft("strong", rows_dir / "train.jsonl", tmp_path / "out", Settings(steps=1, **bad))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "bad",
    [
        {"prior_fraction": 1.0},
        {"batch_size": 0},
        {"lora_rank": -1},
        {"learning_rate": -1.0},
        {"epochs": float("nan")},
        {"seed": -1},
        {"seed": 2**32},
        {"target_modules": "q_proj,"},
    ],
)
def test_settings_that_mean_nothing(bad):
    with pytest.raises(InputError):
        Settings(**bad)


def test_the_base_is_identified(lora_run):
    from pacbayes_sft.reading import sha256_of

    weights = Path(resolve_base("strong")) / "model.safetensors"
    assert read_record(lora_run).base_sha256 == sha256_of(weights)


def test_epochs_are_passes_over_the_rows():
    """The last batch of a pass may be smaller: 48 rows at 32 are two steps."""
    assert Settings(epochs=3, batch_size=32).steps_over(48) == 6
    assert Settings(epochs=1, batch_size=32).steps_over(33) == 2
    assert Settings(epochs=0.5, batch_size=16).steps_over(64) == 2
    assert Settings(steps=7).steps_over(48) == 7


def test_weights_that_left_the_numbers_are_not_saved(tiny_base, rows_dir, tmp_path):
    settings = Settings(steps=4, batch_size=8, lora_rank=2, learning_rate=1e30, device="cpu")
    with pytest.raises(InputError, match="not a number after training"):
        run_sft(str(tiny_base), rows_dir / "train.jsonl", tmp_path / "out", settings)
    assert not (tmp_path / "out" / "adapter_model.safetensors").exists()
