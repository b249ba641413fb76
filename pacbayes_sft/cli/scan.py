"""The commands of the map: ``scan`` measures it, ``plot`` draws it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pacbayes_sft.atomic import replacing
from pacbayes_sft.cli.output import (
    Json,
    check_dtype,
    emit,
    new_table,
    quiet_stdout,
    refuse_unused,
)
from pacbayes_sft.errors import InputError

EXAMPLE = """\
name: ten minutes
data: {kind: igsm, test: "6:12", test_rows: 256, heldout_rows: 128}
windows: ["2:6", "4:8", "6:10", "8:12"]
sizes: [64, 256, 1024]
seeds: [0]
bases: [strong]
fine_tune: {epochs: 1, least_steps: 50, batch_size: 32}
bounds:
  refined: {posterior: refined, prior_scales: [0.02, 0.05], steps: 60}
primary: {bound: refined, theorem: kl}
"""


def scan(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Argument(help="What to scan (YAML).", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(file_okay=False, help="Directory of the records.")] = Path(
        "runs/scan"
    ),
    workers: Annotated[
        int, typer.Option(min=0, help="Ray workers here; 0 runs in this process.")
    ] = 0,
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster to run on instead.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Torch threads a cell (a worker has one).")
    ] = None,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs a cell; a fraction shares one.")] = 0.0,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes that share each fine-tune, each GPU one.")
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print cells and hours; measure nothing.")
    ] = False,
    example: Annotated[bool, typer.Option("--example", help="Print a configuration.")] = False,
    json: Json = False,
) -> None:
    """Fine-tune, bound and measure over training size × difficulty; resumable.

    Example: `pacbayes-sft scan map.yaml --out runs/map --workers 2`
    """
    if example:
        refuse_unused(context, "with --example, which is YAML", "json")
        typer.echo(EXAMPLE, nl=False)
        return
    if config is None:
        raise InputError("scan: name a configuration, or print one with --example")
    if address is not None:
        refuse_unused(context, "beside --address", "workers")
    elif not workers:
        refuse_unused(context, "without --workers or --address", "gpus")
    from pacbayes_sft.scan.cells import list_cells
    from pacbayes_sft.scan.config_file import read_config
    from pacbayes_sft.scan.frame import cells_frame, summary
    from pacbayes_sft.scan.jobs import list_jobs
    from pacbayes_sft.scan.pictures import plot_scan
    from pacbayes_sft.scan.run import hours_left, refuse_unshared, run_scan
    from pacbayes_sft.scan.store import Store
    from pacbayes_sft.scan.where import Where

    asked = read_config(config)
    if asked.device == "cpu":  # another may be the workers' alone
        check_dtype(asked.dtype, asked.device)
    where = Where(workers, address, threads, gpus, processes)
    refuse_unshared(asked, where)
    if dry_run:
        store = Store(out)
        jobs = list_jobs(asked)
        left = [job.cell for job in jobs if job.cell and not store.has(job.key)]
        known = [store.get(job.key) for job in jobs if store.has(job.key)]
        hours = hours_left(known, left, workers)
        table = new_table(f"{asked.name}: what would run", "quantity", "value")
        table.add_row("cells", f"{len(list_cells(asked)):,}")
        table.add_row("not measured yet", f"{len(left):,}")
        table.add_row(
            "hours", "unknown until one cell is measured" if hours is None else f"{hours:.1f}"
        )
        record = {"cells": len(list_cells(asked)), "missing": len(left), "hours": hours}
        emit(record, table, as_json=json, out=None)
        return
    with quiet_stdout():
        records = run_scan(asked, out, where)
        frame = cells_frame(records)
        with replacing(out / "cells.csv") as partial:
            frame.to_csv(partial, index=False)
        first = asked.primary
        found = summary(frame, first.bound, first.theorem, first.shift)
        plot_scan(records, out / "pictures", first.bound, first.theorem, first.shift)
    primary = ", ".join(found["primary"].values())
    table = new_table(
        f"{asked.name}: measured against {primary}",
        "group",
        "n",
        "measured best",
        "bound's best",
        "Spearman over windows",
        "exceeded, of values below 1",
        "violations",
    )
    for group, both in found["groups"].items():
        mine = both["primary"]
        for n, best in mine["minimiser"].items():
            rho = mine["spearman_per_n"][n]
            table.add_row(
                group,
                f"{n:,}",
                best["measured"],
                best["bound"],
                "-" if rho is None else f"{rho:.2f}",
                f"{mine['exceeded']} of {mine['informative']}",
                "-"
                if mine["violations"] is None
                else f"{mine['violations']} of {mine['could_fail']}",
            )
    emit({"name": asked.name, **found}, table, as_json=json, out=out / "summary.json")


def plot(
    directory: Annotated[Path, typer.Argument(help="What `scan` wrote.")],
    bound: Annotated[str, typer.Option(help="Which bound of the configuration.")],
    theorem: Annotated[
        str, typer.Option(help="Which theorem's value; importance weights have their own.")
    ] = "kl",
    shift: Annotated[str, typer.Option(help="Which shift term.")] = "tv",
    config: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Its configuration, where records of several lie there."),
    ] = None,
    json: Json = False,
) -> None:
    """Draw the pictures of a map again, for another bound or theorem.

    Example: `pacbayes-sft plot runs/map --bound refined --theorem proposition_4_1`
    """
    from pacbayes_sft.scan.frame import IMPORTANCE, theorem_of
    from pacbayes_sft.scan.pictures import plot_scan
    from pacbayes_sft.scan.records import read_records

    if not (directory / "records").is_dir():
        raise InputError(f"{directory}: holds no records; make them with `pacbayes-sft scan`")
    records = read_records(directory, config)
    every = [(name, b) for r in records if "cell" in r for name, b in r["bounds"].items()]
    names = {name for name, _ in every}
    shifts = {s for _, b in every for s in b["shifts"]}
    theorems = {t for _, b in every for t in b["bounds"]} | (shifts & {IMPORTANCE})
    for flag, value, known in (
        ("bound", bound, names),
        ("theorem", theorem_of(shift, theorem), theorems),
        ("shift", shift, shifts),
    ):
        if value not in known:
            raise InputError(f"--{flag} {value}: not in the records ({', '.join(sorted(known))})")
    with quiet_stdout():
        files = plot_scan(records, directory / "pictures", bound, theorem, shift)
    if not files:
        raise InputError(
            f"{directory}: no record holds --bound {bound}, --theorem {theorem} and --shift "
            f"{shift} together"
        )
    table = new_table("Drawn", "file")
    for file in files:
        table.add_row(str(file))
    emit({"files": [str(file) for file in files]}, table, as_json=json, out=None)
