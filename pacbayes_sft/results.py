"""Certificates as one tidy frame: a row a number, ready for pandas, a plot or a spreadsheet."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacbayes_sft.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from pacbayes_sft.certify import Certificate

COLUMNS = (
    *("source", "kind", "name", "predictor", "target", "value", "lower", "upper"),
    *("confidence", "guarantee", "unit", "method", "vacuous"),
)
# the input whose guarantee a term of Proposition 4.1 has
OF_TERM = {"empirical_risk": "empirical_risk", "generalization": "kl", "extrapolation": "tv"}


def results_frame(*sources: Certificate | str | Path) -> pd.DataFrame:
    """Return every number of some certificates, one row each.

    Args:
        sources: Certificates, or files ``bound.json``.

    Returns:
        A frame with the columns ``source`` (the fine-tune's name, or the file), ``kind``
        (``input``, ``term``, ``bound``, ``measured``, ``baseline``), ``name``, ``predictor``,
        ``target``, ``value``, ``lower``, ``upper``, ``confidence``, ``guarantee``, ``unit``,
        ``method``, ``vacuous``. ``value`` of a bound is raw, not clipped at 1. What was not
        measured has no row; a limit that is not claimed is infinite.

    Raises:
        InputError: If a file is no ``bound.json``.
    """
    import pandas as pd

    rows = [row for source in sources for row in _rows_of(source)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows_of(source: Certificate | str | Path) -> list[dict[str, Any]]:
    if not isinstance(source, (str, Path)):
        from pacbayes_sft.bound_json import to_record

        return list(_rows(source.inputs.finetuned.name, to_record(source)))
    try:
        return list(_rows(str(source), json.loads(Path(source).read_text(encoding="utf-8"))))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{source}: no bound.json ({type(error).__name__}: {error}); give a file that "
            "`pacbayes-sft bound` wrote"
        ) from None


def _rows(source: str, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    gibbs = {"predictor": "gibbs", "target": "test_distribution"}
    for name in ("empirical_risk", "kl", "tv"):
        yield _row(source, "input", name, record[name])
    for name, value in record["terms"].items():
        stands_on = OF_TERM.get(name)  # ε is a formula
        label = record[stands_on]["guarantee"] if stands_on else "exact"
        found = {"value": value, "guarantee": label, "unit": "probability"}
        yield _row(source, "term", name, found | gibbs)
    for name, entry in record["bounds"].items():
        for target, raw in (("test_distribution", "raw"), ("train_distribution", "train_raw")):
            value = math.inf if entry[raw] is None else entry[raw]
            found = {"value": value, "upper": value, "vacuous": not value < 1, "target": target}
            yield _row(source, "bound", name, entry | found)
    for name, entry in record["measured"].items():
        if entry is not None and entry["value"] is not None:
            yield _row(source, "measured", name, entry)
    for name, entry in record["baselines"].items():
        if name != "best":
            found = entry["estimate"] | {k: entry[k] for k in ("predictor", "vacuous", "value")}
            yield _row(source, "baseline", name, found | {"target": "test_distribution"})


def _row(source: str, kind: str, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    row = {column: entry.get(column) for column in COLUMNS}
    row |= {"source": source, "kind": kind, "name": name}
    for limit, open_end in (("lower", -math.inf), ("upper", math.inf)):
        row[limit] = open_end if row[limit] is None else row[limit]
    row["value"] = math.inf if row["value"] is None else row["value"]
    return row
