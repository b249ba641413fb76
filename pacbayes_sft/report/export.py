"""The tables of a report as Markdown and as LaTeX, for an issue or a paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pacbayes_sft.atomic import replacing
from pacbayes_sft.report.sentence import sentence
from pacbayes_sft.report.tables import Table, tables

SHORT = 28  # characters that fit a line of their own
MARKDOWN, LATEX = "tables.md", "tables.tex"
# What is no letter and stands in our own texts; letters of file names LaTeX reads as they are.
_SYMBOLS = {
    "--": "-{}-",
    ">": r"$>$",
    "<": r"$<$",
    "√": r"$\surd$",
    "∞": r"$\infty$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "δ": r"$\delta$",
    "ε": r"$\varepsilon$",
    "λ": r"$\lambda$",
    "ξ": r"$\xi$",
    "σ": r"$\sigma$",
    "Δ": r"$\Delta$",
    "γ": r"$\gamma$",
    "μ": r"$\mu$",
    "‖": r"$\|$",
    "−": r"$-$",
    "×": r"$\times$",
    "→": r"$\to$",
    "⁺": r"$^{+}$",
    "²": r"$^{2}$",
    "R̂": r"$\hat R$",
    "–": "--",
    "…": r"\dots{}",
}


def as_markdown(record: Mapping[str, Any]) -> str:
    """Return the sentence, the warnings and every table as GitHub's Markdown."""
    warnings = [f"* Warning: {warning}" for warning in record.get("warnings", ())]
    parts = [sentence(record), *warnings, *(markdown(table) for table in tables(record))]
    return "\n\n".join(parts) + "\n"


def as_latex(record: Mapping[str, Any]) -> str:
    r"""Return every table as a LaTeX ``table``; it needs ``\usepackage{booktabs}``.

    Sentence and warnings stand above them as comments.
    """
    said = [sentence(record), *(f"Warning: {warning}" for warning in record.get("warnings", ()))]
    comments = [f"% {' '.join(words.split())}" for words in said]
    head = "\n".join(["% needs \\usepackage{booktabs}", *comments])
    return "\n\n".join([head, *(_latex(table) for table in tables(record))]) + "\n"


def write_tables(record: Mapping[str, Any], folder: Path) -> None:
    """Write ``tables.md`` and ``tables.tex`` into a folder, each whole or not at all."""
    for name, text in ((MARKDOWN, as_markdown(record)), (LATEX, as_latex(record))):
        with replacing(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")


def markdown(table: Table) -> str:
    """Return one table as GitHub's Markdown, under its title and over its notes."""

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    ruler = tuple("--:" if i in table.numeric else "---" for i in range(len(table.columns)))
    notes = ["", *(f"* {note}" for note in table.notes)] if table.notes else []
    lines = [*map(line, (table.columns, ruler, *table.rows)), *notes]
    return "\n".join([f"**{table.title}**", "", *lines])


_SPECIAL = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def _latex(table: Table) -> str:
    import pandas as pd

    form = _column_format(table)
    frame = pd.DataFrame(list(table.rows), columns=list(table.columns))
    text = frame.to_latex(
        index=False,
        escape=True,
        column_format=form,
        caption="CAPTION",
        label=f"tab:pacbayes-{table.name}",
    )
    escaped = table.title.translate(_SPECIAL)
    notes = [f"% {' '.join(note.split())}" for note in table.notes]
    return "\n".join([_with_symbols(text.replace("CAPTION", escaped)).strip(), *notes])


def _column_format(table: Table) -> str:
    """Numbers to the right, short text to the left; long text wraps in what they leave."""
    widest = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
    long = {i for i, w in enumerate(widest) if w > SHORT and i not in table.numeric}
    taken = sum(0.012 * w + 0.03 for i, w in enumerate(widest) if i not in long)
    share = max(0.15, (0.95 - taken) / max(1, len(long)))
    wrapped = rf"p{{{share:.2f}\linewidth}}"
    return "".join(
        wrapped if i in long else "r" if i in table.numeric else "l" for i in range(len(widest))
    )


def _with_symbols(text: str) -> str:
    for symbol in sorted(_SYMBOLS, key=len, reverse=True):
        text = text.replace(symbol, _SYMBOLS[symbol])
    return text
