"""The shift term against γ, how far the risk may fall as difficulty rises: D⁺ + γ·TV, at most TV.

Whose δ it spends: at one γ the limit for its class of risk profiles, plug-in + McDiarmid, is at
most the curve and fails with probability δ once. It is a claim of its own, outside of the δ that
the findings of a survey share.
"""

from __future__ import annotations

from typing import Any

from estimators import Estimate, Guarantee
from estimators.total_variation import NON_DECREASING, breakdown_gamma, profile_shift
from estimators.total_variation.attribute import naming
from pacbayes_sft.data.rows import Table, is_number
from pacbayes_sft.errors import InputError
from pacbayes_sft.shift.methods import laws_are_known, laws_of_numbers
from pacbayes_sft.shift.term import number_per_unit, of_units

Pair = tuple[Estimate, Estimate]
KNOWN_LAWS = "both laws are known: the curve spends no δ"
PAYS = (
    "outside of the δ that the findings share: at a γ fixed in advance the curve is a claim of its "
    "own, at a further δ = {:g}"
)


def gamma_pair(train: Table, test: Table, delta: float) -> Pair | None:
    """Return D⁺ and TV of the difficulty; None without numbers.

    Args:
        train: Training rows.
        test: Test rows.
        delta: Probability with which the curve of the two may fail at a γ fixed in advance.

    Raises:
        InputError: If a unit has several difficulties.
    """
    if laws_are_known(train, test, "difficulty"):
        try:
            p, q = laws_of_numbers(train, test)
        except InputError:  # names, which have no order
            return None
        return profile_shift(p, q, NON_DECREASING), profile_shift(p, q)
    if not all(is_number(row.difficulty) for table in (train, test) for row in table.rows):
        return None
    a, b = (number_per_unit(table, "difficulty") for table in (train, test))
    pair = profile_shift(a, b, NON_DECREASING, delta), profile_shift(a, b, delta=delta)
    d_plus, tv = (of_units(naming(e, "difficulty"), train, test) for e in pair)
    return d_plus, tv


def gamma_note(pair: Pair, delta: float) -> str:
    """Return whose δ the curve spends, in a sentence."""
    return KNOWN_LAWS if pair[1].guarantee is Guarantee.EXACT else PAYS.format(delta)


def gamma_record(pair: Pair, delta: float) -> dict[str, Any]:
    """Return a JSON-ready object."""
    d_plus, tv = pair
    return {
        "d_plus": d_plus.to_dict(),
        "tv": tv.to_dict(),
        "gamma_at_which_nothing_is_gained": breakdown_gamma(d_plus.upper, tv.upper, tv.upper),
        "delta": 0.0 if tv.guarantee is Guarantee.EXACT else delta,
        "note": gamma_note(pair, delta),
    }
