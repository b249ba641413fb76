"""Risk out of lm-evaluation-harness's sample logs: ``samples_{task}_{date}.jsonl``.

The harness writes one line per (document, filter), so a log with two filters holds every document
twice and n would double: one filter is taken first. Documents are told apart by ``doc_hash``, the
hash of their content; lines of one document are one unit: a data set may hold it at several places
(``doc_id``). One place twice under one filter is two logs in one file. The fields are those of its
``SampleResult`` (lm_eval/result_schema.py at commit 4e7e0d4).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import Estimate, kl_interval
from pacbayes_sft.data.rows import json_records
from pacbayes_sft.errors import InputError
from pacbayes_sft.risk import risk_estimate, slice_risks, unit_means

# what the harness counts downwards, or what is no success at all
LOSSES = ("bits_per_byte", "likelihood_diff", "pct_stereotype")
# the same by a word of the name (``word_perplexity``, ``wer_norm``): tasks name metrics freely
ERRORS = {
    "brier", "cer", "distance", "ece", "error", "errors", "loss", "mae", "mape", "mer", "mse",
    "nll", "perplexity", "ppl", "rmse", "smape", "ter", "wer", "wil",
}  # fmt: skip
# taken unasked, the first that a log holds; each is a success in [0, 1]
METRICS = (
    "math_verify", "exact_match", "acc", "pass@1", "em", "acc_norm", "acc_mutual_info",
    "prompt_level_strict_acc", "mc2", "mc1", "f1",
)  # fmt: skip


@dataclass(frozen=True)
class Samples:
    """What one log says under one filter and one metric.

    Attributes:
        source: The file.
        filter: Which filter's lines.
        metric: Which of the harness's metrics; a loss is one minus it.
        losses: One loss in [0, 1] a line.
        doc_hashes: The document of each line.
        docs: Its content.
    """

    source: str
    filter: str
    metric: str
    losses: NDArray[np.float64]
    doc_hashes: list[str]
    docs: list[Mapping[str, Any]]

    @property
    def by_document(self) -> dict[str, float]:
        """The mean loss of every document."""
        means = unit_means(self.losses, self.doc_hashes)
        return dict(zip(dict.fromkeys(self.doc_hashes), means.tolist(), strict=True))

    def risk(self, delta: float = 0.05) -> Estimate:
        """Return the risk with its interval; n is the number of distinct documents."""
        means = unit_means(self.losses, self.doc_hashes)
        return risk_estimate(means, delta, population=f"the law of {self.source}")

    def slices(self, column: str, delta: float = 0.05) -> dict[str, Estimate]:
        """Return the risk on each value of a field of the documents.

        Raises:
            InputError: If a document lacks the field.
        """
        for number, doc in enumerate(self.docs, start=1):
            if doc.get(column) is None:
                raise InputError(
                    f"{self.source}: document {number} has no {column!r} to slice by (it has "
                    f"{', '.join(sorted(doc))})"
                )
        labels = [doc[column] for doc in self.docs]
        population = f"the law of {self.source}"
        return slice_risks(self.losses, self.doc_hashes, labels, delta, population=population)

    def to_dict(self, risk: Estimate, slices: Mapping[str, Estimate]) -> dict[str, Any]:
        """Return a JSON-ready object in the words of ``risk``."""
        return {
            "risk": risk.to_dict(),
            "slices": {label: e.to_dict() for label, e in slices.items()},
            "source": self.source,
            "filter": self.filter,
            "metric": self.metric,
            "documents": len(self.by_document),
            "predictor": "finished",
            "target": "the law of the documents",
        }


def read_samples(file: Path, *, filter: str | None = None, metric: str | None = None) -> Samples:
    """Read a log.

    Args:
        file: ``samples_*.jsonl``.
        filter: Which filter; may be left out where there is one.
        metric: Which metric; may be left out where one known by name is there.

    Raises:
        InputError: If it is no such log or several in one file, the choice is not clear, or the
            metric counts errors.
    """
    lines = _lines(file)
    filters = list(dict.fromkeys(line["filter"] for _, line in lines))
    if filter is None and len(filters) > 1:
        raise InputError(
            f"{file}: holds every document once for each of the filters {', '.join(filters)}; "
            "choose one with --filter, else n would double"
        )
    chosen = filters[0] if filter is None else filter
    if chosen not in filters:
        raise InputError(f"{file}: no filter {chosen!r}; it has {', '.join(filters)}")
    kept = [(where, line) for where, line in lines if line["filter"] == chosen]
    name = _metric(file, kept[0][1], metric)
    losses = np.array([1 - _success(file, where, line, name) for where, line in kept])
    return Samples(
        str(file),
        chosen,
        name,
        losses,
        [line["doc_hash"] for _, line in kept],
        [line["doc"] if isinstance(line.get("doc"), dict) else {} for _, line in kept],
    )


def change(after: Samples, before: Samples, delta: float = 0.05) -> Estimate:
    """Return the risk of one model minus another's on the same documents, joined on ``doc_hash``.

    The interval is the kl-Chernoff one of the paired differences, moved from [-1, 1] to [0, 1].

    Raises:
        InputError: If the logs are not of the same documents, metric and filter.
    """
    mine, other = after.by_document, before.by_document
    if set(mine) != set(other):
        raise InputError(
            f"{after.source} and {before.source}: {len(set(mine) ^ set(other))} documents are in "
            "one alone; compare logs of one task, one split and one --limit"
        )
    if after.metric != before.metric:
        raise InputError(
            f"{after.source} and {before.source}: scored by {after.metric} and {before.metric}; "
            "name one --metric"
        )
    if after.filter != before.filter:
        raise InputError(
            f"{after.source} and {before.source}: answers taken by the filters {after.filter} and "
            f"{before.filter}; the change would hold that difference too, name one --filter"
        )
    paired = np.array([mine[key] - other[key] for key in mine])
    found = kl_interval(float((paired.mean() + 1) / 2), len(paired), delta)
    return Estimate(
        float(paired.mean()),
        2 * found.lower - 1,
        2 * found.upper - 1,
        found.confidence,
        found.guarantee,
        f"mean paired difference of {len(paired)} documents, kl-Chernoff",
        ("the documents are independent draws, and no fitting saw them",),
        "probability",
    )


def _lines(file: Path) -> list[tuple[str, dict[str, Any]]]:
    found = []
    places: dict[tuple[str, str, str], str] = {}
    for where, sample in json_records(file):
        missing = [
            key
            for key in ("doc_hash", "filter")
            if not isinstance(sample, dict) or not isinstance(sample.get(key), str)
        ]
        if missing:
            raise InputError(
                f"{file}, {where}: no {missing[0]!r}; it must be a samples_*.jsonl that "
                "lm-evaluation-harness wrote under --log_samples"
            )
        if sample.get("doc_id") is not None:
            place = json.dumps(sample["doc_id"]), sample["doc_hash"], sample["filter"]
            if (first := places.setdefault(place, where)) != where:
                # the mean of two runs is the risk of no model
                raise InputError(
                    f"{file}, {where}: document {place[0]} under the filter {place[2]!r} is on "
                    f"{first} already, so these are several logs in one file; give one log at a "
                    "time"
                )
        found.append((where, sample))
    if not found:
        raise InputError(f"{file}: holds no samples")
    return found


def _metric(file: Path, sample: Mapping[str, Any], asked: str | None) -> str:
    named: Sequence[str] = sample.get("metrics") or []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise InputError(f"{file}: 'metrics' is {named!r}, not the names of its metrics")
    known = [name for name in named if _is_score(sample.get(name))]
    if asked is not None:
        if asked not in sample or (named and asked not in named):
            raise InputError(f"{file}: no metric {asked!r}; it has {', '.join(named) or 'none'}")
        if asked.lower() in LOSSES or ERRORS & {*re.split("[^a-z]+", asked.lower())}:
            raise InputError(
                f"--metric {asked}: not a success in [0, 1], so one minus it is no risk; name one "
                f"that is 1 where the model succeeds: {', '.join(named) or asked}"
            )
        return asked
    for name in METRICS:
        if name in known:
            return name
    raise InputError(
        f"{file}: choose one of its metrics with --metric, one that is 1 where the model succeeds: "
        f"{', '.join(named) or 'none'}"
    )


def _success(file: Path, where: str, sample: Mapping[str, Any], name: str) -> float:
    value = sample.get(name)
    if not _is_score(value):
        raise InputError(f"{file}, {where}: {name!r} is {value!r}, not a success in [0, 1]")
    return float(value)  # type: ignore[arg-type]


def _is_score(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1
