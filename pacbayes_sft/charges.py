"""Who spends which part of δ, settled before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from estimators import Ledger, kl_bound
from estimators.display import rounded_up
from pacbayes_sft.choices import Theorem
from pacbayes_sft.errors import InputError
from pacbayes_sft.inputs import Inputs
from pacbayes_sft.options import Options
from pacbayes_sft.shift import method_for, spends_delta

RISK_SHARE = 0.1
EXCESS_SHARE = 0.1
SHIFT_SHARE = 0.2
# Of what is left: the event of kl and its kin, Catoni's, the recursive one and its reference. A
# theorem named in advance gets nearly all; the others stay in the ledger, dear but honest.
SHARES = {
    Theorem.AUTO: (0.3, 0.1, 0.2, 0.4),
    Theorem.KL: (0.85, 0.05, 0.05, 0.05),
    Theorem.CATONI: (0.05, 0.85, 0.05, 0.05),
    Theorem.RECURSIVE: (0.05, 0.05, 0.2, 0.7),
}
SAMPLED_SHARES = (0.7, 0.3, 0.0, 0.0)  # where a sample of the units is looked at
HOPELESS = 0.9  # where even R̂ = 0 and KL = 0 give this much, no row is read


@dataclass(frozen=True)
class Leaves:
    """The δ of each leaf of the ledger.

    Attributes:
        shift: Of the shift term, spent only where that is a limit from samples.
        profile: Of one shift term that depends on the predictor, where a profile is kept.
        monte_carlo: Of the upper limit on the empirical Gibbs risk.
        excess: Of the limits on the empirical excess over the prior's centre.
        reference: Of the limit on the risk of the prior's centre itself.
        theorem: Of the event that McAllester's, the kl, the quadratic, the λ bound and
            Proposition 4.1 share, for one prior scale.
        catoni: Of Catoni's event for one prior scale, all c's of its grid together.
        recursive: Of the recursive bound's event for one prior scale.
    """

    shift: float
    monte_carlo: float
    excess: float
    reference: float
    theorem: float
    catoni: float
    recursive: float
    profile: float = 0.0

    def of(self, theorem: str) -> float:
        """Return the δ that a theorem receives."""
        return {"catoni": self.catoni, "recursive": self.recursive}.get(theorem, self.theorem)


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
    every = options.units is None
    monte_carlo = ledger.spend(
        "Monte Carlo: upper limit on the empirical Gibbs risk",
        options.delta * (RISK_SHARE if every else RISK_SHARE + EXCESS_SHARE),
    )
    excess = reference = 0.0
    shares = SHARES[options.theorem] if every else SAMPLED_SHARES
    if every:
        excess = ledger.spend(
            "Monte Carlo: limits on the empirical excess over the prior's centre",
            options.delta * EXCESS_SHARE,
        )
    left, scales = ledger.share(1), len(options.prior_scales)
    theorem, catoni, recursive = (s * left / scales for s in shares[:3])
    if every:
        reference = ledger.spend(
            "held-out limit on the risk of the prior's centre", shares[3] * left
        )
    for sigma in options.prior_scales:
        ledger.spend(f"PAC-Bayes with prior scale {sigma:g}", theorem)
        ledger.spend(f"Catoni's bound with prior scale {sigma:g}", catoni)
        if every:
            ledger.spend(f"recursive bound with prior scale {sigma:g}", recursive)
    least = kl_bound(0.0, 0.0, inputs.n, theorem).upper
    if least >= HOPELESS:
        needed = next(n for n in count(1) if kl_bound(0.0, 0.0, n, theorem).upper < HOPELESS)
        raise InputError(
            f"{inputs.certified.source}: {inputs.n} certified units are too few, even a model "
            f"without an error would be bounded by {rounded_up(least, 2)}; at δ = "
            f"{options.delta:g} it takes {needed} or more for a bound below {HOPELESS:g}"
        )
    profile = shift if options.profile is not None else 0.0
    return ledger, Leaves(
        shift, monte_carlo, excess, reference, theorem, catoni, recursive, profile
    )
