"""Measure the difficulty of rows, in as many ways as asked.

* ``cot_tokens``: length of the completion in tokens of a stated tokenizer (the paper's reading).
* ``base_loss``: mean negative log-likelihood of the completion under the base, nats per token.
* ``pass_rate``: share of k sampled solutions that end in the row's answer: high where rows are
  easy. ``fail_rate`` is 1 minus it, as a difficulty is read elsewhere.
* ``thtb_extrinsic``, ``thtb_intrinsic``, ``bloom_proxy``: see `hardness`.
* any numeric column of the rows themselves.

The paper rejects the model's own loss as circular; it is here to be compared with. A metric that
comes from a model that saw the certified rows may not define the shift term's attribute.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pacbayes_sft.atomic import replacing
from pacbayes_sft.data.encode import encode
from pacbayes_sft.data.rows import Table, is_number, read_table
from pacbayes_sft.difficulty.hardness import METRICS as HARDNESS
from pacbayes_sft.difficulty.model_based import losses, pass_rates
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import context_length, load_model, load_tokenizer, resolve_base

if TYPE_CHECKING:
    import pandas as pd

RATES = ("pass_rate", "fail_rate")
OF_MODELS = ("cot_tokens", "base_loss", *RATES)
METRICS = (*OF_MODELS, *HARDNESS)
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Difficulty:
    """Metrics of every row.

    Attributes:
        table: The rows.
        columns: By name shape (rows,): the metric's values.
        said: What each metric is, with its model, in words.
    """

    table: Table
    columns: dict[str, Values]
    said: dict[str, str]

    def correlations(self) -> pd.DataFrame:
        """Return Spearman's rank correlation of every pair of metrics; NaN where one is constant.

        A description of these rows, without interval.
        """
        import pandas as pd

        return pd.DataFrame(self.columns).corr(method="spearman")

    def write(self, out: Path) -> None:
        """Write the rows with one more column a metric, whole or not at all.

        A row's own value stays as it is written there: as a float a large integer is another.
        """
        with replacing(out) as partial, partial.open("w", encoding="utf-8") as lines:
            for i, row in enumerate(self.table.rows):
                columns = {name: float(values[i]) for name, values in self.columns.items()}
                own = {
                    name: kept
                    for name, value in columns.items()
                    if is_number(kept := row.value_of(name)) and float(kept) == value
                }
                lines.write(json.dumps(row.as_record() | columns | own) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object."""
        found = self.correlations()
        return {
            "rows": len(self.table.rows),
            "metrics": {
                name: {
                    "what": self.said[name],
                    "quantiles": [float(np.quantile(v, q)) for q in (0, 0.25, 0.5, 0.75, 1)],
                }
                for name, v in self.columns.items()
            },
            "spearman": {
                f"{a}, {b}": None if math.isnan(r := float(found.loc[a, b])) else r
                for i, a in enumerate(found.columns)
                for b in found.columns[i + 1 :]
            },
        }


def measure_difficulty(
    source: str,
    base: str | None = None,
    metrics: Sequence[str] = ("cot_tokens",),
    *,
    tokenizer: str | None = None,
    samples: int = 8,
    temperature: float = 1.0,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int = 64,
    trust_remote_code: bool = False,
) -> Difficulty:
    """Compute difficulty metrics of every row.

    Args:
        source: Rows.
        base: The model of the loss and the samples; needed for those alone.
        metrics: Names of `METRICS`, or numeric columns of the rows.
        tokenizer: Whose tokens ``cot_tokens`` counts: a path, hub id or shipped base; None: the
            base's.
        samples: Solutions a row behind ``pass_rate`` and ``fail_rate``.
        temperature: At which they are sampled.
        seed: Seed of the samples.
        device: Device of the model.
        dtype: Its dtype.
        batch_size: Rows a forward pass.
        trust_remote_code: Whether code beside the base's weights may run.

    Raises:
        InputError: If a metric cannot be had.
    """
    if not metrics or samples < 1 or not temperature > 0:
        raise InputError("name a metric; samples must be at least 1 and the temperature positive")
    table = read_table(source)
    for name in metrics:
        if name not in METRICS and not all(is_number(row.value_of(name)) for row in table.rows):
            raise InputError(
                f"--metric {name}: neither one of {', '.join(METRICS)} nor a column with a number "
                f"in every row of {source}"
            )
    columns: dict[str, Values] = {}
    said: dict[str, str] = {}
    for name in metrics:
        if name in HARDNESS:
            compute, said[name] = HARDNESS[name]
            columns[name] = compute(table)
        elif name not in OF_MODELS:
            columns[name] = np.array([float(row.value_of(name)) for row in table.rows])
            said[name] = f"the column {name!r} of {source}"
    if "cot_tokens" in metrics:
        counted_by = tokenizer or base
        if counted_by is None:
            raise InputError("--metric cot_tokens: give --tokenizer (or --base) to count tokens of")
        counter = load_tokenizer(resolve_base(counted_by), trust_remote_code=trust_remote_code)
        lengths = [len(r.ids) - r.prompt_length for r in encode(table, counter, None)]
        columns["cot_tokens"] = np.array(lengths, dtype=float)
        said["cot_tokens"] = f"completion length in tokens of {counted_by}, its end included"
    asked = [name for name in ("base_loss", *RATES) if name in metrics]
    if asked:
        if base is None:
            raise InputError(f"--metric {asked[0]}: give --base, the model that measures it")
        resolved = resolve_base(base)
        own = load_tokenizer(resolved, trust_remote_code=trust_remote_code)
        model = load_model(
            resolved, device=device, dtype=dtype, trust_remote_code=trust_remote_code
        )
        sampled = any(name in asked for name in RATES)
        rows = encode(table, own, context_length(model), need_answers=sampled)
        if "base_loss" in asked:
            columns["base_loss"] = losses(model, rows, own, batch_size)
            said["base_loss"] = f"mean negative log-likelihood of the completion under {base}, nats"
        if sampled:
            rates = pass_rates(
                model, rows, own, batch_size, samples=samples, temperature=temperature, seed=seed
            )
            of = f"share of {samples} solutions sampled from {base} at temperature {temperature:g} "
            columns |= {"pass_rate": rates, "fail_rate": 1 - rates}
            said |= {
                "pass_rate": of + "that end in the row's answer (high: easy)",
                "fail_rate": of + "that do not end in the row's answer",
            }
    return Difficulty(table, {n: columns[n] for n in metrics}, {n: said[n] for n in metrics})
