"""Pictures of a certificate."""

from __future__ import annotations

from pathlib import Path

from estimators import Estimate
from estimators.display import rounded_up
from pacbayes_sft.atomic import replacing
from pacbayes_sft.certify import Certificate
from pacbayes_sft.choices import BOUND_NAMES

TERM_COLOURS = ("#30506d", "#c9782d", "#8a9a5b", "#b9b9b9")
WIDEST = 2.0  # bars beyond are cut; their number is printed
TERM_LABELS = (
    "empirical risk (Gibbs, with Monte Carlo limit)",
    "generalization  √(KL/2n)",
    "extrapolation  TV(test, train)",
    "ε  √(ln(2√n/δ)/2n)",
)


def plot_bound(certificate: Certificate, file: Path) -> None:
    """Draw the terms of Proposition 4.1 stacked, the other bounds, and the measured risks."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    import seaborn as sns

    c = certificate
    terms = (c.terms.empirical_risk, c.terms.generalization, c.terms.extrapolation, c.terms.epsilon)
    with mpl.rc_context():
        sns.set_theme(context="notebook", style="whitegrid")
        figure, axes = plt.subplots(figsize=(9.5, 4.6), layout="constrained")
        names = [
            name for name in BOUND_NAMES if name in c.bounds
        ]  # some runs have no recursive one
        rows = [BOUND_NAMES[name] for name in names]
        left = 0.0
        for value, colour, label in zip(terms, TERM_COLOURS, TERM_LABELS, strict=True):
            axes.barh(0, value, left=left, color=colour, label=label, edgecolor="white")
            left += value
        for place, name in enumerate(names[1:], start=1):
            test, train = c.bounds[name]
            axes.barh(
                place,
                train.upper,
                color="#d9dee3",
                edgecolor="#7a7f85",
                label="other bounds, on the train distribution" if place == 1 else None,
            )
            axes.barh(
                place,
                test.upper - train.upper,
                left=train.upper,
                color=TERM_COLOURS[2],
                edgecolor="white",
            )
        for place, name in enumerate(names):
            raw = c.bounds[name][0].upper
            text = rounded_up(raw, 3) + ("  vacuous" if raw >= 1 else "")
            axes.text(
                min(raw, WIDEST),
                place,
                f"  {'→ ' * (raw > WIDEST)}{text}",
                va="center",
                fontsize=10,
            )
        axes.axvline(1, color="#a03030", linewidth=1.2)
        axes.text(1, -0.62, " 1: vacuous from here on", color="#a03030", fontsize=9, va="center")
        measured = [
            (c.measured.test_risk, "Gibbs predictor, measured (covered)", "o", "black"),
            (c.measured.test_risk_finetuned, "finished model, measured (not covered)", "D", "w"),
        ]
        for place, (risk, label, marker, face) in enumerate(measured, start=len(rows)):
            if risk is not None:
                _point(axes, risk, place, label, marker, face)
        axes.set_yticks(range(len(rows) + 2), [*rows, "measured, Gibbs", "measured, finished"])
        axes.invert_yaxis()
        widest = max(min(c.bounds[name][0].upper, WIDEST) for name in names)
        axes.set_xlim(0, max(1.15, widest))
        axes.set_xlabel(f"risk ({c.options.loss.value.replace('_', ' ')} loss, 0 to 1)")
        axes.set_title(
            f"Bound on the test risk, n = {c.inputs.n:,}, δ = {c.options.delta:g}, "
            f"KL = {c.kl.value:,.4g} nats, {c.fitted.family} posterior",
            loc="left",
            fontsize=12,
        )
        axes.grid(axis="y", visible=False)
        axes.spines[["right", "top"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
        with replacing(file) as partial:
            figure.savefig(partial, dpi=130, format=file.suffix.lstrip(".") or "png")
        plt.close(figure)


def _point(axes, risk: Estimate, place: int, label: str, marker: str, face: str) -> None:  # type: ignore[no-untyped-def]
    low = max(0.0, risk.lower)
    axes.errorbar(
        risk.value,
        place,
        xerr=[[risk.value - low], [risk.upper - risk.value]],
        fmt=marker,
        color="black",
        markerfacecolor=face,
        markersize=8,
        capsize=4,
        label=label,
    )
    axes.text(risk.upper, place, f"  {risk.value:.3f}", va="center", fontsize=10)
