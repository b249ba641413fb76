"""``inspect``: what a directory contains, what it changes, and how it can be certified."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pacbayes_sft.cli.output import Json, Out, emit, new_table, refuse_input


def inspect(
    directory: Annotated[Path, typer.Argument(help="PEFT adapter directory or full checkpoint.")],
    base: Annotated[
        str | None, typer.Option(help="Its base: path, hub id, or a shipped one: strong, weak.")
    ] = None,
    json: Json = False,
    out: Out = None,
) -> None:
    """What a directory contains, what it changes, and whether and how it can be certified.

    Example: `pacbayes-sft inspect runs/ft --base strong`
    """
    from pacbayes_sft.inspection import inspect_checkpoint

    refuse_input(out, directory, base)
    found = inspect_checkpoint(directory, base=base)
    table = new_table(f"{found.directory}: {found.kind}", "what", "", "in words")
    if found.refusal:
        table.add_row("cannot be read", "no", found.refusal)
    for label, words in found.contents:
        table.add_row(label, "", words)
    for label, words in found.changes:
        table.add_row(f"changes: {label}", "", words)
    for warning in found.warnings:
        table.add_row("warning", "", warning)
    table.add_row("run record", "", found.record)
    for way in (*found.ways, *found.priors):
        there = {True: "yes", False: "no", None: "?"}[way.available]
        name = way.name if way in found.ways else f"prior: {way.name}"
        table.add_row(name, there, way.remark)
    emit(found.to_dict(), table, as_json=json, out=out)
