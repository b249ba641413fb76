"""Pictures of a survey: intervals, ROC and scores, what differs, the term against γ."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from estimators import Estimate, Guarantee
from estimators.display import confidence, rounded_down, rounded_up
from pacbayes_sft.atomic import replacing
from pacbayes_sft.shift.findings import Finding
from pacbayes_sft.shift.gamma import gamma_note
from pacbayes_sft.shift.survey import Survey

TRAIN, TEST, LIMIT, QUIET = "#30506d", "#c9782d", "#a03030", "#666666"
WORDS, NUMBERS = 12, 6  # carriers shown


def draw_survey(found: Survey, folder: Path) -> dict[str, Path]:
    """Draw every picture that the survey has numbers for; return them by title."""
    import matplotlib as mpl

    mpl.use("Agg")
    pictures: dict[str, tuple[str, Callable[[Survey], Any]]] = {
        "intervals": ("The intervals, view by view", _intervals),
        "roc": ("What the classifiers see: ROC and held-out scores", _scores),
        "differs": ("What differs?", _carriers),
        "gamma": ("The term if the risk falls with difficulty by up to γ", _gamma),
    }
    made = {}
    for name, (title, draw) in pictures.items():
        figure, file = _styled(draw, found), folder / f"{name}.png"
        if figure is None:
            file.unlink(missing_ok=True)  # of another pair of files
            continue
        with replacing(file) as partial:
            figure.savefig(partial, dpi=130, format="png")
        _close(figure)
        made[title] = file
    return made


def _styled(draw: Callable[[Survey], Any], found: Survey) -> Any:
    import matplotlib as mpl
    import seaborn as sns

    with mpl.rc_context():
        sns.set_theme(context="notebook", style="whitegrid", font_scale=0.85)
        return draw(found)


def _close(figure: Any) -> None:
    import matplotlib.pyplot as plt

    plt.close(figure)


def _intervals(found: Survey) -> Any:
    import matplotlib.pyplot as plt

    rows: list[tuple[str, Estimate, Estimate | None, Finding | None]]
    rows = [("all of it together", found.best.tv, None, None)]
    rows += [(f.view, f.tv, f.plug_in, f) for f in found.findings]
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.62 * len(rows)), layout="constrained")
    for place, (_, tv, plug_in, finding) in enumerate(rows):
        promised = tv.guarantee is not Guarantee.ESTIMATE
        colour = "black" if place == 0 else TRAIN
        if promised:
            axes.plot([tv.lower, tv.upper], [place, place], color=colour, linewidth=5, alpha=0.25)
        for limit, sign in ((tv.lower, "["), (tv.upper, "]")):
            bare = (sign == "[" and limit == 0) or (sign == "]" and limit == 1)
            if promised and not bare:
                axes.plot([limit] * 2, [place - 0.22, place + 0.22], color=LIMIT, linewidth=2)
        axes.plot(tv.value, place, "o", color=colour, label="value" if place == 0 else None)
        if plug_in is not None:
            axes.plot(plug_in.value, place, "D", color=TEST, markersize=5, markerfacecolor="w")
        if finding is not None and finding.detection_floor:
            axes.plot(finding.detection_floor[1], place, "|", color=QUIET, markersize=14)
        said = {
            "exact": "exact",
            "upper": f"≤ {rounded_up(tv.upper, 3)}",
            "lower": f"≥ {rounded_down(tv.lower, 3)}",
        }
        text = said.get(tv.guarantee.value, "estimate")
        if place == 0 and tv.guarantee is Guarantee.UPPER and tv.lower > 0:
            text = f"{rounded_down(tv.lower, 3)} to {rounded_up(tv.upper, 3)}"
        axes.text(1.02, place, text, va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [textwrap.fill(r[0], 34) for r in rows], fontsize=8.5)
    axes.invert_yaxis()
    axes.set_xlim(-0.01, 1.0)
    axes.set_xlabel("total variation")
    axes.grid(axis="y", visible=False)
    axes.plot([], [], color=LIMIT, linewidth=2, label="certified limit")
    axes.plot([], [], "D", color=TEST, markerfacecolor="w", markersize=5, label="plug-in E|2η − 1|")
    axes.plot([], [], "|", color=QUIET, markersize=12, label="80 % power at best")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8.5, frameon=False)
    axes.set_title(
        "TV of the test from the training law, all limits together at "
        f"{confidence(1 - found.delta)}",
        loc="left", fontsize=11,
    )  # fmt: skip
    return figure


def _scores(found: Survey) -> Any:
    import matplotlib.pyplot as plt

    scored = [f for f in found.findings if f.scores is not None][:4]
    if not scored:
        return None
    figure, grid = plt.subplots(
        2, len(scored), figsize=(4.3 * len(scored), 7.2), layout="constrained", squeeze=False,
        height_ratios=[1.5, 1],
    )  # fmt: skip
    for column, finding in enumerate(scored):
        _roc(grid[0, column], finding)
        _histogram(grid[1, column], finding, first=column == 0)
    return figure


def _roc(axes: Any, finding: Finding) -> None:
    assert finding.scores is not None and finding.rates is not None
    left, right = finding.scores
    cuts = np.r_[np.inf, np.unique(np.r_[left, right])[::-1]]
    fpr = 1 - np.searchsorted(np.sort(left), cuts, side="left") / len(left)
    tpr = 1 - np.searchsorted(np.sort(right), cuts, side="left") / len(right)
    tnr_at, tpr_at = finding.rates
    axes.plot(fpr, tpr, color=TRAIN, linewidth=1.8)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=":")
    axes.plot([1 - tnr_at] * 2, [1 - tnr_at, tpr_at], color=LIMIT, linewidth=1.6)
    axes.plot(1 - tnr_at, tpr_at, "o", color=LIMIT, markersize=7)
    gap = tpr_at + tnr_at - 1
    axes.annotate(
        f"TPR + TNR − 1 = {gap:.3f}\nTV ≥ {rounded_down(finding.tv.lower, 3)} (certified)",
        (1 - tnr_at, tpr_at), xytext=(0.97, 0.06), textcoords="axes fraction", fontsize=9,
        ha="right", va="bottom", arrowprops={"arrowstyle": "-", "color": QUIET, "linewidth": 0.7},
    )  # fmt: skip
    axes.set_aspect("equal")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_xlabel("training rows called test (1 − TNR)")
    axes.set_ylabel("test rows called test (TPR)")
    axes.set_title(textwrap.fill(finding.view, 44), fontsize=9.5, loc="left")


def _histogram(axes: Any, finding: Finding, *, first: bool) -> None:
    assert finding.scores is not None
    left, right = finding.scores
    low, high = min(left.min(), right.min(), 0.0), max(left.max(), right.max(), 1.0)
    bins = np.linspace(low, high, 31)
    for values, colour, label in ((left, TRAIN, "training rows"), (right, TEST, "test rows")):
        weights = np.full(len(values), 1 / len(values))
        axes.hist(values, bins, weights=weights, color=colour, alpha=0.55, label=label)
    axes.axvline(0.5, color=LIMIT, linewidth=1)
    axes.set_xlabel("held-out score: probability of “test”")
    if first:
        axes.set_ylabel("share of the side's rows")
        axes.legend(fontsize=8.5, frameon=False)


def _carriers(found: Survey) -> Any:
    import matplotlib.pyplot as plt

    words = [c for c in found.carriers if c.kind == "word" and c.gap][:WORDS]
    numbers = [c for c in found.carriers if c.kind != "word" and c.gap]
    numbers = sorted(numbers, key=lambda c: -abs(c.gap))[: 2 * NUMBERS]
    if not words and not numbers:
        return None
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 1.4 + 0.34 * max(len(words), len(numbers), 3)), layout="constrained"
    )
    for place, carrier in enumerate(words):
        a, b = carrier.train or 0.0, carrier.test or 0.0
        left.plot([a, b], [place, place], color=QUIET, linewidth=1.2, zorder=1)
        left.plot(a, place, "o", color=TRAIN, label="training" if place == 0 else None)
        left.plot(b, place, "o", color=TEST, label="test" if place == 0 else None)
    left.set_yticks(range(len(words)), [repr(c.name) for c in words])
    left.set_xlim(-0.02, 1.02)
    left.set_xlabel("share of rows with the word")
    left.set_title("words", loc="left", fontsize=10.5)
    left.invert_yaxis()
    if words:
        left.legend(fontsize=8.5, frameon=False)
    colours = [TEST if c.gap > 0 else TRAIN for c in numbers]
    right.barh(range(len(numbers)), [abs(c.gap) for c in numbers], color=colours, height=0.62)
    for place, carrier in enumerate(numbers):
        means = f" {carrier.train:.3g} → {carrier.test:.3g}" if carrier.train is not None else ""
        right.text(abs(carrier.gap), place, means, va="center", fontsize=8.5)
    right.set_yticks(
        range(len(numbers)), [c.name if c.kind == "count" else f"column {c.name}" for c in numbers]
    )
    right.set_xlim(0, 1.28 * max((abs(c.gap) for c in numbers), default=1.0))
    right.set_xlabel("largest gap of the distribution functions (means: training → test)")
    right.set_title("counts and columns", loc="left", fontsize=10.5)
    right.invert_yaxis()
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
    figure.suptitle(
        "One property at a time, on all rows: a description, no certificate", fontsize=10,
        x=0.01, ha="left", color=QUIET,
    )  # fmt: skip
    return figure


def _gamma(found: Survey) -> Any:
    if found.profile is None:
        return None
    import matplotlib.pyplot as plt

    d_plus, tv = found.profile
    gamma = np.linspace(0, 1, 101)
    limit = np.minimum(tv.upper, d_plus.upper + gamma * tv.upper)
    value = np.minimum(tv.value, d_plus.value + gamma * tv.value)
    figure, axes = plt.subplots(figsize=(7.4, 4.4), layout="constrained")
    axes.plot(gamma, limit, color=LIMIT, linewidth=2, label="limit:  D⁺ + γ·TV, at most TV")
    if d_plus.upper > d_plus.value or tv.upper > tv.value:
        axes.plot(gamma, value, color=TRAIN, linewidth=1.4, label="plug-in")
    axes.axhline(tv.upper, color=QUIET, linewidth=1, linestyle=":")
    axes.text(
        1, tv.upper, f"plain TV: {rounded_up(tv.upper, 3)} ", ha="right", va="bottom", fontsize=9
    )
    axes.plot(0, d_plus.upper, "o", color=LIMIT)
    axes.text(0.015, d_plus.upper, f"D⁺: {rounded_up(d_plus.upper, 3)}", va="top", fontsize=9)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(0, max(0.1, 1.15 * tv.upper))
    axes.set_xlabel("γ: how far the risk may fall as difficulty rises (0: never)")
    axes.set_ylabel("what the shift adds to the bound")
    axes.legend(fontsize=8.5, frameon=False, loc="lower right")
    axes.set_title(
        "γ is an assumption until labelled held-out rows limit it", loc="left", fontsize=10.5
    )
    figure.supxlabel(
        gamma_note(found.profile, found.delta), fontsize=8, x=0.01, ha="left", color=QUIET
    )
    return figure
