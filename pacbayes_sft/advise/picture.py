"""The picture beside the report: every arm's curve, and both sides of it at each budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pacbayes_sft.advise.advice import Advice, Choice
from pacbayes_sft.advise.predict import arm_name
from pacbayes_sft.advise.run import Found
from pacbayes_sft.atomic import replacing

MARKERS = "osD^vPX*"
MOST_PANELS = 4
TICKS_APART = 1.6  # least ratio of two sizes whose captions stand side by side


def plot_advice(found: Found, file: Path) -> None:
    """Draw every arm's predicted curve, and both sides of it at each budget."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    import seaborn as sns

    advice = found.advice
    shown = advice.choices[:MOST_PANELS]
    with mpl.rc_context():
        sns.set_theme(context="notebook", style="whitegrid")
        figure, axes = plt.subplots(
            1,
            1 + len(shown),
            figsize=(6.4 + 3.3 * len(shown), 4.6),
            layout="constrained",
            squeeze=False,
            width_ratios=[2.0, *[1.0] * len(shown)],
        )
        _curves(axes[0, 0], advice, found)
        for axis, choice in zip(axes[0, 1:], shown, strict=True):
            _sides(axis, choice, list(advice.path["arms"]))
        if shown:
            handles, labels = axes[0, 1].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower right", ncols=2, fontsize=9)
        with replacing(file) as partial:
            figure.savefig(partial, dpi=110, format=file.suffix.removeprefix(".") or "png")
        plt.close(figure)


def _curves(axis: Any, advice: Advice, found: Found) -> None:
    sizes, arms = advice.path["sizes"], advice.path["arms"]
    for k, (name, curve) in enumerate(arms.items()):
        shade = str(0.72 * k / max(1, len(arms) - 1))
        axis.fill_between(sizes, curve["lower"], curve["upper"], color=shade, alpha=0.08, lw=0)
        axis.plot(sizes, curve["value"], "-", color=shade, lw=1.6)
        axis.plot([], [], f"{MARKERS[k % 8]}-", color=shade, label=name)
        if advice.rule == "heldout + profile":
            points = _measured(found, name)
            axis.plot(list(points), list(points.values()), MARKERS[k % 8], color=shade, ms=7)
    for choice in advice.choices:
        best = choice.predictions[0]
        axis.plot(choice.budget, best.value, "v", color="#c9582d", ms=10, mec="white", zorder=5)
    axis.plot([], [], "v", color="#c9582d", label="advised")
    axis.axvline(advice.sizes[-1], color="black", lw=0.8, ls=":")
    axis.annotate(
        "extrapolated →",
        (advice.sizes[-1], 1),
        (4, -12),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        fontsize=9,
    )
    axis.set_xscale("log")
    shown = _apart({*advice.sizes, *(choice.budget for choice in advice.choices)})
    axis.set_xticks(shown, [f"{n:,}" for n in shown], fontsize=9)
    axis.minorticks_off()
    axis.set_xlabel("training size n (units, log scale)")
    axis.set_ylabel(f"predicted: {advice.rule}")
    axis.set_title("points measured, lines fitted, bands 90 %", loc="left", fontsize=11)
    axis.legend(title="train on", fontsize=8, title_fontsize=9)


def _apart(sizes: Iterable[int]) -> list[int]:
    """Return sizes whose captions do not overlap on a log axis, the largest among them."""
    kept: list[int] = []
    for n in sorted(sizes, reverse=True):
        if not kept or n <= kept[-1] / TICKS_APART:
            kept.append(n)
    return kept[::-1]


def _measured(found: Found, name: str) -> Mapping[int, float]:
    """Seed means of the pilots' risk under the test law."""
    from pacbayes_sft.advise.predict import reweighted

    law = found.prepared.test_law
    sums: dict[int, list[float]] = {}
    for p in found.pilots:
        known = {level: w for level, w in law.items() if level in p.profile}
        if arm_name(*p.arm) == name and known:
            total = sum(known.values())
            scaled = {level: w / total for level, w in known.items()}
            sums.setdefault(p.size, []).append(reweighted(p.profile, scaled).value)
    return {size: sum(v) / len(v) for size, v in sorted(sums.items())}


def _sides(axis: Any, choice: Choice, order: list[str]) -> None:
    """From each window's own risk (square) to the test's (circle): the arrow is the shift side."""
    by_name = {arm_name(p.window, p.objective): p for p in choice.predictions}
    for place, name in enumerate(order):
        p, first = by_name[name], place == 0
        axis.annotate("", (p.value, place - 0.16), (p.train, place - 0.16),
                      arrowprops={"arrowstyle": "->", "color": "0.45"})  # fmt: skip
        axis.plot(p.train, place - 0.16, "s", color="0.45", mfc="w",
                  label="train side; the arrow is the shift side" if first else None)  # fmt: skip
        face = "#c9582d" if (p.window, p.objective) == (choice.window, choice.objective) else "w"
        below, above = max(0.0, p.value - p.lower), max(0.0, p.upper - p.value)
        axis.errorbar(p.value, place + 0.12, xerr=[[below], [above]], fmt="o", color="black",
                      mfc=face, capsize=3, label="sum, 90 %" if first else None)  # fmt: skip
    axis.set_yticks(range(len(order)), order)
    axis.set_ylim(len(order) - 0.5, -0.6)
    axis.set_xlim(left=0)
    axis.set_xlabel("risk (0 to 1)")
    axis.set_title(f"n = {choice.budget:,}", loc="left", fontsize=11)
    axis.grid(axis="y", visible=False)
