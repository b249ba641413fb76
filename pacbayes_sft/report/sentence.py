"""What a certificate says in plain words, and what it does not say."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

from estimators.display import confidence_percent, rounded_up
from pacbayes_sft.bound_json import to_record
from pacbayes_sft.certify import Certificate
from pacbayes_sft.choices import Loss
from pacbayes_sft.empirical import SAMPLED
from pacbayes_sft.whereabouts import Place, drawn_from, place_of, what_is_certified

MEANING = {
    Loss.EXACT_MATCH: "1 unless every completion token is the arg-max after the true ones",
    Loss.TOKEN_ERROR: "the share of its completion tokens that are not the arg-max",
    Loss.SMOOTHED_NLL: "its smoothed log-loss rescaled to [0, 1]",
    Loss.ANSWER: "1 unless the greedily written solution ends in the right answer",
}
_WHERE = "the examples of the test distribution"
_ERRS = {
    Loss.EXACT_MATCH: "errs on at most {} % of " + _WHERE,
    Loss.ANSWER: "errs on at most {} % of " + _WHERE,
    Loss.TOKEN_ERROR: "mistakes on average at most {} % of the completion tokens of " + _WHERE,
    Loss.SMOOTHED_NLL: "has a mean loss of at most {} % of its range on " + _WHERE,
}
_OVER_UNITS = ", on average over units (problems), each counted once however many rows it has"


def certificate_sentence(certificate: Certificate) -> str:
    """Say in plain words what the primary bound promises, and of which predictor."""
    return sentence(to_record(certificate))


def sentence(record: Mapping[str, Any]) -> str:
    """Say the same from the content of ``bound.json``."""
    bound = record["bound"]
    primary = record["bounds"][bound["theorem"]]
    name = Path(record["provenance"]["finetuned"]["source"]).name
    comma = "" if place_of(record["drift"]) is Place.FINE_TUNE else ","
    predictor = (
        f"a model drawn afresh for every use from {drawn_from(record, name)} (the Gibbs predictor)"
        f"{comma}"
    )
    loss = Loss(record["loss"])
    claim, over = _ERRS[loss], "" if _one_row_a_unit(record) else _OVER_UNITS
    if primary["raw"] is None:
        return "Vacuous: the KL is infinite, so nothing is promised."
    guessed = primary["guarantee"] == "estimate"
    if guessed and not primary["vacuous"]:
        guess = claim.replace("at most", "perhaps").format(percent(primary["raw"]))
        return (
            f"No certificate, only an estimate: {predictor} {guess} or fewer{over}. A part of the "
            "bound carries no upper limit."
        )
    if primary["vacuous"]:
        train = primary["train_raw"]
        rest = f"On the train distribution it promises at most {percent(train)} %."
        if primary["train_vacuous"]:
            rest = "On the train distribution it is vacuous too."
        elif percent(train) == "100.0":
            rest = "On the train distribution it promises next to nothing."
        what = "even the estimate" if guessed else "the bound"
        return (
            f"Vacuous: {what} on the test risk is {rounded_up(primary['raw'], 3)}, and no loss "
            f"in [0, 1] exceeds 1, so nothing is promised there. {rest}"
        )
    said = (
        f"With probability {confidence_percent(bound['confidence'])} over the draw of the training "
        f"set{_chance(record)}, {predictor} {claim.format(percent(primary['raw']))}{over}, "
        "if the assumptions below hold."
    )
    return f"{said} {what_is_certified(record, name)}".rstrip()


def percent(limit: float) -> str:
    """Return an upper limit in per cent with one decimal, rounded up: a promise stays one.

    >>> percent(0.43), percent(0.43001)
    ('43.0', '43.1')
    """
    return str((100 * Decimal(str(limit))).quantize(Decimal("0.1"), rounding=ROUND_CEILING))


def what_it_does_not_say(record: Mapping[str, Any]) -> list[str]:
    """Return what a reader might take the certificate for, each as a sentence."""
    drift = record["drift"]
    found = [
        "It does not speak of the finished checkpoint: the posterior's mean lies "
        f"{drift['distance']:.3g} from it, and its noise has norm {drift['noise_norm']:.3g}. "
        + _agreement(drift),
        "It does not speak of any one draw, only of their average; bound --emit-adapter gives one "
        "draw with a certificate of its own.",
        f"It speaks of the mean loss ({record['loss']}: {MEANING[Loss(record['loss'])]}), not of "
        "single answers, of another loss, or of prompts from elsewhere.",
        "It was computed for this run. Whoever makes several (seeds, losses, priors) and quotes "
        "the best has more that may fail than the ledger lists.",
        "It does not say that the assumptions are true; no program can check them all.",
        "The measured risks below stand at 95 % each, outside of the ledger.",
    ]
    best = record["baselines"]["best"]
    if best["name"] != "bound":
        found.insert(
            2,
            f"It is not the least that could be quoted: {best['name'].replace('_', ' ')} gives "
            f"{rounded_up(best['value'], 4)}; what that claims and costs stands below.",
        )
    return found


def _one_row_a_unit(record: Mapping[str, Any]) -> bool:
    """A record from before the key was added tells of the training file alone."""
    if (told := record.get("one_row_a_unit")) is not None:
        return bool(told)
    return bool(record["provenance"]["train"]["rows"] == record["n_train"])


def _chance(record: Mapping[str, Any]) -> str:
    """Name what else is random in the promise: the leaves of the ledger say it."""
    events = " ".join(leaf["event"].lower() for leaf in record["delta_ledger"])
    others = ["the choice of the units looked at"] if SAMPLED in record["assumptions"] else []
    if "monte carlo" in events or "monte-carlo" in events:
        others.append("the Monte-Carlo noise")
    if "shift" in events:
        others.append("the rows that limit the shift")
    return f" (and of {' and of '.join(others)})" if others else ""


def _agreement(drift: Mapping[str, Any]) -> str:
    if not drift["agreement"]:
        return ""
    return (
        f"On {100 * drift['agreement']['value']:.1f} % of the test units one draw has the finished "
        f"model's loss; its test risk differs by {drift['risk_gibbs_minus_finished']:+.4f}."
    )
