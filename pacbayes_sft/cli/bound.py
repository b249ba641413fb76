"""The main command: ``bound``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pacbayes_sft.choices import Loss, Posterior, Space
from pacbayes_sft.cli.output import (
    Base,
    BatchSize,
    Delta,
    Device,
    Dtype,
    Json,
    MaxLength,
    Seed,
    check_delta,
    check_dtype,
    claim,
    interval,
    new_table,
    quiet_stdout,
    resolve_device,
)
from pacbayes_sft.errors import InputError


def bound(
    base: Base,
    finetuned: Annotated[Path, typer.Option(help="PEFT adapter directory or full checkpoint.")],
    train: Annotated[str, typer.Option(help="The rows it was trained on.")],
    test: Annotated[str, typer.Option(help="Rows of the test distribution.")],
    train_heldout: Annotated[
        str | None, typer.Option(help="Unseen rows of the train distribution, to measure the gaps.")
    ] = None,
    prior: Annotated[
        str, typer.Option(help="base, initial, or the directory of an earlier checkpoint.")
    ] = "base",
    prior_train: Annotated[
        str | None, typer.Option(help="Rows that checkpoint saw, if no run record says so.")
    ] = None,
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
    space: Annotated[
        Space | None, typer.Option(help="Where the noise lives (default: factors for an adapter).")
    ] = None,
    shift: Annotated[
        str, typer.Option(help="auto, known, none, classifier, or a column (attribute shift).")
    ] = "auto",
    loss: Annotated[Loss, typer.Option(help="A loss in [0, 1].")] = Loss.EXACT_MATCH,
    draws: Annotated[int, typer.Option(min=1, help="Monte-Carlo draws a row.")] = 1,
    delta: Delta = 0.05,
    device: Device = "auto",
    dtype: Dtype = "float32",
    batch_size: BatchSize = 64,
    max_length: MaxLength = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(file_okay=False, help="Directory to write into.")] = Path(
        "runs/bound"
    ),
    json: Json = False,
) -> None:
    """All terms of the bound for a finished fine-tune, and the measured risk beside them.

    Example: `pacbayes-sft bound --base strong --finetuned runs/ft --train train.jsonl --test
    test.jsonl --out runs/bound`
    """
    import json as json_module

    from estimators.posteriors.refined import Schedule
    from pacbayes_sft.bound_json import to_record, write_bound_json
    from pacbayes_sft.certify import Options
    from pacbayes_sft.certify import bound as compute
    from pacbayes_sft.plots import plot_bound
    from pacbayes_sft.posteriors import Refinement
    from pacbayes_sft.report import reproduce, write_report

    check_delta(delta)
    options = Options(
        prior=prior if prior in ("base", "initial") else Path(prior),
        prior_train=prior_train,
        posterior=posterior,
        refinement=Refinement(
            Schedule(steps=steps, radius=radius, time_budget=time_budget),
            refine_batch,
            out / ".refinement.partial",
        ),
        sigmas=parse_scales(prior_scales),
        space=space,
        shift=shift,
        loss=loss,
        delta=delta,
        draws=draws,
        batch_size=batch_size,
        max_length=max_length,
        seed=seed,
        device=resolve_device(device),
        dtype=check_dtype(dtype),
    )
    with quiet_stdout():
        certificate = compute(base, finetuned, train, test, options, train_heldout=train_heldout)
        write_bound_json(certificate, out / "bound.json")
        plot_bound(certificate, out / "bound.png")
        write_report(
            certificate,
            out / "report.html",
            picture=out / "bound.png",
            command=reproduce(base, finetuned, train, test, options, train_heldout),
        )
    if json:
        print(json_module.dumps(to_record(certificate), indent=1, allow_nan=False))
    else:
        show(certificate, Console())
        Console().print(f"wrote {out}/bound.json, bound.png and report.html", highlight=False)


def parse_scales(text: str | None) -> tuple[float, ...]:
    """Return the prior scales named on the command line, or the default grid.

    Raises:
        InputError: If they are no numbers.
    """
    from pacbayes_sft.certify import SIGMAS

    if text is None:
        return SIGMAS
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"--prior-scales {text}: give numbers, as in 0.02,0.05") from None


def show(certificate: object, console: Console) -> None:
    """Print the terms, the bounds, the measured risks and the warnings."""
    from estimators import is_vacuous
    from pacbayes_sft.bound_json import warnings_of
    from pacbayes_sft.certify import Certificate

    assert isinstance(certificate, Certificate)
    c = certificate
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
        f"the event's share of δ is {c.leaf_delta:.4g}",
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
