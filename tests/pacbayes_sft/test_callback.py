"""The callback in other people's runs: plain `Trainer`, `SFTTrainer`, killed and resumed."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from estimators import kl_bound
from pacbayes_sft.beginning import TRAINED_BEFORE, is_at_base
from pacbayes_sft.bound_json import to_record
from pacbayes_sft.callback import CertificateCallback
from pacbayes_sft.certify import bound
from pacbayes_sft.checkpoints.files import ADAPTER, open_checkpoint
from pacbayes_sft.checkpoints.record import read_record
from pacbayes_sft.data.rows import read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.first_pass import RESUMED_OTHERWISE, append_drawn, begin_notes
from pacbayes_sft.inputs import load_inputs
from pacbayes_sft.options import Options
from pacbayes_sft.reading import sha256_of
from pacbayes_sft.unseen import ORDER_AS_GIVEN

KEPT = "pacbayes_sft"
READING = {  # of `sft` below on `rows`, half of them before the prior
    "positions_sha256": hashlib.sha256(json.dumps([*range(40)]).encode()).hexdigest(),
    "rows_a_step": 4,
    "prior_step": 5,
}


@pytest.fixture(scope="module")
def base(tiny_base):
    """The tiny model of `tests/conftest.py`."""
    return tiny_base


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Forty different rows in twenty units; the rows of a unit lie far apart in the file."""
    from pacbayes_sft.igsm import OpLaw
    from pacbayes_sft.igsm.files import write_problems

    file = tmp_path_factory.mktemp("data") / "train.jsonl"
    write_problems(file, OpLaw.uniform(1, 3), size=40, seed=5)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for i, line in enumerate(lines):
        line["unit"] = f"u{i % 20}"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


class Reporter(TrainerCallback):
    """Stands where a callback of ``report_to`` stands: before those that a user gives."""

    def __init__(self):
        self.logs = []

    def on_log(self, args, state, control, logs=None, **given):
        self.logs.append(dict(logs))


def texts(file):
    return [{k: json.loads(x)[k] for k in ("prompt", "completion")} for x in open(file)]  # noqa: PTH123


def sft(base, rows, out, *, dataset=None, peft=True, **settings):
    words = {
        "max_steps": 10,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "logging_steps": 2,
        "save_strategy": "no",
        "learning_rate": 0.05,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "max_length": None,
        "disable_tqdm": True,
    } | settings
    lora = LoraConfig(r=2, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM")
    torch.manual_seed(1)
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        processing_class=AutoTokenizer.from_pretrained(base),
        train_dataset=Dataset.from_list(texts(rows)) if dataset is None else dataset,
        peft_config=lora if peft else None,
        args=SFTConfig(output_dir=str(out), **words),
        callbacks=[Reporter()],
    )


def reporter(trainer):
    (found,) = (c for c in trainer.callback_handler.callbacks if isinstance(c, Reporter))
    return found


def spy_on_rows(trainer, table):
    """Note, from the batches themselves, which row of the file each example is."""
    collate, seen = trainer.data_collator, []
    row_of = {}
    for i in range(len(trainer.train_dataset)):
        row_of[tuple(trainer.train_dataset[i]["input_ids"])] = i
    assert len(row_of) == len(table.rows)

    def watched(examples):
        seen.extend(row_of[tuple(e["input_ids"])] for e in examples)
        return collate(examples)

    trainer.data_collator = watched
    return seen


@pytest.fixture(scope="module")
def run(base, rows, tmp_path_factory):
    """A user's own script: SFTTrainer, LoRA, the callback; half of one epoch before the prior."""
    out = tmp_path_factory.mktemp("run")
    trainer = sft(base, rows, out, save_strategy="steps", save_steps=5)
    seen = spy_on_rows(trainer, read_table(rows))
    keeper = CertificateCallback(rows, base=str(base), prior_fraction=0.5, sigma=0.1)
    keeper.attach(trainer)
    start = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if "lora" in n}
    trainer.train()
    trainer.save_model(str(out))
    return out, trainer, keeper, seen, start


def test_the_order_is_the_one_the_batches_had(run, rows):
    out, _, keeper, seen, _ = run
    table, record = read_table(rows), read_record(out)
    assert record == keeper.record and record.order_unknown == "" and record.shuffled
    assert record.order == seen[:40] != list(range(40))
    assert record.prior_rows == 20 and record.train_sha256 == table.sha256
    assert record.row_sha256 == [table.rows[i].sha256() for i in record.order]
    assert record.settings["learning_rate"] == 0.05 and "trl" in record.versions


def test_what_is_kept_are_the_weights_of_that_moment(run, base):
    out, _, _, _, start = run
    initial = load_file(out / KEPT / "initial" / ADAPTER)
    initial = {k.replace(".weight", ".default.weight"): t for k, t in initial.items()}
    assert initial.keys() == start.keys()
    assert all(torch.equal(start[k], t) for k, t in initial.items())
    prior, fifth, final = (
        load_file(d / ADAPTER) for d in (out / KEPT / "prior", out / "checkpoint-5", out)
    )
    assert all(torch.equal(prior[k], fifth[k]) for k in prior)
    assert any(not torch.equal(prior[k], final[k]) for k in prior)
    record = read_record(out)
    assert record.base_sha256 == sha256_of(base / "model.safetensors")
    assert set(record.kept_sha256) == {"initial", "prior"}
    assert sorted(p.name for p in (out / KEPT).iterdir()) == ["initial", "prior", "run.json"]


def test_the_figures_reach_the_reporters_and_are_true(run):
    out, trainer, _, _, _ = run
    logged = [entry for entry in reporter(trainer).logs if "loss" in entry]
    assert len(logged) == 5 and all("certificate_kl_nats" in entry for entry in logged)
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [h["certificate_bound_indication"] for h in history] == [
        x["certificate_bound_indication"] for x in logged
    ]
    first, last = (load_file(d / ADAPTER) for d in (out / KEPT / "initial", out))
    distance = sum(float((last[k].double() - first[k].double()).square().sum()) for k in last)
    kl = distance / (2 * 0.1**2)
    assert logged[-1]["certificate_kl_nats"] == pytest.approx(kl, rel=1e-6)
    assert logged[-1]["certificate_least_bound"] == pytest.approx(kl_bound(0.0, kl, 20, 0.05).value)
    accuracy = logged[-1]["mean_token_accuracy"]
    risk = kl_bound(1 - accuracy, kl, 20, 0.05)
    assert logged[-1]["certificate_bound_indication"] == pytest.approx(risk.value)
    prior = load_file(out / KEPT / "prior" / ADAPTER)
    later = sum(float((last[k].double() - prior[k].double()).square().sum()) for k in last)
    assert logged[-1]["certificate_kl_nats_after_prior"] == pytest.approx(later / 0.02, rel=1e-6)
    assert "certificate_kl_nats_after_prior" not in logged[1]


def test_a_unit_seen_in_part_was_seen(run, base, rows):
    out = run[0]
    inputs = load_inputs(str(base), out, str(rows), str(rows), prior=out / KEPT / "prior")
    record, table = read_record(out), read_table(rows)
    touched = {table.units[i] for i in record.order[:20]}
    assert {row.unit for row in inputs.certified.rows} == set(table.units) - touched
    assert inputs.n == 20 - len(touched) < 10


def test_no_prior_is_kept_of_shuffled_rows_whose_units_differ_in_size(base, rows, tmp_path):
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    for line in lines[:3]:
        line["unit"] = "u0"
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    trainer = sft(base, tmp_path / "train.jsonl", tmp_path / "out", max_steps=6)
    callback = CertificateCallback(tmp_path / "train.jsonl", base=str(base), prior_fraction=0.5)
    callback.attach(trainer)
    with pytest.warns(UserWarning, match="units differ in size"):
        trainer.train()
    assert callback.record.prior_rows == 0
    assert not (tmp_path / "out" / KEPT / "prior").exists()


def test_a_bound_with_that_checkpoint_as_prior(run, base, rows, tmp_path):
    from pacbayes_sft.igsm import OpLaw
    from pacbayes_sft.igsm.files import write_problems

    write_problems(tmp_path / "test.jsonl", OpLaw.uniform(1, 3), size=16, seed=99)
    options = Options(
        prior=run[0] / KEPT / "prior", posterior="isotropic", prior_scales=(0.1,), shift="none"
    )
    certificate = bound(str(base), run[0], str(rows), str(tmp_path / "test.jsonl"), options)
    record = to_record(certificate)
    assert record["provenance"]["saw"]["run_record"] is True
    assert record["n"] == certificate.inputs.n == 20 - record["n_prior"] > 0
    assert 0 < certificate.kl.value < float("inf")


class Rows(torch.utils.data.Dataset):
    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, place):
        return self.examples[place]


def plain(base, rows, out, **settings):
    """A plain `Trainer` on all weights; one example a batch, so nothing needs padding."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    examples = []
    for row in texts(rows):
        ids = tokenizer(row["prompt"] + row["completion"])["input_ids"]
        examples.append({"input_ids": ids, "labels": ids})
    words = {"max_steps": 24, "logging_steps": 8, "save_strategy": "no"} | settings
    return Trainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        processing_class=tokenizer,
        train_dataset=Rows(examples),
        args=TrainingArguments(
            output_dir=str(out), per_device_train_batch_size=1, use_cpu=True, report_to="none",
            disable_tqdm=True, learning_rate=0.01, **words,
        ),
        callbacks=[Reporter()],
    )  # fmt: skip


def test_a_plain_trainer_on_all_weights(base, rows, tmp_path):
    trainer = plain(base, rows, tmp_path, train_sampling_strategy="sequential")
    keeper = CertificateCallback(rows, prior_fraction=0.25).attach(trainer)
    trainer.train()
    trainer.save_model()
    record = keeper.record
    assert record.order == list(range(40)) and not record.shuffled and record.prior_rows == 10
    assert record.base == str(base) and set(record.kept_sha256) == {"prior"}
    last = [x for x in reporter(trainer).logs if "loss" in x][-1]
    before, after = (load_file(d / "model.safetensors") for d in (base, tmp_path))
    distance = sum(float((after[k].double() - before[k].double()).square().sum()) for k in after)
    assert last["certificate_kl_nats"] == pytest.approx(distance / (2 * 0.05**2), rel=1e-6)
    prior = tmp_path / KEPT / "prior"
    inputs = load_inputs(str(base), tmp_path, str(rows), str(rows), prior=prior)
    assert ORDER_AS_GIVEN in inputs.pair.assumptions and inputs.n == 10


def test_an_order_of_ones_own_is_not_taken_for_a_random_one(base, rows, tmp_path):
    """A curriculum: what the prior did not see follows another law, and no record may deny it."""
    lines = rows.read_text().splitlines(keepends=True)
    hardest = sorted(range(40), key=lambda i: -json.loads(lines[i])["difficulty"])
    turned = tmp_path / "turned.jsonl"
    turned.write_text("".join(lines[i] for i in hardest))
    trainer = plain(base, turned, tmp_path, train_sampling_strategy="sequential")
    CertificateCallback(rows, prior_fraction=0.25, positions=hardest).attach(trainer)
    trainer.train()
    trainer.save_model()
    record = read_record(tmp_path)
    assert record.order == hardest and record.prior_rows == 10 and not record.shuffled
    inputs = load_inputs(str(base), tmp_path, str(rows), str(rows), prior=tmp_path / KEPT / "prior")
    assert ORDER_AS_GIVEN in inputs.pair.assumptions


def test_as_one_of_the_trainers_callbacks_it_keeps_the_same(base, rows, tmp_path):
    """What it logs then comes after the reporters; the trainer's history has it all the same."""
    trainer = plain(base, rows, tmp_path, max_steps=8)
    keeper = CertificateCallback(rows)
    trainer.add_callback(keeper)
    trainer.train()
    assert sorted(keeper.record.order) == list(range(40)) and keeper.record.shuffled
    assert "certificate_kl_nats" not in reporter(trainer).logs[0]
    assert "certificate_kl_nats" in trainer.state.log_history[0]


@pytest.mark.parametrize(
    "kept_until", [7, *(pytest.param(k, marks=pytest.mark.slow) for k in (3, 11))]
)
def test_a_killed_run_knows_its_order(kept_until, base, rows, tmp_path):
    """Two steps a save, ten a pass; stopped dead after some step: as if it never was."""

    class Killed(BaseException):
        pass

    class Killer(TrainerCallback):
        def on_step_begin(self, args, state, control, **given):
            if state.global_step == kept_until:
                raise Killed

    words = {"max_steps": 12, "save_strategy": "steps", "save_steps": 2}
    records = []
    for name in ("whole", "cut"):
        trainer = sft(base, rows, tmp_path / name, **words)
        CertificateCallback(rows, base=str(base), prior_fraction=0.5).attach(trainer)
        if name == "cut":
            trainer.add_callback(Killer())
            with pytest.raises(Killed):
                trainer.train()
            trainer = sft(base, rows, tmp_path / name, **words)
            CertificateCallback(rows, base=str(base), prior_fraction=0.5).attach(trainer)
            trainer.train(resume_from_checkpoint=True)
        else:
            trainer.train()
        records.append(read_record(tmp_path / name))
    assert records[0].order == records[1].order and records[1].prior_rows == 20
    for folder in ("initial", "prior"):
        whole, cut = (load_file(tmp_path / n / KEPT / folder / ADAPTER) for n in ("whole", "cut"))
        assert all(torch.equal(whole[k], cut[k]) for k in whole)


def test_a_resumed_run_without_notes_says_so(base, rows, tmp_path):
    words = {"save_strategy": "steps", "save_steps": 5, "max_steps": 10}
    sft(base, rows, tmp_path, **words).train()
    shutil.rmtree(tmp_path / "checkpoint-10")
    trainer = sft(base, rows, tmp_path, **words)
    keeper = CertificateCallback(rows, base=str(base), prior_fraction=0.5).attach(trainer)
    trainer.train(resume_from_checkpoint=True)
    assert "resumed" in keeper.record.order_unknown and keeper.record.prior_rows == 0


@pytest.mark.parametrize("changed", [None, "fraction", "batch", "file"])
def test_a_run_resumed_otherwise_keeps_no_prior(changed, base, rows, tmp_path):
    """Its prior saw 20 rows; by the new fraction, batch or file the record would name others."""
    words = {"save_strategy": "steps", "save_steps": 6, "max_steps": 6}
    trainer = sft(base, rows, tmp_path, **words)
    CertificateCallback(rows, base=str(base), prior_fraction=0.5).attach(trainer)
    trainer.train()
    notes = tmp_path / KEPT / "drawn.partial"
    begin_notes(notes, READING | {"train_sha256": sha256_of(rows)})  # as a kill would leave them
    append_drawn(notes, [*read_record(tmp_path).order[:24]])
    other = tmp_path / "other.jsonl"
    other.write_text("".join(reversed(rows.read_text().splitlines(True))))
    words["max_steps"] = 12
    if changed == "batch":
        words["gradient_accumulation_steps"] = 1
    trainer = sft(base, other if changed == "file" else rows, tmp_path, **words)
    keeper = CertificateCallback(
        other if changed == "file" else rows,
        base=str(base),
        prior_fraction=0.25 if changed == "fraction" else 0.5,
    ).attach(trainer)
    if changed is None:
        trainer.train(resume_from_checkpoint=True)
        assert keeper.record.order_unknown == "" and keeper.record.prior_rows == 20
        return
    with pytest.warns(UserWarning, match="no prior checkpoint will be kept: the run was resumed"):
        trainer.train(resume_from_checkpoint=True)
    assert keeper.record.order_unknown == RESUMED_OTHERWISE
    assert keeper.record.prior_rows == 0 and keeper.record.order == []


def iterable(rows):
    return Dataset.from_list(texts(rows)).to_iterable_dataset()


UNKNOWN = {
    "packing": ({"packing": True, "max_length": 512}, None, "packing"),
    "length": ({"train_sampling_strategy": "group_by_length"}, None, "LengthGroupedSampler"),
    "stream": ({}, iterable, "stream"),
    "dropped": ({}, lambda r: Dataset.from_list(texts(r)[:-3]), "37 rows"),
    "shuffled": ({}, lambda r: Dataset.from_list(texts(r)[::-1]), "does not hold the text"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_order_that_nobody_can_know_is_unknown(name, base, rows, tmp_path):
    settings, make, reason = UNKNOWN[name]
    dataset = make(rows) if make else None
    trainer = sft(base, rows, tmp_path, dataset=dataset, **({"max_steps": 2} | settings))
    keeper = CertificateCallback(rows, base=str(base), prior_fraction=0.5).attach(trainer)
    with pytest.warns(UserWarning, match="no prior checkpoint"):
        trainer.train()
    trainer.save_model(str(tmp_path))
    record = keeper.record
    assert reason in record.order_unknown and record.order == [] and record.prior_rows == 0
    assert set(record.kept_sha256) == {"initial"}
    prior = tmp_path / KEPT / "prior"
    trainer.model.save_pretrained(prior)
    with pytest.raises(InputError, match="not on record"):
        load_inputs(str(base), tmp_path, str(rows), str(rows), prior=prior, space="weights")


def test_a_second_call_of_train_keeps_no_prior(base, rows, tmp_path):
    """It begins at step 0, on weights that have seen every row."""
    trainer = sft(base, rows, tmp_path, max_steps=10)
    keeper = CertificateCallback(rows, base=str(base), prior_fraction=0.5).attach(trainer)
    trainer.train()
    assert keeper.record.prior_rows == 20
    with pytest.warns(UserWarning, match="no prior checkpoint"):
        trainer.train()
    assert keeper.record.order_unknown == TRAINED_BEFORE and keeper.record.prior_rows == 0
    assert set(keeper.record.kept_sha256) == {"initial"}  # of the first call: it had seen nothing
    kept = load_file(tmp_path / KEPT / "initial" / ADAPTER)
    assert all(not t.any() for name, t in kept.items() if "lora_B" in name)


@pytest.mark.parametrize("peft", [True, False])
def test_weights_that_were_trained_before_are_no_beginning(peft, base, rows, tmp_path):
    trainer = sft(base, rows, tmp_path, max_steps=2, peft=peft)
    trainer.train()
    keeper = CertificateCallback(rows, base=str(base), prior_fraction=0.5).attach(trainer)
    with pytest.warns(UserWarning, match="no prior checkpoint"):
        trainer.train()
    assert keeper.record.order_unknown == TRAINED_BEFORE and keeper.record.kept_sha256 == {}


def test_a_lora_of_before_merged_into_the_frozen_weights_is_no_beginning(base, rows, tmp_path):
    """The fresh factors add nothing, but what lies under them saw every row."""
    trainer = sft(base, rows, tmp_path / "first", max_steps=2)
    trainer.train()
    merged = trainer.model.merge_and_unload()
    merged.config._name_or_path = str(base)
    trainer = sft(base, rows, tmp_path / "second", max_steps=2, peft=False)
    lora = LoraConfig(r=2, target_modules=["v_proj"], task_type="CAUSAL_LM")
    assert is_at_base(get_peft_model(trainer.model, lora), open_checkpoint(base))
    fresh = get_peft_model(merged, lora)
    assert not is_at_base(fresh, open_checkpoint(base))
    assert is_at_base(fresh.to(torch.float8_e4m3fn), open_checkpoint(base))  # nothing can be told


def test_one_process_of_several_keeps_what_is_kept(base, rows, tmp_path):
    keeper = CertificateCallback(rows, base=str(base), out=tmp_path / "run")
    args, state = SimpleNamespace(output_dir="run"), SimpleNamespace(is_world_process_zero=False)
    keeper.on_train_begin(args, state, None)
    keeper.on_step_end(args, state, None)
    keeper.on_train_end(args, state, None)
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_had_ended_keeps_its_record(base, rows, tmp_path):
    words = {"save_strategy": "steps", "save_steps": 5, "max_steps": 10}
    trainer = sft(base, rows, tmp_path, **words)
    first = CertificateCallback(rows, base=str(base), prior_fraction=0.5).attach(trainer)
    trainer.train()
    again = sft(base, rows, tmp_path, **words)
    keeper = CertificateCallback(rows, base=str(base), prior_fraction=0.5).attach(again)
    again.train(resume_from_checkpoint=True)
    assert keeper.record == first.record == read_record(tmp_path)
    assert first.record.order and first.record.prior_rows == 20


def test_a_part_of_the_file_is_refused_before_the_training(rows):
    for positions in ([0, 2, 4], [*range(40), 0], [*range(39), 40]):
        with pytest.raises(InputError, match=r"each of its 40 rows once.*a file of their own"):
            CertificateCallback(rows, positions=positions)


def test_settings_that_mean_nothing(rows):
    for word, value in (("sigma", 0.0), ("sigma", float("inf")), ("delta", 0.0), ("delta", 1.0)):
        with pytest.raises(InputError, match=word):
            CertificateCallback(rows, **{word: value})
    with pytest.raises(InputError, match="prior_fraction"):
        CertificateCallback(rows, prior_fraction=1.0)
    with pytest.raises(InputError, match="no such file"):
        CertificateCallback("nowhere.jsonl")
