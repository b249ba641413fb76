"""How a bound is to be computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pacbayes_sft.choices import LEAST_DELTA, Loss, Posterior, PriorShape, Space, Start, Theorem
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import resolve_device
from pacbayes_sft.refine import Refinement

LEAST_SCALE, LARGEST_SCALE = 1e-30, 1e30  # noise is drawn in float32
PRIOR_SCALES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Options:
    """How a bound is to be computed.

    Attributes:
        prior: ``base``, ``initial`` or the directory of an earlier checkpoint of the run.
        prior_train: Rows that the earlier checkpoint saw, where no run record says so.
        prior_shape: How the prior's scale is divided among the tensors.
        posterior: Family of the posterior.
        refinement: How a refined posterior is fitted.
        space: Where the noise lives; None: ``factors`` for an adapter, else ``weights``.
        shift: See `pacbayes_sft.shift.shift_term`.
        loss: A loss in [0, 1].
        delta: Total probability of failure.
        theorem: The theorem that gets most of δ, named before the rows were seen.
        prior_scales: Scales of the prior, fixed before the rows were seen; the choice among them is
            paid for.
        draws: Monte-Carlo draws a row.
        units: Certified units that the Monte-Carlo estimate looks at, a random sample of the n; the
            recursive bound, which needs all, is then left out and its δ with it. None: all.
        baselines: Whether to compute what could be quoted instead.
        profile: A difficulty column by whose values the Gibbs losses are kept too, for shift terms
            that depend on the predictor; a share of δ is set aside for one such term.
        batch_size: Rows a forward pass.
        max_length: Longest row; None refuses only what the model cannot read.
        seed: Root of all noise.
        device: Device to evaluate on; ``auto``: the one there is.
        dtype: Dtype the model is evaluated in.
        trust_remote_code: Whether code that lies beside the base's weights may run.
    """

    prior: str | Path = "base"
    prior_train: str | None = None
    prior_shape: PriorShape = PriorShape.ISOTROPIC
    posterior: Posterior = Posterior.AUTO
    refinement: Refinement = field(default_factory=Refinement)
    space: Space | None = None
    shift: str = "auto"
    loss: Loss = Loss.EXACT_MATCH
    delta: float = 0.05
    theorem: Theorem = Theorem.AUTO
    prior_scales: tuple[float, ...] = PRIOR_SCALES
    draws: int = 4
    units: int | None = None
    baselines: bool = True
    profile: str | None = None
    batch_size: int = 64
    max_length: int | None = None
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        """Refuse options that mean nothing."""
        if not LEAST_DELTA <= self.delta < 1:
            raise InputError(f"delta must lie between {LEAST_DELTA:g} and 1, got {self.delta}")
        if not self.prior_scales or not all(
            LEAST_SCALE <= s <= LARGEST_SCALE for s in self.prior_scales
        ):
            raise InputError(
                f"the prior scales must lie between {LEAST_SCALE:g} and {LARGEST_SCALE:g}, got "
                f"{self.prior_scales}"
            )
        if has_repeats(self.prior_scales):
            raise InputError(f"the prior scales name one twice: {self.prior_scales}")
        if self.draws < 1 or self.batch_size < 1:
            raise InputError("draws and batch size must be at least 1")
        if self.units is not None and self.units < 1:
            raise InputError(f"units looked at must be at least 1, got {self.units}")
        if self.units is not None and self.refinement.start is Start.PRIOR:
            raise InputError("--start prior needs all certified units; leave out units, or --start")
        if self.max_length is not None and self.max_length < 1:
            raise InputError(f"--max-length must be at least 1, got {self.max_length}")
        if self.prior not in ("base", "initial"):  # a slip of the finger is a path that is missing
            object.__setattr__(self, "prior", Path(self.prior))
        object.__setattr__(self, "device", resolve_device(self.device))
        object.__setattr__(self, "loss", Loss(self.loss))
        object.__setattr__(self, "space", None if self.space is None else Space(self.space))
        object.__setattr__(self, "posterior", Posterior(self.posterior))
        object.__setattr__(self, "prior_shape", PriorShape(self.prior_shape))
        object.__setattr__(self, "theorem", Theorem(self.theorem))


def has_repeats(scales: Sequence[float]) -> bool:
    """Return whether two prior scales read alike; each has an event of its own in the ledger."""
    return len({f"{scale:g}" for scale in scales}) < len(scales)
