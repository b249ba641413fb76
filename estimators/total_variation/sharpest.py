"""The sharpest valid interval for TV from several findings that hold together.

Each finding speaks of TV of the whole example or of a view of it, and TV of a view is at most that
of the whole. So every `lower` limit stands for the whole; an `upper` one does only where its
assumptions say that nothing else shifts. If finding i fails with probability δ_i, all of them hold
with probability >= 1 - Σδ_i, and then so do the largest lower and the least upper limit: looking
for the sharpest costs nothing beyond that sum. Should the two cross, an assumption of the upper
limit is refuted at that confidence: it is dropped, and named. A lower limit that rests on an
assumption of its own refutes nothing: it is the one that is dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from estimators.display import rounded_down, rounded_up
from estimators.estimate import Estimate, Guarantee

NO_UPPER = (
    "no finite-sample upper limit exists here: nothing bounds the TV of text from above without an "
    "assumption"
)
WOULD_GIVE_ONE = (
    "recorded laws of both files under one generator (exact)",
    "a column through which alone train and test differ (assumption (i): upper)",
    "labels that say which test rows come from elsewhere, D_test = (1-λ)D_train + λD' (upper)",
)


@dataclass(frozen=True)
class Sharpest:
    """Outcome of `sharpest`.

    Attributes:
        tv: The interval; ``upper`` (or ``exact``) if an upper limit is valid, else ``lower``. Both
            limits hold at its confidence.
        lower_from: Name of the finding behind the lower limit, None if that is the trivial 0.
        upper_from: Name of the finding behind the upper limit, None if that is the trivial 1.
        refuted: Which assumption the lower limit refutes, if one.
        reasons: Why this interval and no sharper one, in sentences.
    """

    tv: Estimate
    lower_from: str | None
    upper_from: str | None
    refuted: str | None
    reasons: tuple[str, ...]


def sharpest(findings: Mapping[str, Estimate], conditional: Collection[str] = ()) -> Sharpest:
    """Return the sharpest interval that the findings allow together.

    Args:
        findings: Estimates by name, with δ's that were settled before any of them was seen. An
            ``estimate`` brings no limit; the point value is taken from the finding behind the
            upper limit, else from the one behind the lower limit, else from an estimate.
        conditional: Names of those whose lower limit needs more than independent rows, so that it
            may not refute an upper one.

    Raises:
        ValueError: If there is no finding.

    >>> a = Estimate(0.3, 0.0, 0.4, 0.98, Guarantee.UPPER, "column", ("(i)",))
    >>> b = Estimate(0.25, 0.2, 1.0, 0.97, Guarantee.LOWER, "classifier", ())
    >>> found: Sharpest = sharpest({"difficulty": a, "text": b})
    >>> found.tv.lower, found.tv.upper, round(found.tv.confidence, 2)
    (0.2, 0.4, 0.95)
    """
    if not findings:
        raise ValueError("there is nothing to choose from")
    promises = {k: e for k, e in findings.items() if e.guarantee is not Guarantee.ESTIMATE}
    spent = min(1.0, sum(1 - e.confidence for e in promises.values()))
    below = {k: e for k, e in promises.items() if e.guarantee in (Guarantee.LOWER, Guarantee.EXACT)}
    above = {k: e for k, e in promises.items() if e.guarantee in (Guarantee.UPPER, Guarantee.EXACT)}
    firm = [k for k in below if k not in conditional]
    high = min(above, key=lambda k: above[k].upper, default=None)
    low = max(firm, key=lambda k: below[k].lower, default=None)
    refuted = None
    if high and low and low != high and below[low].lower > above[high].upper + 1e-12:
        refuted = _refuted(low, below[low].lower, high, above[high])
        high = None
    ceiling = above[high].upper + 1e-12 if high else 1.0
    contradicts = [k for k in below if k not in firm and below[k].lower > ceiling]
    dropped = tuple(_dropped(k, below[k], str(high)) for k in contradicts)
    rest = [k for k in below if k not in contradicts]
    low = max(rest, key=lambda k: below[k].lower, default=None)
    lower = below[low].lower if low else 0.0
    if high and above[high].guarantee is Guarantee.EXACT:
        reason = f"{high}: exact, so no limit from samples is needed"
        return Sharpest(above[high], high, high, None, (reason, *dropped))
    upper = above[high].upper if high else 1.0
    if low and lower == 0.0:
        low = None
    chosen = [findings[name] for name in (high, low) if name]
    value = min(upper, max(lower, _point(findings, high, low)))
    assumptions = tuple(dict.fromkeys(a for e in chosen for a in e.assumptions))
    guarantee = (
        Guarantee.UPPER if high else Guarantee.LOWER if below or refuted else Guarantee.ESTIMATE
    )
    tv = Estimate(
        value,
        lower,
        upper,
        (1 - spent) if promises else 0.0,
        guarantee,
        _method(findings, high, low),
        assumptions,
        "probability",
    )
    kept = {k: e for k, e in findings.items() if k not in contradicts}
    reasons = (*_reasons(kept, high, low, lower, refuted), *dropped)
    return Sharpest(tv, low, high, refuted, reasons)


def _point(findings: Mapping[str, Estimate], high: str | None, low: str | None) -> float:
    for name in (high, low):
        if name:
            return findings[name].value
    return max(e.value for e in findings.values())


def _method(findings: Mapping[str, Estimate], high: str | None, low: str | None) -> str:
    parts = []
    if low:
        parts.append(f"lower limit: {findings[low].method} ({low})")
    if high:
        parts.append(f"upper limit: {findings[high].method} ({high})")
    return "; ".join(parts) or "no finding beyond 0 <= TV <= 1"


def _refuted(low: str, lower: float, high: str, upper: Estimate) -> str:
    blamed = "; ".join(upper.assumptions) or upper.method
    return (
        f"{low} certifies TV >= {rounded_down(lower, 3)}, above the limit "
        f"{rounded_up(upper.upper, 3)} of {high}: what that one assumes is refuted "
        f"({blamed}), so its limit was dropped"
    )


def _dropped(low: str, lower: Estimate, high: str) -> str:
    return (
        f"{low} would certify TV >= {rounded_down(lower.lower, 3)} if "
        f"{'; '.join(lower.assumptions)}, against the limit of {high}: one of the two assumes "
        f"what is false, and {low} was dropped"
    )


def _reasons(
    findings: Mapping[str, Estimate],
    high: str | None,
    low: str | None,
    lower: float,
    refuted: str | None,
) -> tuple[str, ...]:
    reasons = []
    if low:
        reasons.append(f"at least {rounded_down(lower, 3)}: {low} ({findings[low].method})")
    elif any(e.guarantee is Guarantee.LOWER for e in findings.values()):
        reasons.append("no view tells the two sides apart at this confidence: the lower limit is 0")
    if high:
        held = "; ".join(findings[high].assumptions)
        reasons.append(f"at most {rounded_up(findings[high].upper, 3)}: {high}, if {held}")
    else:
        reasons += [refuted] if refuted else []
        reasons.append(f"{NO_UPPER}; one of these would give one: {'; '.join(WOULD_GIVE_ONE)}")
    return tuple(reasons)
