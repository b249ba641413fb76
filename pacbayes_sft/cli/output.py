"""What commands have in common: tables on the terminal, or one JSON object and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as RichTable

from pacbayes_sft.atomic import replacing
from pacbayes_sft.choices import LARGEST_SEED, LEAST_DELTA
from pacbayes_sft.errors import InputError

if TYPE_CHECKING:
    from estimators import Estimate

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
Out = Annotated[Path | None, typer.Option(dir_okay=False, help="Write the JSON to this file too.")]
Delta = Annotated[float, typer.Option(help="Probability of failure of all claims together.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, float16 or autocast.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Rows a forward pass.")]
MaxLength = Annotated[
    int | None,
    typer.Option(min=1, help="Refuse rows with more tokens (default: what the model reads)."),
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that lies beside the base's weights.")
]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Root of all randomness.")]
Base = Annotated[str, typer.Option(help="Base: path, hub id, or a shipped one: strong, weak.")]


# files that a directory of a model is read from
OF_MODELS = re.compile(
    r"safetensors|config\.json$|index\.json$|^run\.json$|^(token|special_tokens|vocab|merges)"
)


def check_delta(delta: float) -> None:
    """Raise unless delta is a probability of failure that 1 - delta can hold."""
    if not LEAST_DELTA <= delta < 1:
        raise InputError(f"--delta must lie between {LEAST_DELTA:g} and 1, got {delta}")


def refuse_unused(context: typer.Context, where: str, *names: str) -> None:
    """Raise if an option was given that does nothing in this call.

    Args:
        context: The call.
        where: In which calls, as "without --stream".
        names: The options, by the names of their parameters.

    Raises:
        InputError: Naming the first of them that was given.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(f"--{name.replace('_', '-')}: does nothing {where}; leave it out")


def refuse_input(out: Path | None, *inputs: str | Path | None, option: str = "--out") -> None:
    """Raise if a file to be written is one that is read, or one that a model is made of.

    Raises:
        InputError: Naming it.
    """
    if out is None or not out.exists():
        return
    from pacbayes_sft.data.metadata import sidecar

    for source in [Path(i) for i in inputs if i is not None]:
        of_model = source.is_dir() and source.resolve() in out.resolve().parents
        files = (source, sidecar(source))  # what records its law too
        if any(file.exists() and out.samefile(file) for file in files) or (
            of_model and OF_MODELS.search(out.name)
        ):
            raise InputError(f"{option} {out}: is one of the files to be read; give another name")


def check_folder(out: Path, option: str = "--out") -> None:
    """Raise, before any work, if a directory could not be written or made.

    Raises:
        InputError: Naming what is in the way.
    """
    there = out.resolve()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise InputError(f"{option} {out}: {there} is a file, no directory")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{option} {out}: no permission to write into {there}")


def check_picture(file: Path | None) -> None:
    """Raise, before any work, if a picture's suffix names no format; without one it is a PNG.

    Raises:
        InputError: Naming the formats.
    """
    if file is None or not file.suffix:
        return
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if file.suffix[1:].lower() not in known:
        raise InputError(f"--picture {file}: no format of pictures; end it in .png, .svg or .pdf")


def resolve_device(name: str) -> str:
    """Turn ``auto`` into the device there is; torch is loaded by no command before it needs it.

    Raises:
        InputError: If the device named cannot be used here.
    """
    from pacbayes_sft import models

    return models.resolve_device(name)


def check_dtype(name: str, device: str) -> str:
    """Return the name of a floating dtype; say so if it is a slow one here.

    Raises:
        InputError: If it is none.
    """
    from pacbayes_sft.models import computes_in_bfloat16

    if name not in ("float32", "bfloat16", "float16", "autocast"):
        raise InputError(f"--dtype {name}: must be float32, bfloat16, float16 or autocast")
    slow = name in ("bfloat16", "autocast") and resolve_device(device) == "cpu"
    if slow and not computes_in_bfloat16():
        print(
            f"note: this processor has no bfloat16 arithmetic, so {name} takes several times as "
            "long as float32 here",
            file=sys.stderr,
        )
    return name


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send what libraries print on stdout to stderr, so that stdout holds our answer alone."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers' own, about its next version
        yield


def terminal(**how: Any) -> Console:
    """Return a console that prints users' words as they are: ``[INST]`` is no markup to it."""
    return Console(markup=False, emoji=False, **how)


def emit(record: dict[str, Any], table: RichTable, *, as_json: bool, out: Path | None) -> None:
    """Print a table, or the record as JSON; write the record to ``out`` if asked."""
    text = json.dumps(record, indent=1, allow_nan=False)
    if out is not None:
        with replacing(out) as partial:
            partial.write_text(text + "\n", encoding="utf-8")
    if as_json:
        print(text)
    else:
        terminal().print(table)


def new_table(title: str, *columns: str) -> RichTable:
    """Return an empty table with numbers to the right."""
    table = RichTable(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i in (0, len(columns) - 1) else "right")
    return table


def claim(estimate: Estimate) -> str:
    """Say in words what an estimate promises."""
    from estimators.display import confidence, rounded_down, rounded_up

    at = f"at {confidence(estimate.confidence)}"
    return {
        "exact": "exact",
        "upper": f"upper: ≤ {rounded_up(estimate.upper)} {at}",
        "lower": f"lower: ≥ {rounded_down(estimate.lower)} {at}",
        "estimate": "estimate",
    }[estimate.guarantee.value]


def interval(estimate: Estimate) -> str:
    """Return ``value [lower, upper]``, or the value alone when it is exact."""
    from estimators.display import rounded_down, rounded_up

    if estimate.guarantee == "exact":
        return f"{estimate.value:.4g}"
    low = "-" if estimate.lower == -float("inf") else rounded_down(estimate.lower, 3)
    return f"{estimate.value:.4f} [{low}, {rounded_up(estimate.upper, 3)}]"
