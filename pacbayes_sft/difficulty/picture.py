"""Pictures of difficulty: the law of every metric, rank correlations, one metric by another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pacbayes_sft.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pacbayes_sft.difficulty.measure import Difficulty, Values

COLOUR = "#30506d"
BINS = 8
NARROW = 1e-12  # of the largest value: a narrower law is one bar, floats hold no bins within it
LABELS = {
    "cot_tokens": "chain-of-thought length (tokens)",
    "base_loss": "loss of the base (nats per token)",
    "pass_rate": "pass rate (share of samples)",
    "fail_rate": "fail rate (share of samples)",
    "thtb_extrinsic": "THTB extrinsic hardness (0 to 1)",
    "thtb_intrinsic": "THTB intrinsic hardness",
    "bloom_proxy": "Bloom level by verbs (proxy, 0 to 6)",
}


def plot_difficulty(found: Difficulty, file: Path) -> None:
    """Draw the law of every metric and the rank correlations; an SVG goes beside a PNG.

    Where both were measured, the pass rate by chain length is drawn too (the paper's Figure 1).
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    names = list(found.columns)
    figure_1 = {"cot_tokens", "pass_rate"} <= set(names)
    count = len(names) + (len(names) > 1) + figure_1
    across = min(3, count)
    down = -(-count // across)
    with matplotlib.rc_context():
        sns.set_theme(context="notebook", style="whitegrid")
        figure, grid = plt.subplots(
            down, across, figsize=(5.0 * across, 4.2 * down), layout="constrained", squeeze=False
        )
        axes = list(grid.flat)
        for spare in axes[count:]:
            spare.axis("off")
        for axis, name in zip(axes, names, strict=False):
            _law(axis, name, found.columns[name])
        if figure_1:
            _by_quantile(axes[len(names)], found.columns["cot_tokens"], found.columns["pass_rate"])
        if len(names) > 1:
            shades = sns.light_palette(COLOUR, as_cmap=True)
            last = axes[count - 1]
            table = found.correlations()
            sns.heatmap(
                table, ax=last, annot=True, fmt=".2f", cmap=shades, cbar=False, linewidths=1,
                vmin=-1, vmax=1,
            )  # fmt: skip
            last.set_title("Spearman rank correlation", fontsize=11)
            last.tick_params(axis="x", rotation=30)
            last.tick_params(axis="y", rotation=0)
        figure.suptitle(f"{len(found.table.rows):,} rows of {Path(found.table.source).name}")
        _save(figure, file)
        plt.close(figure)


def _law(axis: Any, name: str, values: Values) -> None:
    import seaborn as sns

    largest = float(np.abs(values).max())
    whole = np.array_equal(values, values.round()) and largest < 2**50  # halves are floats too
    if whole and np.ptp(values) <= 30:
        bins: dict[str, Any] = {"discrete": True, "shrink": 0.85}
    elif np.ptp(values) <= NARROW * largest:
        middle, half = float(np.median(values)), max(0.5, 1e-6 * largest)
        bins = {"bins": 1, "binrange": (middle - half, middle + half)}
    else:
        bins = {"bins": min(30, len(np.unique(values)))}
    sns.histplot(x=values, ax=axis, color=COLOUR, **bins)
    axis.axvline(float(np.median(values)), color="black", ls="--", lw=1.2, label="median")
    axis.set_xlabel(LABELS.get(name, name))
    axis.set_ylabel("rows")
    axis.legend(fontsize=9)


def _by_quantile(axis: Any, lengths: Values, rates: Values) -> None:
    """Mean pass rate in equal shares of the rows by length, each with its 95 % interval."""
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, BINS + 1)))
    place = np.clip(np.searchsorted(edges, lengths, side="right") - 1, 0, max(0, len(edges) - 2))
    middle, mean, half = [], [], []
    for k in np.unique(place):
        here = rates[place == k]
        middle.append(float(np.median(lengths[place == k])))
        mean.append(float(here.mean()))
        half.append(1.96 * float(here.std()) / np.sqrt(len(here)))
    below, above = np.minimum(half, mean), np.minimum(half, 1 - np.array(mean))
    axis.errorbar(middle, mean, yerr=[below, above], fmt="o-", color="black", capsize=4)
    axis.set_ylim(-0.03, 1.03)
    axis.set_xlabel(LABELS["cot_tokens"])
    axis.set_ylabel("mean pass rate (normal 95 % interval)")
    axis.set_title("longer chains, fewer passes?", fontsize=11)


def pictures_of(file: Path) -> dict[Path, str]:
    """Return the files that `plot_difficulty` writes, each with its format."""
    suffix = file.suffix.removeprefix(".") or "png"
    return {file: suffix} | ({file.with_suffix(".svg"): "svg"} if suffix == "png" else {})


def _save(figure: Figure, file: Path) -> None:
    for target, kind in pictures_of(file).items():
        with replacing(target) as partial:
            figure.savefig(partial, dpi=110, format=kind)
