"""Commands that make things to bound: ``igsm`` (data) and ``sft`` (one fine-tune)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pacbayes_sft.choices import Objective, Rendering
from pacbayes_sft.cli.output import (
    Base,
    Device,
    Dtype,
    Json,
    MaxLength,
    Seed,
    TrustRemoteCode,
    check_dtype,
    emit,
    new_table,
    quiet_stdout,
    refuse_unused,
    resolve_device,
)
from pacbayes_sft.errors import InputError


def igsm(
    ops: Annotated[str, typer.Option(help="Op law: LO:HI (uniform) or k=w,k=w,...")],
    size: Annotated[int, typer.Option(help="Number of problems.")],
    out: Annotated[
        Path, typer.Option(dir_okay=False, help="File to write; its law goes beside it.")
    ],
    seed: Seed = 0,
    rendering: Annotated[Rendering, typer.Option(help="How the text is written.")] = (
        Rendering.SYMBOLIC
    ),
    instance_only: Annotated[bool, typer.Option(help="No abstract parameters.")] = False,
    json: Json = False,
) -> None:
    """Write iGSM-style problems with a known law of their operation count.

    Example: `pacbayes-sft igsm --ops 6:10 --size 2000 --seed 1 --out train.jsonl`
    """
    from pacbayes_sft.igsm import OpLaw
    from pacbayes_sft.igsm.files import write_problems

    try:
        law = OpLaw.parse(ops)
        metadata = write_problems(
            out, law, size=size, seed=seed, abstract=not instance_only, rendering=rendering
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    table = new_table(f"Wrote {out}", "quantity", "value")
    table.add_row("problems", f"{metadata.rows:,}")
    table.add_row("op law", ", ".join(f"{k}: {w:.3g}" for k, w in metadata.law.items()))
    table.add_row("generator", metadata.generator)
    emit(metadata.model_dump(), table, as_json=json, out=None)


def sft(
    context: typer.Context,
    base: Base,
    train: Annotated[str, typer.Option(help="Rows to train on.")],
    out: Annotated[Path, typer.Option(help="Directory for the fine-tune and its run record.")],
    objective: Annotated[Objective, typer.Option(help="Training objective.")] = Objective.NLL,
    lora_rank: Annotated[int, typer.Option(min=1, help="Rank of the LoRA factors.")] = 8,
    lora_alpha: Annotated[float, typer.Option(help="LoRA's alpha.")] = 16.0,
    target_modules: Annotated[str, typer.Option(help="Modules that get factors.")] = "all-linear",
    full: Annotated[bool, typer.Option("--full", help="Train all weights instead.")] = False,
    prior_fraction: Annotated[
        float, typer.Option(help="First finish a full schedule on this share of the units.")
    ] = 0.0,
    steps: Annotated[int, typer.Option(help="Optimiser steps a schedule; 0: epochs decide.")] = 0,
    epochs: Annotated[float, typer.Option(help="Passes over the rows.")] = 3.0,
    batch_size: Annotated[int, typer.Option(help="Rows a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "float32",
    max_length: MaxLength = None,
    trust_remote_code: TrustRemoteCode = False,
    json: Json = False,
) -> None:
    """One fine-tune through TRL, keeping what a later bound needs (order, hashes, initial adapter).

    Example: `pacbayes-sft sft --base strong --train train.jsonl --out runs/ft --prior-fraction 0.5`
    """
    from pacbayes_sft.data.rows import refuse_missing

    refuse_missing(train)
    if full:
        refuse_unused(context, "with --full", "lora_rank", "lora_alpha", "target_modules")
    if steps:
        refuse_unused(context, "beside --steps", "epochs")

    from pacbayes_sft.processes import Team
    from pacbayes_sft.sft import Settings, run_sft

    settings = Settings(
        objective=objective,
        lora_rank=0 if full else lora_rank,
        lora_alpha=lora_alpha,
        target_modules=target_modules,
        steps=steps,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        prior_fraction=prior_fraction,
        seed=seed,
        device=resolve_device(device),
        dtype=check_dtype(dtype, device),
        max_length=max_length,
        trust_remote_code=trust_remote_code,
    )
    with quiet_stdout():
        record = run_sft(base, train, out, settings)
    if not Team.of(resolve_device(device)).first:
        return  # of several processes one speaks
    table = new_table(f"Fine-tuned into {out}", "quantity", "value")
    rows = len(record.order)
    table.add_row("rows given, none dropped", f"{rows:,}")
    read = min(rows, settings.steps_over(rows) * batch_size)  # a schedule may end before its last
    table.add_row("rows read at least once", f"{read:,}")
    table.add_row("rows the prior checkpoint saw", f"{record.prior_rows:,}")
    table.add_row("run record", str(out / "pacbayes_sft" / "run.json"))
    emit(
        record.model_dump(mode="json", exclude={"row_sha256", "order"}),
        table,
        as_json=json,
        out=None,
    )
