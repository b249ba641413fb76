"""Put a table made from committed figures between its marks in a page, or in the README."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from estimators.display import rounded_up

README = Path(__file__).parent.parent / "README.md"
DOCS = README.parent / "docs"
MEASURED = DOCS / "measured.md"

Record = dict[str, Any]
NAMES = {"base": "the base", "checkpoint": "half-data checkpoint"}
COLUMNS = (
    "| prior | posterior | n | KL (nats) | R̂ (limit) | √(KL/2n) | TV | ε | Prop. 4.1 | "
    "PAC-Bayes-kl (train → test) | recursive (test) | Gibbs test risk | finished test risk "
    "| held-out limit |"
)


def cell(prior: str, record: Record) -> Record:
    """Return the figures of one ``bound.json`` that a table shows."""
    return {
        "prior": prior,
        "posterior": record["posterior"]["family"],
        "reason": record["posterior"]["reason"],
        "n": record["n"],
        "sigma": record["prior"]["sigma"],
        "kl_nats": record["kl"]["value"],
        "terms": record["terms"],
        "bounds": {k: [b["train_raw"], b["raw"]] for k, b in record["bounds"].items()},
        "guarantee": record["bound"]["guarantee"],
        "gibbs_test_risk": record["measured"]["test_risk"]["value"],
        "finished_test_risk": record["measured"]["test_risk_finetuned"]["value"],
        "held_out_upper": record["baselines"]["held_out"]["value"],
        "baselines": {
            name: b["value"] for name, b in record["baselines"].items() if name != "best"
        },
        "delta": record["delta"],
    }


def said(value: float) -> str:
    """Print a bound, rounded up; at 1 and above it is vacuous."""
    return rounded_up(value, 3) + (" *vacuous*" if value >= 1 else "")


def bound_table(cells: list[Record]) -> str:
    """Return the table of the terms and bounds of several certificates."""
    lines = [COLUMNS, "|" + "---|" * (COLUMNS.count("|") - 1)]
    for c in cells:
        t, b = c["terms"], c["bounds"]
        recursive = said(b["recursive"][1]) if "recursive" in b else "not measured"
        lines.append(
            f"| {NAMES[c['prior']]} | {c['posterior']} | {c['n']:,} | {c['kl_nats']:,.0f} "
            f"| {rounded_up(t['empirical_risk'], 3)} | {rounded_up(t['generalization'], 3)} "
            f"| {rounded_up(t['extrapolation'], 3)} | {rounded_up(t['epsilon'], 3)} "
            f"| {said(b['proposition_4_1'][1])} | {said(b['kl'][0])} → {said(b['kl'][1])} "
            f"| {recursive} | {c['gibbs_test_risk']:.3f} | {c['finished_test_risk']:.3f} "
            f"| {rounded_up(c['held_out_upper'], 3)} |"
        )
    return "\n".join(lines)


def write_between(name: str, table: str, made_by: str = "", page: Path = README) -> None:
    """Replace what stands between the marks of ``name``, made by the benchmark of that name.

    Raises:
        ValueError: If the page lacks the marks.
    """
    begin, end = (
        f"<!-- {name} table: made by benchmarks/{made_by or name}.py -->",
        f"<!-- end of {name} table -->",
    )
    text = page.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise ValueError(f"{page.name} has no marks for {name}")
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    page.write_text(f"{head}{begin}\n{table}\n{end}{tail}", encoding="utf-8")
