"""The report: the advice in words and tables, the curves as a picture beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from estimators import Estimate, Guarantee
from estimators.display import rounded_down, rounded_up
from pacbayes_sft.advise.advice import Advice, Choice, Prediction
from pacbayes_sft.advise.cost import cost_said
from pacbayes_sft.advise.halving import Halved, halving_said
from pacbayes_sft.advise.picture import plot_advice
from pacbayes_sft.advise.predict import DEFAULT, Extra, arm_name
from pacbayes_sft.advise.run import Found
from pacbayes_sft.advise.shifts import LEVELS_OF_SAMPLE, WINDOWS_OF_SAMPLE
from pacbayes_sft.advise.ties import LEVEL
from pacbayes_sft.atomic import replacing

FILES = ("advice.md", "advice.png")


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
        *undrawn_said(found),
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


def undrawn_said(found: Found) -> list[str]:
    """Say what intervals and the level at which arms are told apart leave out."""
    said = []
    if found.advice.seeds < 2:
        said.append(
            "one seed a pilot: intervals and what is told apart count the noise of rows alone, not "
            f"the spread over seeds, so mistakes may be several times as frequent as {LEVEL:.0%} "
            "(--pilot-seeds 2)"
        )
    _, shift = found.advice.rule.split(" + ")
    drawn = shift in (Extra.PROFILE, Extra.NOTHING)
    if found.prepared.test_units is not None and not drawn:
        said.append(
            f"the test's law was counted on {found.prepared.test_units:,} units, and the sampling "
            "error of the shift side is not drawn: intervals and the "
            f"{LEVEL:.0%} are of the train side alone, so windows are told apart too often "
            "(--shift-side profile draws it)"
        )
    return said


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
