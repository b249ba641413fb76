"""Where a posterior's mean lies, between the prior's centre and the finished weights, in words.

A certificate is quoted by its first sentence, and that one may call a posterior "around" a
fine-tune only where it is one. Sentence, card and warning take their words from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

ENDED = 0.1  # of the way from the prior's centre: a posterior nearer to it has gone back
FROM_THE_PRIOR = "refined from the prior's centre"


class Place(StrEnum):
    """Whom a certificate speaks of.

    Attributes:
        FINE_TUNE: The mean is nearer to the finished weights than to the prior's centre.
        BETWEEN: It is not, and has left the prior's centre.
        PRIOR: It is all but there: what is certified is the prior under noise.
    """

    FINE_TUNE = "fine_tune"
    BETWEEN = "between"
    PRIOR = "prior"


def place_of(drift: Mapping[str, Any]) -> Place:
    """Return where the mean is; a record from before the distance was kept is taken at its word."""
    whole, left = drift["distance_finished_to_prior"], drift.get("distance_to_prior")
    if left is None or whole == 0:
        return Place.FINE_TUNE
    if left <= ENDED * whole:
        return Place.PRIOR
    return Place.FINE_TUNE if left > drift["distance"] else Place.BETWEEN


def drawn_from(record: Mapping[str, Any], name: str) -> str:
    """Say which Gaussian a model is drawn from, with its article.

    Args:
        record: ``drift``, ``posterior`` and ``prior`` as in ``bound.json`` or ``certificate.json``.
        name: What the fine-tune is called.
    """
    drift, centre = record["drift"], record["prior"]["centre"]
    place, family = place_of(drift), record["posterior"]["family"]
    if place is Place.FINE_TUNE:
        return f"the {family} Gaussian posterior around {name}"
    ended = f"where the {family} posterior of {name} ended"
    if str(record["posterior"].get("reason", "")).startswith(FROM_THE_PRIOR):
        ended = f"where the {family} posterior, fitted from the prior's centre, ended"
    if place is Place.PRIOR:
        return f"a Gaussian around {centre}, {ended}"
    left, distance = drift["distance_to_prior"], drift["distance"]
    return (
        f"a Gaussian between the prior's centre ({centre}) and {name}, nearer to the former "
        f"({left:.3g} from it, {distance:.3g} from the latter), {ended}"
    )


def what_is_certified(record: Mapping[str, Any], name: str) -> str:
    """Say of what a posterior that is not around the fine-tune is a certificate; else nothing."""
    place, centre = place_of(record["drift"]), record["prior"]["centre"]
    if place is Place.PRIOR:
        return f"This certifies {centre}, not what {name} learnt beyond it."
    if place is Place.BETWEEN:
        return f"This certifies what {name} learnt beyond {centre} in part at most."
    return ""


def not_around(drift: Mapping[str, Any], centre: str) -> list[str]:
    """Warn, in a sentence or none, that the posterior is not one around the fine-tune."""
    place = place_of(drift)
    if place is Place.FINE_TUNE:
        return []
    distances = (
        f"its mean lies {drift['distance_to_prior']:.3g} from the prior's centre and "
        f"{drift['distance']:.3g} from the finished weights, so what is certified is"
    )
    if place is Place.PRIOR:
        return [
            f"the posterior ended at the prior: {distances} {centre} under noise, and next to "
            "nothing of what the fine-tune learnt on the certified rows"
        ]
    return [
        f"the posterior is nearer to the prior than to the fine-tune: {distances} a model between "
        "the two, and what the fine-tune learnt on the certified rows in part at most"
    ]
