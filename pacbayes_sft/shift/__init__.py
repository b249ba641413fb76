"""The shift term of two data files: the sharpest label that what is known of them allows."""

from pacbayes_sft.shift.methods import (
    AUTO,
    CLASSIFIER,
    FEWEST_UNITS,
    KNOWN,
    NONE,
    RESERVED,
    TRIVIAL,
    auto_warnings,
    is_monotone,
    laws_are_known,
    method_for,
    spends_delta,
)
from pacbayes_sft.shift.term import (
    Shift,
    conditions_of_units,
    refuse_shared_draws,
    shift_term,
)

__all__ = [
    "AUTO",
    "CLASSIFIER",
    "FEWEST_UNITS",
    "KNOWN",
    "NONE",
    "RESERVED",
    "TRIVIAL",
    "Shift",
    "auto_warnings",
    "conditions_of_units",
    "is_monotone",
    "laws_are_known",
    "method_for",
    "refuse_shared_draws",
    "shift_term",
    "spends_delta",
]
