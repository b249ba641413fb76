"""The main command: ``bound``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from pacbayes_sft.choices import Loss, Posterior, PriorShape, Space, Start, Theorem
from pacbayes_sft.cli.output import (
    Base,
    BatchSize,
    Delta,
    Device,
    Dtype,
    Json,
    MaxLength,
    Seed,
    TrustRemoteCode,
    check_delta,
    check_dtype,
    claim,
    emit,
    interval,
    new_table,
    quiet_stdout,
    resolve_device,
)
from pacbayes_sft.errors import InputError

if TYPE_CHECKING:
    from pacbayes_sft.certify import Certificate
    from pacbayes_sft.plan import Plan


def bound(
    base: Base,
    finetuned: Annotated[Path, typer.Option(help="PEFT adapter directory or full checkpoint.")],
    train: Annotated[str, typer.Option(help="The rows it was trained on.")],
    test: Annotated[str, typer.Option(help="Rows of the test distribution.")],
    train_heldout: Annotated[
        str | None, typer.Option(help="Unseen rows of the train distribution, to measure the gaps.")
    ] = None,
    labelled: Annotated[
        str | None,
        typer.Option(help="Labelled rows nothing was fitted on, for shift terms that need them."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="Difficulty column of those terms (--labelled alone: difficulty)."),
    ] = None,
    prior: Annotated[
        str, typer.Option(help="base, initial, or the directory of an earlier checkpoint.")
    ] = "base",
    prior_train: Annotated[
        str | None, typer.Option(help="Rows that checkpoint saw, if no run record says so.")
    ] = None,
    prior_shape: Annotated[
        PriorShape, typer.Option(help="How the prior's scale is divided among the tensors.")
    ] = PriorShape.ISOTROPIC,
    posterior: Annotated[Posterior, typer.Option(help="Family of Q.")] = Posterior.AUTO,
    prior_scales: Annotated[
        str | None,
        typer.Option(help="Scales of the prior, fixed before the rows were seen: 0.02,0.05,..."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of a refinement.")] = 400,
    refine_batch: Annotated[int, typer.Option(min=1, help="Rows a refinement step.")] = 32,
    time_budget: Annotated[
        float | None, typer.Option(min=0, help="Seconds after which a refinement stops.")
    ] = None,
    radius: Annotated[
        float | None,
        typer.Option(min=0, help="How far a refinement may move the mean; 0 holds it fixed."),
    ] = None,
    start: Annotated[
        Start, typer.Option(help="Where a refinement begins: finished weights or prior's centre.")
    ] = Start.AUTO,
    space: Annotated[
        Space | None, typer.Option(help="Where the noise lives (default: factors for an adapter).")
    ] = None,
    shift: Annotated[
        str, typer.Option(help="auto, known, none, classifier, monotone, or a column.")
    ] = "auto",
    loss: Annotated[Loss, typer.Option(help="A loss in [0, 1].")] = Loss.EXACT_MATCH,
    draws: Annotated[int, typer.Option(min=1, help="Monte-Carlo draws a row.")] = 4,
    theorem: Annotated[
        Theorem, typer.Option(help="Which bound gets most of delta, named before the rows.")
    ] = Theorem.AUTO,
    delta: Delta = 0.05,
    device: Device = "auto",
    dtype: Dtype = "float32",
    batch_size: BatchSize = 64,
    max_length: MaxLength = None,
    trust_remote_code: TrustRemoteCode = False,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(file_okay=False, help="Directory to write into.")] = Path(
        "runs/bound"
    ),
    emit_adapter: Annotated[
        Path | None,
        typer.Option(help="Write one draw from the posterior there, as a certified adapter."),
    ] = None,
    emit_dtype: Annotated[
        str | None, typer.Option(help="Its dtype (default: that of the finished adapter).")
    ] = None,
    declared_draws: Annotated[
        int | None, typer.Option(min=1, help="Draws declared before the first was made.")
    ] = None,
    draw_seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of that draw (default: --seed).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what can be certified and its cost; no model.")
    ] = False,
    json: Json = False,
) -> None:
    """All terms of the bound for a finished fine-tune, and the measured risk beside them.

    Example: `pacbayes-sft bound --base strong --finetuned runs/ft --train train.jsonl --test
    test.jsonl --out runs/bound`
    """
    import json as json_module

    from estimators.posteriors.refined import Schedule
    from pacbayes_sft.bound_json import to_record, write_bound_json
    from pacbayes_sft.certify import bound as compute
    from pacbayes_sft.options import Options
    from pacbayes_sft.plots import plot_bound
    from pacbayes_sft.posteriors import Refinement
    from pacbayes_sft.report import reproduce, write_report, write_tables

    check_delta(delta)
    options = Options(
        prior=prior if prior in ("base", "initial") else Path(prior),
        prior_train=prior_train,
        prior_shape=prior_shape,
        posterior=posterior,
        refinement=Refinement(
            Schedule(steps=steps, radius=radius, time_budget=time_budget),
            refine_batch,
            out / ".refinement.partial",
            start,
        ),
        sigmas=parse_scales(prior_scales),
        space=space,
        shift=shift,
        loss=loss,
        delta=delta,
        theorem=theorem,
        profile=profile or ("difficulty" if labelled else None),
        draws=draws,
        batch_size=batch_size,
        max_length=max_length,
        trust_remote_code=trust_remote_code,
        seed=seed,
        device=resolve_device(device),
        dtype=check_dtype(dtype),
    )
    if dry_run:
        from pacbayes_sft.plan import plan

        with quiet_stdout():
            planned = plan(base, finetuned, train, test, options, train_heldout=train_heldout)
        emit(planned.to_dict(), plan_table(planned), as_json=json, out=None)
        return
    if emit_adapter is not None:
        from pacbayes_sft.certified import emit as certified

        certified.refuse_early(finetuned, emit_adapter, space, emit_dtype, declared_draws)
    with quiet_stdout():
        certificate = compute(
            base, finetuned, train, test, options, train_heldout=train_heldout, labelled=labelled
        )
        write_bound_json(certificate, out / "bound.json")
        plot_bound(certificate, out / "bound.png")
        write_report(
            certificate,
            out / "report.html",
            picture=out / "bound.png",
            command=reproduce(base, finetuned, train, test, options, train_heldout),
        )
        write_tables(to_record(certificate), out)
        if emit_adapter is not None:
            drawn = certified.emit_adapter(
                certificate,
                emit_adapter,
                dtype=emit_dtype,
                declared_draws=declared_draws,
                seed=draw_seed,
            )
    if json:
        record = to_record(certificate)
        if emit_adapter is not None:
            record["certified_adapter"] = drawn
        print(json_module.dumps(record, indent=1, allow_nan=False))
    else:
        show(certificate, Console())
        Console().print(
            f"wrote bound.json, bound.png, report.html, tables.md and tables.tex to {out}",
            highlight=False,
        )
        if emit_adapter is not None:
            from pacbayes_sft.certified.card import certificate_sentence

            Console().print(
                f"wrote a certified adapter (draw {drawn['draw']['k']}) to {emit_adapter}: "
                f"{certificate_sentence(drawn)}",
                highlight=False,
            )


def parse_scales(text: str | None) -> tuple[float, ...]:
    """Return the prior scales named on the command line, or the default grid.

    Raises:
        InputError: If they are no numbers.
    """
    from pacbayes_sft.options import SIGMAS

    if text is None:
        return SIGMAS
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"--prior-scales {text}: give numbers, as in 0.02,0.05") from None


def plan_table(planned: Plan) -> Table:
    """Return a dry run as one table."""
    p, pair = planned, planned.inputs.pair
    table = new_table(f"What {p.inputs.finetuned} can get (nothing was computed)", "what", "answer")
    table.add_row("label of the bound on the test risk", p.guarantee)
    table.add_row("n, certified units", f"{p.inputs.n:,}")
    table.add_row(
        "least conceivable bound",
        f"{p.least.upper:.4f} on the test distribution, {p.floor:.4f} on that of training (no "
        "errors, KL 0, least shift)",
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
    return table


def spends(events: Mapping[str, float]) -> list[str]:
    """Say on what δ is spent; events that differ by their prior scale alone share a line."""
    alike: dict[tuple[str, float], list[str]] = {}
    for event, delta in events.items():
        kind, _, scale = event.partition(" with prior scale ")
        alike.setdefault((kind, delta), []).append(scale)
    return [
        f"{delta:.5f} on {kind}"
        if scales == [""]
        else f"{delta:.5f} on {kind} at each of the prior scales {', '.join(scales)}"
        for (kind, delta), scales in alike.items()
    ]


def show(certificate: Certificate, console: Console) -> None:
    """Print what is promised in a sentence, terms, bounds, measured risks and warnings."""
    from estimators import is_vacuous
    from pacbayes_sft.bound_json import warnings_of
    from pacbayes_sft.report import certificate_sentence

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
        f"{c.terms.empirical_risk:.4f}",
        f"{interval(c.empirical_risk)}, {claim(c.empirical_risk)}",
    )
    terms.add_row(
        "generalization √(KL/2n)",
        f"{c.terms.generalization:.4f}",
        f"KL = {c.kl.value:,.5g} nats, {claim(c.kl)} ({c.fitted.family} posterior, prior scale "
        f"{c.fitted.sigma:g}, {c.inputs.pair.parameters:,} entries in "
        f"{c.inputs.pair.space.value} space)",
    )
    terms.add_row(
        "extrapolation",
        f"{c.terms.extrapolation:.4f}",
        f"TV on {c.shift.view}: {interval(c.shift.tv)}, {claim(c.shift.tv)}",
    )
    terms.add_row(
        "ε √(ln(2√n/δ)/2n)",
        f"{c.terms.epsilon:.4f}",
        f"the event's share of δ is {c.leaves.theorem:.4g}",
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
        bounds.add_row(name, f"{on_train.upper:.4f}", f"{on_test.upper:.4f}", verdict)
    console.print(bounds)
    if c.profile is not None:
        console.print(_shift_table(c))
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
    console.print(measured)
    others = new_table(
        f"What could be quoted instead, each at {1 - c.options.delta:g}",
        "limit",
        "test distr.",
        "predictor and cost",
    )
    for name, baseline in c.baselines.items():
        vacuous = " vacuous" if is_vacuous(baseline.on_test) else ""
        others.add_row(
            name.replace("_", " "),
            f"{baseline.on_test.upper:.4f}{vacuous}",
            f"{baseline.predictor}; {baseline.note}",
        )
    console.print(others)
    for warning in warnings_of(c):
        console.print(f"• {warning}", highlight=False)
    for sentence in c.bound.assumptions:
        console.print(f"assumes: {sentence}", style="dim", highlight=False)


def _shift_table(certificate: Certificate) -> Table:
    """The shift terms that know the predictor, each with the bound it gives."""
    from estimators import is_vacuous
    from pacbayes_sft.shift.of_predictor import bounds_by_shift

    assert certificate.profile is not None
    table = new_table(
        f"The same by other shift terms over {certificate.profile.column!r}: name one in advance, "
        "δ pays for one",
        "shift term",
        "test distr.",
        "verdict",
    )
    for name, found in bounds_by_shift(certificate).items():
        verdict = "vacuous" if is_vacuous(found) else claim(found)
        table.add_row(name, f"{found.upper:.4f}", verdict)
    return table
