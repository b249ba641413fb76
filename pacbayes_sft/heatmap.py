"""The picture of a breakdown, layer by module: where did the fine-tune move?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pacbayes_sft.atomic import replacing
from pacbayes_sft.choices import By
from pacbayes_sft.movement import Breakdown, Moved

TITLE = "where did the fine-tune move?"
BAR, UNMOVED, ABSENT, QUIET = "#c9782d", "#d5d8dc", "#ffffff", "#555555"
# Modules in the order of a forward pass; what is not named comes after, by name.
_ORDER = (
    *("q_proj", "k_proj", "v_proj", "qkv", "c_attn", "o_proj", "attn"),
    *("gate", "up", "down", "c_fc", "mlp", "experts", "norm", "ln"),
)
_FEW = 16  # layers up to which each cell has its number


def plot_movement(breakdown: Breakdown, file: Path, *, name: str = "") -> None:
    """Draw relative change as colour, matrices and gains apart, with each part's share beside.

    Args:
        breakdown: Where it moved.
        file: The picture; its suffix decides the format.
        name: What was fine-tuned, for the line under the title.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    inside = [t for t in breakdown.tensors if t.layer is not None]
    outside = [t for t in breakdown.tensors if t.layer is None]
    cells = _cells(inside)
    layers = list(range(max((t.layer for t in inside if t.layer is not None), default=-1) + 1))
    matrices, gains = _columns(inside, True), _columns(inside, False)
    with mpl.rc_context():
        sns.set_theme(context="notebook", style="white", font_scale=0.85)
        colour = _Colours([*cells.values(), *outside])
        rows = max(len(layers), 1)
        height = min(0.28 if rows > _FEW else 0.42, 14 / rows) * rows
        strip = 0.45 if outside else 0.01
        widths = [max(len(matrices), 1), 0.8 * len(gains) + 0.01, 1.9]
        figure = plt.figure(
            figsize=(2.0 + 0.8 * sum(widths), 3.6 + height + 2 * strip), layout="constrained"
        )
        grid = figure.add_gridspec(
            4, 3, width_ratios=widths, height_ratios=[0.55, 0.8, height, strip]
        )
        _heading(figure.add_subplot(grid[0, :]), breakdown, name)
        main = figure.add_subplot(grid[2, 0])
        _grid(main, cells, layers, matrices, colour, matrix=True)
        main.set_ylabel("layer")
        _module_shares(figure.add_subplot(grid[1, 0], sharex=main), breakdown, matrices)
        if gains:
            beside = figure.add_subplot(grid[2, 1], sharey=main)
            _grid(beside, cells, layers, gains, colour, matrix=False)
            beside.tick_params(labelleft=False)
            beside.set_title("norms and biases", fontsize=9, color=QUIET)
        _layer_shares(figure.add_subplot(grid[2, 2], sharey=main), breakdown, layers)
        if outside:
            _strip(figure.add_subplot(grid[3, 0]), outside, colour)
        colour.legend(figure)
        with replacing(file) as partial:
            figure.savefig(partial, dpi=150, format=file.suffix.lstrip(".") or "png")
        plt.close(figure)


def _heading(axes: Any, breakdown: Breakdown, name: str) -> None:
    kl = breakdown.squared_distance / (2 * breakdown.sigma**2)
    figures = (
        f"‖Δ‖² = {breakdown.squared_distance:.4g} over {breakdown.parameters:,} entries,  "
        f"KL = {kl:,.0f} nats at σ = {breakdown.sigma:g}"
    )
    axes.text(0, 1, TITLE, fontsize=15, fontweight="bold", va="top", transform=axes.transAxes)
    text = f"{name}:  {figures}" if name else figures
    axes.text(0, 0.1, text, fontsize=9.5, color=QUIET, va="bottom", transform=axes.transAxes)
    axes.axis("off")


class _Colours:
    """One logarithmic scale for every cell."""

    def __init__(self, parts: list[Moved]) -> None:
        import matplotlib as mpl
        import seaborn as sns

        found = [p.relative_change for p in parts if 0 < p.relative_change < math.inf]
        self.some_unmoved = any(p.relative_change == 0 for p in parts)
        low, high = min(found, default=1e-3), max(found, default=1e-2)
        low = max(low, high / 1e4)  # a few nearly frozen gains must not wash out the rest
        norm = mpl.colors.LogNorm(low, high if high > low else low * 10, clip=True)
        self.scale: Any = mpl.cm.ScalarMappable(norm, sns.color_palette("rocket_r", as_cmap=True))

    def of(self, part: Moved | None) -> Any:
        """Return the colour of a cell."""
        if part is None or math.isnan(part.relative_change):
            return ABSENT
        # a change of nothing is off a logarithmic scale
        return self.scale.to_rgba(part.relative_change) if part.relative_change else UNMOVED

    def legend(self, figure: Any) -> None:
        """Draw the scale under everything, in per cent."""
        import matplotlib as mpl

        bar = figure.colorbar(
            self.scale, ax=figure.axes, location="bottom", shrink=0.5, aspect=40, pad=0.02
        )
        grey = "   (grey: unmoved)" if self.some_unmoved else ""
        bar.set_label(f"relative change  ‖ΔW‖ / ‖W₀‖{grey}")
        bar.locator = mpl.ticker.LogLocator(subs=(1, 2, 5))
        bar.formatter = mpl.ticker.FuncFormatter(lambda x, _: _percent(x))
        bar.minorticks_off()
        bar.update_ticks()
        bar.outline.set_visible(False)

    def ink(self, part: Moved) -> str:
        """Return the colour of a number that can be read on a cell."""
        red, green, blue = self.scale.to_rgba(part.relative_change)[:3]
        bright = 0.3 * red + 0.59 * green + 0.11 * blue > 0.5
        return "black" if bright or not part.relative_change else "white"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _cells(parts: list[Moved]) -> dict[tuple[int, str, bool], Moved]:
    """The parts by layer, module and whether they are matrices; several in one are put together."""
    groups: dict[tuple[int, str, bool], list[Moved]] = {}
    for part in parts:
        if part.layer is not None:
            groups.setdefault((part.layer, str(part.module), part.matrix), []).append(part)
    return {key: Breakdown(tuple(found), 1.0).by(By.MODULE)[0] for key, found in groups.items()}


def _columns(parts: list[Moved], matrix: bool) -> list[str]:
    def place(module: str) -> tuple[int, str]:
        ranks = [i for i, word in enumerate(_ORDER) if word in module]
        return (ranks[0] if ranks else len(_ORDER), module)

    return sorted({str(p.module) for p in parts if p.matrix == matrix}, key=place)


def _grid(
    axes: Any,
    cells: dict[tuple[int, str, bool], Moved],
    layers: list[int],
    modules: list[str],
    colour: _Colours,
    *,
    matrix: bool,
) -> None:
    """Draw one panel of cells, layer 0 at the top; a bias has the name of its matrix's module."""
    import matplotlib as mpl

    for layer in layers:
        for column, module in enumerate(modules):
            part = cells.get((layer, module, matrix))
            box = mpl.patches.Rectangle(
                (column, layer), 1, 1, facecolor=colour.of(part), edgecolor="white", linewidth=1
            )
            axes.add_patch(box)
            if part is not None and len(layers) <= _FEW:
                _number(axes, column + 0.5, layer + 0.5, part, colour)
    axes.set_xlim(0, max(len(modules), 1))
    axes.set_ylim(max(len(layers), 1), 0)
    names = [m if len(m) < 12 else m.replace("_", "_\n").replace(".", ".\n") for m in modules]
    axes.set_xticks([i + 0.5 for i in range(len(modules))], names)
    axes.set_yticks([i + 0.5 for i in layers], [str(i) for i in layers])
    axes.spines[:].set_visible(False)


def _number(axes: Any, x: float, y: float, part: Moved, colour: _Colours) -> None:
    if math.isnan(part.relative_change):
        return
    text, ink = _percent(part.relative_change), colour.ink(part)
    axes.text(x, y, text, ha="center", va="center", fontsize=8, color=ink)


def _module_shares(axes: Any, breakdown: Breakdown, modules: list[str]) -> None:
    """Bars over the columns: each module's share of the whole."""
    share = {r["name"]: r["share"] for r in breakdown.records(By.MODULE) if r["name"] in modules}
    values = [share.get(m, 0.0) for m in modules]
    axes.bar([i + 0.5 for i in range(len(modules))], values, width=0.86, color=BAR)
    for place, value in enumerate(values):
        axes.text(place + 0.5, value, f"{value:.0%}", ha="center", va="bottom", fontsize=8)
    axes.set_ylim(0, 1.3 * max(values, default=1) or 1)
    axes.tick_params(labelbottom=False, labelleft=False)
    axes.set_ylabel("share of\n‖Δ‖² and KL", fontsize=8.5, rotation=0, ha="right", va="center")
    axes.spines[:].set_visible(False)


def _layer_shares(axes: Any, breakdown: Breakdown, layers: list[int]) -> None:
    """Bars beside the rows: each layer's share of the whole."""
    share = {r["layer"]: r["share"] for r in breakdown.records(By.LAYER) if r["layer"] is not None}
    values = [share.get(layer, 0.0) for layer in layers]
    axes.barh([i + 0.5 for i in layers], values, height=0.86, color=BAR)
    for place, value in enumerate(values):
        axes.text(value, place + 0.5, f" {value:.1%}", va="center", fontsize=7.5)
    axes.set_xlim(0, 1.45 * max(values, default=1) or 1)
    axes.tick_params(labelbottom=False, labelleft=False)
    axes.set_title("share of ‖Δ‖² and KL", fontsize=9, color=QUIET)
    axes.spines[:].set_visible(False)


def _strip(axes: Any, parts: list[Moved], colour: _Colours) -> None:
    """A row of its own for what lies in no layer: embeddings, the last norm, the head."""
    import matplotlib as mpl

    for column, part in enumerate(parts):
        box = mpl.patches.Rectangle(
            (column, 0), 1, 1, facecolor=colour.of(part), edgecolor="white", linewidth=1
        )
        axes.add_patch(box)
        _number(axes, column + 0.5, 0.5, part, colour)
    axes.set_xlim(0, max(len(parts), 4))
    axes.set_ylim(1, 0)
    axes.set_xticks([i + 0.5 for i in range(len(parts))], [str(p.module) for p in parts])
    axes.set_yticks([])
    axes.set_title("outside of the layers", fontsize=9, color=QUIET, loc="left")
    axes.spines[:].set_visible(False)
