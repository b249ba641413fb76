"""Difficulty as numbers: metrics of every row, their laws, and how they rank rows alike.

* ``cot_tokens``: length of the completion in tokens of a stated tokenizer (the paper's reading).
* ``base_loss``: mean negative log-likelihood of the completion under the base, nats per token.
* ``pass_rate``: share of k sampled solutions that end in the row's answer.
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

from pacbayes_sft.answers import extract_answer, same_answer
from pacbayes_sft.atomic import replacing
from pacbayes_sft.data.encode import Encoded, encode
from pacbayes_sft.data.rows import Table, read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.generation import generate
from pacbayes_sft.gibbs import stream_of
from pacbayes_sft.losses import mean_nll, score_with
from pacbayes_sft.models import context_length, load_model, load_tokenizer, resolve_base
from pacbayes_sft.progress import track
from pacbayes_sft.risk import by_length, row_losses

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("cot_tokens", "base_loss", "pass_rate")
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
        """Write the rows with one more column a metric, whole or not at all."""
        with replacing(out) as partial, partial.open("w", encoding="utf-8") as lines:
            for i, row in enumerate(self.table.rows):
                fields = {
                    "difficulty": row.difficulty,
                    "unit": row.unit,
                    "answer": row.answer,
                    "id": row.id,
                }
                record = row.for_trl() | {k: v for k, v in fields.items() if v is not None}
                record |= dict(row.attributes)
                record |= {name: float(values[i]) for name, values in self.columns.items()}
                lines.write(json.dumps(record) + "\n")

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
    base: str,
    metrics: Sequence[str] = ("cot_tokens",),
    *,
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
        base: The model of the tokenizer, the loss and the samples.
        metrics: Names of `METRICS`, or numeric columns of the rows.
        samples: Solutions a row behind ``pass_rate``.
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
    table, source_of = read_table(source), resolve_base(base)
    for name in metrics:
        if name not in METRICS and not all(_is_number(row.value_of(name)) for row in table.rows):
            raise InputError(
                f"--metric {name}: neither one of {', '.join(METRICS)} nor a column with a number "
                f"in every row of {source}"
            )
    own = [name for name in metrics if name not in METRICS]
    columns = {n: np.array([float(row.value_of(n)) for row in table.rows]) for n in own}
    said = {name: f"the column {name!r} of {source}" for name in own}
    if set(metrics) <= set(own):
        return Difficulty(table, columns, said)
    tokenizer = load_tokenizer(source_of, trust_remote_code=trust_remote_code)
    need = "pass_rate" in metrics
    model, rows = None, encode(table, tokenizer, None, need_answers=need)
    if "cot_tokens" in metrics:
        columns["cot_tokens"] = np.array([float(len(r.ids) - r.prompt_length) for r in rows])
        said["cot_tokens"] = f"completion length in tokens of {base}, end of sequence included"
    if "base_loss" in metrics or need:
        model = load_model(
            source_of, device=device, dtype=dtype, trust_remote_code=trust_remote_code
        )
        rows = encode(table, tokenizer, context_length(model), need_answers=need)
    if "base_loss" in metrics:
        columns["base_loss"] = _losses(model, rows, tokenizer, batch_size)
        said["base_loss"] = f"mean negative log-likelihood of the completion under {base}, nats"
    if need:
        columns["pass_rate"] = _pass_rates(
            model, rows, tokenizer, batch_size, samples, temperature, seed
        )
        said["pass_rate"] = (
            f"share of {samples} solutions sampled from {base} at temperature {temperature:g} that "
            "end in the row's answer"
        )
    return Difficulty(table, {name: columns[name] for name in metrics}, said)


def plot_difficulty(found: Difficulty, file: Path) -> None:
    """Draw the law of every metric and its rank correlations with the others."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    sns.set_theme(context="notebook", style="whitegrid")
    count = len(found.columns)
    figure, axes = plt.subplots(
        1, count + 1, figsize=(4.2 * (count + 1), 4.0), layout="constrained", squeeze=False
    )
    for axis, (name, values) in zip(axes[0], found.columns.items(), strict=False):
        sns.histplot(x=values, ax=axis, color="#5b7fa6", bins=min(30, len(np.unique(values)) + 1))
        axis.set_xlabel(name)
        axis.set_ylabel("rows")
    last = axes[0, -1]
    shades = sns.light_palette("#5b7fa6", as_cmap=True)
    sns.heatmap(
        found.correlations(), ax=last, annot=True, fmt=".2f", cmap=shades, cbar=False, linewidths=1
    )
    last.set_title("Spearman rank correlation", fontsize=11)
    with replacing(file) as partial:
        figure.savefig(partial, dpi=110, format=file.suffix.removeprefix(".") or "png")
    plt.close(figure)


def _losses(model: Any, rows: Sequence[Encoded], tokenizer: Any, size: int) -> Values:
    score, blocks = score_with(mean_nll, tokenizer), by_length(rows, size)
    return row_losses(model, rows, score, blocks=blocks, label="loss")


def _pass_rates(
    model: Any,
    rows: Sequence[Encoded],
    tokenizer: Any,
    size: int,
    samples: int,
    temperature: float,
    seed: int,
) -> Values:
    """Sample every row's solutions; the stream of a sample depends on its number alone."""
    passed = np.zeros(len(rows))
    work = [(k, block) for k in range(samples) for block in by_length(rows, size)]
    for number, (k, block) in enumerate(track(work, "sampled solutions")):
        stream = stream_of(seed, f"sample {k}, batch {number}")
        batch = [rows[i] for i in block]
        texts = generate(model, batch, tokenizer, temperature=temperature, seed=stream)
        for i, text in zip(block, texts, strict=True):
            answer, true = extract_answer(text) if text is not None else None, rows[i].answer
            passed[i] += answer is not None and true is not None and same_answer(true, answer)
    return passed / samples


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
