"""Rows to token ids, exactly as TRL's `SFTTrainer` does it for prompts and completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pacbayes_sft import loaded
from pacbayes_sft.answers import extract_answer, marked_answer
from pacbayes_sft.data.messages import template_ids
from pacbayes_sft.data.rows import Row, Table
from pacbayes_sft.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
UNKNOWN = 0.5  # share of unknown tokens beyond which nothing is measured


@dataclass(frozen=True)
class Encoded:
    """One row as tokens.

    Attributes:
        ids: Token ids of prompt and completion, end of sequence included.
        prompt_length: How many of them are context only; the rest is supervised.
        answer: The final answer: the row's own, or what its completion ends in.
        new_tokens: Most tokens of a solution, from the row's column ``max_new_tokens``; None: by
            the length of the true one.
    """

    ids: tuple[int, ...]
    prompt_length: int
    answer: str | None = None
    new_tokens: int | None = None


def encode(
    table: Table,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None,
    *,
    need_answers: bool = False,
) -> list[Encoded]:
    """Tokenise every row as TRL does: prompt and completion jointly, end of sequence appended.

    Conversations go through the chat template instead, which ends them in its own way.

    Args:
        table: The rows.
        tokenizer: The base model's tokenizer.
        max_length: Longest row the model can read; None for no limit.
        need_answers: Refuse rows whose true final answer is not known.

    Raises:
        InputError: If a row is longer than that, lacks its answer, or supervises nothing. No row
            is ever dropped or cut: that would change n and the risk silently.
    """
    return loaded.rows(
        table.rows,
        tokenizer,
        (max_length, need_answers),
        lambda: _encode(table, tokenizer, max_length, need_answers),
    )


def _encode(
    table: Table, tokenizer: PreTrainedTokenizerBase, max_length: int | None, need_answers: bool
) -> list[Encoded]:
    eos = tokenizer.eos_token
    if eos is None:
        raise InputError(f"{tokenizer.name_or_path}: the tokenizer has no end-of-sequence token")
    encoded = []
    for number, row in enumerate(table.rows, start=1):
        if row.messages is not None:
            where = f"{table.source}, row {number}"
            prompt = template_ids(row.messages[:-1], tokenizer, ask=True, where=where)
            full = template_ids(row.messages, tokenizer, ask=False, where=where)
        else:
            completion = row.completion if row.completion.endswith(eos) else row.completion + eos
            prompt = tokenizer(row.prompt)["input_ids"]
            full = tokenizer(row.prompt + completion)["input_ids"]
        shared = _common_prefix(prompt, full)
        if max_length is not None and len(full) > max_length:
            raise InputError(
                f"{table.source}, row {number}: {len(full)} tokens, but the model reads at most "
                f"{max_length}; leave such rows out of the file (that defines another D_train) or "
                "use a base with a longer context"
            )
        if shared == len(full) or shared == 0:
            raise InputError(
                f"{table.source}, row {number}: after tokenisation no completion token has a "
                "context to be predicted from"
            )
        answer = _true_answer(row)
        if answer is None and need_answers:
            raise InputError(
                f"{table.source}, row {number}: no column 'answer', and no final answer can be "
                "read off the completion; give 'answer', or use --loss exact_match"
            )
        encoded.append(Encoded(tuple(full), shared, answer, _new_tokens(row, table, number)))
    _refuse_unknown(encoded, tokenizer, table.source)
    return encoded


def _refuse_unknown(rows: list[Encoded], tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Refuse rows of another alphabet, which some tokenizers turn into nothing but <unk>."""
    unknown = tokenizer.unk_token_id
    if unknown == tokenizer.eos_token_id:  # as in GPT-2's, which knows every byte
        return
    total = sum(len(row.ids) for row in rows)
    share = sum(row.ids.count(unknown) for row in rows) / total if unknown is not None else 0.0
    if share > UNKNOWN:
        raise InputError(
            f"{source}: {share:.0%} of its tokens are unknown to the tokenizer of "
            f"{tokenizer.name_or_path}; give a base that reads such text"
        )


def collate(
    rows: Sequence[Encoded], pad: int, device: torch.device | str
) -> dict[str, torch.Tensor]:
    """Pad on the right: ``input_ids`` and ``labels``, each (B, T).

    There is no attention mask: under causal attention no real token sees padding on its right,
    and without one the attention takes its fast path.
    """
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    for i, row in enumerate(rows):
        tokens = torch.tensor(row.ids)
        ids[i, : len(row.ids)] = tokens
        labels[i, row.prompt_length : len(row.ids)] = tokens[row.prompt_length :]
    return {"input_ids": ids.to(device), "labels": labels.to(device)}


def _new_tokens(row: Row, table: Table, number: int) -> int | None:
    asked = row.value_of("max_new_tokens")
    if asked is not None and (not isinstance(asked, int) or isinstance(asked, bool) or asked < 1):
        raise InputError(
            f"{table.source}, row {number}: 'max_new_tokens' is {asked!r}, not a number of tokens"
        )
    return asked


def _true_answer(row: Row) -> str | None:
    """The row's own answer, else its completion's; a column may hold a whole marked solution."""
    if row.answer is None or not row.answer.strip():
        return extract_answer(row.completion)
    return marked_answer(row.answer) or row.answer


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    for i, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return i
    return min(len(left), len(right))
