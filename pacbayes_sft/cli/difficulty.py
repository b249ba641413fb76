"""The command ``difficulty``: metrics of every row, and how they rank rows alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pacbayes_sft.cli.output import (
    BatchSize,
    Device,
    Dtype,
    Json,
    Seed,
    TrustRemoteCode,
    check_dtype,
    check_picture,
    emit,
    new_table,
    quiet_stdout,
    refuse_input,
    refuse_unused,
    resolve_device,
)
from pacbayes_sft.errors import InputError


def difficulty(
    context: typer.Context,
    train: Annotated[str, typer.Argument(help="Rows.")],
    out: Annotated[
        Path, typer.Option(dir_okay=False, help="File for the rows with a column a metric.")
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="cot_tokens, base_loss, pass_rate, fail_rate, thtb_extrinsic, thtb_intrinsic, "
            "bloom_proxy, or a column; may be given again."
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="Model of base_loss and pass_rate: path, hub id, strong, weak."),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Whose tokens cot_tokens counts (default: the base's).")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Solutions a row for pass_rate.")] = 8,
    temperature: Annotated[float, typer.Option(help="At which they are sampled.")] = 1.0,
    picture: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Draw laws and correlations there (and as SVG)."),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    batch_size: BatchSize = 64,
    seed: Seed = 0,
    trust_remote_code: TrustRemoteCode = False,
    json: Json = False,
) -> None:
    """Measure the difficulty of rows, in as many ways as asked, and compare the ways.

    Example: `pacbayes-sft difficulty train.jsonl --base strong --metric cot_tokens --metric
    pass_rate --out train.difficulty.jsonl --picture difficulty.png`
    """
    from pacbayes_sft.data.rows import refuse_missing

    refuse_missing(train)

    from pacbayes_sft.difficulty import measure_difficulty, plot_difficulty
    from pacbayes_sft.difficulty.measure import METRICS, OF_MODELS
    from pacbayes_sft.difficulty.picture import pictures_of

    refuse_input(out, train)
    for drawn in () if picture is None else pictures_of(picture):  # an SVG lies beside a PNG
        refuse_input(drawn, train, option="--picture")
        if drawn.resolve() == out.resolve():
            raise InputError(
                f"--picture {picture}: would be drawn to {drawn} too, which is the --out; give "
                "another name"
                if drawn != picture
                else "--picture and --out name one file; give another name"
            )
    check_picture(picture)
    metrics = tuple(metric or ["cot_tokens"])
    if not {"pass_rate", "fail_rate"} & {*metrics}:
        refuse_unused(
            context, "without --metric pass_rate or fail_rate", "samples", "temperature", "seed"
        )
    if "cot_tokens" not in metrics:
        refuse_unused(context, "without --metric cot_tokens", "tokenizer")
    if not {*OF_MODELS} & {*metrics} and {*metrics} <= {*METRICS}:
        refuse_unused(context, "with these metrics, which read no model", "base")
    if tokenizer is not None and not {"base_loss", "pass_rate", "fail_rate"} & {*metrics}:
        refuse_unused(context, "beside --tokenizer, where no metric asks for a model", "base")
    with quiet_stdout():
        found = measure_difficulty(
            train,
            base,
            metrics,
            tokenizer=tokenizer,
            samples=samples,
            temperature=temperature,
            seed=seed,
            device=resolve_device(device),
            dtype=check_dtype(dtype, device),
            batch_size=batch_size,
            trust_remote_code=trust_remote_code,
        )
        found.write(out)
        if picture is not None:
            plot_difficulty(found, picture)
    record = found.to_dict()
    table = new_table(f"Difficulty of {train}", "metric", "least", "median", "most", "what it is")
    for name, entry in record["metrics"].items():
        least, _, median, _, most = entry["quantiles"]
        table.add_row(name, f"{least:.4g}", f"{median:.4g}", f"{most:.4g}", entry["what"])
    for pair, rho in record["spearman"].items():
        table.add_row(pair, "", "-" if rho is None else f"{rho:.3f}", "", "Spearman")
    emit(record, table, as_json=json, out=None)
