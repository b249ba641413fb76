"""What is recomputed of a certificate without running the model: hashes, draw, ledger, bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from yaml import YAMLError

from estimators import DiagonalGaussian, Estimate, Guarantee, is_vacuous
from pacbayes_sft.certified.card import model_card
from pacbayes_sft.certified.claim import Claim, claim, event_of, log_ratio
from pacbayes_sft.certified.draws import Numbered, draw_from
from pacbayes_sft.certified.files import rounded
from pacbayes_sft.certified.rows import Unit

LIMITS = ("value", "lower", "upper")  # all three are the value where it is exact
CLOSE = 1e-9
RATIO_CLOSE = 1e-6  # nats, absolute: sums over millions of entries, in another order elsewhere
RATIO_DRIFT = 0.01  # nats: between a draw and the same made elsewhere, which differs in last bits

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Check:
    """One thing that was recomputed.

    Attributes:
        name: What.
        passed: Whether it is as the certificate says.
        remark: What was found.
    """

    name: str
    passed: bool
    remark: str


def check_hashes(record: dict[str, Any], hashes: dict[str, str]) -> list[Check]:
    """The files, the rows and the base are those that the certificate names."""
    return [
        Check(
            f"SHA-256 of {name.replace('_', ' ')}",
            digest == record["hashes"][name],
            f"{digest[:12]}, certificate {record['hashes'][name][:12]}",
        )
        for name, digest in hashes.items()
    ]


def check_weights(
    record: dict[str, Any],
    hashes: dict[str, str],
    tensors: tuple[Tensors, Tensors],
    gaussians: tuple[DiagonalGaussian, DiagonalGaussian],
) -> list[Check]:
    """The deployed weights are the rounded draw, and the draw is the one its seed gives.

    Entry by entry it may differ in the last bits of another machine; all entries together may not
    have moved ln(dQ/dP) by them.
    """
    (draw, stored), (posterior, _) = tensors, gaussians
    sigmas = tuple(record["prior"]["sigma_grid"])
    dtype = record["deployed"]["dtype"]
    expected = rounded(draw, getattr(torch, dtype))
    changed = [
        name
        for name in expected.keys() | stored.keys()
        if name not in expected
        or name not in stored
        or stored[name].dtype != expected[name].dtype
        or not torch.equal(stored[name], expected[name])
    ]
    event = event_of(
        hashes,
        hashes["rows"],
        sigmas=sigmas,
        loss=record["loss"],
        seed=record["draw"]["seed"],
        deployed=dtype,
        evaluated=record["evaluation"]["dtype"],
    )
    again = draw_from(posterior, event)
    same = again.keys() == draw.keys() and all(
        _close(again[name], draw[name], _scale_of_entries(posterior, name)) for name in draw
    )
    remark = f"drawn again with seed {event['seed']}"
    try:
        ratios = (
            [log_ratio(t, *gaussians, sigmas, ()).value for t in (draw, again)] if same else [0.0]
        )
    except ValueError as error:
        return [_deployed(changed, dtype), Check("draw", False, f"no ln(dQ/dP): {error}")]
    if same and not abs(ratios[0] - ratios[-1]) <= RATIO_DRIFT:
        same = False
        remark += f": its ln(dQ/dP) is {ratios[-1]:.3f} nats, that of the file {ratios[0]:.3f}"
    elif not same:
        remark += (
            ": another draw; what it was drawn from or for was changed, or torch draws otherwise "
            f"here ({torch.__version__}, then {record['versions']['torch']})"
        )
    return [_deployed(changed, dtype), Check("draw", same, remark)]


def _deployed(changed: list[str], dtype: str) -> Check:
    told = f"{min(changed)!r} is not" if changed else "each tensor is"
    return Check(
        "deployed weights", not changed, f"{told} the draw rounded to {dtype}, bit for bit"
    )


def _scale_of_entries(posterior: DiagonalGaussian, name: str) -> float | torch.Tensor:
    """The σ of each entry; in a basis of its own a tensor's least, which no entry undercuts."""
    scale = posterior.scale[name]
    return float(torch.as_tensor(scale).min()) if name in posterior.basis else scale


def _close(left: torch.Tensor, right: torch.Tensor, scale: float | torch.Tensor) -> bool:
    """Machines differ in a draw's last bits; 1e-4 standard deviations is no other draw."""
    if left.shape != right.shape:
        return False
    allowed = 1e-4 * torch.as_tensor(scale) + 2e-7 * right.double().abs()
    return bool(((left.double() - right.double()).abs() <= allowed).all())


def check_words(record: dict[str, Any], card: Path) -> Check:
    """The model card says what the certificate says, whatever else it was given to say.

    And the certificate is one of an adapter that is loaded beside its base, for its own draw.
    """
    name = "model card"
    if record["predictor"] != "draw" or record["deployed"]["merged"] is not False:
        return Check(name, False, "the certificate is not that of a draw that is loaded unmerged")
    try:
        found = ModelCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=False)
    except (OSError, ValueError, YAMLError):
        return Check(name, False, f"{card.name} is missing or no model card")
    wanted = ModelCard(model_card(record))
    lines = iter(found.text.splitlines())
    for line in wanted.text.splitlines():
        if line.strip() and line not in lines:  # also moves on: in this order
            return Check(name, False, f"{card.name} does not say {line[:60]!r}")
    names = {result for result, _ in _results(wanted)}
    if [r for r in _results(found) if r[0] in names] != _results(wanted):
        return Check(name, False, f"{card.name}: its metadata have other results")
    return Check(name, True, f"{card.name} says what the certificate says")


def _results(card: ModelCard) -> list[tuple[Any, Any]]:
    """Names and values alone: how the hub's library writes them differs by version."""
    data: Any = card.data
    return [(result.metric_name, result.metric_value) for result in data.eval_results or []]


def check_units(record: dict[str, Any], units: list[Unit]) -> Check:
    """The empirical risk is the mean of the listed losses, and n their number."""
    mean = math.fsum(unit.loss for unit in units) / max(1, len(units))
    stated = record["empirical_risk"]
    same = all(_near(stated[limit], mean) for limit in LIMITS) and _is_exact(stated)
    return Check(
        "empirical risk",
        same and len(units) == record["n"],
        f"mean {mean:.6f} of {len(units):,} listed losses, certificate {stated['value']:.6f} of "
        f"{record['n']:,}",
    )


def check_numbers(
    record: dict[str, Any],
    draw: Tensors,
    gaussians: tuple[DiagonalGaussian, DiagonalGaussian],
) -> list[Check]:
    """The ratio from the files; ledger, charge and bounds from the certificate's own numbers."""
    stated, n, delta = record["log_ratio"], record["n"], record["delta"]
    number = Numbered(record["draw"]["k"], record["draw"]["declared"])
    shift_delta = record["shift"]["delta"]
    try:
        ratio = log_ratio(draw, *gaussians, tuple(record["prior"]["sigma_grid"]), ())
    except (LookupError, ValueError) as error:
        return [Check("ln(dQ/dP)", False, f"none follows from the files: {error}")]
    try:
        shift = Estimate.from_dict(record["shift"]["tv"])
        entered = replace(ratio, **{limit: stated[limit] for limit in LIMITS})
        risk = record["empirical_risk"]["value"]
        made = claim(risk, entered, n, delta, shift, shift_delta, number)
    except ValueError as error:
        impossible = Check("bound", False, f"none follows from the certificate: {error}")
        return [_check_ratio(ratio.value, stated), impossible]
    entries = {row["event"]: row["delta"] for row in record["delta_ledger"]}
    paid = entries.keys() == made.ledger.events.keys() and all(
        _near(entries[event], spent) for event, spent in made.ledger.events.items()
    )
    # a limit from samples may fail: what it may fail with must be in the ledger
    covered = shift.guarantee != "upper" or shift.delta <= shift_delta + CLOSE
    return [
        _check_ratio(ratio.value, stated),
        Check(
            "ledger",
            paid and covered and sum(entries.values()) <= delta * (1 + CLOSE),
            f"spends {sum(entries.values()):.6f} of δ = {delta:g}, shift {shift_delta:g}",
        ),
        Check(
            "charge of the draw",
            _near(record["draw"]["delta"], made.delta),
            f"draw {number.k} of {number.declared or 'an undeclared number'} pays "
            f"{made.delta:.6f}, certificate {record['draw']['delta']:.6f}",
        ),
        *_check_bounds(record, made),
    ]


def _check_ratio(ratio: float, stated: dict[str, Any]) -> Check:
    return Check(
        "ln(dQ/dP)",
        _is_exact(stated)
        and all(
            math.isclose(ratio, stated[limit], rel_tol=CLOSE, abs_tol=RATIO_CLOSE)
            for limit in LIMITS
        ),
        f"{ratio:.6f} nats at the draw, certificate {stated['value']:.6f}",
    )


def _check_bounds(record: dict[str, Any], made: Claim) -> list[Check]:
    checks = []
    for name, key, flag, bound in (
        ("bound, train distribution", "train_bound", "train_vacuous", made.on_train),
        ("bound, test distribution", "bound", "vacuous", made.on_test),
    ):
        stated = record[key]
        same = (
            _near(stated["value"], bound.value)
            and _near(stated["upper"], bound.upper)
            and _near(stated["confidence"], bound.confidence)
            and stated["guarantee"] == bound.guarantee
            and stated["lower"] == bound.to_dict()["lower"]
            and record["target"] == "test_distribution"
            and record[flag] == is_vacuous(bound)
        )
        told = (
            {*stated["assumptions"]} & {*record["assumptions"]}
            if key == "bound"
            else {*stated["assumptions"]}
        )
        checks.append(
            Check(
                name,
                same and {*bound.assumptions} <= told,
                f"{bound.upper:.6f} ({bound.guarantee} at {bound.confidence:.4g}), certificate "
                f"{stated['upper']:.6f} ({stated['guarantee']} at {stated['confidence']:.4g})",
            )
        )
    return checks


def _is_exact(stated: dict[str, Any]) -> bool:
    return (stated["guarantee"], stated["confidence"]) == (Guarantee.EXACT, 1)


def _near(left: float, right: float) -> bool:
    return math.isclose(left, right, rel_tol=CLOSE, abs_tol=1e-12)
