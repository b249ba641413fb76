"""The main command: ``bound``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    check_folder,
    emit,
    quiet_stdout,
    refuse_unused,
    resolve_device,
    terminal,
)
from pacbayes_sft.cli.show import plan_table, show
from pacbayes_sft.errors import InputError

SHIFTS = "auto, known, none, classifier, monotone, monotone:COLUMN, trivial, or a column."
# Options that speak of a refinement, and of a certified adapter.
REFINING = ("steps", "refine_batch", "time_budget", "radius", "start")
EMITTING = ("emit_dtype", "declared_draws", "draw_seed")


def bound(
    context: typer.Context,
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
    shift: Annotated[str, typer.Option(help=SHIFTS)] = "auto",
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

    from pacbayes_sft.data.rows import refuse_missing

    if prior in ("base", "initial"):
        refuse_unused(context, f"with --prior {prior}, which saw no rows", "prior_train")
    refuse_missing(train, test, train_heldout, labelled, prior_train)
    if posterior not in (Posterior.AUTO, Posterior.REFINED):
        where = f"with --posterior {posterior}, which is not refined"
        refuse_unused(context, where, *REFINING)
    if emit_adapter is None:
        refuse_unused(context, "without --emit-adapter", *EMITTING)
    if dry_run:
        refuse_unused(context, "under --dry-run", "emit_adapter")
    else:
        check_folder(out)
        if emit_adapter is not None:
            check_folder(emit_adapter, "--emit-adapter")

    from estimators.posteriors.refined import Schedule
    from pacbayes_sft.bound_json import to_record, write_bound_json
    from pacbayes_sft.certify import bound as compute
    from pacbayes_sft.options import Options
    from pacbayes_sft.plots import plot_bound
    from pacbayes_sft.posteriors import Refinement
    from pacbayes_sft.report import reproduce, write_report, write_tables

    check_delta(delta)
    options = Options(
        prior=prior,
        prior_train=prior_train,
        prior_shape=prior_shape,
        posterior=posterior,
        refinement=Refinement(
            Schedule(steps=steps, radius=radius, time_budget=time_budget),
            refine_batch,
            out / ".refinement.partial",
            start,
        ),
        prior_scales=parse_scales(prior_scales),
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
        dtype=check_dtype(dtype, device),
    )
    if dry_run:
        from pacbayes_sft.plan import plan

        with quiet_stdout():
            planned = plan(
                base,
                finetuned,
                train,
                test,
                options,
                train_heldout=train_heldout,
                labelled=labelled,
            )
        emit(planned.to_dict(), plan_table(planned), as_json=json, out=None)
        return
    if emit_adapter is not None:
        from pacbayes_sft.certified import emit as certified
        from pacbayes_sft.hub import checkpoint_directory

        emit_adapter = emit_adapter.resolve()
        if emit_adapter in (out.resolve(), *out.resolve().parents):
            raise InputError(
                f"--out {out}: lies in --emit-adapter {emit_adapter}, which has to be empty"
            )
        adapter = checkpoint_directory(finetuned)
        certified.refuse_early(adapter, emit_adapter, space, emit_dtype, declared_draws)
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
            command=reproduce(base, finetuned, train, test, options, train_heldout, labelled),
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
        if posterior in (Posterior.AUTO, Posterior.REFINED):  # all that rests on it is written
            (out / ".refinement.partial").unlink(missing_ok=True)
    if json:
        record = to_record(certificate)
        if emit_adapter is not None:
            record["certified_adapter"] = drawn
        print(json_module.dumps(record, indent=1, allow_nan=False))
    else:
        console = terminal()
        show(certificate, console)
        console.print(
            f"wrote bound.json, bound.png, report.html, tables.md and tables.tex to {out}",
            highlight=False,
        )
        if emit_adapter is not None:
            from pacbayes_sft.certified.card import certificate_sentence

            console.print(
                f"wrote a certified adapter (draw {drawn['draw']['k']}) to {emit_adapter}: "
                f"{certificate_sentence(drawn)}",
                highlight=False,
            )


def parse_scales(text: str | None) -> tuple[float, ...]:
    """Return the prior scales named on the command line, or the default grid.

    Raises:
        InputError: If they are no numbers.
    """
    from pacbayes_sft.options import PRIOR_SCALES

    if text is None:
        return PRIOR_SCALES
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"--prior-scales {text}: give numbers, as in 0.02,0.05") from None
