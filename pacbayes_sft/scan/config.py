"""What to scan: the content of ``CONFIG.yaml``, checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from pacbayes_sft.choices import LARGEST_SEED, ZERO_ONE, Loss, Objective, Posterior, PriorShape
from pacbayes_sft.difficulty.direction import refuse_high_is_easy
from pacbayes_sft.options import PRIOR_SCALES, has_repeats
from pacbayes_sft.scan.windows import check_windows, quoted
from pacbayes_sft.shift.methods import NEED_FACTORS, NEED_LABELLED, check_shift

Method = Literal["lora", "full"]
LARGEST = 10**9  # of a count: beyond any fine-tune, and still exact as a float
Positive = Annotated[int, Field(ge=1, le=LARGEST)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Igsm(_Strict):
    """Problems made here; their difficulty is the operation count, and every law is known.

    Attributes:
        kind: ``igsm``.
        test: Op law of the test set, ``LO:HI`` or ``k=w,k=w,...``.
        abstract: Whether abstract parameters occur.
        test_rows: Rows of the test set.
        heldout_rows: Rows of each window that nothing is fitted on, to measure the gaps.
        labelled_rows: Further labelled rows of the test law, for shift terms that ask for the
            predictor's own risk by difficulty; 0: none.
    """

    kind: Literal["igsm"]
    test: str
    abstract: bool = True
    test_rows: Positive = 512
    heldout_rows: Positive = 256
    labelled_rows: Annotated[int, Field(ge=0, le=LARGEST)] = 0

    @field_validator("test", mode="before")
    @classmethod
    def _is_quoted(cls, test: Any) -> Any:
        return quoted(test)


class Files(_Strict):
    """Rows from files, cut into windows by a column.

    Attributes:
        kind: ``rows``.
        pool: Rows to train on; a window's held-out rows are set aside from it too.
        test: Rows of the test distribution.
        column: The difficulty, a number in every row of both, high where rows are hard.
        heldout_rows: Rows of each window that nothing is fitted on.
        labelled: Further labelled rows of the test distribution, as for ``igsm``.
    """

    kind: Literal["rows"]
    pool: str
    test: str
    column: str = "difficulty"
    heldout_rows: Positive = 256
    labelled: str | None = None

    @field_validator("column")
    @classmethod
    def _high_is_hard(cls, column: str) -> str:
        refuse_high_is_easy(column)
        return column


class Windows(_Strict):
    """A rule that cuts the difficulty of the pool into windows; only for ``kind: rows``.

    Attributes:
        by: ``quantile`` (equal numbers of units) or ``equal`` (equal intervals); with ``overlap``
            either slides.
        count: How many windows.
        overlap: Share of a window that the next one covers too, in [0, 1).
    """

    by: Literal["quantile", "equal"]
    count: Positive
    overlap: float = Field(default=0.0, ge=0, lt=1)


class FineTune(_Strict):
    """How every cell is fine-tuned.

    Attributes:
        epochs: Passes over the rows, in whole steps: where the batch size does not divide them,
            fewer than `sft --epochs` takes, which counts the last batch of every pass.
        least_steps: Small sets are passed over more often, until this many steps. A checkpoint
            prior takes its share of the steps.
        batch_size: Rows a step.
        learning_rate: Peak learning rate.
        lora_rank: Rank under ``lora``.
        lora_alpha: Alpha under ``lora``.
        prior_fraction: Share of the units that a checkpoint prior sees, where a bound asks for one.
    """

    epochs: float = Field(default=1.0, gt=0, le=10_000)
    least_steps: Positive = 100
    batch_size: Positive = 32
    learning_rate: float = Field(default=2e-3, gt=0)
    lora_rank: Positive = 8
    lora_alpha: float = Field(default=16.0, gt=0)
    prior_fraction: float = Field(default=0.5, gt=0, lt=1)

    @property
    def few_rows(self) -> float:
        """Below so many rows a set is passed over more than ``epochs`` times."""
        return self.least_steps * self.batch_size / self.epochs

    def steps(self, rows: int) -> int:
        """Return the optimiser steps of a fine-tune on this many rows (a unit may have several)."""
        return max(self.least_steps, round(self.epochs * rows / self.batch_size))


class Bound(_Strict):
    """One bound of every cell; the words of `pacbayes_sft.Options`, but for `steps` and `draws`.

    Attributes:
        posterior: Family of Q.
        prior: ``base`` or ``checkpoint``.
        prior_shape: How the prior's scale is divided.
        prior_scales: Its grid.
        steps: Steps of a refinement, fewer by default than in `bound`.
        draws: Monte-Carlo draws in all (in `bound`: a row): a sample of the certified units, or
            several draws a unit.
        shifts: Shift terms, each a bound of its own: see `pacbayes_sft.shift.of_predictor`.
    """

    posterior: Posterior = Posterior.REFINED
    prior: Literal["base", "checkpoint"] = "base"
    prior_shape: PriorShape = PriorShape.ISOTROPIC
    prior_scales: tuple[Annotated[float, Field(gt=0)], ...] = PRIOR_SCALES
    steps: Positive = 100
    draws: Positive = 512
    shifts: tuple[str, ...] = ("tv",)

    @field_validator("prior_scales")
    @classmethod
    def _apart(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        if not scales or has_repeats(scales):
            raise ValueError("holds nothing, or a scale twice")
        return scales

    @field_validator("shifts")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) < len(names):
            raise ValueError("holds nothing, or a shift term twice")
        for name in names:
            check_shift(name)
        return names


class Primary(_Strict):
    """The bound that is reported first, declared before the runs.

    Attributes:
        bound: A name under ``bounds``.
        theorem: Which theorem's value; importance weights have a theorem of their own.
        shift: A shift term of that bound.
    """

    bound: str
    theorem: Literal["proposition_4_1", "mcallester", "kl", "quadratic", "lambda", "catoni"] = "kl"
    shift: str = "tv"


def _list_or_rule(windows: Any) -> str:
    return "rule" if isinstance(windows, dict | Windows) else "list"


class Config(_Strict):
    """A scan.

    Attributes:
        name: What it is called in pictures.
        data: Where rows come from.
        windows: Difficulty windows, ``LO:HI`` (both included) or a rule.
        sizes: Training sizes n, in units.
        seeds: Seeds; each draws its own rows and noise.
        bases: Bases: paths, hub ids, or shipped ones.
        objectives: Training objectives.
        methods: ``lora`` or ``full``.
        loss: A loss in [0, 1].
        delta: Probability of failure of each bound.
        fine_tune: How cells are fine-tuned.
        bounds: Bounds by name.
        primary: Which of them is reported first.
        batch_size: Rows a forward pass.
        device: Device of every cell; ``auto``: the one there is.
        levels_of_sample: Whether the column's values are levels cut at quantiles of the rows
            themselves (thirds, say): no limit on their shift is then more than an estimate.
        dtype: Dtype of every cell.
    """

    name: str
    data: Annotated[Igsm | Files, Field(discriminator="kind")]
    windows: Annotated[
        Annotated[tuple[str, ...], Tag("list")] | Annotated[Windows, Tag("rule")],
        Discriminator(_list_or_rule),
    ]
    sizes: tuple[Positive, ...]
    seeds: tuple[Annotated[int, Field(ge=0, le=LARGEST_SEED)], ...] = (0,)
    bases: tuple[str, ...] = ("strong",)
    objectives: tuple[Objective, ...] = (Objective.NLL,)
    methods: tuple[Method, ...] = ("lora",)
    loss: Loss = Loss.EXACT_MATCH
    delta: float = Field(default=0.05, gt=0, lt=1)
    fine_tune: FineTune = FineTune()
    bounds: dict[str, Bound]
    primary: Primary
    batch_size: Positive = 64
    device: str = "cpu"
    levels_of_sample: bool = False
    dtype: Literal["float32", "bfloat16", "float16", "autocast"] = "float32"

    @field_validator("windows", mode="before")
    @classmethod
    def _are_quoted(cls, windows: Any) -> Any:
        if isinstance(windows, str):
            raise ValueError(f'{windows!r} is not a list; write ["2:6", "4:8"], or a rule')
        return [quoted(w) for w in windows] if isinstance(windows, list) else windows

    @field_validator("device")
    @classmethod
    def _named(cls, name: str) -> str:
        try:  # whether it can be used shows where the cells run
            torch.device("cpu" if name == "auto" else name)
        except RuntimeError as error:
            raise ValueError(f"{name!r} is no device ({str(error).splitlines()[0]})") from None
        return name

    @property
    def cut_by_its_rows(self) -> bool:
        """Whether the rows whose difficulty a shift term counts decided the windows or levels."""
        return self.levels_of_sample or isinstance(self.windows, Windows)

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if self.primary.bound not in self.bounds:
            raise ValueError(f"primary.bound: {self.primary.bound!r} is not among the bounds")
        if self.primary.shift not in self.bounds[self.primary.bound].shifts:
            raise ValueError(f"primary.shift: {self.primary.shift!r} is not among that bound's")
        for name in ("sizes", "seeds", "bases", "objectives", "methods", "bounds"):
            if not getattr(self, name):
                raise ValueError(f"{name}: holds nothing")
        for name, bound in self.bounds.items():
            if "full" in self.methods and {*bound.shifts} & NEED_FACTORS:
                raise ValueError(
                    f"bounds.{name}.shifts: {', '.join(sorted(NEED_FACTORS))} need a draw a "
                    "row, which only the factors of a LoRA have; leave out methods: full"
                )
            self._can_be_had(name, bound)
        for name in ("sizes", "seeds", "bases", "objectives", "methods"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: names a value twice")
        if isinstance(self.windows, Windows):
            if self.data.kind == "igsm":
                raise ValueError("windows: a rule needs rows from files; list LO:HI for igsm")
            return self
        check_windows(self.windows)
        if isinstance(self.data, Igsm):
            _check_problems(self.data, self.windows)
        return self

    def _can_be_had(self, name: str, bound: Bound) -> None:
        """Refuse, before any fine-tune, a bound that the first cell would end in."""
        asking = sorted({*bound.shifts} & NEED_LABELLED)
        labelled = self.data.labelled_rows if self.data.kind == "igsm" else self.data.labelled
        if asking and not labelled:
            key = "labelled_rows" if self.data.kind == "igsm" else "labelled"
            raise ValueError(f"bounds.{name}.shifts: {asking[0]} needs labelled rows, data.{key}")
        if asking and self.loss not in ZERO_ONE:
            raise ValueError(
                f"bounds.{name}.shifts: {asking[0]} needs a 0-1 loss ({', '.join(ZERO_ONE)})"
            )
        if "slices" in bound.shifts and self.data.kind == "rows":
            raise ValueError(
                f"bounds.{name}.shifts: slices needs the laws of both sides on record, which rows "
                "cut from files have not"
            )
        if bound.prior == "checkpoint":
            least = min(self.sizes)
            if int(self.fine_tune.prior_fraction * least) < 1:
                raise ValueError(
                    f"prior_fraction: {self.fine_tune.prior_fraction:g} of n = {least} leaves a "
                    "checkpoint prior no unit to see"
                )


@dataclass(frozen=True)
class Cell:
    """One point of a scan.

    Attributes:
        size: Training size n, in units.
        window: Difficulty window, ``LO:HI``.
        seed: Seed of rows and noise.
        base: Name or path of the base.
        objective: Training objective.
        method: ``lora`` or ``full``.
    """

    size: int
    window: str
    seed: int
    base: str
    objective: Objective
    method: Method


def _check_problems(data: Igsm, windows: tuple[str, ...]) -> None:
    """Refuse laws of the operation count that no problem has."""
    from pacbayes_sft.igsm import OpLaw

    try:
        OpLaw.parse(data.test)
    except ValueError as error:
        raise ValueError(f"data.test: {error}") from None
    for window in windows:
        try:
            low, high = (int(edge) for edge in window.split(":"))
            OpLaw.uniform(low, high)
        except ValueError as error:
            raise ValueError(f"windows: {window!r}: {error}") from None
