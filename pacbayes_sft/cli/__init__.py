"""The command line: parse, call one function, print.

Every command is also one Python call with the same words.
"""

from __future__ import annotations

import io
import sys
import traceback
from typing import Annotated

import typer
from rich.text import Text

from pacbayes_sft.cli.advise import advise
from pacbayes_sft.cli.bound import bound
from pacbayes_sft.cli.demo import demo
from pacbayes_sft.cli.difficulty import difficulty
from pacbayes_sft.cli.inspect import inspect
from pacbayes_sft.cli.make import igsm, sft
from pacbayes_sft.cli.output import terminal
from pacbayes_sft.cli.recipe import recipe
from pacbayes_sft.cli.scan import plot, scan
from pacbayes_sft.cli.terms import kl, risk
from pacbayes_sft.cli.tv import tv
from pacbayes_sft.cli.verify import verify
from pacbayes_sft.errors import InputError

UNFORESEEN = 70  # EX_SOFTWARE of sysexits

app = typer.Typer(
    name="pacbayes-sft",
    help="A finished fine-tune in, a bound on its test risk out, and the truth beside it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        from pacbayes_sft.versions import versions

        print(versions("pacbayes-sft")["pacbayes-sft"])
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """A finished fine-tune in, a bound on its test risk out, and the truth beside it."""


COMMANDS = (
    demo,
    bound,
    verify,
    inspect,
    kl,
    tv,
    risk,
    igsm,
    sft,
    difficulty,
    recipe,
    scan,
    plot,
    advise,
)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command line; bad input gives exit code 2 and one sentence, never a traceback.

    What nobody foresaw is a traceback and exit code 70, since 1 is what `verify` says of changes.
    """
    for stream in (sys.stdout, sys.stderr):  # a terminal of another encoding shows no δ
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except InputError as error:
        _refuse(str(error))
    except OSError as error:  # a full disk, a path that is a file, a folder without permission
        reason = error.strerror or str(error).strip().split("\n")[0] or type(error).__name__
        _refuse(reason if error.filename is None else f"{error.filename}: {reason}")
    except Exception:
        traceback.print_exc()
        sys.exit(UNFORESEEN)


def _refuse(sentence: str) -> None:
    words = Text.assemble(("error:", "bold red"), " ", sentence)
    terminal(stderr=True, soft_wrap=True, highlight=False).print(words)
    sys.exit(2)
