"""The tables of a report, once: the page, Markdown and LaTeX are written from the same cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from estimators.display import confidence, failure, rounded_down, rounded_up
from pacbayes_sft.choices import BOUND_NAMES

VACUOUS = "vacuous"


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        name: A word for its label.
        title: What it shows.
        columns: Heads of the columns.
        rows: Cells, as many a row as there are columns.
        numeric: Columns that hold numbers.
        notes: Sentences that stand under it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def tables(record: Mapping[str, Any]) -> tuple[Table, ...]:
    """Return the tables of the content of ``bound.json``, in the order of a report."""
    by_shift = record.get("bounds_by_shift")
    return (
        _terms(record),
        _bounds(record),
        *([_by_shift(by_shift)] if by_shift else []),
        _measured(record),
        _baselines(record),
        _ledger(record),
    )


def _terms(record: Mapping[str, Any]) -> Table:
    kl, tv = record["kl"], record["tv"]
    nats = "infinite" if kl["value"] is None else f"{kl['value']:,.5g}"
    share = record["bounds"]["proposition_4_1"]["delta"]
    labels = {
        "empirical_risk": (
            "empirical risk of the Gibbs predictor, its upper limit",
            record["empirical_risk"]["guarantee"],
            f"on {record['n']:,} units; point value {record['empirical_risk']['value']:.4f}",
        ),
        "generalization": (
            "generalisation √(KL/2n)",
            kl["guarantee"],
            f"KL = {nats} nats, prior centred on {record['prior']['centre']}",
        ),
        "extrapolation": ("extrapolation (shift)", tv["guarantee"], record["shift"]["reason"]),
        "epsilon": ("ε = √(ln(2√n/δ)/2n)", "exact", f"this event's share of δ is {failure(share)}"),
    }
    rows = [
        (label, _limit(record["terms"][key], vacuous=False), promise, note)
        for key, (label, promise, note) in labels.items()
    ]
    total = record["bounds"]["proposition_4_1"]
    rows.append(
        ("their sum", _limit(total["raw"], total["vacuous"]), total["guarantee"], "on test risk")
    )
    title = f"Terms of Proposition 4.1 (n = {record['n']:,}, δ = {record['delta']:g})"
    return Table(
        "terms", title, ("term", "value", "promise", "of what"), tuple(rows), frozenset({1})
    )


def _bounds(record: Mapping[str, Any]) -> Table:
    primary = record["bound"]["theorem"]
    rows = []
    for name, b in record["bounds"].items():
        rows.append(
            (
                BOUND_NAMES[name] + (" (least)" if name == primary else ""),
                _limit(b["train_raw"], b["train_vacuous"]),
                _limit(b["raw"], b["vacuous"]),
                _promise(b, b["vacuous"]),
            )
        )
    return Table(
        "bounds",
        "Bounds on the risk of the Gibbs predictor",
        ("theorem", "train distribution", "test distribution", "promise on test"),
        tuple(rows),
        frozenset({1, 2}),
    )


def _promise(limit: Mapping[str, Any], vacuous: bool) -> str:
    """What a limit promises: a record of before says 0.95 of an estimate too, which is nothing."""
    if vacuous:
        return "nothing"
    if limit["guarantee"] == "estimate":
        return "estimate"
    return f"{limit['guarantee']} at {confidence(limit['confidence'])}"


def _by_shift(found: Mapping[str, Any]) -> Table:
    entries = {name: b for name, b in found.items() if name not in ("column", "note")}
    rows = [
        (name, _limit(b["raw"], b["vacuous"]), _promise(b, b["vacuous"]))
        for name, b in entries.items()
    ]
    return Table(
        "by-shift",
        f"The same by other shift terms over {found['column']!r}: {found['note']}",
        ("shift term", "test distribution", "promise on test"),
        tuple(rows),
        frozenset({1}),
        assumed_by({name: b.get("assumptions") for name, b in entries.items()}),
    )


def assumed_by(terms: Mapping[str, Sequence[str] | None]) -> tuple[str, ...]:
    """Return what limits rest on, each in a sentence: first what all of them assume.

    Args:
        terms: The assumptions of each by its name; None in a record from before they were kept.
    """
    known = {name: tuple(assumed) for name, assumed in terms.items() if assumed is not None}
    shared = [a for a in next(iter(known.values()), ()) if all(a in of for of in known.values())]
    said = [f"All of them assume: {'; '.join(shared)}."] if shared else []
    for name, assumed in known.items():
        if own := [a for a in assumed if a not in shared]:
            said.append(f"{name} {'also ' if shared else ''}assumes: {'; '.join(own)}.")
    if len(known) < len(terms):
        said.append("This record was written before what these limits assume was kept.")
    return tuple(said)


def _measured(record: Mapping[str, Any]) -> Table:
    measured = record["measured"]
    whose = {
        "test_risk": ("test rows", "Gibbs predictor (covered)"),
        "train_distribution_risk": ("held-out train rows", "Gibbs predictor (covered)"),
        "test_risk_finetuned": ("test rows", "finished model (not covered)"),
        "train_risk_finetuned": ("training rows", "finished model (not covered)"),
    }
    rows = [
        (where, predictor, _number(measured[key]["value"]), _interval(measured[key]))
        for key, (where, predictor) in whose.items()
        if measured[key] is not None
    ]
    return Table(
        "measured",
        "Measured, outside of the bound",
        ("rows", "predictor", "risk", "interval, 95 % each"),
        tuple(rows),
        frozenset({2, 3}),
    )


def _baselines(record: Mapping[str, Any]) -> Table:
    rows = [
        (
            name.replace("_", " "),
            b["predictor"],
            "–" if b["train_value"] is None else rounded_up(b["train_value"], 4),
            _limit(b["value"], b["vacuous"]),
            _promise(b["estimate"], b["vacuous"]),
            b["note"],
        )
        for name, b in record["baselines"].items()
        if name != "best"
    ]
    return Table(
        "instead",
        "What could be quoted instead, each a claim of its own",
        (
            "limit",
            "predictor",
            "train distribution",
            "test distribution",
            "promise on test",
            "note",
        ),
        tuple(rows),
        frozenset({2, 3}),
    )


def _ledger(record: Mapping[str, Any]) -> Table:
    rows = [(leaf["event"], failure(leaf["delta"])) for leaf in record["delta_ledger"]]
    spent = sum(leaf["delta"] for leaf in record["delta_ledger"])
    rows.append(("all together", failure(spent)))
    title = f"The ledger: what may fail (at most {record['delta']:g} in all)"
    return Table("ledger", title, ("event", "δ"), tuple(rows), frozenset({1}))


def _number(value: float | None) -> str:
    return "∞" if value is None else f"{value:.4f}"


def _limit(value: float | None, vacuous: bool) -> str:
    if vacuous:
        return f"{_number(value)} {VACUOUS}"
    text = "∞" if value is None else rounded_up(value, 4)
    near = value is not None and value < 1 and text == "1.0000"
    return "> 0.9999" if near else text  # rounding makes no promise vacuous


def _interval(risk: Mapping[str, Any]) -> str:
    if risk["guarantee"] == "exact":
        return "exact on these rows"
    low = "–" if risk["lower"] is None else rounded_down(risk["lower"], 3)
    high = "–" if risk["upper"] is None else rounded_up(risk["upper"], 3)
    return f"[{low}, {high}]"
