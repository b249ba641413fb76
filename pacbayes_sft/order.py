"""Whether anyone can say in which order a trainer reads its rows, and why not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import RandomSampler, SequentialSampler

from pacbayes_sft.data.rows import Row, Table

LOOKED_AT = 200  # rows whose text is compared with the training file
SHORTEST_CUT = 64  # characters that must be left of a text that a trainer cut


def batches_of(dataloader: Any) -> Any:
    """Return the batch sampler that draws; of several processes each draws all and keeps its share.

    None if there is none.
    """
    found = getattr(dataloader, "batch_sampler", None)
    return found.batch_sampler if isinstance(found, BatchSamplerShard) else found


def shares_of(dataloader: Any) -> int:
    """Return how many processes draw a batch of that size for each step."""
    found = dataloader.batch_sampler
    whole = not isinstance(found, BatchSamplerShard) or found.split_batches
    return 1 if whole else int(found.num_processes)


def is_shuffled(dataloader: Any) -> bool:
    """Return whether the loader reads in random order."""
    return isinstance(batches_of(dataloader).sampler, RandomSampler)


def why_unknown(
    args: Any, dataloader: Any, table: Table, positions: Sequence[int], *, shares: bool = False
) -> str:
    """Return why nobody can know which place of the data set each batch held, or nothing.

    Args:
        args: The trainer's arguments.
        dataloader: Its training loader.
        table: The training file.
        positions: Row of the file at each place of the trainer's data set.
        shares: Whether several processes are known to read the rows in one order, each its share
            of every step, as those of `run_sft` do.
    """
    if getattr(args, "packing", False):
        return "packing mixes rows into one example"
    if args.world_size > 1 and not shares:
        return f"the run has {args.world_size} processes, and each sees its own share of the rows"
    dataset: Any = getattr(dataloader, "dataset", None)
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        return "the data set is a stream without places"
    sampler = getattr(batches_of(dataloader), "sampler", None)
    if not isinstance(sampler, RandomSampler | SequentialSampler):
        return f"the rows' order is that of {type(sampler).__name__}, which may depend on the rows"
    if len(dataset) != len(positions):
        return (
            f"the trainer's data set has {len(dataset)} rows, {table.source} {len(positions)}: "
            "some were dropped, added or cut"
        )
    return ""


def first_difference(dataset: Any, table: Table, positions: Sequence[int], tokenizer: Any) -> str:
    """Compare the whole text of some rows with the file; return what makes them differ, or nothing.

    A looked-at example must hold its own row. If most hold the row of the next place as well, as
    where one prompt has many short answers, a data set in another order would not be found out.

    Args:
        dataset: The trainer's data set.
        table: The training file.
        positions: Row of the file at each place of it.
        tokenizer: Turns tokens back into text.
    """
    if not hasattr(tokenizer, "decode"):
        return "the trainer has no tokenizer, so its rows cannot be compared with the file"
    step = max(1, len(positions) // LOOKED_AT)
    looked_at = range(0, len(positions), step)
    alike = 0
    for place in looked_at:
        example, row = dataset[place], table.rows[positions[place]]
        tokens = example.get("input_ids") if hasattr(example, "get") else None
        if tokens is None:
            return "the rows have no input_ids, so they cannot be compared with the file"
        text = _squashed(tokenizer.decode(tokens, skip_special_tokens=True))
        if not _holds(text, row):
            return (
                f"row {place + 1} of the trainer's data set does not hold the text of row "
                f"{positions[place] + 1} of {table.source}; give the rows in the order of the file"
            )
        other = table.rows[positions[(place + step) % len(positions)]]
        alike += _texts(other) != _texts(row) and _holds(text, other)
    if 2 * alike > len(looked_at):
        return (
            f"most rows of {table.source} hold the text of others, so a data set in another order "
            "could not be told from it; `pacbayes-sft sft` knows its order"
        )
    return ""


def _holds(text: str, row: Row) -> bool:
    """Return whether squashed text holds all texts of a row, the last of them perhaps cut short."""
    for part in map(_squashed, _texts(row)):
        if part in text:
            continue
        begins = text.find(part[:SHORTEST_CUT])
        return begins >= 0 and len(text) - begins >= SHORTEST_CUT and part.startswith(text[begins:])
    return True


def _texts(row: Row) -> list[str]:
    if row.messages is not None:
        return [message["content"] for message in row.messages]
    return [row.prompt, row.completion]


def _squashed(text: str) -> str:
    """Tokenizers lose white space and case; neither tells rows apart."""
    return "".join(text.split()).casefold()
