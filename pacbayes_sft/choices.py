"""The words a user chooses from, apart from the code behind them so that ``--help`` is quick."""

from enum import StrEnum

LARGEST_SEED = 2**32 - 1  # numpy's old generators, which transformers and scikit-learn seed
LEAST_DELTA = 1e-12  # a confidence is kept as 1 - δ, which cannot tell much less from certainty
BOUND_NAMES = {  # what a record calls a bound, and what a reader does
    "proposition_4_1": "Proposition 4.1",
    "mcallester": "McAllester",
    "quadratic": "quadratic",
    "lambda": "λ",
    "kl": "PAC-Bayes-kl",
    "catoni": "Catoni",
    "recursive": "recursive",
}


class Objective(StrEnum):
    """The training objective; neither is a risk.

    Attributes:
        NLL: Mean negative log-likelihood of the supervised tokens of a batch.
        P25: The same with each token weighted by the fourth root of its own probability.
        P50: By the square root of it.
        P75: By its power 3/4.
        DFT: By its own probability (arXiv 2508.05629).
    """

    NLL = "nll"
    P25 = "p0.25"
    P50 = "p0.5"
    P75 = "p0.75"
    DFT = "dft"

    @property
    def power(self) -> float:
        """The α of the token weight p^α: 0 is plain SFT, 1 is DFT."""
        ends = {Objective.NLL: 0.0, Objective.DFT: 1.0}
        return ends[self] if self in ends else float(self.value.removeprefix("p"))


class Loss(StrEnum):
    """The losses a risk can be taken in, each in [0, 1] per example.

    Attributes:
        EXACT_MATCH: 0 if every supervised token is the arg-max given the true ones before it.
        TOKEN_ERROR: Share of supervised tokens that are not.
        SMOOTHED_NLL: Mean negative log-likelihood of the supervised tokens under predictions
            mixed with 10 % of the uniform law, rescaled from its range to [0, 1].
        ANSWER: 0 if the greedily generated solution ends in the row's answer or one equivalent to
            it. A solution unfinished after 1.5 × the true one's tokens + 16 counts as wrong.
    """

    EXACT_MATCH = "exact_match"
    TOKEN_ERROR = "token_error"
    SMOOTHED_NLL = "smoothed_nll"
    ANSWER = "answer"


ZERO_ONE = (Loss.EXACT_MATCH, Loss.ANSWER)


class Posterior(StrEnum):
    """The families a posterior is fitted in; all are Gaussians.

    Attributes:
        AUTO: Isotropic or refined, whichever promises the least bound on a pilot; the report says
            why.
        ISOTROPIC: One σ for every weight, around the finished weights.
        PER_TENSOR: One σ a tensor, from its mean curvature, around the finished weights.
        LAPLACE: One σ a weight, from the curvature there, around the finished weights.
        KFAC: The same in the eigenbasis of Kronecker-factored curvature.
        INTERPOLATED: One σ, around a point between the prior's mean and the finished weights.
        REFINED: Mean and one σ a tensor moved to minimise the bound, from the finished weights or
            from the prior's centre, whichever a pilot promises more of (`Start`).
    """

    AUTO = "auto"
    ISOTROPIC = "isotropic"
    PER_TENSOR = "per_tensor"
    LAPLACE = "laplace"
    KFAC = "kfac"
    INTERPOLATED = "interpolated"
    REFINED = "refined"


class Start(StrEnum):
    """Where a refinement begins; free, since it shapes Q alone.

    Attributes:
        AUTO: At the end that a pilot promises more of.
        FINISHED: At the finished weights.
        PRIOR: At the prior's own centre, to move only where that pays for its KL.
    """

    AUTO = "auto"
    FINISHED = "finished"
    PRIOR = "prior"


class Theorem(StrEnum):
    """Which theorem is to be tight; the choice comes before the rows, so it divides δ for free.

    Attributes:
        AUTO: All, and the least of them is the bound.
        KL: PAC-Bayes-kl; McAllester's, the quadratic, the λ bound and Proposition 4.1 share its
            event.
        CATONI: Catoni's, on its grid.
        RECURSIVE: A held-out limit on the prior's own centre and a bound on the excess over it.
    """

    AUTO = "auto"
    KL = "kl"
    CATONI = "catoni"
    RECURSIVE = "recursive"


class PriorShape(StrEnum):
    """How the prior's scale is divided among the tensors; fixed before the rows were seen.

    Attributes:
        ISOTROPIC: The same for all.
        MAGNITUDES: In proportion to the root mean square of the base's weights there.
        CURVATURE: One over the root of the loss's curvature at the prior's centre, on text that
            the base writes itself, or on the rows that a checkpoint prior had seen.
    """

    ISOTROPIC = "isotropic"
    MAGNITUDES = "magnitudes"
    CURVATURE = "curvature"


class Space(StrEnum):
    """Where the Gaussian noise lives.

    Attributes:
        FACTORS: On the LoRA factors A and B.
        WEIGHTS: On the weight matrices that the fine-tune changed.
    """

    FACTORS = "factors"
    WEIGHTS = "weights"


class By(StrEnum):
    """Which parts of a model a distance is broken down by.

    Attributes:
        TENSOR: Each tensor (of a LoRA: each matrix that it changes).
        LAYER: Each layer, and each tensor outside of the layers.
        MODULE: Each kind of module, over all layers: ``q_proj``, ``up_proj``.
    """

    TENSOR = "tensor"
    LAYER = "layer"
    MODULE = "module"


class View(StrEnum):
    """What of a row is looked at; TV of a view never exceeds that of the whole row.

    Attributes:
        FULL: Prompt and completion.
        PROMPT: The prompt alone.
        ATTRIBUTES: The columns beside the text.
    """

    FULL = "full"
    PROMPT = "prompt"
    ATTRIBUTES = "attributes"


class Features(StrEnum):
    """What a classifier sees of the text of a view.

    Attributes:
        DEFAULT: Twelve counts (lengths, numbers, signs) and the 32 words that differ most.
        COUNTS: The counts alone.
        WORDS: TF-IDF of words and pairs of words.
        CHARACTERS: TF-IDF of runs of two to four characters.
        HIDDEN: Hidden states of the base, the mean over a text's tokens.
    """

    DEFAULT = "default"
    COUNTS = "counts"
    WORDS = "words"
    CHARACTERS = "characters"
    HIDDEN = "hidden"


class Duplicates(StrEnum):
    """What is done about rows that read alike.

    Attributes:
        COUNT: They are counted and shown; each row still counts as a draw of its own.
        GROUP: They are taken for copies: a cluster stands on one side of every split, and one row
            of it is judged a side.
        OFF: Only rows equal to the letter are counted.
    """

    COUNT = "count"
    GROUP = "group"
    OFF = "off"


class Rendering(StrEnum):
    """How the text of an iGSM problem is written.

    Attributes:
        SYMBOLIC: One token a parameter, for the small shipped base.
        ENGLISH: Sentences in the manner of Ye et al. 2024, for models that read English.
    """

    SYMBOLIC = "symbolic"
    ENGLISH = "english"
