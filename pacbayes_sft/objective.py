"""Training objectives, apart from the trainer so that ``--help`` need not load it."""

from enum import StrEnum


class Objective(StrEnum):
    """The training objective; neither is a risk.

    Attributes:
        NLL: Mean negative log-likelihood of the supervised tokens of a batch.
        DFT: The same with each token weighted by its own probability (arXiv 2508.05629).
    """

    NLL = "nll"
    DFT = "dft"
