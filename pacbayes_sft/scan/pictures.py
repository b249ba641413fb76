"""Pictures of a map: readable in grey, labelled in units, PNG and SVG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pacbayes_sft.scan.canvas import save
from pacbayes_sft.scan.contrasts import against, dropped, slice_changes
from pacbayes_sft.scan.curves import curves, heat_maps, optimum, saturation
from pacbayes_sft.scan.frame import GROUP, cells_frame, slices_frame, theorem_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_scan(
    records: Sequence[dict[str, Any]], out: Path, bound: str, theorem: str, shift: str = "tv"
) -> list[Path]:
    """Draw every picture that the records allow, for each base × objective × method.

    Args:
        records: What `run_scan` returned.
        out: Directory to write into.
        bound: Which bound is drawn.
        theorem: Which theorem's value; passed over where importance weights are the shift term.
        shift: Which shift term, where records hold several.

    Returns:
        The PNG files; an SVG lies beside each. None where no record holds that bound.
    """
    theorem = theorem_of(shift, theorem)
    frame, slices = cells_frame(records), slices_frame(records)
    chosen = frame[(frame["bound"] == bound) & (frame["theorem"] == theorem)]
    if "shift" in frame:
        chosen = chosen[chosen["shift"] == shift]
        theorem = f"{theorem}, {shift}"
    files, plain = [], _names(chosen)
    for group, rows in chosen.groupby(GROUP):
        name = "-".join(plain[str(part)] for part in group)
        mine = slices
        for column, value in zip(GROUP, group, strict=True):
            mine = mine[mine[column] == value]
        title = " · ".join(map(str, group))
        pictures = _of_group(rows, mine, title, f"{title} · {bound}, {theorem}")
        files += [save(figure, out / f"{name}-{what}") for what, figure in pictures.items()]
    return files + [save(figure, out / name) for name, figure in _between_groups(chosen).items()]


def _of_group(
    rows: pd.DataFrame, slices: pd.DataFrame, title: str, of_bound: str
) -> dict[str, Figure]:
    pictures = {
        "curves": curves(rows, of_bound),
        "maps": heat_maps(rows, of_bound),
        "saturation": saturation(rows, title),
        "optimum": optimum(rows, of_bound),
    }
    if slices["change"].notna().any():
        pictures["slices"] = slice_changes(slices, title)
    figure = dropped(rows, title)
    if figure is not None:
        pictures["dropped"] = figure
    return pictures


def _between_groups(rows: pd.DataFrame) -> dict[str, Figure]:
    """Contrast groups that differ in the objective alone, or in the base alone."""
    pictures, plain = {}, _names(rows)
    two = {*rows["objective"]} == {"nll", "dft"}
    objectives = "SFT against DFT" if two else "objectives against each other"
    for column, what in (("objective", objectives), ("base", "bases against each other")):
        others = [part for part in GROUP if part != column]
        for same, some in rows.groupby(others):
            figure = against(some, column, f"{' · '.join(map(str, same))} · {what}")
            if figure is not None:
                pictures["-".join([*(plain[str(part)] for part in same), column])] = figure
    return pictures


def _names(rows: pd.DataFrame) -> dict[str, str]:
    """What every part of a group is called in a file's name: a path by its end, if that tells."""
    parts = sorted({str(part) for column in GROUP for part in rows[column]})

    def plain(text: str) -> str:
        return "".join(c if c.isalnum() else "_" for c in text)

    ends = Counter(plain(Path(part).name) for part in parts)
    alike = [part for part in parts if ends[plain(Path(part).name)] > 1]
    short = {part: plain(Path(part).name) for part in parts}
    return short | {part: f"{short[part]}_{k}" for k, part in enumerate(alike, start=1)}
