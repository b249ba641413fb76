"""One fine-tune through TRL's `SFTTrainer`, keeping what a later bound needs.

Rows are shuffled once (whole units, by seed) and then read in that order, so it is on record
which rows any checkpoint had seen. With ``prior_fraction`` the run first finishes a full schedule
on the first m rows and keeps that checkpoint: a legal prior for a bound on the other rows.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pacbayes_sft.checkpoints.files import open_checkpoint
from pacbayes_sft.checkpoints.record import RunRecord, read_record
from pacbayes_sft.choices import LARGEST_SEED, Objective
from pacbayes_sft.data.encode import encode
from pacbayes_sft.data.rows import Table, read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import (
    context_length,
    load_model,
    load_tokenizer,
    local_directory,
    resolve_base,
    resolve_device,
)
from pacbayes_sft.processes import Team
from pacbayes_sft.sft_folder import PARTIAL, claimed_by_first, last_whole_checkpoint, refusal

if TYPE_CHECKING:
    from pacbayes_sft.callback import CertificateCallback

EVERY = "all-linear"  # PEFT's word


@dataclass(frozen=True)
class Settings:
    """Settings of one fine-tune.

    Attributes:
        objective: Training objective.
        lora_rank: Rank of the LoRA factors; 0 trains all weights.
        lora_alpha: LoRA's alpha; the scaling is alpha/rank.
        target_modules: Which modules get factors (PEFT's words), comma-separated.
        steps: Optimiser steps; 0 means ``epochs`` decides.
        epochs: Passes over the rows.
        batch_size: Rows a step.
        learning_rate: Peak learning rate (linear decay, 3 % warm-up).
        prior_fraction: Share of the units on which a prior checkpoint is finished first.
        shared_steps: Whether the checkpoint takes its share of ``steps`` (the rest then begins with
            the rows that it has not seen) instead of a full schedule on top of them.
        seed: Order of the rows, initial factors.
        device: ``cpu``, ``cuda`` or ``auto``.
        dtype: Dtype of training, as in `pacbayes_sft.models.load_model`.
        max_length: Longest row; None refuses only what the model cannot read.
        trust_remote_code: Whether code that lies beside the base's weights may run.
    """

    objective: Objective = Objective.NLL
    lora_rank: int = 8
    lora_alpha: float = 16.0
    target_modules: str = EVERY
    steps: int = 0
    epochs: float = 3.0
    batch_size: int = 32
    learning_rate: float = 2e-3
    prior_fraction: float = 0.0
    shared_steps: bool = False
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    max_length: int | None = None
    trust_remote_code: bool = False

    def steps_over(self, rows: int) -> int:
        """Return the optimiser steps that a schedule over so many rows takes."""
        return self.steps or max(1, round(self.epochs * math.ceil(rows / self.batch_size)))

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        if self.shared_steps and self.steps == 1 and self.prior_fraction:
            raise InputError("--steps 1 cannot be shared between a checkpoint and the rest")
        if not 0 <= self.prior_fraction < 1:
            raise InputError(f"--prior-fraction must lie in [0, 1), got {self.prior_fraction}")
        if min(self.lora_rank, self.steps, self.seed) < 0 or self.batch_size < 1:
            raise InputError("rank, steps and seed must be >= 0 and the batch size >= 1")
        if self.seed > LARGEST_SEED:
            raise InputError(f"a seed is at most {LARGEST_SEED}, got {self.seed}")
        if not all(self.target_names):
            raise InputError(
                f"--target-modules {self.target_modules!r}: names no module between two commas"
            )
        for name in ("epochs", "learning_rate", "lora_alpha"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be positive and finite, got {getattr(self, name)}")

    @property
    def target_names(self) -> tuple[str, ...]:
        """The target modules one by one."""
        return tuple(name.strip() for name in self.target_modules.split(","))


def run_sft(base: str, train: str | Path, out: Path, settings: Settings | None = None) -> RunRecord:
    """Fine-tune ``base`` on ``train`` and write the result with its run record to ``out``.

    An interrupted run called again with the same settings goes on from its last checkpoint. Called
    in every process of one launch (torchrun, ``accelerate launch``), these share the rows of each
    step, data-parallel, and the first writes.

    Args:
        base: Path or hub id of the base, or the name of a shipped one.
        train: Rows to train on.
        out: Output directory; must not hold another fine-tune.
        settings: See `Settings`.

    Returns:
        The record, also written to ``out/pacbayes_sft/run.json``.

    Raises:
        InputError: If an input cannot be used, or ``out`` holds something else.
    """
    from pacbayes_sft.callback import CertificateCallback

    settings = settings or Settings()
    device = resolve_device(settings.device)
    team = Team.of(device)
    team.rows_each(settings.batch_size)
    base = resolve_base(base)
    table = read_table(train)
    order, prior_rows = training_order(table, settings.prior_fraction, settings.seed)
    if settings.prior_fraction and not prior_rows:
        units = len(set(table.units))
        enough = math.ceil(1000 / units) / 1000  # rounded up, so that it is
        more = f"{enough:g} or more, or " if enough < 1 else ""
        raise InputError(
            f"--prior-fraction {settings.prior_fraction:g}: of {units} units that leaves the "
            f"checkpoint none to see; give {more}more units"
        )
    keeper = CertificateCallback(
        table, base=base, out=out, positions=order, settings=asdict(settings)
    )
    keeper.compare = False  # the data sets are made here, row by row
    keeper.shares = keeper.shuffled = True
    if team.size > 1:
        keeper.settings = asdict(settings) | {"processes": team.size}
    asked = _asked(settings, open_checkpoint(local_directory(base)).sha256(), table)
    team.agree(
        {"rows and settings": [asked, order, prior_rows, str(out)]}, refusal(team, out, asked)
    )
    trusted = settings.trust_remote_code
    tokenizer = load_tokenizer(base, trust_remote_code=trusted)
    model: Any = load_model(base, dtype=settings.dtype, trust_remote_code=trusted, runs_on=device)
    encode(table, tokenizer, settings.max_length or context_length(model))
    model.requires_grad_(True).train()
    if settings.lora_rank:
        model = _with_factors(model, settings)
    with claimed_by_first(team, out, asked):
        _fine_tune(model, tokenizer, table, (order, prior_rows), keeper, settings, team)
        team.wait()
    if not team.first:
        kept = read_record(out)
        assert kept is not None
        return kept
    assert keeper.record is not None  # `_fine_tune` saw to it
    return keeper.record


def _fine_tune(
    model: Any,
    tokenizer: Any,
    table: Table,
    reading: tuple[list[int], int],
    keeper: CertificateCallback,
    settings: Settings,
    team: Team,
) -> None:
    """Train, or go on, and save into ``keeper.out``; the checkpoint that is the prior first."""
    (order, prior_rows), out = reading, keeper.out
    assert out is not None
    if team.first:
        keeper.keep_initial(model)
    steps, read = settings.steps_over(len(order)), order
    if prior_rows:
        before = settings.steps_over(prior_rows)
        if settings.shared_steps:
            before = min(max(1, round(settings.prior_fraction * steps)), steps - 1)
            steps, read = steps - before, order[prior_rows:] + order[:prior_rows]
        trainer = _trainer(
            model, tokenizer, table, order[:prior_rows], before, out / PARTIAL / "1", settings, team
        )
        model = _train(trainer, out / PARTIAL / "1")
        if team.first:
            keeper.keep_prior(model, prior_rows, saw=order[:prior_rows])
    keeper.positions = read
    trainer = _trainer(model, tokenizer, table, read, steps, out / PARTIAL / "2", settings, team)
    keeper.attach(trainer)
    model = _train(trainer, out / PARTIAL / "2")
    if team.first:
        if keeper.record is None or keeper.record.order != order:
            raise InputError(
                f"{out}: the order of the rows is not on record (another version began the run, or "
                "its notes were removed); remove the directory and run it again"
            )
        model.save_pretrained(out)
        if not settings.lora_rank:
            tokenizer.save_pretrained(out)


def training_order(table: Table, prior_fraction: float, seed: int) -> tuple[list[int], int]:
    """Return the order in which rows are read, and how many of them the prior may see.

    Units are shuffled whole, so that none lies on both sides of the cut.
    """
    members: dict[str, list[int]] = {}
    for index, unit in enumerate(table.units):
        members.setdefault(unit, []).append(index)
    units = list(members)
    shuffled = [units[i] for i in np.random.default_rng(seed).permutation(len(units))]
    seen_by_prior = int(prior_fraction * len(units))
    order = [row for unit in shuffled for row in members[unit]]
    return order, sum(len(members[unit]) for unit in shuffled[:seen_by_prior])


def _trainer(
    model: Any,
    tokenizer: Any,
    table: Table,
    order: list[int],
    steps: int,
    work: Path,
    settings: Settings,
    team: Team,
) -> Any:
    """Return the trainer of one full schedule on the rows ``order``."""
    from datasets import Dataset
    from trl import SFTConfig  # type: ignore[attr-defined]

    from pacbayes_sft.token_power import loss_type, trainer_class

    rows = Dataset.from_list([table.rows[i].for_trl() for i in order])
    args = SFTConfig(
        output_dir=str(work),
        loss_type=loss_type(settings.objective),
        max_length=None,
        packing=False,
        max_steps=steps,
        per_device_train_batch_size=team.rows_each(settings.batch_size),
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        # a warm-up's first step has a rate of 0: of a single one nothing would be left
        warmup_steps=max(1, round(0.03 * steps)) if steps > 1 else 0,
        train_sampling_strategy="sequential",
        dataloader_drop_last=False,
        seed=settings.seed,
        use_cpu=resolve_device(settings.device) == "cpu",
        bf16=False,  # `load_model` sees to the dtype, on every device alike
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=max(1, steps // 10),
        save_strategy="steps",
        save_steps=max(1, -(-steps // 4)),
        save_total_limit=1,
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    if args.world_size != team.size:
        raise InputError(
            f"the trainer counts {args.world_size} processes, the launcher {team.size}; start them "
            "by torchrun, or accelerate launch on GPUs"
        )
    if args.n_gpu > 1:  # one process that sees several would read as many times the rows a step
        args._n_gpu = 1
    trainer: Any = trainer_class(settings.objective)(
        model=model, processing_class=tokenizer, train_dataset=rows, args=args
    )
    if len(trainer.train_dataset) != len(order):
        raise InputError(
            f"{table.source}: TRL would train on {len(trainer.train_dataset)} of {len(order)} "
            "rows; n would be wrong, so nothing was trained"
        )
    return trainer


def _train(trainer: Any, work: Path) -> Any:
    """Run a schedule, resuming from ``work`` if it can, and return the model."""
    trainer.train(resume_from_checkpoint=last_whole_checkpoint(work))
    model = trainer.accelerator.unwrap_model(trainer.model)
    for name, weight in model.named_parameters():
        if weight.requires_grad and not bool(torch.isfinite(weight).all()):
            raise InputError(
                f"{name}: not a number after training, so nothing is saved; give a lower "
                "--learning-rate into another --out"
            )
    return model


def _with_factors(model: Any, settings: Settings) -> Any:
    from peft import get_peft_model

    torch.manual_seed(settings.seed)
    try:
        made = get_peft_model(model, _lora_config(settings))
    except ValueError as error:
        raise InputError(
            f"--target-modules {settings.target_modules}: PEFT cannot put factors there "
            f"({str(error).splitlines()[0]})"
        ) from None
    _refuse_unmatched(made.targeted_module_names, settings)
    return made


def _refuse_unmatched(trained: list[str], settings: Settings) -> None:
    """Refuse a name that PEFT passed over in silence, since another one matched."""
    if settings.target_names == (EVERY,):
        return
    for name in settings.target_names:
        if not any(module == name or module.endswith(f".{name}") for module in trained):
            found = ", ".join(sorted({module.rpartition(".")[2] for module in trained}))
            raise InputError(
                f"--target-modules {settings.target_modules}: the base has no module {name!r}; "
                f"the other names match {found}"
            )


def _lora_config(settings: Settings) -> Any:
    from peft import LoraConfig

    names = settings.target_names
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]  # PEFT takes floats
        lora_dropout=0.0,
        target_modules=EVERY if names == (EVERY,) else list(names),
    )


def _asked(settings: Settings, base_sha256: str, table: Table) -> Any:
    asked = {"settings": asdict(settings), "base": base_sha256, "train": table.sha256}
    return json.loads(json.dumps(asked))
