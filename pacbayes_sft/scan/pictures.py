"""Pictures of a map: readable in grey, labelled in units, PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pacbayes_sft.scan.frame import GROUP, agreement, cells_frame, slices_frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TERMS = {
    "term_empirical_risk": ("empirical risk", "#1f2f46"),
    "term_generalization": ("√(KL/2n)", "#5b7fa6"),
    "term_extrapolation": ("shift term", "#a9bfd6"),
    "term_epsilon": ("ε", "#dfe7f0"),
}
RISK = "#c9582d"
MAPS = {
    "test_risk": "measured test risk (finished)",
    "value": "bound (raw)",
    "term_empirical_risk": "empirical risk (Gibbs, limit)",
    "term_generalization": "√(KL/2n)",
    "term_extrapolation": "shift term",
    "generalization_gap": "measured generalisation gap",
    "extrapolation_gap": "measured extrapolation gap",
}


def plot_scan(
    records: Sequence[dict[str, Any]], out: Path, bound: str, theorem: str, shift: str = "tv"
) -> list[Path]:
    """Draw every picture that the records allow, for each base × objective × method.

    Args:
        records: What `run_scan` returned.
        out: Directory to write into.
        bound: Which bound is drawn.
        theorem: Which theorem's value.
        shift: Which shift term.

    Returns:
        The PNG files; an SVG lies beside each.
    """
    frame, slices = cells_frame(records), slices_frame(records)
    chosen = frame[
        (frame["bound"] == bound) & (frame["theorem"] == theorem) & (frame["shift"] == shift)
    ]
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for group, rows in chosen.groupby(GROUP):
        name = "-".join(_plain(str(part)) for part in group)
        title = " · ".join(map(str, group))
        pictures = {
            "curves": curves(rows, f"{title} · {bound}, {theorem}"),
            "maps": heat_maps(rows, f"{title} · {bound}, {theorem}"),
            "saturation": saturation(rows, title),
            "optimum": optimum(rows, f"{title} · {bound}, {theorem}"),
        }
        mine = slices
        for column, value in zip(GROUP, group, strict=True):
            mine = mine[mine[column] == value]
        if mine["change"].notna().any():
            pictures["slices"] = slice_changes(mine, title)
        files += [_save(figure, out / f"{name}-{what}") for what, figure in pictures.items()]
    return files


def curves(rows: pd.DataFrame, title: str) -> Figure:
    """Bound against measured risk, a panel a size; terms stacked, minimisers marked."""
    sizes, windows = sorted(rows["size"].unique()), _windows(rows)
    figure, panels = _panels(len(sizes), title)
    for panel, size in zip(panels, sizes, strict=False):
        of_size = rows[rows["size"] == size]
        means = of_size.groupby("window").mean(numeric_only=True).reindex(windows)
        places, bottom = np.arange(len(windows)), np.zeros(len(windows))
        for term, (label, colour) in TERMS.items():
            heights = means[term].to_numpy()
            panel.bar(places, heights, bottom=bottom, color=colour, label=label, width=0.8)
            bottom = bottom + heights
        panel.plot(places, means["value"], "k_", markersize=16, mew=2, label="bound quoted")
        spread = of_size.groupby("window")["test_risk"].agg(["min", "max"]).reindex(windows)
        risk = means["test_risk"].to_numpy()
        panel.errorbar(
            places,
            risk,
            yerr=[risk - spread["min"], spread["max"] - risk],
            fmt="o-",
            color=RISK,
            mec="white",
            label="measured risk, range over seeds",
        )
        if means["test_risk"].notna().any():
            best, promised = int(np.nanargmin(risk)), int(np.nanargmin(means["value"]))
            panel.annotate("▼", (best, risk[best]), (0, 9), textcoords="offset points",
                           ha="center", color=RISK)  # fmt: skip
            panel.annotate("▼", (promised, means["value"].iloc[promised]), (0, 9),
                           textcoords="offset points", ha="center")  # fmt: skip
        panel.axhline(1, color="black", lw=0.8, ls=":")
        panel.set_title(f"n = {size:,}")
        panel.set_xticks(places, windows)
        panel.set_xlabel("difficulty window")
        panel.set_ylabel("risk (0 to 1)")
    for colour, label in ((RISK, "least measured risk"), ("black", "least bound")):
        panels[0].plot([], [], "v", color=colour, label=label)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def heat_maps(rows: pd.DataFrame, title: str) -> Figure:
    """Size × difficulty of measured risk, the bound, its terms and the gaps as observed."""
    import seaborn as sns

    windows = _windows(rows)
    figure, panels = _panels(len(MAPS), title)
    for panel, (column, label) in zip(panels, MAPS.items(), strict=False):
        table = rows.pivot_table(index="size", columns="window", values=column)[windows]
        sns.heatmap(
            table.sort_index(ascending=False),
            ax=panel,
            annot=True,
            fmt=".2f",
            cmap=sns.light_palette("#5b7fa6", as_cmap=True),
            cbar=False,
            linewidths=1,
            annot_kws={"fontsize": 10},
        )
        panel.set_title(label)
        panel.set_xlabel("difficulty window")
        panel.set_ylabel("training size n")
    return figure


def saturation(rows: pd.DataFrame, title: str) -> Figure:
    """Measured risk against log n, a line a window."""
    figure, panels = _panels(1, title)
    markers = "osD^vPX*"
    for k, window in enumerate(_windows(rows)):
        means = rows[rows["window"] == window].groupby("size")["test_risk"].mean()
        shade = str(0.75 * k / max(1, rows["window"].nunique() - 1))
        panels[0].plot(means.index, means, f"{markers[k % 8]}-", color=shade, label=window)
    panels[0].set_xscale("log", base=2)
    panels[0].set_xlabel("training size n (units, log scale)")
    panels[0].set_ylabel("measured test risk of the finished model")
    panels[0].legend(title="difficulty window", fontsize=8)
    return figure


def optimum(rows: pd.DataFrame, title: str) -> Figure:
    """The best window over n, as measured and as bounded."""
    windows, found = _windows(rows), agreement(rows, resamples=1).minimiser
    figure, panels = _panels(1, title)
    sizes = sorted(found)
    for best, marker, colour, label in (
        ([found[n][0] for n in sizes], "o-", RISK, "least measured risk"),
        ([found[n][1] for n in sizes], "s--", "black", "least bound"),
    ):
        at = [windows.index(window) for window in best]
        panels[0].plot(sizes, at, marker, color=colour, label=label, alpha=0.8)
    panels[0].set_xscale("log", base=2)
    panels[0].set_yticks(range(len(windows)), windows)
    panels[0].set_xlabel("training size n (units, log scale)")
    panels[0].set_ylabel("best difficulty window")
    panels[0].legend(fontsize=9)
    return figure


def slice_changes(slices: pd.DataFrame, title: str) -> Figure:
    """Change of every test slice's risk over the base, a panel a size (below zero is better)."""
    sizes = sorted(slices["size"].unique())
    labels = sorted(slices["slice"].unique(), key=_numeric)
    windows = sorted(slices["window"].unique(), key=lambda w: tuple(map(float, w.split(":"))))
    figure, panels = _panels(len(sizes), f"{title} · change of risk over the base")
    markers = "osD^vPX*"
    for panel, size in zip(panels, sizes, strict=False):
        for k, window in enumerate(windows):
            mine = slices[(slices["size"] == size) & (slices["window"] == window)]
            change = mine.groupby("slice")["change"].mean().reindex(labels)
            shade = str(0.75 * k / max(1, len(windows) - 1))
            panel.plot(labels, change, f"{markers[k % 8]}-", color=shade, label=window)
        panel.axhline(0, color="black", lw=0.8)
        panel.set_title(f"n = {size:,}")
        panel.set_xlabel("difficulty of the test slice")
        panel.set_ylabel("risk minus the base's")
    panels[0].legend(title="trained on", fontsize=8)
    return figure


def _windows(rows: pd.DataFrame) -> list[str]:
    unique = rows[["window", "low", "high"]].drop_duplicates().sort_values(["low", "high"])
    return [str(window) for window in unique["window"]]


def _numeric(label: str) -> tuple[float, str]:
    try:
        return float(label), label
    except ValueError:
        return float("inf"), label


def _plain(text: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in Path(text).name)


def _panels(count: int, title: str) -> tuple[Figure, list[Any]]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    sns.set_theme(context="notebook", style="whitegrid")
    across = min(3, count)
    down = -(-count // across)
    size = (5.4 * across if count > 1 else 7.0, 4.0 * down + 0.5)
    figure, axes = plt.subplots(down, across, figsize=size, layout="constrained", squeeze=False)
    for spare in axes.flat[count:]:
        spare.axis("off")
    figure.suptitle(title)
    return figure, list(axes.flat[:count])


def _save(figure: Figure, stem: Path) -> Path:
    import matplotlib.pyplot as plt

    for suffix in (".svg", ".png"):
        figure.savefig(stem.with_name(stem.name + suffix), dpi=110)
    plt.close(figure)
    return stem.with_name(stem.name + ".png")
