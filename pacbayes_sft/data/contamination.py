"""Exact and near duplicates between two files and within each, and what they cost.

Texts are compared by the Jaccard similarity of their sets of five successive words (Lee et al.
2022, "Deduplicating training data makes language models better"). MinHash proposes candidates,
the exact similarity decides: a pair that is reported is one, and of the pairs at the threshold
itself at least 99.9 % are proposed.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from pacbayes_sft.choices import View
from pacbayes_sft.data.rows import Table
from pacbayes_sft.errors import InputError
from pacbayes_sft.progress import track
from pacbayes_sft.views.text import text_of

THRESHOLD = 0.8
WORDS = 5  # a shingle
PERMUTATIONS = 128
RECALL = 0.999  # share of the pairs at the threshold that MinHash proposes, at least


@dataclass(frozen=True)
class Pair:
    """Two rows that read alike, counted from 1.

    Attributes:
        first: Row of the training file; within the test file, a row of that.
        second: Row of the test file, or a later row of the same file.
        similarity: Jaccard similarity of their shingles.
        exact: Whether the texts are equal to the letter.
    """

    first: int
    second: int
    similarity: float
    exact: bool


@dataclass(frozen=True)
class Contamination:
    """What `contamination` found.

    Attributes:
        view: What of a row was compared.
        threshold: Similarity from which on two texts are near duplicates.
        across: The most similar training row of each test row that has a near duplicate there.
        within_train: The same of each training row among the earlier ones of other units.
        within_test: The same of each test row among the earlier test rows of other units.
        train_groups: Group of each training row: units, joined where their rows read alike, also
            through rows of the other file. For splits that keep a duplicate cluster whole.
        test_groups: Group of each test row.
        train_units: Independent units of the training file as declared.
        train_clusters: The same if rows that read alike were copies of each other.
        test_units: Independent units of the test file as declared.
        test_clusters: The same if rows that read alike were copies of each other.
        effects: What the duplicates do to each guarantee.
    """

    view: View
    threshold: float
    across: tuple[Pair, ...]
    within_train: tuple[Pair, ...]
    within_test: tuple[Pair, ...]
    train_groups: tuple[str, ...]
    test_groups: tuple[str, ...]
    train_units: int
    train_clusters: int
    test_units: int
    test_clusters: int
    effects: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object, without the groups of single rows."""
        return {
            "view": self.view.value,
            "threshold": self.threshold,
            "across": _counted(self.across),
            "within_train": _counted(self.within_train),
            "within_test": _counted(self.within_test),
            "train_units": self.train_units,
            "train_clusters": self.train_clusters,
            "test_units": self.test_units,
            "test_clusters": self.test_clusters,
            "effects": self.effects,
        }


def contamination(
    train: Table, test: Table, *, view: View = View.FULL, threshold: float = THRESHOLD
) -> Contamination:
    """Find exact and near duplicates; time grows with the rows and with the pairs that read alike.

    Rows that read alike need not be copies: a generator with few templates draws such rows
    independently. The counts are facts, the effects say "if they are copies".

    Raises:
        InputError: If the threshold is no similarity.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"a similarity threshold lies in (0, 1], got {threshold}")
    rows = [*train.rows, *test.rows]
    texts = [text_of(row, view) for row in rows]
    place: dict[str, int] = {}
    which = [place.setdefault(text, len(place)) for text in texts]  # the distinct text of each row
    size = len(train.rows)
    owner = [f"unit {r.unit}" if r.unit is not None else f"row {i}" for i, r in enumerate(rows)]
    parent = list(range(len(place)))
    near: dict[int, list[tuple[float, int]]] = {}  # text: (similarity, other text), best first
    for a, b, similarity in _alike(list(place), threshold):
        _join(parent, a, b)
        near.setdefault(a, []).append((similarity, b))
        near.setdefault(b, []).append((similarity, a))
    for others in near.values():
        others.sort(key=lambda other: (-other[0], other[1]))
    unit_text: dict[str, int] = {}
    for i, k in enumerate(which):
        _join(parent, k, unit_text.setdefault(owner[i], k))
    of_train, of_test = range(size), range(size, len(rows))
    within_train, across, within_test = (
        _pairs(firsts, seconds, which, owner, near)
        for firsts, seconds in ((of_train, of_train), (of_train, of_test), (of_test, of_test))
    )
    numbers: dict[int, int] = {}
    groups = [numbers.setdefault(_root(parent, k), len(numbers) + 1) for k in which]
    names = tuple(f"cluster {g}" for g in groups)
    units, clusters = len(set(train.units)), len(set(names[:size]))
    return Contamination(
        view,
        threshold,
        across,
        within_train,
        within_test,
        names[:size],
        names[size:],
        units,
        clusters,
        len(set(test.units)),
        len(set(names[size:])),
        _effects(across, within_train, within_test, len(test.rows), (units, clusters)),
    )


def shingles(text: str) -> frozenset[str]:
    """Return the runs of five words or signs of a text, without regard to case or white space.

    A shorter text is one shingle. Scripts that set no space between words have long words.
    """
    words = re.findall(r"\w+|[^\w\s]", text.casefold())
    last = max(1, len(words) - WORDS + 1)
    return frozenset(" ".join(words[i : i + WORDS]) for i in range(last))


def bands(threshold: float) -> tuple[int, int]:
    """Return (bands, rows a band): the strictest that propose a pair at the threshold in 99.9 %.

    A pair of similarity s is proposed with probability 1 - (1 - s^r)^b.
    """
    for r in range(PERMUTATIONS, 1, -1):
        b = PERMUTATIONS // r
        if 1 - (1 - threshold**r) ** b >= RECALL:
            return b, r
    return PERMUTATIONS, 1


def _alike(texts: list[str], threshold: float) -> list[tuple[int, int, float]]:
    """(later, earlier, similarity) of all distinct texts that are near duplicates."""
    from datasketch import MinHash, MinHashLSH

    sets = [shingles(text) for text in texts]
    index = MinHashLSH(num_perm=PERMUTATIONS, params=bands(threshold))
    encoded = ([s.encode() for s in shingled] for shingled in sets)
    sketches = MinHash.generator(encoded, num_perm=PERMUTATIONS)
    found = []
    for k in track(range(len(sets)), "near duplicates"):
        sketch = next(sketches)
        for other in index.query(sketch):
            similarity = len(sets[k] & sets[other]) / len(sets[k] | sets[other])
            if similarity >= threshold:
                found.append((k, other, similarity))
        index.insert(k, sketch, check_duplication=False)
    return sorted(found)


def _pairs(
    firsts: range,
    seconds: range,
    which: list[int],
    owner: list[str],
    near: dict[int, list[tuple[float, int]]],
) -> tuple[Pair, ...]:
    """The closest of `firsts` to each of `seconds`; in one file, an earlier one of another unit."""
    one_file = firsts == seconds
    # of the rows of a text that were passed: the first, and the first of another unit
    passed: dict[int, list[int]] = {}
    if not one_file:
        for i in firsts:
            passed.setdefault(which[i], [i])
    found = []
    for i in seconds:
        for similarity, other in ((1.0, which[i]), *near.get(which[i], ())):
            asked = (j for j in passed.get(other, ()) if not one_file or owner[j] != owner[i])
            if (first := next(asked, None)) is not None:
                places = first - firsts.start + 1, i - seconds.start + 1
                found.append(Pair(*places, similarity, other == which[i]))
                break
        if one_file:
            rows_of = passed.setdefault(which[i], [])
            if not rows_of or (len(rows_of) < 2 and owner[rows_of[0]] != owner[i]):
                rows_of.append(i)
    return tuple(found)


def _root(parent: list[int], k: int) -> int:
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


def _join(parent: list[int], a: int, b: int) -> None:
    parent[_root(parent, a)] = _root(parent, b)


def _counted(pairs: tuple[Pair, ...]) -> dict[str, Any]:
    exact = sum(pair.exact for pair in pairs)
    shown = sorted(pairs, key=lambda pair: -pair.similarity)[:10]
    return {"exact": exact, "near": len(pairs) - exact, "shown": [asdict(pair) for pair in shown]}


def _effects(
    across: tuple[Pair, ...],
    within_train: tuple[Pair, ...],
    within_test: tuple[Pair, ...],
    test_rows: int,
    training: tuple[int, int],
) -> dict[str, str]:
    effects = {}
    if within_train:
        units, clusters = training
        effects["bound on the train distribution"] = (
            f"{len(within_train)} training rows read like an earlier one of another unit: if they "
            f"are copies, n is at most {clusters}, not {units}, and no bound with the larger n "
            "holds; give copies one 'unit'. If they are independent draws that read alike, the "
            "bound stands"
        )
    if within_test:
        effects["limits from test rows"] = (
            f"{len(within_test)} of {test_rows} test rows read like an earlier one of another "
            "unit: if they are copies, limits that count test rows are too narrow (the measured "
            "test risk, shift terms from samples); give copies one 'unit'. A bound on the train "
            "distribution counts none of them"
        )
    if across:
        effects["measured test risk"] = (
            f"{len(across)} of {test_rows} test rows read like a training row: the measured risk "
            "is optimistic for unseen problems if they are copies"
        )
        effects["shift term"] = (
            "from known laws it stands; a limit from samples needs the two sides independent, so "
            "if these rows are copies it does not hold"
        )
    if across or within_train or within_test:
        effects["two-sample test"] = (
            "rows that read alike must not be divided by a split: give it the groups found here. "
            "It then judges one row of a group a side, and its certificate speaks of the law of "
            "such representatives"
        )
    return effects
