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
HOPELESS = 0.9  # where even R̂ = 0 and KL = 0 give this much, no row is read


@dataclass(frozen=True)
class Leaves:
    """The δ of each leaf of the ledger.

    Attributes:
        shift: Of the shift term, spent only where that is a limit from samples.
        monte_carlo: Of the upper limit on the empirical Gibbs risk.
        theorem: Of the PAC-Bayes event of one prior scale.
    """

    shift: float
    monte_carlo: float
    theorem: float


def open_ledger(inputs: Inputs, options: Options) -> tuple[Ledger, Leaves]:
    """Spend δ before anything is computed.

    Raises:
        InputError: If n is too small for any bound to say anything.
    """
    ledger = Ledger(options.delta)
    shift = options.delta * SHIFT_SHARE
    if spends_delta(method_for(inputs.train, inputs.test, options.shift)):
        ledger.spend(f"shift: limit from samples (--shift {options.shift})", shift)
    monte_carlo = ledger.spend(
        "Monte Carlo: upper limit on the empirical Gibbs risk", options.delta * MONTE_CARLO_SHARE
    )
    theorem = ledger.share(len(options.sigmas))
    for sigma in options.sigmas:
        ledger.spend(f"PAC-Bayes with prior scale {sigma:g}", theorem)
    least = kl_bound(0.0, 0.0, inputs.n, theorem).upper
    if least >= HOPELESS:
        needed = next(n for n in count(1) if kl_bound(0.0, 0.0, n, theorem).upper < HOPELESS)
        raise InputError(
            f"{inputs.certified.source}: {inputs.n} certified units are too few, even a model "
            f"without an error would be bounded by {least:.2f}; at δ = {options.delta:g} it takes "
            f"{needed} or more for a bound below {HOPELESS:g}"
        )
    return ledger, Leaves(shift, monte_carlo, theorem)
