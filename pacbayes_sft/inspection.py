"""``inspect``: what a directory contains, what it changes, whether and how it can be certified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pacbayes_sft.checkpoints.adapter_files import (
    adapter_directory,
    adapters_inside,
    is_adapter,
    sort_adapter,
)
from pacbayes_sft.checkpoints.changes import Changes
from pacbayes_sft.checkpoints.describe import adapter_contents, adapter_warnings, full_contents
from pacbayes_sft.checkpoints.files import TensorFiles, open_checkpoint
from pacbayes_sft.checkpoints.finetune import (
    initial_was_kept,
    refuse_other_models,
    weight_changes,
)
from pacbayes_sft.checkpoints.lora import beyond_factors, check_base, other_base, read_adapter
from pacbayes_sft.checkpoints.precision import refuse_quantised
from pacbayes_sft.checkpoints.record import (
    RECORD_DIR,
    RunRecord,
    read_record,
)
from pacbayes_sft.errors import InputError
from pacbayes_sft.hub import check_made_for, here_or_snapshot
from pacbayes_sft.models import local_directory, resolve_base


@dataclass(frozen=True)
class Way:
    """A way to certify a fine-tune, or a prior to do it with.

    Attributes:
        name: What.
        available: Whether it can be had; None: only a base would tell.
        remark: What it gives, or why not and the mend.
    """

    name: str
    available: bool | None
    remark: str


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint directory is.

    Attributes:
        directory: Where its files lie.
        kind: ``LoRA adapter`` or ``full checkpoint``.
        contents: What it contains, (label, words).
        changes: What it changes in the base, (label, words); empty without a base.
        squared_distance: ‖ΔW‖² from the base in ``weights`` space, if a base was given and fits.
        warnings: What is odd, or costs more KL than one would think.
        record: What run record lies beside it, in words.
        ways: Whether and how it can be certified.
        priors: Which priors there are.
        refusal: Why it cannot be read at all, and the mend; None if it can.
    """

    directory: Path
    kind: str
    contents: tuple[tuple[str, str], ...]
    changes: tuple[tuple[str, str], ...]
    squared_distance: float | None
    warnings: tuple[str, ...]
    record: str
    ways: tuple[Way, ...]
    priors: tuple[Way, ...]
    refusal: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object."""

        def ways(these: tuple[Way, ...]) -> list[dict[str, Any]]:
            return [{"name": w.name, "available": w.available, "remark": w.remark} for w in these]

        return {
            "directory": str(self.directory),
            "kind": self.kind,
            "contents": dict(self.contents),
            "changes": dict(self.changes),
            "squared_distance": self.squared_distance,
            "warnings": list(self.warnings),
            "record": self.record,
            "certification": ways(self.ways),
            "priors": ways(self.priors),
            "refusal": self.refusal,
        }


def inspect_checkpoint(finetuned: Path, *, base: str | None = None) -> Inspection:
    """Say what a directory contains, what it changes, and whether and how it can be certified.

    Args:
        finetuned: Adapter directory or full checkpoint, or its hub id ``owner/name@revision``.
        base: Path or hub id of its base, or the name of a shipped one; without it only what the
            directory itself says can be said.

    Raises:
        InputError: If there is no such directory or base. What cannot be certified is no error
            here: the answer says so.
    """
    finetuned = here_or_snapshot(finetuned)
    if not finetuned.is_dir():
        raise InputError(f"{finetuned}: no such directory")
    name = resolve_base(base) if base is not None else None
    files = open_checkpoint(local_directory(name)) if name is not None else None
    refusal = None
    contents: tuple[tuple[str, str], ...] = ()
    warnings: list[str] = []
    directory = finetuned
    try:
        directory = adapter_directory(finetuned)
        adapter = is_adapter(directory)
        if adapter:
            sorted_adapter = sort_adapter(directory)
            contents = tuple(adapter_contents(sorted_adapter))
            warnings += adapter_warnings(sorted_adapter)
        else:
            contents = tuple(full_contents(directory))
    except InputError as error:
        adapter, refusal = is_adapter(directory), str(error)
        if not adapter and not any(
            any(directory.glob(end)) for end in ("*.safetensors*", "*.bin*", "config.json")
        ):
            raise
    kind = "LoRA adapter" if adapter else "full checkpoint"
    if directory != finetuned:
        warnings.append(f"the adapter lies in {directory}; give that directory to PEFT")
    others = [d.name for d in adapters_inside(directory) if not d.name.startswith("checkpoint-")]
    if adapter and others:
        warnings.append(
            f"{', '.join(others)}: further adapters, not read; give the directory of one instead"
        )
    record, words = _record(directory)
    if name is not None and record is None and (named := _named_base(directory, name)):
        warnings.append(f"adapter_config.json names another base ({named}) than {base}")
    changes, distance, problem = None, None, None
    if files is not None and refusal is None:
        changes, distance, problem = _changes(files, directory)
    if changes is not None:
        warnings += changes.notes
    ways = tuple(_ways(directory, adapter, files, changes, problem, refusal))
    return Inspection(
        directory,
        kind,
        contents,
        tuple(_change_words(changes, distance)),
        distance,
        tuple(dict.fromkeys(warnings)),
        words,
        ways,
        tuple(_priors(directory, adapter, record)) if refusal is None else (),
        refusal,
    )


def _record(directory: Path) -> tuple[RunRecord | None, str]:
    try:
        record = read_record(directory)
    except InputError as error:
        return None, f"broken: {error}"
    if record is None:
        return None, "none; `pacbayes-sft sft` keeps one (order, hashes, initial adapter)"
    return record, (
        f"base {record.base}, {len(record.order)} rows of {record.train}, of which the first "
        f"{record.prior_rows} shaped the prior checkpoint"
    )


def _named_base(directory: Path, base: str) -> str | None:
    try:
        return other_base(directory, base)
    except InputError:
        return None


def _changes(
    files: TensorFiles, directory: Path
) -> tuple[Changes | None, float | None, str | None]:
    """The changes and their ‖ΔW‖², or why there are none."""
    try:
        check_made_for(directory, files)
        found = weight_changes(files, directory)
        return found, found.squared_distance(), None
    except InputError as error:
        return None, None, str(error)


def _change_words(changes: Changes | None, distance: float | None) -> Iterator[tuple[str, str]]:
    if changes is None or distance is None:
        return
    yield "tensors", f"{len(changes.tensors):,}"
    yield "entries", f"{changes.parameters:,}"
    low_rank = sum(change.only_factors for change in changes.tensors.values())
    if low_rank:
        yield "by a low-rank change alone", f"{low_rank:,} tensors"
    yield "‖ΔW‖²", f"{distance:,.6g}"


def _ways(
    directory: Path,
    adapter: bool,
    files: TensorFiles | None,
    changes: Changes | None,
    problem: str | None,
    refusal: str | None,
) -> Iterator[Way]:
    """Whether `kl` and `bound` work in each space, in the words with which they would refuse."""
    spaces = ("weights", "factors")
    if refusal or problem:
        for space in spaces:
            yield Way(f"kl and bound --space {space}", False, refusal or problem or "")
        return
    known: bool | None = True if files is not None else None
    words = "checked against the base" if known else "give --base to check it against the base"
    yield Way("kl --space weights", known, words)
    stopped = _refusal_of_bound(files, changes, directory)
    yield Way("bound --space weights", False if stopped else known, stopped or words)
    factors = _refusal_of_factors(directory, adapter, files)
    for command in ("kl", "bound"):
        remark = factors or f"A and B are all there is to it; {words}"
        yield Way(f"{command} --space factors", False if factors else known, remark)


def _refusal_of_bound(
    files: TensorFiles | None, changes: Changes | None, directory: Path
) -> str | None:
    if files is None or changes is None:
        return None
    try:
        refuse_quantised(files.directory)
        refuse_other_models(changes, directory)
    except InputError as error:
        return str(error)
    return None


def _refusal_of_factors(directory: Path, adapter: bool, files: TensorFiles | None) -> str | None:
    if not adapter:
        return "a full checkpoint has no factors"
    try:
        if feature := beyond_factors(sort_adapter(directory)):
            return f"{feature}; use --space weights"
        read = read_adapter(directory)
        if files is not None:
            check_base(read, files)
    except InputError as error:
        return str(error)
    return None


def _priors(directory: Path, adapter: bool, record: RunRecord | None) -> Iterator[Way]:
    yield Way("base", True, "the KL is that of the whole fine-tune")
    if adapter:
        kept = initial_was_kept(directory)
        why = "" if kept else "not kept; in factors the base prior is centred on zero"
        yield Way("initial", kept, why or "the initial factors were kept (--space factors)")
    checkpoint = directory / RECORD_DIR / "prior"
    there = record is not None and record.prior_rows > 0 and checkpoint.is_dir()
    yield Way(
        "checkpoint",
        there,
        f"--prior {checkpoint}"
        if there
        else "none on record; an earlier checkpoint serves with --prior DIR --prior-train FILE",
    )
