"""Measured risks against each other: slices, dropped data, objectives, bases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from pacbayes_sft.scan.canvas import (
    RISK_AXIS,
    as_written,
    cells_of,
    draw_risks,
    label_sizes,
    label_windows,
    mark_least,
    new_panels,
    one_scale,
    style,
    windows_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES: tuple[dict[str, Any], ...] = (
    {"fmt": "o-", "color": "black"},
    {"fmt": "s--", "color": "0.5", "mfc": "white", "mew": 1.6},
    {"fmt": "^:", "color": "0.3", "mfc": "0.8"},
    {"fmt": "D-.", "color": "0.65"},
    {"fmt": "v-", "color": "0.45", "mfc": "white"},
    {"fmt": "P--", "color": "black", "mfc": "0.8"},
    {"fmt": "X:", "color": "0.6"},
    {"fmt": "*-.", "color": "0.2", "mfc": "white"},
)
NAMES = {"nll": "SFT (nll)", "dft": "DFT"}


def slice_changes(slices: pd.DataFrame, title: str) -> Figure:
    """Change of every test slice's risk over the base, a panel a size (below zero is better)."""
    sizes = sorted(slices["size"].unique())
    labels = sorted(slices["slice"].unique(), key=_numeric)
    windows = sorted(slices["window"].unique(), key=lambda w: tuple(map(float, w.split(":"))))
    figure, panels = new_panels(len(sizes), f"{title} · change of risk over the base, by slice")
    for panel, size in zip(panels, sizes, strict=True):
        for k, window in enumerate(windows):
            mine = slices[(slices["size"] == size) & (slices["window"] == window)]
            change = mine.groupby("slice")["change"].mean().reindex(labels)
            panel.plot(labels, change, ls="-", label=window, **style(k, len(windows)))
        panel.axhline(0, color="black", lw=1.2)
        panel.set_title(f"n = {size:,}")
        panel.set_xlabel("difficulty of the test slice")
        panel.set_ylabel("risk minus the base's (below 0: better)")
    one_scale(panels)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=6, title="trained on window")
    return figure


def nested(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Return the windows that grow out of one end, the widest first.

    ``drop hard``: those that begin where the widest does and end earlier; ``drop easy``: those that
    end where it does and begin later. Empty where fewer than two windows are nested so: windows of
    one width that slide drop at one end what they add at the other, and answer another question.
    """
    unique = rows[["window", "low", "high"]].drop_duplicates()
    widest = unique.loc[(unique["high"] - unique["low"]).idxmax()]
    hard = unique[unique["low"] == widest["low"]].sort_values("high", ascending=False)
    easy = unique[unique["high"] == widest["high"]].sort_values("low")
    found = {"drop hard": list(hard["window"]), "drop easy": list(easy["window"])}
    return {name: windows for name, windows in found.items() if len(windows) > 1}


def dropped(rows: pd.DataFrame, title: str) -> Figure | None:
    """Measured risk when the hardest or the easiest rows are left out, at the extreme sizes.

    The paper's Figure 2; None where no windows are nested (see `nested`). n stays the same: what
    is dropped is replaced by rows of the remaining window.
    """
    families, cells = nested(rows), cells_of(rows)
    if not families:
        return None
    figure, panels = new_panels(len(families), f"{title} · leaving out one end, n kept")
    sizes = sorted({rows["size"].min(), rows["size"].max()})
    for panel, (name, windows) in zip(panels, families.items(), strict=True):
        for how, size in zip(LINES, sizes, strict=False):
            mine = cells[(cells["size"] == size) & cells["window"].isin(windows)]
            draw_risks(panel, mine, windows, f"n = {size:,}", **how)
        label_windows(panel, windows)
        panel.set_xlabel("training window: all, then less and less")
        panel.set_title(
            {"drop hard": "without the hardest", "drop easy": "without the easiest"}[name]
        )
        panel.set_ylabel(f"measured {RISK_AXIS}, range over seeds")
        panel.legend(fontsize=10)
    one_scale(panels)
    return figure


def against(rows: pd.DataFrame, column: str, title: str) -> Figure | None:
    """Measured risk of two or more values of ``column`` at every size that all of them have.

    Args:
        rows: `cells_frame` of groups that differ in ``column`` alone.
        column: ``objective`` (SFT against DFT) or ``base`` (weak against strong).
        title: Above the picture.

    Returns:
        A panel a size, and the path of the measured optimum; None where there is nothing to
        compare, or more than can be told apart in grey.
    """
    cells = cells_of(rows)
    kinds = sorted(cells[column].unique(), key=lambda kind: list(NAMES).index(kind)
                   if kind in NAMES else -1)  # fmt: skip
    sizes = sorted(set.intersection(*(set(cells[cells[column] == k]["size"]) for k in kinds)))
    if not 2 <= len(kinds) <= len(LINES) or not sizes:
        return None
    lines = LINES[: len(kinds)]
    windows = windows_of(cells)
    figure, panels = new_panels(len(sizes) + 1, title, across=2)
    best: dict[str, list[int]] = {kind: [] for kind in kinds}
    for panel, size in zip(panels, sizes, strict=False):
        for how, kind in zip(lines, kinds, strict=True):
            mine = cells[(cells["size"] == size) & (cells[column] == kind)]
            means = draw_risks(panel, mine, windows, as_written(NAMES.get(kind, kind)), **how)
            mark_least(panel, means, str(how["color"]))
            best[kind].append(windows.index(str(means.idxmin())))
        label_windows(panel, windows)
        panel.set_title(f"n = {size:,}")
        panel.set_ylabel(f"measured {RISK_AXIS}, range over seeds")
    one_scale(panels[:-1])
    panels[0].legend(fontsize=10)
    last = panels[-1]
    for k, (how, kind) in enumerate(zip(lines, kinds, strict=True)):
        shape = {key: value for key, value in how.items() if key != "fmt"}
        shape["markersize"] = 12 - k * min(5, 9 / (len(kinds) - 1))  # equal paths stay visible
        label = as_written(NAMES.get(kind, kind))
        last.plot(sizes, best[kind], str(how["fmt"]), label=label, **shape)
    label_sizes(last, sizes)
    last.set_yticks(range(len(windows)), windows)
    last.set_ylim(-0.5, len(windows) - 0.5)
    last.set_ylabel("least measured risk (window)")
    last.set_title("where each has its least")
    return figure


def _numeric(label: str) -> tuple[float, str]:
    try:
        return float(label), label
    except ValueError:
        return float("inf"), label
