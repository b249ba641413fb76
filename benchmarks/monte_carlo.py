"""What a draw for every example costs: ``python benchmarks/monte_carlo.py`` (a few minutes).

On one LoRA fine-tune of the strong base (r = 8, ops 6-10), in one run and in turn: a deterministic
pass, our pass with a fresh draw of all factors for every row, and what a user would write instead:
a draw of the whole model, put in place, then a batch of rows (as PAC-Bayes with backprop does).
A limit on the Gibbs risk depends on the number of independent draws alone, so costs are compared
per draw: at equal draws the half-widths are equal. Writes ``benchmarks/results/monte_carlo.json``
and its table; ``--table`` only redraws. Seconds are of one thread; quote the ratios.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from readme import MEASURED, Record, write_between

RESULT = Path(__file__).parent / "results" / "monte_carlo.json"
ROWS, ROUNDS, BATCH, SIGMA, DELTA = 512, 5, 64, 0.02, 0.01
WHOLE_DRAWS = {64: 8, 8: 32, 1: 64}  # rows that share a draw: draws that are timed


def measure() -> Record:
    """Time every way in turn, several rounds; return medians per draw and row."""
    import torch

    from estimators import gibbs_risk
    from estimators.posteriors import isotropic
    from pacbayes_sft.checkpoints.finetune import factor_pair
    from pacbayes_sft.checkpoints.lora import read_adapter
    from pacbayes_sft.choices import Loss, Space
    from pacbayes_sft.data.encode import encode
    from pacbayes_sft.data.rows import read_table
    from pacbayes_sft.gibbs import Evaluator, Rows
    from pacbayes_sft.igsm import OpLaw
    from pacbayes_sft.igsm.files import write_problems
    from pacbayes_sft.models import load_model, load_tokenizer, resolve_base
    from pacbayes_sft.sft import Settings, run_sft
    from pacbayes_sft.slots import find_slots

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        train, run = Path(folder) / "train.jsonl", Path(folder) / "run"
        write_problems(train, OpLaw.uniform(6, 10), size=ROWS, seed=11)
        run_sft("strong", train, run, Settings(steps=16, device="cpu"))
        base = resolve_base("strong")
        tokenizer, model = load_tokenizer(base), load_model(base, run)
        table = read_table(train)
        rows = Rows(encode(table, tokenizer, None), table.units)
        pair = factor_pair(read_adapter(run), "base")
    slots = find_slots(model, Space.FACTORS, list(pair.posterior))
    posterior = isotropic.fit(pair.posterior, SIGMA)
    evaluator = Evaluator(model, Loss.EXACT_MATCH, tokenizer, BATCH, seed=0)
    order = np.random.default_rng(0).permutation(ROWS)

    def whole(shared: int, draws: int) -> Callable[[], None]:
        def way() -> None:
            generator = torch.Generator().manual_seed(1)
            for k in range(draws):
                chosen = order[(np.arange(shared) + k * shared) % ROWS]
                batch = Rows([rows.encoded[i] for i in chosen], [rows.units[i] for i in chosen])
                slots.put(posterior.sample(generator))
                evaluator.finished(batch, "whole-model draw")

        return way

    ways: dict[str, tuple[Callable[[], object], int]] = {
        "deterministic pass": (lambda: evaluator.finished(rows, "pass"), 0),
        "a draw for every row (ours)": (lambda: evaluator.gibbs(slots, posterior, rows, "d"), ROWS),
    }
    for shared, draws in WHOLE_DRAWS.items():
        ways[f"a whole-model draw for every {shared} rows"] = (whole(shared, draws), draws)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (way, _draws) in ways.items():
            slots.put(pair.posterior)
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    ours = evaluator.gibbs(slots, posterior, rows, "half-width")
    limit = gibbs_risk(ours.losses, DELTA)
    middle = {name: float(np.median(s)) for name, s in seconds.items()}
    per_draw = {name: middle[name] / draws for name, (_, draws) in ways.items() if draws}
    mine = per_draw["a draw for every row (ours)"]
    one_pass = middle["deterministic pass"]
    return {
        "rows": ROWS,
        "rounds": ROUNDS,
        "half_width": limit.upper - limit.value,
        "half_width_draws": ROWS,
        "pass_over_deterministic": middle["a draw for every row (ours)"] / one_pass,
        "cost_per_draw_over_ours": {name: cost / mine for name, cost in per_draw.items()},
        "spread": {name: [min(s) / one_pass, max(s) / one_pass] for name, s in seconds.items()},
    }


def table(found: Record) -> str:
    """Return the page's table."""
    lines = ["| an independent draw of the weights | cost at equal half-width |", "|---|---|"]
    lines += [f"| {name} | {r:,.1f} × |" for name, r in found["cost_per_draw_over_ours"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    if "--table" not in sys.argv:
        RESULT.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    write_between(
        "monte_carlo", table(json.loads(RESULT.read_text(encoding="utf-8"))), page=MEASURED
    )
