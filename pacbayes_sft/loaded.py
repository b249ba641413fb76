"""What a process that runs many cells loads once: bases, tokenizers, tokenised rows.

Off unless a scan switches it on: a command that runs once would only hold memory twice. Each is
keyed by content (weights by the size and time of their files), and handed out as a copy, so that
no cell sees what another did to it.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pacbayes_sft.data.rows import Row

T = TypeVar("T")
MOST = {"model": 2, "tokenizer": 2, "rows": 8}  # entries of a kind that are held
LARGEST = 2 * 2**30  # bytes; a larger base is read from the page cache as fast as it is copied

_held: dict[str, OrderedDict[Hashable, Any]] = {kind: OrderedDict() for kind in MOST}
_on = False


@contextmanager
def held() -> Iterator[None]:
    """Hold what is loaded until the block ends, and then let go of it."""
    keep(True)
    try:
        yield
    finally:
        keep(False)


def keep(on: bool) -> None:
    """Switch holding on, or off and let go; a worker process of our own never lets go."""
    global _on
    _on = on
    if not on:
        for entries in _held.values():
            entries.clear()


def model(source: str, key: Hashable, load: Callable[[], Any]) -> Any:
    """Return a model of one's own: a copy of the held one, else loaded and held if not too large.

    Args:
        source: Path or hub id of the weights.
        key: What else the result depends on (dtype, trust).
        load: Loads it.
    """
    if not _on:
        return load()
    return _copied("model", (_files_of(source), key), load, _fits)


def tokenizer(source: str, key: Hashable, load: Callable[[], Any]) -> Any:
    """Return a tokenizer of one's own, marked with what it was made from."""
    if not _on:
        return load()

    def marked() -> Any:
        found = load()
        found.held_key = (_files_of(source), key)
        return found

    return _copied("tokenizer", (_files_of(source), key), marked, lambda _: True)


def rows(of: Sequence[Row], by: Any, key: Hashable, make: Callable[[], list[T]]) -> list[T]:
    """Return tokenised rows; the records in them are immutable, the list is one's own.

    Args:
        of: The rows.
        by: Their tokenizer; one without a mark of `tokenizer` makes them anew.
        key: What else the result depends on.
        make: Tokenises them.
    """
    mark = getattr(by, "held_key", None)
    if not _on or mark is None:
        return make()
    return list(_entry("rows", (_digest(of), mark, by.eos_token, key), make, lambda _: True))


def _copied(kind: str, key: Hashable, load: Callable[[], Any], fits: Callable[[Any], bool]) -> Any:
    return copy.deepcopy(_entry(kind, key, load, fits))


def _entry(kind: str, key: Hashable, make: Callable[[], Any], fits: Callable[[Any], bool]) -> Any:
    """Return a held entry, the least recently used one giving way to a new one."""
    entries = _held[kind]
    if key in entries:
        entries.move_to_end(key)
        return entries[key]
    made = make()
    if fits(made):
        entries[key] = made
        if len(entries) > MOST[kind]:
            entries.popitem(last=False)
    return made


def _fits(made: Any) -> bool:
    return sum(p.numel() * p.element_size() for p in made.parameters()) <= LARGEST


def _files_of(source: str) -> Hashable:
    """A directory's files by name, size and time; a hub id is content by itself in one process."""
    folder = Path(source)
    if not folder.is_dir():
        return source
    stats = ((file.name, file.stat()) for file in sorted(folder.iterdir()) if file.is_file())
    return source, tuple((name, s.st_size, s.st_mtime_ns) for name, s in stats)


def _digest(of: Sequence[Row]) -> str:
    whole = hashlib.sha256()
    for row in of:
        new_tokens = row.value_of("max_new_tokens")
        parts = [row.prompt, row.completion, row.answer, row.messages, str(new_tokens)]
        whole.update(json.dumps(parts).encode())
    return whole.hexdigest()
