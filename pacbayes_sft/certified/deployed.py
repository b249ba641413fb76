"""Risk of an adapter as it is deployed: loaded from its directory by plain PEFT."""

from __future__ import annotations

from pathlib import Path

from pacbayes_sft.choices import Loss
from pacbayes_sft.data.encode import encode
from pacbayes_sft.data.rows import Table
from pacbayes_sft.gibbs import Evaluator, Rows
from pacbayes_sft.models import context_length, load_model, load_tokenizer
from pacbayes_sft.options import Options
from pacbayes_sft.risk import Losses


def deployed_losses(
    base: str, adapter: Path, tables: list[Table], options: Options
) -> list[Losses]:
    """Return, for each table, the mean loss of every unit under the adapter in its directory."""
    trusted = options.trust_remote_code
    tokenizer = load_tokenizer(base, trust_remote_code=trusted)
    model = load_model(
        base, adapter, device=options.device, dtype=options.dtype, trust_remote_code=trusted
    )
    limit = options.max_length or context_length(model)
    evaluator = Evaluator(model, options.loss, tokenizer, options.batch_size, options.seed)
    need = options.loss is Loss.ANSWER
    return [
        evaluator.finished(
            Rows(encode(table, tokenizer, limit, need_answers=need), table.units),
            f"the draw on {table.source}",
        )
        for table in tables
    ]
