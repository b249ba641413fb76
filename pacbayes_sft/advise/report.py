"""The report: the advice in words and tables, the curves as a picture beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from estimators import Estimate, Guarantee
from estimators.display import rounded_down, rounded_up
from pacbayes_sft.advise.advice import Advice, Choice, Prediction
from pacbayes_sft.advise.cost import cost_said
from pacbayes_sft.advise.halving import Halved, halving_said
from pacbayes_sft.advise.predict import DEFAULT, arm_name
from pacbayes_sft.advise.run import Found
from pacbayes_sft.advise.shifts import LEVELS_OF_SAMPLE, WINDOWS_OF_SAMPLE
from pacbayes_sft.advise.ties import LEVEL
from pacbayes_sft.atomic import replacing

FILES = ("advice.md", "advice.png")
MARKERS = "osD^vPX*"
MOST_PANELS = 4
TICKS_APART = 1.6  # least ratio of two sizes whose captions stand side by side


def write_report(found: Found, directory: Path, command: str = "") -> Path:
    """Write ``advice.md`` and ``advice.png`` into a directory.

    Args:
        found: What `advise_on` returned.
        directory: Made if it is not there.
        command: The command that made it, to be quoted.

    Returns:
        The Markdown file.
    """
    text, picture = FILES
    plot_advice(found, directory / picture)
    file = directory / text
    with replacing(file) as partial:
        partial.write_text(as_markdown(found, command), encoding="utf-8")
    return file


def as_markdown(found: Found, command: str = "") -> str:
    """Return the report's text."""
    advice, cost, config = found.advice, found.cost, found.prepared.config
    lines = [
        "# Which difficulty to train on",
        "",
        f"Minimised: **{advice.rule}**{_ties(advice)}. All of it is an *estimate*: pilots of n = "
        f"{', '.join(map(str, advice.sizes))} extrapolated, under the assumption that train and "
        f"test differ only through {found.prepared.column!r}. {recipe_said(found)}",
        "",
        f"| budget n | train on | predicted (90 %) | not told from it ({LEVEL:.0%}, all at once) |",
        "|---|---|---|---|",
    ]
    for choice in advice.choices:
        best = choice.predictions[0]
        advised = arm_name(choice.window, choice.objective)
        lines.append(
            f"| {choice.budget:,} | **{advised}** | {_value(best)} {_band(best)} "
            f"| {not_told_from(choice, found.halved) or '-'} |"
        )
    lines += [f"| {b:,} | no advice | | {why} |" for b, why in advice.refused.items()]
    said = (
        *direction_said(found),
        *short_said(found),
        *moves_said(advice, found.halved),
        *untouched_said(found),
        *halving_said(found.halved),
        *seeds_said(advice),
    )
    lines += ["", *[f"* {sentence}" for sentence in said], ""]
    lines += [
        "![Predicted curves](advice.png)",
        "",
        "## Shift terms (TV, D⁺: from data alone)",
        "",
    ]
    lines += [
        "| window | TV | label | D⁺ | label | D⁺ + γ·TV, γ from the largest pilots | label |",
        "|---|---|---|---|---|---|---|",
    ]
    for window, shift in found.prepared.shifts.items():
        tv, plus = shift.tv, shift.d_plus
        slacks = {o: advice.gamma.get(arm_name(window, o)) for o in config.objectives}
        several = len(config.objectives) > 1
        robust = "; ".join(
            f"{shift.with_slack(gamma):.3f} ({f'{o.value}, ' * several}γ = {gamma:.2f})"
            for o, gamma in slacks.items()
            if gamma is not None
        )
        lines.append(
            f"| {window} | {_limited(tv)} | {tv.guarantee.value} | "
            f"{_limited(plus)} | {plus.guarantee.value} | "
            f"{robust or '-'} | estimate |"
        )
    weakened = {LEVELS_OF_SAMPLE, WINDOWS_OF_SAMPLE}
    terms = found.prepared.shifts.values()
    reasons = [why for shift in terms for why in shift.tv.assumptions if why in weakened]
    lines += ["", *[f"* {why}" for why in dict.fromkeys(reasons)]] if reasons else []
    for choice in advice.choices:
        lines += ["", f"## n = {choice.budget:,}", ""]
        lines += [
            "| window | predicted | 90 % | train side | shift side | best in (share of draws) | "
            "Prop. 4.1 with TV | PAC-Bayes-kl with D⁺ + 0.3·TV |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for p in choice.predictions:
            name = arm_name(p.window, p.objective)
            bounds = [f"{b:.3f}{' *vacuous*' * (b >= 1)}" for b in (p.bound_tv, p.bound_kl)]
            lines.append(
                f"| {name} | {_value(p)} | {_band(p)} | {p.train:.3f} | "
                f"{p.shift:+.3f} | {p.chance:.0%} | {' | '.join(bounds)} |"
            )
        if len(choice.mixture) > 1:
            shares = ", ".join(f"{w}: {s:.0%}" for w, s in choice.mixture.items())
            lines += ["", f"As a mixture (never piloted): {shares}."]
        lines += ["", "What would change this:", ""]
        lines += [f"* {sentence}" for sentence in choice.changes]
    lines += ["", "## What it cost", ""]
    lines.append(cost_said(cost))
    lines += ["", misfit_said(advice.misfit)]
    if advice.cover < 1:
        lines += ["", f"Left out: {1 - advice.cover:.1%} of the test law, at difficulties that the "
                  "pool lacks."]  # fmt: skip
    lines += ["", f"    {command}", ""] if command else [""]
    return "\n".join(lines)


def misfit_said(misfit: Mapping[str, float | None]) -> str:
    """Say how the forms in n fit, and which could not have shown a misfit.

    >>> for line in misfit_said({"heldout": None, "kl": 1.25}).split(". "):
    ...     print(line)
    Misfit of the forms (√(χ²/dof); above 1 the interval was widened): kl 1.25
    Too few pilots to show one, so the form is unchecked: heldout.
    """
    known = ", ".join(f"{name} {value:.2f}" for name, value in misfit.items() if value is not None)
    unknown = ", ".join(name for name, value in misfit.items() if value is None)
    said = f"Misfit of the forms (√(χ²/dof); above 1 the interval was widened): {known or 'none'}."
    return said + f" Too few pilots to show one, so the form is unchecked: {unknown}." * bool(
        unknown
    )


def _limited(term: Estimate) -> str:
    """A term and its limit; an estimate's stands under an assumption and is no "at most"."""
    sign = "up to" if term.guarantee is Guarantee.ESTIMATE else "≤"
    return f"{term.value:.3f} ({sign} {rounded_up(term.upper, 3)})"


def recipe_said(found: Found) -> str:
    """Say which fine-tune the predictions are of, and where its steps are no longer one pass."""
    recipe, advice = found.prepared.config.fine_tune, found.advice
    few = recipe.few_rows / found.prepared.rows_a_unit
    words = (
        f"Predicted is this recipe alone: {recipe.epochs:g} passes over the rows but at least "
        f"{recipe.least_steps} steps of {recipe.batch_size}, LoRA of rank {recipe.lora_rank}, peak "
        f"rate {recipe.learning_rate:g}."
    )
    if any(n < few for n in advice.sizes) and any(c.budget > few for c in advice.choices):
        words += (
            f" Below n = {few:,.0f} that is more passes than above, so the form in n goes on "
            "across a change of regime that the smaller pilots do not see."
        )
    return words


def untouched_said(found: Found) -> list[str]:
    """Say how the base does as it is, which no window need beat."""
    base = found.untouched
    if base is None:
        return []
    words = (
        f"the base as it is, without a fine-tune, has {base.value:.3f} under the test law "
        f"(standard error {base.error:.3f}, on the rows that judge the pilots)"
    )
    if found.advice.rule != str(DEFAULT):  # what is minimised is no prediction of a risk
        return [words]
    worse = [c.budget for c in found.advice.choices if c.predictions[0].value >= base.value]
    if worse:
        sizes = ", ".join(f"{n:,}" for n in worse)
        words += (
            f": at n = {sizes} the advised window is predicted no lower, so it may be better left "
            "alone"
        )
    return [words]


def seeds_said(advice: Advice) -> list[str]:
    """Say what intervals and the level at which arms are told apart leave out."""
    if advice.seeds > 1:
        return []
    return [
        "one seed a pilot: intervals and what is told apart count the noise of rows alone, not the "
        f"spread over seeds, so {LEVEL:.0%} may be less than the rate of mistakes (--pilot-seeds 2)"
    ]


def _value(prediction: Prediction) -> str:
    return f"{prediction.value:.3f}{' *vacuous*' * (prediction.value >= 1)}"


def _band(prediction: Prediction) -> str:
    return f"[{rounded_down(prediction.lower, 3)}, {rounded_up(prediction.upper, 3)}]"


def _ties(advice: Advice) -> str:
    return f"; between windows tied in it, {advice.ties}" if advice.ties else ""


def not_told_from(choice: Choice, halved: Halved | None = None) -> str:
    """Name the arms that are not told to be worse than the advised one, at `LEVEL` over all."""
    if choice.indifferent:
        return f"any other{_kept(halved)}: no preference"
    return ", ".join(arm_name(p.window, p.objective) for p in choice.predictions[1:] if p.alike)


def _kept(halved: Halved | None) -> str:
    return " that was kept" if halved is not None and halved.dropped else ""


def direction_said(found: Found) -> list[str]:
    """Say so where the column has its hard rows at the low end."""
    if not found.advice.falls:
        return []
    column = found.prepared.column
    return [
        f"the pilots' risk falls as {column!r} rises, so its high values are the easy rows: D⁺ and "
        "every bound with it suppose the opposite, and none of them broke a tie; give a column "
        "that is high where rows are hard (a fail rate in place of a pass rate)"
    ]


def short_said(found: Found) -> list[str]:
    """Say which budgets the advised window cannot supply."""
    said = []
    for choice in found.advice.choices:
        held = len(found.prepared.units_in(choice.window))
        if held < choice.budget:
            said.append(
                f"n = {choice.budget:,}: window {choice.window} holds only {held:,} units of "
                f"{found.prepared.table.source}"
            )
    return said


def moves_said(advice: Advice, halved: Halved | None = None) -> list[str]:
    """Say where the advice moves."""
    found = []
    if advice.choices and all(choice.indifferent for choice in advice.choices):
        found.append(
            f"at no budget can these pilots tell the windows{_kept(halved).replace('was', 'were')} "
            f"apart (at {LEVEL:.0%}, all at once): the advice is a guess"
        )
    if not advice.moves:
        return [*found, "on this range of n the advice does not move"]
    for move in advice.moves:
        latest = "beyond this range, or never" if move.latest is None else f"{move.latest:,}"
        way = {True: "harder, ", False: "easier, ", None: ""}[move.harder]
        found.append(
            f"from about n = {move.size:,} (what is minimised, in 90 % of the draws: "
            f"{move.earliest:,} to {latest}) the advice moves "
            f"{way}from {move.before} to {move.after}"
        )
    return found


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
