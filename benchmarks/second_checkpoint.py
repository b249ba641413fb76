"""Would recursion over a second checkpoint pay? ``python benchmarks/second_checkpoint.py``.

On the strong base's fine-tune of ``tightness.py``: a limit on the base's risk on all rows plus one
on the half-data checkpoint's excess over it on the rows that this never saw, against the
checkpoint's own held-out limit on those. Neither is a posterior, so no KL is paid. Writes
``benchmarks/results/second_checkpoint.json``; docs/related.md quotes it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from tightness import keep_passes, prepare

from estimators import Excess, held_out_bound
from estimators.recursive import excess_upper
from pacbayes_sft.baselines import prior_centre
from pacbayes_sft.certify import _prepare
from pacbayes_sft.inputs import load_inputs
from pacbayes_sft.options import Options

RESULT = Path(__file__).parent / "results" / "second_checkpoint.json"
DELTA = 0.05


def losses_by_row(folder: Path, prior: str | Path) -> dict[str, float]:
    """Return the loss of a prior's own centre on every row it is held out for."""
    run = folder / "finetune"
    files = (str(folder / "train.jsonl"), str(folder / "test.jsonl"))
    inputs = load_inputs("strong", run, *files, prior=prior)
    evaluator, slots, rows = _prepare(inputs, Options(prior=prior))
    found = prior_centre(evaluator, slots, inputs, rows(inputs.certified)).rows
    names = [row.sha256() for row in inputs.certified.rows]
    return dict(zip(names, found.tolist(), strict=True))


def measure() -> dict[str, Any]:
    """Return counts and the two limits."""
    folder = prepare("strong-8192")
    keep_passes(folder / "passes")
    base = losses_by_row(folder, "base")
    checkpoint = losses_by_row(folder, folder / "finetune" / "pacbayes_sft" / "prior")
    before = np.array([base[name] for name in checkpoint])
    after = np.array(list(checkpoint.values()))
    more, less = ((after > before).mean(), (after < before).mean())
    excess = Excess.exactly(more=float(more), less=float(less))
    reference = held_out_bound(list(base.values()), DELTA / 2).upper
    return {
        "delta": DELTA,
        "rows": len(base),
        "rows_unseen_by_checkpoint": len(after),
        "share_where_they_differ": float(more + less),
        "chain_limit": reference + excess_upper(excess, 0.0, len(after), DELTA / 2),
        "checkpoint_limit": held_out_bound(after, DELTA).upper,
    }


if __name__ == "__main__":
    result = measure()
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
