"""What other rules would advise, and what would change an advice's mind."""

from __future__ import annotations

import numpy as np

from pacbayes_sft.advise.predict import Evidence, Extra, Rule, Train, Values, arm_name
from pacbayes_sft.advise.ties import first_least

OTHERS = (
    Rule(Train.HELDOUT, Extra.TV),
    Rule(Train.HELDOUT, Extra.ROBUST),
    Rule(Train.HELDOUT, Extra.D_PLUS),
    Rule(Train.TIGHT, Extra.TV),
    Rule(Train.TIGHT, Extra.SLACK),
    Rule(Train.BOUND, Extra.TV),
    Rule(Train.BOUND, Extra.D_PLUS),
)


def alternatives(evidence: Evidence, budget: float) -> dict[str, Values]:
    """Return what each other rule predicts for every arm, by rule."""
    return {str(rule): evidence.total(rule, budget)[0] for rule in OTHERS}


def what_would_change(
    evidence: Evidence, rule: Rule, budget: float, advised: int
) -> tuple[str, ...]:
    """Return sentences: by how much what would have to be wrong for another window.

    Args:
        evidence: Fits of all arms.
        rule: What was minimised.
        budget: At this size.
        advised: Place of the advised arm.
    """
    totals = evidence.total(rule, budget)
    ranked = np.argsort(totals[0])
    order = [i for i in ranked if i != advised]  # it may be tied with others to the last digit
    best = evidence.arms[advised]
    if not order:
        return ("only one window was piloted: there is nothing to choose",)
    ahead = [i for i in order if totals[0, i] < totals[0, advised]]
    if ahead:
        least = evidence.arms[ahead[0]]
        behind = float(totals[0, advised] - totals[0, ahead[0]])
        said = [
            f"{arm_name(*least)} is predicted {behind:.3f} lower; {arm_name(*best)} ties with it "
            "(the 5 % quantile of their difference, looked at alone, is not above 0) and has the "
            "least bound of the tied"
        ]
    else:
        second = evidence.arms[order[0]]
        margin = float(totals[0, order[0]] - totals[0, advised])
        said = [
            f"{arm_name(*second)} is as good if its risk is {margin:.3f} lower than predicted, or "
            f"that of {arm_name(*best)} as much higher"
        ]
    differing: dict[str, list[str]] = {}
    for name, row in alternatives(evidence, budget).items():
        other = evidence.arms[first_least(row)]
        if other != best:
            differing.setdefault(arm_name(*other), []).append(name)
    for window, rules in differing.items():
        said.append(f"{window} is what {', '.join(rules)} would take")
    said += _slack(evidence, budget, advised)
    spread = np.quantile(totals[1:], 0.95, axis=0) - np.quantile(totals[1:], 0.05, axis=0)
    widest = int(ranked[:3][np.argmax(spread[ranked[:3]])])
    further = min(int(budget), 4 * evidence.sizes[-1])
    if further > evidence.sizes[-1]:
        said.append(
            f"pilots at n = {further} (of each of these windows: all need the same sizes) would "
            f"say most of {arm_name(*evidence.arms[widest])}: of the three best its prediction is "
            f"the widest (±{spread[widest] / 2:.3f})"
        )
    return tuple(said)


def _slack(evidence: Evidence, budget: float, best: int) -> list[str]:
    """The γ up to which D⁺ + γ·TV keeps the advised window ahead."""
    train = evidence.train_side(Rule(Train.HELDOUT, Extra.NOTHING), budget)[0]

    def leader(gamma: float) -> int:
        totals = [t + s.with_slack(gamma) for t, s in zip(train, evidence.shifts, strict=True)]
        return first_least(np.array(totals))

    held = [g for g in (round(0.01 * k, 2) for k in range(101)) if leader(g) == best]
    if not held:
        return ["no slack γ in [0, 1] makes held-out risk + D⁺ + γ·TV agree"]
    if len(held) == 101:
        return ["held-out risk + D⁺ + γ·TV agrees whatever the slack γ"]
    # the term is capped at TV, so where it agrees need not be one piece
    starts = [g for g in held if round(g - 0.01, 2) not in held]
    ends = [g for g in held if round(g + 0.01, 2) not in held]
    pieces = " and ".join(f"{a:.2f} to {b:.2f}" for a, b in zip(starts, ends, strict=True))
    return [
        f"held-out risk + D⁺ + γ·TV agrees for γ from {pieces} (of 0.00, 0.01, ..., 1.00); the "
        f"pilots showed {evidence.gamma[best]:.2f}"
    ]
