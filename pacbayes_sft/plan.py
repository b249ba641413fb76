"""``bound --dry-run``: what certificate a fine-tune can get, before anything is computed.

Reads headers, records, rows and laws; loads no model and runs no forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estimators import Ledger, kl_bound
from pacbayes_sft.baselines import LEVELS
from pacbayes_sft.baselines import PILOT_UNITS as CODE_PILOT_UNITS
from pacbayes_sft.charges import open_ledger
from pacbayes_sft.checkpoints.finetune import initial_was_kept
from pacbayes_sft.checkpoints.lora import is_adapter
from pacbayes_sft.checkpoints.record import RECORD_DIR
from pacbayes_sft.choices import Posterior
from pacbayes_sft.inputs import Inputs, load_inputs
from pacbayes_sft.options import Options
from pacbayes_sft.posteriors import (
    DUEL_UNITS,
    PILOT_UNITS,
    RACE_SHARE,
    RACE_UNITS,
    race_scales,
)
from pacbayes_sft.shift import (
    CLASSIFIER,
    KNOWN,
    NONE,
    TRIVIAL,
    laws_are_known,
    method_for,
    refuse_shared_draws,
)


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


@dataclass(frozen=True)
class Plan:
    """What a call of `certify.bound` with the same arguments would do.

    Attributes:
        inputs: Checkpoints and rows, checked.
        options: As asked.
        guarantee: The label that the bound on the test risk would carry.
        floor: The least that the kl bound on the train distribution could be at this n: no errors,
            KL 0, every charge paid. A number about n, not about the model.
        shift_method: How the shift term would be found.
        priors: The priors that are possible.
        shifts: The shift terms that are possible, sharpest label first.
        missing: What is not there, and what it would give.
        ledger: The δ's as they would be spent.
        rows_evaluated: Rows through the model forwards.
        rows_refined: Rows through the model forwards and backwards.
    """

    inputs: Inputs
    options: Options
    guarantee: str
    floor: float
    shift_method: str
    priors: tuple[Part, ...]
    shifts: tuple[Part, ...]
    missing: tuple[str, ...]
    ledger: Ledger
    rows_evaluated: int
    rows_refined: int

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object."""
        pair = self.inputs.pair

        def parts(these: tuple[Part, ...]) -> list[dict[str, Any]]:
            return [{"name": p.name, "available": p.available, "remark": p.remark} for p in these]

        return {
            "dry_run": True,
            "n": self.inputs.n,
            "n_train": len(set(self.inputs.train.units)),
            "space": pair.space.value,
            "parameters": pair.parameters,
            "squared_distance": pair.squared_distance,
            "prior": pair.prior_source,
            "loss": self.options.loss.value,
            "posterior": self.options.posterior.value,
            "shift": self.shift_method,
            "guarantee": self.guarantee,
            "least_conceivable_kl_bound": {
                "value": self.floor,
                "note": "on the train distribution, with no errors and KL 0: what n alone allows",
            },
            "priors": parts(self.priors),
            "shifts": parts(self.shifts),
            "missing": list(self.missing),
            "assumptions": list(pair.assumptions),
            "warnings": list(self.inputs.warnings),
            "delta": self.options.delta,
            "delta_ledger": self.ledger.rows(),
            "cost": {
                "rows_evaluated": self.rows_evaluated,
                "rows_refined": self.rows_refined,
                "passes_over_the_certified_rows": round(
                    self.rows_evaluated / len(self.inputs.certified.rows), 2
                ),
            },
        }


def plan(
    base: str,
    finetuned: Path,
    train: str,
    test: str,
    options: Options | None = None,
    *,
    train_heldout: str | None = None,
) -> Plan:
    """Return what `certify.bound` would do with these arguments, and at what cost.

    Args:
        base: Path or hub id of the base, or the name of a shipped one.
        finetuned: The fine-tune.
        train: The rows it was trained on.
        test: Rows of the test distribution.
        options: As for the bound.
        train_heldout: Further rows of the train distribution.

    Raises:
        InputError: Where the bound itself would refuse its inputs.
    """
    options = options or Options()
    inputs = load_inputs(
        base,
        Path(finetuned),
        train,
        test,
        prior=options.prior,
        prior_train=options.prior_train,
        space=options.space,
        heldout=train_heldout,
    )
    refuse_shared_draws(inputs.train, inputs.test)
    method = method_for(inputs.train, inputs.test, options.shift)
    ledger, leaves = open_ledger(inputs, options)
    evaluated, refined = _cost(inputs, options)
    return Plan(
        inputs,
        options,
        "estimate" if method == CLASSIFIER else "upper",
        kl_bound(0.0, 0.0, inputs.n, leaves.theorem).upper,
        method,
        _priors(inputs),
        _shifts(inputs),
        tuple(_missing(inputs, method)),
        ledger,
        evaluated,
        refined,
    )


def _priors(inputs: Inputs) -> tuple[Part, ...]:
    kept = inputs.finetuned / RECORD_DIR / "prior"
    adapter = is_adapter(inputs.finetuned)
    initial = adapter and initial_was_kept(inputs.finetuned)
    record = inputs.record
    units = len(set(inputs.train.units))
    checkpoint = kept.is_dir() and record is not None and record.prior_rows > 0
    left = 0
    if checkpoint and record is not None:
        names = inputs.train.units
        left = len({names[i] for i in record.order[record.prior_rows :] if i < len(names)})
    return (
        Part("base", True, f"all {units:,} units count; the KL is that of the whole fine-tune"),
        Part(
            "initial",
            bool(initial),
            "the initial factors were kept: A's prior is centred on them"
            if initial
            else "full weights have no initial factors"
            if not adapter
            else "the initial adapter was not kept; the base prior is centred on zero in the "
            "balanced gauge, at a larger KL (`pacbayes-sft sft` keeps it)",
        ),
        Part(
            "checkpoint",
            checkpoint,
            f"--prior {kept}: {left:,} units count, the KL is that of the later rows alone"
            if checkpoint
            else "no checkpoint with a recorded order (`pacbayes-sft sft --prior-fraction 0.5` "
            "keeps one; else --prior DIR --prior-train FILE)",
        ),
    )


def _shifts(inputs: Inputs) -> tuple[Part, ...]:
    train, test = inputs.train, inputs.test
    columns = sorted(
        column
        for column in {"difficulty", *train.rows[0].attributes}
        if train.has(column) and test.has(column)
    )
    named = ", ".join(columns)
    known = laws_are_known(train, test)
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
        Part(CLASSIFIER, True, "lower: the bound becomes an estimate"),
        Part(NONE, not known, "upper, if you declare that nothing shifts"),
    )


def _missing(inputs: Inputs, method: str) -> list[str]:
    found = [f"{part.name} prior: {part.remark}" for part in _priors(inputs) if not part.available]
    if inputs.record is None:
        found.append("run record: order and base are unknown, so more rests on assumptions")
    if method not in (KNOWN, NONE):
        found.append("recorded laws of both files: they would make the shift term exact")
    if method == TRIVIAL:
        found.append("rows for any shift term but TV <= 1: every bound on the test risk is vacuous")
    if inputs.heldout is None:
        found.append("--train-heldout rows: the two gaps cannot be measured")
    return found


def _cost(inputs: Inputs, options: Options) -> tuple[int, int]:
    """Rows through the model: the passes of `certify.bound`, counted from its constants."""
    certified, test = len(inputs.certified.rows), len(inputs.test.rows)
    heldout = len(inputs.heldout.rows) if inputs.heldout else 0
    rows_a_unit = certified / inputs.n

    def pilot(units: int) -> int:
        return round(min(units, inputs.n) * rows_a_unit)

    evaluated = certified + test  # the finished model
    evaluated += certified * options.draws + test + heldout  # the Gibbs predictor
    evaluated += certified + len(LEVELS) * pilot(CODE_PILOT_UNITS)  # the quantised fine-tune
    evaluated += certified  # the prior's centre
    if len(options.sigmas) > 1:
        evaluated += len(options.sigmas) * pilot(PILOT_UNITS)
    if options.posterior is Posterior.AUTO:
        evaluated += 2 * pilot(DUEL_UNITS)
    refinement = options.refinement
    if options.posterior is Posterior.ISOTROPIC:
        return evaluated, 0
    steps = refinement.schedule.steps
    runners = race_scales(options.sigmas, steps)
    evaluated += runners * pilot(RACE_UNITS)
    steps += runners * (steps // RACE_SHARE)
    return evaluated, steps * min(refinement.batch_size, certified)
