import pytest
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


def test_a_row_that_is_too_long_is_named_not_cut(rows_dir):
    table = read_table(rows_dir / "train.jsonl")
    with pytest.raises(InputError, match=r"row 1: \d+ tokens, but the model reads at most 20"):
        encode(table, load_tokenizer(BASE), 20)


def test_padding_is_on_the_right():
    tokenizer = load_tokenizer(BASE)
    table = Table("t", [Row("a0b0 :", " 3"), Row("a0b0 = 4 :", " 3 + 4")], "")
    batch = collate(encode(table, tokenizer, None), 0, "cpu")
    assert batch["attention_mask"].tolist() == [
        [1, 1, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
    ]
