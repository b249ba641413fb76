"""What a posterior is fitted with, and what a pilot promises for one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from estimators import (
    DiagonalGaussian,
    Estimate,
    Excess,
    kl_bound,
    kl_inverse_lower,
    kl_inverse_upper,
    recursive_bound,
)
from pacbayes_sft.baselines import PriorCentre
from pacbayes_sft.charges import Leaves
from pacbayes_sft.checkpoints.finetune import Pair
from pacbayes_sft.choices import PriorShape
from pacbayes_sft.empirical import parts_of
from pacbayes_sft.gibbs import Evaluator, Rows
from pacbayes_sft.prior_shape import Shape
from pacbayes_sft.slots import Slots


@dataclass(frozen=True)
class Workbench:
    """What a posterior is fitted with.

    Attributes:
        evaluator: The model and the loss.
        slots: Where the tensors live in it.
        pair: Finished weights and the prior's centre.
        rows: The certified rows.
        n: Independent units among them.
        leaves: The δ's of the bounds that the posterior will enter.
        centre: The prior's own centre, measured on the rows; None leaves the recursive bound out.
        draws: Draws a row that the certificate will make.
        shape: The prior's relative scales.
        identity: Names base, fine-tune and dtype, so that a refinement of others is not resumed.
    """

    evaluator: Evaluator
    slots: Slots
    pair: Pair
    rows: Rows
    n: int
    leaves: Leaves
    centre: PriorCentre | None
    draws: int = 1
    shape: Shape = field(default_factory=lambda: Shape(PriorShape.ISOTROPIC, {}))
    identity: str = ""

    @property
    def delta(self) -> float:
        """The δ of one PAC-Bayes leaf."""
        return self.leaves.theorem

    def prior(self, sigma: float) -> DiagonalGaussian:
        """Return P at one scale of the grid."""
        return self._around(self.pair.prior, sigma)

    def start(self, sigma: float) -> DiagonalGaussian:
        """Return the prior's noise around the finished weights."""
        return self._around(self.pair.posterior, sigma)

    def _around(self, mean: Mapping[str, torch.Tensor], sigma: float) -> DiagonalGaussian:
        return DiagonalGaussian(dict(mean), self.shape.scales(list(mean), sigma))

    def gibbs_risk(self, posterior: DiagonalGaussian, units: int, purpose: str) -> float:
        """Return the Gibbs risk on the first few units: a point value, for choices only."""
        pilot = self.rows.first_units(units)
        draws = self.evaluator.gibbs(self.slots, posterior, pilot, purpose)
        return min(1.0, float(draws.losses @ draws.weights))

    def price(self, posterior: DiagonalGaussian, units: int) -> float:
        """Return what a nat costs in the recursive bound near a posterior, by a pilot.

        The price is 1/(n·x) at the best bet x = √(2·ln(1/δ)/(n·E D²)).
        """
        assert self.centre is not None  # a refinement begins at the prior only beside its centre
        more, less = self._excess(self.centre, posterior, units, "pilot of the price of a nat")
        nats = -math.log(self.leaves.recursive)
        variance = max(more + less, 2 * nats / self.n)
        return 1 / math.sqrt(2 * nats * self.n / variance)

    def promised(
        self, posterior: DiagonalGaussian, kl: Estimate, units: int, purpose: str
    ) -> float:
        """Return the least of the kl and the recursive bound that a pilot promises.

        The pilot measures the excess over the prior's centre, whose own risk is known on all rows,
        so that posteriors are told apart by what they change and not by the pilot's rows.
        """
        if self.centre is None or not self.leaves.recursive:
            pilot = self.gibbs_risk(posterior, units, purpose)
            return kl_bound(pilot, kl, self.n, self.leaves.theorem).upper
        more, less = self._excess(self.centre, posterior, units, purpose)
        risk = min(1.0, max(0.0, float(self.centre.units.mean()) + more - less))
        slack = math.log(2 / self.leaves.excess) / (self.n * self.draws)
        limits = Excess.exactly(kl_inverse_upper(more, slack), kl_inverse_lower(less, slack))
        reference = self.centre.limit(self.leaves.reference)
        return min(
            kl_bound(risk, kl, self.n, self.leaves.theorem).upper,
            recursive_bound(reference, limits, kl, self.n, self.leaves.recursive).upper,
        )

    def _excess(
        self, centre: PriorCentre, posterior: DiagonalGaussian, units: int, purpose: str
    ) -> tuple[float, float]:
        """Return the two parts of the excess over the prior's centre on the first few units."""
        pilot = self.rows.first_units(units)
        found = self.evaluator.gibbs(self.slots, posterior, pilot, purpose)
        known = centre.rows[self.rows.places_of_first(units)]
        more, less = parts_of(found, known)
        return float(more @ found.weights), float(less @ found.weights)
