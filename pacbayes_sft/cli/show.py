"""What a bound and a dry run look like in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from pacbayes_sft.cli.output import claim, interval, new_table

if TYPE_CHECKING:
    from pacbayes_sft.certify import Certificate
    from pacbayes_sft.plan import Plan


def plan_table(planned: Plan) -> Table:
    """Return a dry run as one table."""
    from estimators.display import rounded_up

    p, pair = planned, planned.inputs.pair
    table = new_table(f"What {p.inputs.finetuned} can get (nothing was computed)", "what", "answer")
    table.add_row("label of the bound on the test risk", p.guarantee)
    table.add_row("n, certified units", f"{p.inputs.n:,}")
    table.add_row(
        "least conceivable bound",
        f"{rounded_up(p.least.upper, 4)} on the test distribution, {rounded_up(p.floor, 4)} on "
        "that of training (no errors, KL 0, least shift)",
    )
    table.add_row(
        "posterior and prior",
        f"{p.options.posterior}, {pair.parameters:,} entries in {pair.space} space; prior centred "
        f"on {pair.prior_source}, ‖Δ‖² = {pair.squared_distance:.4g}",
    )
    for kind, parts in (("prior", p.priors), ("shift", p.shifts)):
        for part in parts:
            mark = "yes" if part.available else "no"
            table.add_row(f"{kind} {part.name}", f"{mark}: {part.remark}")
    table.add_row("shift term", p.shift_method)
    for sentence in p.missing:
        table.add_row("missing", sentence)
    for sentence in p.least.assumptions:
        table.add_row("assumes", sentence)
    for sentence in p.warnings:
        table.add_row("warning", sentence)
    for words in spends(p.ledger.events):
        table.add_row("spends δ", words)
    table.add_row("base weights", p.inputs.base_precision)
    table.add_row("rows evaluated", f"{p.rows_evaluated:,}")
    table.add_row("rows refined on", f"{p.rows_refined:,} (forwards and backwards)")
    table.add_row(
        "matrix products",
        f"about {p.operations:.1e} operations: {timedelta(seconds=round(p.seconds))} (h:mm:ss) "
        "here at the rate of one large product; small models take several times as long",
    )
    return table


def spends(events: Mapping[str, float]) -> list[str]:
    """Say on what δ is spent; events that differ by their prior scale alone share a line."""
    from estimators.display import failure

    alike: dict[tuple[str, float], list[str]] = {}
    for event, delta in events.items():
        kind, _, scale = event.partition(" with prior scale ")
        alike.setdefault((kind, delta), []).append(scale)
    return [
        f"{failure(delta)} on {kind}"
        if scales == [""]
        else f"{failure(delta)} on {kind} at each of the prior scales {', '.join(scales)}"
        for (kind, delta), scales in alike.items()
    ]


def show(certificate: Certificate, console: Console) -> None:
    """Print what is promised in a sentence, terms, bounds, measured risks and warnings."""
    from estimators import is_vacuous
    from estimators.display import failure, rounded_up
    from pacbayes_sft.bound_json import drift_of, warnings_of
    from pacbayes_sft.report import certificate_sentence
    from pacbayes_sft.shift import is_monotone

    c = certificate
    console.print(certificate_sentence(c), style="bold", highlight=False)
    terms = new_table(
        f"Terms of Proposition 4.1 (n = {c.inputs.n:,}, δ = {c.options.delta:g}, loss "
        f"{c.options.loss.value})",
        "term",
        "value",
        "what it promises",
    )
    terms.add_row(
        "empirical risk (Gibbs)",
        rounded_up(c.terms.empirical_risk, 4),
        f"{interval(c.empirical_risk)}, {claim(c.empirical_risk)}",
    )
    terms.add_row(
        "generalization √(KL/2n)",
        rounded_up(c.terms.generalization, 4),
        f"KL = {c.kl.value:,.5g} nats, {claim(c.kl)} ({c.fitted.family} posterior, prior scale "
        f"{c.fitted.sigma:g}, {c.inputs.pair.parameters:,} entries in "
        f"{c.inputs.pair.space.value} space)",
    )
    terms.add_row(
        "extrapolation",
        rounded_up(c.terms.extrapolation, 4),
        f"{'D⁺' if is_monotone(c.options.shift) else 'TV'} on {c.shift.view}: "
        f"{interval(c.shift.tv)}, {claim(c.shift.tv)}",
    )
    terms.add_row(
        "ε √(ln(2√n/δ)/2n)",
        rounded_up(c.terms.epsilon, 4),
        f"the event's share of δ is {failure(c.leaves.theorem)}",
    )
    console.print(terms)
    bounds = new_table(
        "Bounds on the risk of the Gibbs predictor",
        "theorem",
        "train distr.",
        "test distr.",
        "verdict",
    )
    for name, (on_test, on_train) in c.bounds.items():
        verdict = "vacuous" if is_vacuous(on_test) else claim(on_test)
        bounds.add_row(name, rounded_up(on_train.upper, 4), rounded_up(on_test.upper, 4), verdict)
    console.print(bounds)
    if c.profile is not None:
        _show_shift_terms(c, console)
    measured = new_table("Measured", "risk", "value", "which predictor")
    if c.measured.test_risk:
        measured.add_row("test rows", interval(c.measured.test_risk), "Gibbs (covered)")
    if c.measured.train_distribution_risk:
        measured.add_row(
            "held-out train rows", interval(c.measured.train_distribution_risk), "Gibbs (covered)"
        )
    measured.add_row(
        "test rows", interval(c.measured.test_risk_finetuned), "finished model (not covered)"
    )
    measured.add_row(
        "training rows", interval(c.measured.train_risk_finetuned), "finished model (not covered)"
    )
    drift = drift_of(c)
    agreement = drift["agreement"]
    measured.add_row(
        "drift",
        f"{agreement['value']:.1%} equal loss" if agreement else "",
        f"posterior's mean: {drift['distance']:.3g} from the finished weights, "
        f"{drift['distance_to_prior']:.3g} from the prior's centre; between those two: "
        f"{drift['distance_finished_to_prior']:.3g}",
    )
    console.print(measured)
    others = new_table(
        "What could be quoted instead, each a claim of its own",
        "limit",
        "test distr.",
        "verdict",
        "predictor and cost",
    )
    for name, baseline in c.baselines.items():
        others.add_row(
            name.replace("_", " "),
            rounded_up(baseline.on_test.upper, 4),
            "vacuous" if is_vacuous(baseline.on_test) else claim(baseline.on_test),
            f"{baseline.predictor}; {baseline.note}",
        )
    console.print(others)
    for warning in warnings_of(c):
        console.print(f"• {warning}", highlight=False)
    for sentence in c.bound.assumptions:
        console.print(f"assumes: {sentence}", style="dim", highlight=False)


def _show_shift_terms(certificate: Certificate, console: Console) -> None:
    """The shift terms that know the predictor, each with its bound and what that rests on."""
    from estimators import is_vacuous
    from estimators.display import rounded_up
    from pacbayes_sft.report.tables import assumed_by
    from pacbayes_sft.shift.of_predictor import bounds_by_shift

    assert certificate.profile is not None
    table = new_table(
        f"The same by other shift terms over {certificate.profile.column!r}: name one in advance, "
        "δ pays for one",
        "shift term",
        "test distr.",
        "verdict",
    )
    terms = bounds_by_shift(certificate)
    for name, found in terms.items():
        verdict = "vacuous" if is_vacuous(found) else claim(found)
        table.add_row(name, rounded_up(found.upper, 4), verdict)
    console.print(table)
    for note in assumed_by({name: found.assumptions for name, found in terms.items()}):
        console.print(note, style="dim", highlight=False)
