"""``demo``: the main job on the embedded default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pacbayes_sft.cli.output import Json, Seed, quiet_stdout, terminal


def demo(
    out: Annotated[Path, typer.Option(help="Directory for everything the demo makes.")] = Path(
        "runs/demo"
    ),
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """The main job end to end: data, fine-tune, bound, measured risk, picture.

    Example: `pacbayes-sft demo`
    """
    import json as json_module

    from pacbayes_sft.bound_json import to_record, write_bound_json
    from pacbayes_sft.cli.show import show
    from pacbayes_sft.demo import run_demo
    from pacbayes_sft.plots import plot_bound
    from pacbayes_sft.report import write_report

    console = terminal()
    with quiet_stdout():
        result = run_demo(out, seed=seed)
        for name, certificate in (
            ("bound", result.base_prior),
            ("bound_checkpoint_prior", result.checkpoint_prior),
        ):
            write_bound_json(certificate, out / f"{name}.json")
            plot_bound(certificate, out / f"{name}.png")
            write_report(
                certificate,
                out / f"{name}_report.html",
                picture=out / f"{name}.png",
                command=f"pacbayes-sft demo --out {out} --seed {seed}",
            )
    if json:
        records = {
            "bound": to_record(result.base_prior),
            "bound_checkpoint_prior": to_record(result.checkpoint_prior),
        }
        print(json_module.dumps(records, indent=1, allow_nan=False))
        return
    console.rule("prior: the base (the paper's reading)")
    show(result.base_prior, console)
    console.rule("prior: the checkpoint that saw the first half of the rows only")
    show(result.checkpoint_prior, console)
    console.print(
        f"wrote bound.json, bound.png, bound_report.html and their likes for the checkpoint prior "
        f"to {out}",
        highlight=False,
    )
