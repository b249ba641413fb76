"""Bound against measured risk: over difficulty, over size, and where each has its least."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pacbayes_sft.scan.canvas import (
    RISK,
    SHADE,
    SIZE,
    WINDOW,
    cells_of,
    draw_risks,
    label_sizes,
    label_windows,
    mark_least,
    new_panels,
    outline,
    style,
    windows_of,
)
from pacbayes_sft.scan.frame import agreement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TALLEST = 2.0  # where an axis ends if bars go beyond; their height is printed
TERMS = {  # shade and hatching, so that the parts are told apart without colour
    "term_empirical_risk": ("empirical risk (Gibbs, with its limit)", "#1f2f46", ""),
    "term_generalization": ("√(KL/2n)", SHADE, ""),
    "term_extrapolation": ("shift term", "#a9bfd6", "//"),
    "term_epsilon": ("ε", "#e6ecf3", ""),
}
MAPS = {
    "test_risk": "measured test risk (finished model)",
    "value": "bound on test risk (raw)",
    "term_empirical_risk": "empirical risk (Gibbs, limit)",
    "term_generalization": "√(KL/2n)",
    "term_extrapolation": "shift term",
    "term_epsilon": "ε",
    "generalization_gap": "generalisation gap as observed",
    "extrapolation_gap": "extrapolation gap as observed",
}


def curves(rows: pd.DataFrame, title: str) -> Figure:
    """Bound against measured risk, a panel a size; terms stacked, both minimisers marked."""
    sizes, windows = sorted(rows["size"].unique()), windows_of(rows)
    figure, panels = new_panels(len(sizes), title)
    for panel, size in zip(panels, sizes, strict=True):
        of_size = rows[rows["size"] == size]
        means = of_size.groupby("window").mean(numeric_only=True).reindex(windows)
        places, bottom = np.arange(len(windows)), np.zeros(len(windows))
        for term, (label, colour, hatch) in TERMS.items():
            heights = means[term].fillna(0).to_numpy()
            panel.bar(
                places, heights, bottom=bottom, color=colour, hatch=hatch, label=label,
                width=0.8, edgecolor="white", lw=0.5,
            )  # fmt: skip
            bottom = bottom + heights
        quoted = means["value"]
        panel.plot(places, quoted, "k_", markersize=18, mew=2.5, label="bound quoted")
        risk = draw_risks(
            panel, of_size, windows, "measured risk, range over seeds", fmt="o-", color=RISK,
            mec="white", mew=1,
        )  # fmt: skip
        outline(panel)
        _end_axis(panel, bottom)
        mark_least(panel, risk, "white")
        mark_least(panel, quoted, "black")
        panel.axhline(1, color="black", lw=0.9, ls=":")
        panel.set_title(f"n = {size:,}", pad=16 if bottom.max() > TALLEST else 6)
        label_windows(panel, windows)
        panel.set_ylabel("risk, and bounds on it (loss in 0 to 1)")
    for face, label in (("white", "least measured risk"), ("black", "least bound")):
        panels[0].plot([], [], "v", color="black", mfc=face, label=label)
    panels[0].plot([], [], ":", color="black", lw=0.9, label="1: vacuous from here on")
    columns, letters = (2, 9) if len(sizes) == 1 else (3, 11)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns,
        fontsize=letters,
    )  # fmt: skip
    return figure


def heat_maps(rows: pd.DataFrame, title: str) -> Figure:
    """Size × difficulty of measured risk, the bound, its terms and the gaps as observed.

    Shares of a probability have one scale, so that equal greys are equal numbers.
    """
    import seaborn as sns

    windows = windows_of(rows)
    figure, panels = new_panels(len(MAPS), title, across=4)
    engine = figure.get_layout_engine()
    figure.set_layout_engine("none")  # seaborn draws the whole figure once for every map
    for panel in panels:
        panel.set_visible(False)
    for panel, (column, label) in zip(panels, MAPS.items(), strict=True):
        panel.set_visible(True)
        finite = rows[column].replace([np.inf, -np.inf], np.nan)
        table = rows.assign(**{column: finite}).pivot_table(
            index="size", columns="window", values=column, dropna=False
        )
        table = table.reindex(columns=windows).sort_index(ascending=False)
        sns.heatmap(
            table,
            ax=panel,
            annot=True,
            fmt=".2f",
            cmap=sns.light_palette("#30506d", as_cmap=True),
            cbar=False,
            linewidths=1,
            vmin=0,
            vmax=1,
            annot_kws={"fontsize": 9.5},
        )
        panel.set_title(label, fontsize=12)
        panel.set_xlabel(WINDOW)
        panel.set_ylabel(SIZE)
        panel.set_yticklabels([f"{size:,}" for size in table.index], rotation=0)
        panel.set_visible(False)
    for panel in panels:
        panel.set_visible(True)
    figure.set_layout_engine(engine)
    return figure


def saturation(rows: pd.DataFrame, title: str) -> Figure:
    """Measured risk against log n, a line a window."""
    figure, panels = new_panels(1, title)
    windows = windows_of(rows)
    for k, window in enumerate(windows):
        found = cells_of(rows[rows["window"] == window]).groupby("size")["test_risk"]
        mean = found.mean()
        error = [mean - found.min(), found.max() - mean]
        panels[0].errorbar(
            mean.index, mean, yerr=error, ls="-", capsize=3, label=window, **style(k, len(windows))
        )
    label_sizes(panels[0], sorted(rows["size"].unique()))
    panels[0].set_ylabel("measured test risk, range over seeds")
    panels[0].legend(title=WINDOW, fontsize=9, ncols=2)
    return figure


def optimum(rows: pd.DataFrame, title: str) -> Figure:
    """The best window over n, as measured and as bounded."""
    windows, found = windows_of(rows), agreement(rows, resamples=1).minimiser
    figure, panels = new_panels(1, title)
    sizes = sorted(found)
    for best, how, colour, label, large in (
        ([found[n][0] for n in sizes], "o-", RISK, "least measured risk", 13),
        ([found[n][1] for n in sizes], "s--", "black", "least bound", 8),
    ):
        at = [windows.index(window) for window in best]
        panels[0].plot(sizes, at, how, color=colour, label=label, markersize=large, mec="white")
    _label_best(panels[0], windows, sizes)
    panels[0].legend(fontsize=10)
    return figure


def _label_best(panel: Any, windows: list[str], sizes: list[int]) -> None:
    label_sizes(panel, sizes)
    panel.set_yticks(range(len(windows)), windows)
    panel.set_ylim(-0.5, len(windows) - 0.5)
    panel.set_ylabel("best training difficulty (window)")


def _end_axis(panel: Any, heights: Any) -> None:
    """End the axis where measured risks can still be read, and print what goes beyond."""
    highest = float(np.nanmax(heights, initial=0.0))
    panel.set_ylim(0, TALLEST if highest > TALLEST else max(1.1, 1.12 * highest))
    for place, height in enumerate(heights):
        if height > TALLEST:
            panel.text(place, TALLEST, f"↑{height:.1f}", ha="center", va="bottom", fontsize=8)
