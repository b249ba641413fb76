"""Who spends which part of δ, settled before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from estimators import Ledger, kl_bound
from pacbayes_sft.errors import InputError
from pacbayes_sft.inputs import Inputs
from pacbayes_sft.options import Options
from pacbayes_sft.shift import method_for, spends_delta

MONTE_CARLO_SHARE = 0.2
SHIFT_SHARE = 0.2
CATONI_SHARE = 0.3  # of what is left for the theorems
HOPELESS = 0.9  # where even R̂ = 0 and KL = 0 give this much, no row is read


@dataclass(frozen=True)
class Leaves:
    """The δ of each leaf of the ledger.

    Attributes:
        shift: Of the shift term, spent only where that is a limit from samples.
        profile: Of one shift term that depends on the predictor, where a profile is kept.
        monte_carlo: Of the upper limit on the empirical Gibbs risk.
        theorem: Of the event that McAllester's, the kl, the quadratic, the λ bound and
            Proposition 4.1 share, for one prior scale.
        catoni: Of Catoni's event for one prior scale, all c's of its grid together.
    """

    shift: float
    monte_carlo: float
    theorem: float
    catoni: float
    profile: float = 0.0

    def of(self, theorem: str) -> float:
        """Return the δ that a theorem receives."""
        return self.catoni if theorem == "catoni" else self.theorem


def open_ledger(inputs: Inputs, options: Options) -> tuple[Ledger, Leaves]:
    """Spend δ before anything is computed.

    Raises:
        InputError: If n is too small for any bound to say anything.
    """
    ledger = Ledger(options.delta)
    shift = options.delta * SHIFT_SHARE
    if spends_delta(method_for(inputs.train, inputs.test, options.shift)):
        ledger.spend(f"shift: limit from samples (--shift {options.shift})", shift)
    if options.profile is not None:
        ledger.spend("one shift term that depends on the predictor: its limits from samples", shift)
    monte_carlo = ledger.spend(
        "Monte Carlo: upper limit on the empirical Gibbs risk", options.delta * MONTE_CARLO_SHARE
    )
    rest = ledger.share(len(options.sigmas))
    catoni, theorem = rest * CATONI_SHARE, rest * (1 - CATONI_SHARE)
    for sigma in options.sigmas:
        ledger.spend(f"PAC-Bayes with prior scale {sigma:g}", theorem)
        ledger.spend(f"Catoni's bound with prior scale {sigma:g}", catoni)
    least = kl_bound(0.0, 0.0, inputs.n, theorem).upper
    if least >= HOPELESS:
        needed = next(n for n in count(1) if kl_bound(0.0, 0.0, n, theorem).upper < HOPELESS)
        raise InputError(
            f"{inputs.certified.source}: {inputs.n} certified units are too few, even a model "
            f"without an error would be bounded by {least:.2f}; at δ = {options.delta:g} it takes "
            f"{needed} or more for a bound below {HOPELESS:g}"
        )
    of_profile = shift if options.profile is not None else 0.0
    return ledger, Leaves(shift, monte_carlo, theorem, catoni, of_profile)
