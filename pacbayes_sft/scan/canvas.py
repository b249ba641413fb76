"""What the pictures of a map share: panels, shades that survive a grey printer, files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pacbayes_sft.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RISK = "#c9582d"
SHADE = "#5b7fa6"
MARKERS = "osD^vPX*"
WINDOW = "training difficulty (window)"
SIZE = "training size n (units)"
LOG_SIZE = "training size n (units, log scale)"
RISK_AXIS = "risk (0 to 1)"
CELL = ["size", "window", "low", "high", "seed", "base", "objective", "method"]


def new_panels(count: int, title: str, across: int = 3) -> tuple[Figure, list[Any]]:
    """Return a figure with so many panels, at most ``across`` side by side."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    sns.set_theme(context="notebook", style="whitegrid")
    across = min(across, count)
    down = -(-count // across)
    size = (5.4 * across if count > 1 else 7.4, 4.1 * down + 0.6)
    figure, axes = plt.subplots(down, across, figsize=size, layout="constrained", squeeze=False)
    for spare in axes.flat[count:]:
        spare.axis("off")
    figure.suptitle(as_written(title))
    return figure, list(axes.flat[:count])


def as_written(text: str) -> str:
    """Keep matplotlib from reading what stands between two dollars of a name as mathematics."""
    return text.replace("$", r"\$")


def save(figure: Figure, stem: Path) -> Path:
    """Write PNG and SVG; return the PNG."""
    import matplotlib.pyplot as plt

    for suffix in ("svg", "png"):
        with replacing(stem.with_name(f"{stem.name}.{suffix}")) as partial:
            figure.savefig(partial, dpi=110, format=suffix)
    plt.close(figure)
    return stem.with_name(stem.name + ".png")


def style(k: int, count: int) -> dict[str, Any]:
    """Return the marker and shade of line k of ``count``: from black to light grey."""
    return {"marker": MARKERS[k % len(MARKERS)], "color": str(0.75 * k / max(1, count - 1))}


def windows_of(rows: pd.DataFrame) -> list[str]:
    """Return the windows from easy to hard."""
    unique = rows[["window", "low", "high"]].drop_duplicates().sort_values(["low", "high"])
    return [str(window) for window in unique["window"]]


def cells_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a cell, for what does not depend on the bound."""
    return rows.drop_duplicates(CELL)


def label_windows(panel: Any, windows: list[str]) -> None:
    """Name the windows under a panel."""
    panel.set_xticks(range(len(windows)), windows)
    if len(windows) > 5:
        panel.tick_params(axis="x", labelsize=9)
    panel.set_xlabel(WINDOW)


def label_sizes(panel: Any, sizes: list[int]) -> None:
    """Put training sizes on a log axis, each written out."""
    panel.set_xscale("log", base=2)
    panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
    panel.minorticks_off()
    panel.set_xlabel(LOG_SIZE)


def one_scale(panels: list[Any]) -> None:
    """Give panels the same vertical axis, so that they can be compared."""
    limits = [panel.get_ylim() for panel in panels]
    for panel in panels:
        panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def draw_risks(
    panel: Any, rows: pd.DataFrame, windows: list[str], label: str, **how: Any
) -> pd.Series:
    """Draw the mean measured risk a window with its range over seeds; return the means."""
    found = rows.groupby("window")["test_risk"].agg(["mean", "min", "max"]).reindex(windows)
    error = [found["mean"] - found["min"], found["max"] - found["mean"]]
    panel.errorbar(range(len(windows)), found["mean"], yerr=error, label=label, capsize=3, **how)
    return found["mean"]


def outline(panel: Any) -> None:
    """Put a white rim around the lines drawn so far, to be seen on bars in any grey."""
    from matplotlib.patheffects import Normal, Stroke

    for line in panel.lines:
        line.set_path_effects([Stroke(linewidth=5, foreground="white"), Normal()])


def mark_least(panel: Any, heights: pd.Series, colour: str) -> None:
    """Put a triangle over the least of some heights; nothing if all are missing or infinite."""
    from matplotlib.patheffects import Normal, Stroke

    finite = heights.reset_index(drop=True)
    finite = finite[finite.notna() & (finite.abs() < float("inf"))]
    if len(finite):
        place = int(finite.index[finite.to_numpy().argmin()])
        height = min(float(finite[place]), 0.86 * panel.get_ylim()[1])  # else it leaves the panel
        mark = panel.annotate(
            "▼", (place, height), (0, 8), textcoords="offset points", ha="center", color=colour,
            fontsize=13,
        )  # fmt: skip
        rim = "black" if colour == "white" else "white"
        mark.set_path_effects([Stroke(linewidth=2, foreground=rim), Normal()])
