"""The command ``recipe``: row files and a scan configuration for real data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pacbayes_sft.cli.output import (
    Json,
    Seed,
    emit,
    new_table,
    quiet_stdout,
    refuse_input,
    refuse_unused,
)
from pacbayes_sft.errors import InputError


def recipe(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Which; left out: list them.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Directory for rows and scan.yaml.")
    ] = None,
    pool: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Local copy of the training data set.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Local copy of the test data set.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Another base; its tokenizer counts tokens.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Fewer rows of the pool.")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Write the rows and the scan configuration of a setting on real data.

    Example: `pacbayes-sft recipe openr1-math500 --out runs/openr1`, then
    `pacbayes-sft scan runs/openr1/scan.yaml --out runs/openr1/map`
    """
    from pacbayes_sft.recipes import RECIPES, write_recipe
    from pacbayes_sft.recipes.generated import GENERATORS

    if name is None:
        table = new_table("Recipes", "name", "base", "setting")
        for key, entry in RECIPES.items():
            table.add_row(key, entry.base, entry.what)
        emit({key: e.what for key, e in RECIPES.items()}, table, as_json=json, out=None)
        return
    if out is None:
        raise InputError(f"recipe {name}: give --out, the directory to write into")
    if name in GENERATORS:
        refuse_unused(context, f"with {name}, whose rows have seeds of their own", "seed")
    for side in ("pool", "test"):
        refuse_input(out / f"{side}.jsonl", pool, test)
    with quiet_stdout():
        said = write_recipe(name, out, pool=pool, test=test, base=base, rows=rows, seed=seed)
    table = new_table(said["what"], "file", "rows", "left out: too long for the base")
    for side in ("pool", "test"):
        table.add_row(
            f"{out / side}.jsonl", f"{said[side]['rows']:,}", f"{said[side]['too_long']:,}"
        )
    table.add_row(said["scan"], "", "run it with `pacbayes-sft scan`")
    emit(said, table, as_json=json, out=None)
