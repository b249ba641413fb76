"""What a certificate can rest on: priors and shift terms, there or missing and how to get them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pacbayes_sft.checkpoints.adapter_files import is_adapter
from pacbayes_sft.checkpoints.finetune import initial_was_kept
from pacbayes_sft.checkpoints.record import RECORD_DIR
from pacbayes_sft.errors import InputError
from pacbayes_sft.inputs import Inputs
from pacbayes_sft.shift import CLASSIFIER, FEWEST_UNITS, KNOWN, NONE, TRIVIAL, laws_are_known
from pacbayes_sft.shift.methods import enough_units
from pacbayes_sft.unseen import check_recorded_prior, unseen_units


@dataclass(frozen=True)
class Part:
    """Something a certificate can rest on.

    Attributes:
        name: What.
        available: Whether it is there.
        remark: What it gives, or what is missing and how to get it.
    """

    name: str
    available: bool
    remark: str


def possible_priors(inputs: Inputs) -> tuple[Part, ...]:
    """Return the priors there can be, and the units that each leaves to certify on."""
    kept = inputs.finetuned / RECORD_DIR / "prior"
    adapter = is_adapter(inputs.finetuned)
    initial = adapter and initial_was_kept(inputs.finetuned)
    units = len(set(inputs.train.units))
    return (
        Part("base", True, f"all {units:,} units count; the KL is that of the whole fine-tune"),
        Part(
            "initial",
            initial,
            "the initial factors were kept: A's prior is centred on them"
            if initial
            else "full weights have no initial factors"
            if not adapter
            else "the initial adapter was not kept; the base prior is centred on zero in the "
            "balanced gauge, at a larger KL (`pacbayes-sft sft` keeps it)",
        ),
        _checkpoint_prior(inputs, kept),
    )


def _checkpoint_prior(inputs: Inputs, kept: Path) -> Part:
    if isinstance(inputs.prior, Path):  # its rows were checked when the inputs were read
        return Part(
            "checkpoint",
            True,
            f"given, {inputs.prior}: {inputs.n:,} units count, the KL is that of the later rows "
            "alone",
        )
    record = inputs.record
    if record is not None and record.order_unknown:
        return Part(
            "checkpoint", False, f"the order of the rows is unknown: {record.order_unknown}"
        )
    if record is None or not record.prior_rows or not kept.is_dir():
        return Part(
            "checkpoint",
            False,
            "no checkpoint with a recorded order (`pacbayes-sft sft --prior-fraction 0.5` keeps "
            "one; else --prior DIR --prior-train FILE)",
        )
    try:
        check_recorded_prior(inputs.train, record, inputs.finetuned)
        left = len(unseen_units(inputs.train, record))
    except InputError as error:
        return Part("checkpoint", False, str(error))
    return Part(
        "checkpoint",
        left > 0,
        f"--prior {kept}: {left:,} units count, the KL is that of the later rows alone"
        if left
        else "it saw every row, so none is left to certify on",
    )


def possible_shifts(inputs: Inputs) -> tuple[Part, ...]:
    """Return the shift terms there can be, sharpest label first."""
    train, test = inputs.train, inputs.test
    columns = sorted(
        column
        for column in {"difficulty", *train.rows[0].attributes}
        if train.has(column) and test.has(column)
    )
    named = ", ".join(columns)
    known = laws_are_known(train, test)
    enough = enough_units(train, test)
    return (
        Part(
            KNOWN,
            known,
            "exact: both files record their law"
            if known
            else "needs FILE.meta.json beside both files, from one generator",
        ),
        Part(
            "a column",
            bool(columns),
            f"upper, if train and test differ only through it: {named}"
            if columns
            else "needs a column that every row of both files has (difficulty, for one)",
        ),
        Part(
            CLASSIFIER,
            enough,
            "lower: the bound becomes an estimate"
            if enough
            else f"needs {FEWEST_UNITS} units a side, or --shift classifier with 10",
        ),
        Part(NONE, not known, "upper, if you declare that nothing shifts"),
    )


def missing_parts(inputs: Inputs, method: str) -> list[str]:
    """Return what is not there, and what it would give, for a shift term found by ``method``."""
    found = [
        f"{part.name} prior: {part.remark}"
        for part in possible_priors(inputs)
        if not part.available
    ]
    if inputs.record is None:
        found.append("run record: order and base are unknown, so more rests on assumptions")
    if method not in (KNOWN, NONE):
        found.append("recorded laws of both files: they would make the shift term exact")
    if method == TRIVIAL:
        found.append("rows for any shift term but TV <= 1: every bound on the test risk is vacuous")
    if inputs.heldout is None:
        found.append("--train-heldout rows: the two gaps cannot be measured")
    return found
