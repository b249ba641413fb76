"""Records of a public data set, from the hub or a local copy, as rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from pacbayes_sft.errors import InputError
from pacbayes_sft.recipes.records import COLUMNS, CONVERT
from pacbayes_sft.recipes.settings import Public

SHUFFLE = 10_000  # records that a stream is shuffled among


def rows_of(
    public: Public, local: Path | None, seed: int | None, without: Collection[str] = ()
) -> Iterator[dict[str, Any]]:
    """Yield rows of a data set, one solution a problem, in random order if a seed is given.

    A stream is shuffled by its shards and among `SHUFFLE` records; that is not a uniform sample.

    Args:
        public: The data set.
        local: A local copy of it, else the hub's.
        seed: Of the order; None keeps the data set's.
        without: Units that are left out: problems of the test.

    Raises:
        InputError: If it cannot be loaded, lacks a column, or a record is not of its form.
    """
    seen = set(without)
    for number, record in enumerate(_records(public, local, seed), start=1):
        missing = [column for column in COLUMNS[public.kind] if column not in record]
        if missing:
            raise InputError(
                f"{local or public.id}, record {number}: no column {missing[0]!r}; it has "
                f"{', '.join(sorted(record))}"
            )
        try:
            row = CONVERT[public.kind](record)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise InputError(
                f"{local or public.id}, record {number}: not as its card says "
                f"({type(error).__name__}: {str(error)[:200]})"
            ) from None
        if row is not None and row["unit"] not in seen:
            seen.add(row["unit"])
            yield row


def _records(public: Public, local: Path | None, seed: int | None) -> Iterator[dict[str, Any]]:
    from datasets import load_dataset

    if local is not None and not local.is_file():
        raise InputError(f"{local}: no such file")
    try:
        if local is None:
            stream = load_dataset(public.id, public.config, split=public.split, streaming=True)
        else:
            kind = "parquet" if local.suffix == ".parquet" else "json"
            stream = load_dataset(kind, data_files=str(local), split="train", streaming=True)
        yield from stream if seed is None else stream.shuffle(seed=seed, buffer_size=SHUFFLE)
    except Exception as error:
        first = str(error).strip().split("\n")[0][:200]
        raise InputError(
            f"{local or public.id}: cannot be loaded ({first}); give a local copy with --pool or "
            "--test"
        ) from None
