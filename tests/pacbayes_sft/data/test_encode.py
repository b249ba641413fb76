import json

import pytest
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from pacbayes_sft.data.encode import IGNORED, collate, encode
from pacbayes_sft.data.rows import Row, Table, read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import load_model, load_tokenizer, resolve_base

BASE = resolve_base("strong")


def test_what_is_judged_is_what_trl_supervises(rows_dir, tmp_path):
    """Token for token and mask for mask, end of sequence included."""
    tokenizer = load_tokenizer(BASE)
    table = read_table(rows_dir / "train.jsonl")
    rows = [{"prompt": r.prompt, "completion": r.completion} for r in table.rows]
    trainer = SFTTrainer(
        model=load_model(BASE),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows),
        args=SFTConfig(
            output_dir=str(tmp_path), max_length=None, use_cpu=True, bf16=False, report_to="none"
        ),
    )
    ours = encode(table, tokenizer, None)
    for mine, theirs in zip(ours, trainer.train_dataset, strict=True):
        assert list(mine.ids) == theirs["input_ids"]
        labels = collate([mine], 0, "cpu")["labels"][0].tolist()
        assert labels == theirs["labels"]
        assert mine.ids[-1] == tokenizer.eos_token_id and labels[-1] != IGNORED


CHAT = (
    "{% for m in messages %}{{ '? ' if m['role'] == 'user' else ': ' }}{{ m['content'] }} ; "
    "{% endfor %}{% if add_generation_prompt %}: {% endif %}"
)


@pytest.mark.parametrize("kind", ["messages", "prompt and completion", "with a history"])
def test_conversations_are_tokenised_as_trl_does_it(kind, tmp_path):
    tokenizer = load_tokenizer(BASE)
    tokenizer.chat_template = CHAT
    talk = [{"role": "user", "content": "a0b1 = 7"}, {"role": "assistant", "content": "3 + 4"}]
    record = {"messages": talk} if kind == "messages" else {}
    earlier = [*talk, talk[0]] if kind == "with a history" else talk[:1]
    record = record or {"prompt": earlier, "completion": talk[1:]}
    (tmp_path / "rows.jsonl").write_text("\n".join([json.dumps(record)] * 4))
    table = read_table(tmp_path / "rows.jsonl")
    assert table.rows[0].prompt.endswith("user: a0b1 = 7\n")
    assert table.rows[0].completion == "3 + 4"
    trainer = SFTTrainer(
        model=load_model(BASE),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([row.for_trl() for row in table.rows]),
        args=SFTConfig(
            output_dir=str(tmp_path), max_length=None, use_cpu=True, bf16=False, report_to="none"
        ),
    )
    (ours, *_), theirs = encode(table, tokenizer, None), trainer.train_dataset[0]
    assert list(ours.ids) == theirs["input_ids"]
    assert collate([ours], 0, "cpu")["labels"][0].tolist() == theirs["labels"]
    assert tokenizer.decode(ours.ids[ours.prompt_length :]) == "3 + 4 ;"
    with pytest.raises(InputError, match=r"rows\.jsonl, row 1: .*no chat template"):
        encode(table, load_tokenizer(BASE), None)
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InputError, match=r"row 1: the chat template .*roles must alternate"):
        encode(table, tokenizer, None)


def test_a_row_that_is_too_long_is_named_not_cut(rows_dir):
    table = read_table(rows_dir / "train.jsonl")
    with pytest.raises(InputError, match=r"row 1: \d+ tokens, but the model reads at most 20"):
        encode(table, load_tokenizer(BASE), 20)


def test_padding_is_on_the_right_and_changes_no_logit_that_counts():
    tokenizer, model = load_tokenizer(BASE), load_model(BASE)
    table = Table("t", [Row("a0b0 :", " 3"), Row("a0b0 = 4 :", " 3 + 4")], "")
    encoded = encode(table, tokenizer, None)
    batch = collate(encoded, tokenizer.pad_token_id, "cpu")
    assert batch["input_ids"][0, 4:].tolist() == [2, 0, 0, 0, 0][: batch["input_ids"].shape[1] - 4]
    mask = torch.tensor([[1] * len(r.ids) + [0] * (9 - len(r.ids)) for r in encoded])
    plain = model(input_ids=batch["input_ids"]).logits
    masked = model(input_ids=batch["input_ids"], attention_mask=mask).logits
    for i, row in enumerate(encoded):
        torch.testing.assert_close(plain[i, : len(row.ids)], masked[i, : len(row.ids)])
