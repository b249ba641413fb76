"""The two-sample test out of core: files are read in chunks, three times, and no row is kept.

First the rows are counted, then both halves teach, then each half is judged by the other's
classifier (`estimators.StreamedTwoSample`). Features are hashed: words, pairs of words, and the
twelve counts as words of their own ("this many lines"), so that one linear rule can bend.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from estimators import Estimate, StreamedTwoSample
from pacbayes_sft.choices import View
from pacbayes_sft.data.rows import json_records, row_of, text_lines
from pacbayes_sft.errors import InputError
from pacbayes_sft.views.counts import count_features
from pacbayes_sft.views.text import text_of

CHUNK = 2_000  # rows of both files at once
WORDS, COUNTS = 2**17, 2**13  # buckets
FEWEST = 40  # rows a side
LOOKED_AT = 10_000  # rows of a file, for a unit that occurs again
UNIT = (
    "every row is an independent unit: units and copies that span several rows are not looked for "
    "when streaming"
)


@dataclass(frozen=True)
class Streamed:
    """Outcome of `stream_two_sample`.

    Attributes:
        tv: Lower certificate and point value.
        view: What was looked at.
        rows: Rows of (train file, test file).
        held_out: Rows behind the certificate.
        detection_floor: Smallest TV that is not noise, and the one from which on a z-test of the
            best possible rule has 80 % power.
    """

    tv: Estimate
    view: str
    rows: tuple[int, int]
    held_out: tuple[int, int]
    detection_floor: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object."""
        return {
            "tv": self.tv.to_dict(),
            "view": self.view,
            "rows": self.held_out,
            "detection_floor": self.detection_floor[0],
            "detection_floor_80": self.detection_floor[1],
            "reason": "read out of core; a classifier tells the sides apart at least this well",
            "files": {"rows": self.rows},
        }


def stream_two_sample(
    train: str | Path,
    test: str | Path,
    delta: float = 0.05,
    *,
    view: View = View.FULL,
    seed: int = 0,
    chunk: int = CHUNK,
) -> Streamed:
    """Bound TV of two JSON-lines files from below, in memory that does not grow with them.

    Args:
        train: Training rows.
        test: Test rows.
        delta: Probability with which the certificate may fail.
        view: The prompt or the full row.
        seed: Seed of the coins that part the rows.
        chunk: Rows at once, both files together.

    Raises:
        InputError: If a file is missing, malformed, no JSON lines, or too short, or if rows among
            its first name one unit.
    """
    from dataclasses import replace

    if view is View.ATTRIBUTES:
        raise InputError("--stream reads texts; --view attributes needs the rows in memory")
    files = [_checked(source) for source in (train, test)]
    sizes = [_count(file) for file in files]
    for file, size in zip(files, sizes, strict=True):
        if size < FEWEST:
            raise InputError(f"{file}: {size} rows; a streamed test needs {FEWEST} or more")
        _refuse_shared_units(file)
    found = StreamedTwoSample(delta=delta)
    weights = [sum(sizes) / (2 * size) for size in sizes]
    for texts, y, coin in _chunks(files, sizes, view, seed, chunk):
        found.partial_fit(hashed_rows(texts), y, coin, np.where(y == 1, weights[1], weights[0]))
    for texts, y, coin in _chunks(files, sizes, view, seed, chunk):
        found.partial_judge(hashed_rows(texts), y, coin)
    tv = found.tv_
    part = "full row" if view is View.FULL else view.value
    return Streamed(
        replace(tv, assumptions=(*tv.assumptions, UNIT)),
        f"text of the {part} (hashed words and counts)",
        (sizes[0], sizes[1]),
        found.held_out_,
        (found.detection_floor_, found.detection_floor_80_),
    )


def hashed_rows(texts: list[str]) -> Any:
    """Return words and counts as one sparse row a text, each part of length one."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.feature_extraction.text import HashingVectorizer

    words = HashingVectorizer(
        token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), n_features=WORDS, alternate_sign=False
    ).transform(texts)
    counts = FeatureHasher(COUNTS, input_type="string", alternate_sign=False).transform(
        [_binned(row) for row in count_features(texts)]
    )
    return hstack([words, counts]).tocsr()


def _binned(counts: Any) -> list[str]:
    """The counts as words, fine and coarse: small ones each its own, large ones by octaves."""
    fine = [
        f"{k}={int(v) if v < 48 else int(48 + 8 * np.log2(v / 48))}" for k, v in enumerate(counts)
    ]
    return fine + [f"{k}~{int(4 * np.log2(1 + v))}" for k, v in enumerate(counts)]


def _chunks(
    files: list[Path], sizes: list[int], view: View, seed: int, chunk: int
) -> Iterator[tuple[list[str], Any, Any]]:
    """Texts, sides and coins, both files at the same pace; the coins are the same every time."""
    coins = [np.random.default_rng([seed, side]) for side in (0, 1)]
    lines = [_texts(file, view) for file in files]
    steps = max(1, -(-sum(sizes) // chunk))
    done = [0, 0]
    for step in range(1, steps + 1):
        texts: list[str] = []
        sides, thrown = [], []
        for side in (0, 1):
            goal = sizes[side] * step // steps
            new = [next(lines[side]) for _ in range(goal - done[side])]
            done[side] = goal
            texts += new
            sides.append(np.full(len(new), side))
            thrown.append(coins[side].random(len(new)) < 0.5)
        y, coin = np.concatenate(sides), np.concatenate(thrown)
        mixed = np.random.default_rng([seed, 2, step]).permutation(len(y))  # gradients want both
        yield [texts[i] for i in mixed], y[mixed], coin[mixed]


def _texts(file: Path, view: View) -> Iterator[str]:
    for where, record in json_records(file):
        yield text_of(row_of(record, f"{file}, {where}"), view)


def _refuse_shared_units(file: Path) -> None:
    seen: set[str] = set()
    for where, record in islice(json_records(file), LOOKED_AT):
        unit = row_of(record, f"{file}, {where}").unit
        if unit is not None and unit in seen:
            raise InputError(
                f"{file}, {where}: unit {unit!r} has several rows, and --stream takes every row "
                "for an independent draw; without --stream one row of each unit is judged"
            )
        if unit is not None:
            seen.add(unit)


def _count(file: Path) -> int:
    return sum(1 for _ in text_lines(file))


def _checked(source: str | Path) -> Path:
    file = Path(source)
    if not file.is_file():
        raise InputError(f"{source}: no such file")
    if file.suffix == ".parquet":
        raise InputError(f"{source}: --stream reads JSON lines; write the rows as .jsonl")
    return file
