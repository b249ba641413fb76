"""A `TrainerCallback` that keeps what a certificate needs later, in any trainer's run.

    trainer = SFTTrainer(model, args=args, train_dataset=rows, peft_config=lora)
    CertificateCallback("train.jsonl", prior_fraction=0.5).attach(trainer)
    trainer.train()
    trainer.save_model()

Beside the model there is then ``pacbayes_sft/`` with the run record, the initial adapter and the
half-data checkpoint: ``pacbayes-sft bound --prior OUT/pacbayes_sft/prior ...`` works on it.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from pacbayes_sft.beginning import TRAINED_BEFORE, is_at_base
from pacbayes_sft.checkpoints.files import ADAPTER, TensorFiles, open_checkpoint
from pacbayes_sft.checkpoints.record import RECORD_DIR, RunRecord, read_record, write_record
from pacbayes_sft.data.rows import Table, read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.first_pass import FirstPass
from pacbayes_sft.models import local_directory, resolve_base
from pacbayes_sft.order import (
    batches_of,
    first_difference,
    is_shuffled,
    shares_of,
    why_unknown,
)
from pacbayes_sft.running_bound import running_figures
from pacbayes_sft.unseen import splits_units, unequal
from pacbayes_sft.versions import TRAINED_WITH, versions

INITIAL, PRIOR, NOTES = "initial", "prior", "drawn.partial"
ACCURACY = "mean_token_accuracy"  # what TRL calls it
_SETTINGS = (
    *("learning_rate", "lr_scheduler_type", "num_train_epochs", "max_steps", "warmup_steps"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "weight_decay", "optim"),
    *("seed", "data_seed", "loss_type", "max_length"),
)


class CertificateCallback(TrainerCallback):  # type: ignore[misc]
    """Keep the initial adapter, a checkpoint that saw only the first rows, the order of the rows.

    At each log the KL of an isotropic pair comes beside the loss, as ``certificate_kl_nats``; the
    bound that a model without any error would get, as ``certificate_least_bound``; and where the
    trainer logs its token accuracy, the PAC-Bayes-kl bound at that, as
    ``certificate_bound_indication`` (the noise of the posterior is not in that accuracy, and the
    batch's tokens are no units: it certifies nothing). Names ending in
    ``_after_prior`` speak of the checkpoint as prior and of the rows after it.

    Args:
        train: The training file, in the order of the trainer's data set; or its rows.
        base: Path or hub id of the base; what the model says it is, if None.
        out: Where the fine-tune will lie; the trainer's ``output_dir``, if None.
        prior_fraction: Share of the rows after which the weights are kept as a prior; 0 keeps none.
        sigma: Standard deviation of prior and posterior in what is logged.
        delta: Probability of failure in what is logged.
        positions: Row of the file at each place of the trainer's data set, if not in its order.
        settings: What to record as settings; the trainer's arguments, if None.

    Of several processes the first alone keeps anything. No prior is kept where nobody could say
    which rows it had seen (`order.why_unknown`, `order.first_difference`), or where the weights had
    left the base before the first step, as when ``train()`` is called twice.

    Attributes:
        record: The run record, once training has ended.
        compare: Whether the texts of the trainer's data set are held against the file; who made the
            one from the other, as `sft` does, need not.
        shares: Whether several processes are known to read the rows in one order, each its share
            of every step, as those of `sft` do, which agree on it.
        shuffled: Whether the data set itself lies in random order, as that of `sft` does. A loader
            that shuffles is seen; ``positions`` alone say nothing of it, they may be a curriculum.

    Raises:
        InputError: If the rows cannot be read, a number is out of its range, or ``positions`` does
            not hold every row once.
    """

    def __init__(
        self,
        train: str | Path | Table,
        *,
        base: str | None = None,
        out: str | Path | None = None,
        prior_fraction: float = 0.0,
        sigma: float = 0.05,
        delta: float = 0.05,
        positions: Sequence[int] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        if not 0 <= prior_fraction < 1:
            raise InputError(f"prior_fraction must lie in [0, 1), got {prior_fraction}")
        if not 0 < sigma < math.inf:
            raise InputError(f"sigma must be positive and finite, got {sigma}")
        if not 0 < delta < 1:
            raise InputError(f"delta must lie in (0, 1), got {delta}")
        self.table = train if isinstance(train, Table) else read_table(train)
        self.positions = list(range(len(self.table.rows))) if positions is None else list(positions)
        if sorted(self.positions) != list(range(len(self.table.rows))):
            raise InputError(
                f"{self.table.source}: positions must hold each of its {len(self.table.rows)} rows "
                "once; write the rows that are trained on to a file of their own"
            )
        self.base, self.settings = base, settings
        self.prior_fraction, self.sigma, self.delta = prior_fraction, sigma, delta
        self.out = None if out is None else Path(out)
        self.record: RunRecord | None = None
        self._ended_before = False
        self.compare = True
        self.shares = False
        self.shuffled = False
        self._prior_rows = 0
        self._saw: list[int] = []  # rows of the file that an earlier training read, in its order
        self._prior_step: int | None = None
        self._initial_kept = False
        self._attached = self._begun = False
        self._references: dict[str, tuple[TensorFiles, int]] = {}

    def attach(self, trainer: Any) -> CertificateCallback:
        """Join a trainer ahead of its reporters, so that what is logged here reaches them all.

        Given to the trainer as one of its ``callbacks`` instead, it keeps the same, but what it
        logs comes too late for ``report_to``.
        """
        handler = trainer.callback_handler
        if self not in handler.callbacks:
            trainer.add_callback(self)
        handler.callbacks.remove(self)
        handler.callbacks.insert(0, self)
        self._attached = True
        return self

    def keep_initial(self, model: Any) -> None:
        """Keep the adapter as it is now, before the first step; full weights start at the base."""
        self._initial_kept = True
        if hasattr(model, "peft_config"):
            partial = self._kept / f".{INITIAL}.partial"
            model.save_pretrained(partial)
            if (partial / ADAPTER).is_file():
                (self._kept / INITIAL).mkdir(parents=True, exist_ok=True)
                shutil.move(partial / ADAPTER, self._kept / INITIAL / ADAPTER)
            else:
                warnings.warn(
                    "the initial adapter is not kept: its name is not 'default'", stacklevel=3
                )
            shutil.rmtree(partial)

    def keep_prior(self, model: Any, rows: int, saw: Sequence[int] = ()) -> None:
        """Keep the weights as they are now: they saw the first ``rows`` of the order alone.

        Args:
            model: The model.
            rows: How many rows it saw.
            saw: Which rows of the file, where a training before this one read them.
        """
        partial = self._kept / f".{PRIOR}.partial"
        for folder in (partial, self._kept / PRIOR):
            shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(partial)
        partial.rename(self._kept / PRIOR)  # at once: half of one must not pass for a prior
        self._prior_rows, self._saw = rows, list(saw)

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Keep the initial adapter and put a watch on the sampler."""
        if not state.is_world_process_zero:
            self._unknown = "this process keeps nothing"
            return
        self.out = self.out or Path(args.output_dir)
        self._kept.mkdir(parents=True, exist_ok=True)
        model, loader = given["model"], given["train_dataloader"]
        base = resolve_base(self.base or _named_base(model))
        self._base = base, open_checkpoint(local_directory(base))
        self._base_sha256 = self._base[1].sha256()
        self._ended_before = self._has_ended(args, state)
        if self._ended_before:  # nothing is left to train, and its record says what happened
            self._unknown = "this training had ended before"
            return
        again, self._begun = self._begun, True  # `train` called twice goes on from what it left
        trained_before = state.global_step == 0 and not self._begin(model, again)
        tokenizer = given.get("processing_class")
        self._unknown = why_unknown(args, loader, self.table, self.positions, shares=self.shares)
        if not self._unknown and self.compare:
            self._unknown = first_difference(loader.dataset, self.table, self.positions, tokenizer)
        if trained_before:
            self._unknown = TRAINED_BEFORE
        if not self._unknown:
            self._watch(args, state, loader)
        if self._unknown and self.prior_fraction:
            warnings.warn(f"no prior checkpoint will be kept: {self._unknown}", stacklevel=2)
        if not self._attached and args.report_to:
            warnings.warn("not attached: its figures do not reach report_to", stacklevel=2)

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Note what was drawn; keep the prior when its rows have been seen."""
        if self._unknown:
            return
        self._first_pass.note()
        if self._prior_step is not None and state.global_step == self._prior_step:
            self.keep_prior(given["model"], len(set(self._first_pass.read_by(self._prior_step))))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
        """Put KL and running bound beside the loss."""
        if not logs or "loss" not in logs or args.world_size > 1:
            return
        error = 1 - logs[ACCURACY] if logs.get(ACCURACY) is not None else None
        found = running_figures(
            given["model"], self._known_priors(), error=error, sigma=self.sigma, delta=self.delta
        )
        logs.update(found)
        state.log_history[-1].update(found)

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Write the run record."""
        if not state.is_world_process_zero or self._ended_before:
            return
        order = [] if self._unknown else self._order()
        folders = [f for f in (INITIAL, PRIOR) if (self._kept / f).is_dir()]
        self.record = RunRecord(
            base=self._base[0],
            base_sha256=self._base_sha256,
            train=self.table.source,
            train_sha256=self.table.sha256,
            row_sha256=[self.table.rows[i].sha256() for i in order],
            order=order,
            order_unknown=self._unknown,
            shuffled=self._shuffled if order else True,
            prior_rows=self._prior_rows if order else 0,
            kept_sha256={f: open_checkpoint(self._kept / f).sha256() for f in folders},
            settings=self._asked(args),
            versions=versions(*TRAINED_WITH),
        )
        write_record(self.record, self._kept.parent)
        self._notes.unlink(missing_ok=True)

    @property
    def _kept(self) -> Path:
        assert self.out is not None  # known from the beginning of the training at the latest
        return self.out / RECORD_DIR

    @property
    def _notes(self) -> Path:
        return self._kept / NOTES

    def _has_ended(self, args: Any, state: Any) -> bool:
        """Whether a resumed training is at its end already, with its record written; takes it."""
        if not 0 < state.max_steps <= state.global_step:
            return False
        assert self.out is not None
        found = read_record(self.out)
        if (
            found is None
            or found.settings != self._asked(args)
            or (found.base_sha256, found.train_sha256) != (self._base_sha256, self.table.sha256)
        ):
            return False
        self.record = found
        return True

    def _asked(self, args: Any) -> dict[str, Any]:
        return _settings(args) if self.settings is None else self.settings

    def _begin(self, model: Any, again: bool) -> bool:
        """Keep the initial adapter of a fresh run; return whether the run begins at its base."""
        if again:
            shutil.rmtree(self._kept / PRIOR, ignore_errors=True)
            self._prior_rows = 0
            self._references.clear()
            return False
        if self._initial_kept:
            return True
        for folder in (INITIAL, PRIOR):
            shutil.rmtree(self._kept / folder, ignore_errors=True)
        if not is_at_base(model, self._base[1]):
            return False
        self.keep_initial(model)
        return True

    def _watch(self, args: Any, state: Any, loader: Any) -> None:
        """Begin, or take up again, the record of the first pass over the rows."""
        one_by_one = is_shuffled(loader)
        # an order that is not the file's need not be random: it may be a curriculum
        self._shuffled = self.shuffled or one_by_one
        rows_each = batches_of(loader).batch_size * args.gradient_accumulation_steps
        self._rows_a_step = rows_each * shares_of(loader)
        wanted = int(self.prior_fraction * len(self.positions)) // self._rows_a_step
        self._prior_step = wanted if 0 < wanted < state.max_steps else None
        if self.prior_fraction and self._prior_step is None:
            warnings.warn("no prior checkpoint: a step reads more rows than it may", stacklevel=3)
        names = self.table.units
        units = [names[i] for i in self.positions]
        if self._prior_step and unequal(units) and (one_by_one or splits_units(units)):
            self._prior_step = None
            warnings.warn(
                "no prior checkpoint: rows are not read unit by unit and units differ in size, so "
                "the units it never saw would be no sample; pacbayes_sft.sft shuffles whole units",
                stacklevel=3,
            )
        self._first_pass = FirstPass(
            loader,
            self._notes,
            self._reading,
            places=len(self.positions),
            rows_a_step=self._rows_a_step,
            steps_done=state.global_step,
        )
        self._unknown = self._first_pass.unknown
        if self._prior_step and not self._unknown and state.global_step >= self._prior_step:
            kept = (self._kept / PRIOR).is_dir()
            rows = set(self._first_pass.read_by(self._prior_step))
            self._prior_rows = len(rows) if kept else 0

    @property
    def _reading(self) -> dict[str, Any]:
        """What a place that was drawn means, and which of them the prior saw."""
        places = json.dumps(self.positions).encode()
        return {
            "train_sha256": self.table.sha256,
            "positions_sha256": hashlib.sha256(places).hexdigest(),
            "rows_a_step": self._rows_a_step,
            "prior_step": self._prior_step,
        }

    def _order(self) -> list[int]:
        """Rows of the file in the order of their first sight."""
        places = self._first_pass.order()
        self._unknown = self._first_pass.unknown
        rows = (self.positions[place] for place in places)
        return list(dict.fromkeys([*self._saw, *rows])) if places else []

    def _known_priors(self) -> dict[str, tuple[TensorFiles, int]]:
        """Weights that the KL can be taken from, and the units that would be left to certify on."""
        units = self.table.units
        if "" not in self._references:
            kept = self._kept / INITIAL
            files = open_checkpoint(kept) if kept.is_dir() else self._base[1]
            self._references[""] = files, len(set(units))
        if self._prior_rows and "_after_prior" not in self._references and not self._unknown:
            drawn = [self.positions[place] for place in self._first_pass.drawn]
            first = list(dict.fromkeys([*self._saw, *drawn]))[: self._prior_rows]
            touched = {units[row] for row in first}
            left = len(set(units) - touched)
            self._references["_after_prior"] = open_checkpoint(self._kept / PRIOR), left
        return self._references


def _named_base(model: Any) -> str:
    configs = getattr(model, "peft_config", None)
    named = next(iter(configs.values())).base_model_name_or_path if configs else None
    named = named or getattr(model.config, "_name_or_path", None)
    if not named:
        raise InputError("the model does not say which base it is of; give CertificateCallback one")
    return str(named)


def _settings(args: Any) -> dict[str, str | int | float | bool | None]:
    found = {name: getattr(args, name) for name in _SETTINGS if hasattr(args, name)}
    plain = (str, int, float, bool, type(None))
    return {k: v if type(v) in plain else str(v) for k, v in found.items()}
