"""Fine-tunes and priors by hub id, and whether an adapter was made for the base it is given."""

from __future__ import annotations

from pathlib import Path

from pacbayes_sft.checkpoints.adapter_files import adapter_directory
from pacbayes_sft.checkpoints.base_weights import BaseWeights
from pacbayes_sft.checkpoints.files import TensorFiles, open_checkpoint
from pacbayes_sft.checkpoints.lora import CONFIG, other_base
from pacbayes_sft.checkpoints.precision import stored_precision
from pacbayes_sft.checkpoints.record import check_recorded_base, read_record
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import cached_directory, local_directory, public_name
from pacbayes_sft.reading import read_json

MATRICES_COMPARED, ROWS_COMPARED = 8, 64
EQUAL_SHARE = 0.99  # of entries: rounding twice, to two types, leaves a few unequal


def checkpoint_directory(name: str | Path) -> Path:
    """Return where a fine-tune's or prior's files lie: the path itself, or a hub id's snapshot.

    An adapter that PEFT saved under a name of its own lies in a sub-directory.

    Raises:
        InputError: If it is neither a directory here nor a hub id that can be had.
    """
    return adapter_directory(here_or_snapshot(name))  # what reads it says what is missing


def here_or_snapshot(name: str | Path) -> Path:
    """Return the path itself, or the snapshot of a hub id ``owner/name@revision``.

    Raises:
        InputError: If it is a hub id that cannot be had.
    """
    path = Path(name)
    is_id = len(path.parts) == 2 and not str(name).startswith((".", "/", "~"))
    # beside directories that are here, it is one that is missing rather than a hub id
    if path.exists() or path.parent.is_dir() or not is_id:
        return path
    return local_directory(str(name))


def check_made_for(finetuned: Path, base: TensorFiles) -> None:
    """Refuse a base that is not the one a fine-tune was made from, as far as that shows here.

    A run record knows by hash. Without one, an adapter's config names its base: where that lies
    here too (a directory, a shipped base, a snapshot in the hub's cache), its weights are looked
    at. A copy in another floating type passes, and so does one that is or was quantised.

    Raises:
        InputError: Naming the base to give instead.
    """
    check_recorded_base(finetuned, base)
    named = _named_base(finetuned) if read_record(finetuned) is None else None
    if named is None or named.resolve() == base.directory.resolve():
        return
    try:
        files, words = open_checkpoint(named), [stored_precision(named)]
    except InputError:  # half a cache is no base
        return
    words.append(stored_precision(base.directory))
    if not all(precision.startswith("as stored") for precision in words):
        return
    if not _same_weights(files, base):
        raise InputError(
            f"{finetuned}: adapter_config.json names another base, {public_name(str(named))}, "
            f"whose weights are not those of {public_name(str(base.directory))}; give that one as "
            "--base"
        )


def _named_base(finetuned: Path) -> Path | None:
    file = finetuned / CONFIG
    config = read_json(file) if file.is_file() else {}
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(name, str) or not name:
        return None
    return cached_directory(name, revision if isinstance(revision, str) else None)


def _same_weights(one: TensorFiles, other: TensorFiles) -> bool:
    """Compare some matrices of two checkpoints, up to the coarser one's rounding.

    Files may spell a name with or without a prefix; two that share no matrix are not the same.
    """
    weights, matrices = BaseWeights(other), []
    for name, shape in one.shape_of.items():
        found = weights.find(name) if len(shape) > 1 else None
        if found is not None and not found.fused and found.shape == shape:
            matrices.append((name, found.name))
    for names in matrices[:: max(1, len(matrices) // MATRICES_COMPARED)]:
        pair = zip((one, other), names, strict=True)
        left, right = (files.rows(name, 0, ROWS_COMPARED) for files, name in pair)
        equal = [
            (left.to(d).double() == right.to(d).double()).double().mean()  # 8-bit types cannot ==
            for d in (left.dtype, right.dtype)
        ]
        if max(equal) < EQUAL_SHARE:
            return False
    return bool(matrices)


def base_warnings(finetuned: Path, base: str) -> tuple[str, ...]:
    """Return what an adapter's config says against a base, where no run record says more.

    Names are compared by their last part, revisions by the commit that a hub snapshot is of.
    """
    if read_record(finetuned) is not None:
        return ()
    if named := other_base(finetuned, base):
        return (
            f"{finetuned}: adapter_config.json names another base ({named}); every number is that "
            f"of this adapter on {base}, which it may never have been trained on",
        )
    file, snapshot = finetuned / CONFIG, Path(base)
    revision = read_json(file).get("revision") if file.is_file() else None
    if not isinstance(revision, str) or snapshot.parent.name != "snapshots":
        return ()
    reference = snapshot.parent.parent / "refs" / revision
    commits = [revision]
    if Path(revision).name == revision and reference.is_file():
        commits.append(reference.read_text(encoding="utf-8").strip())
    if any(commit and snapshot.name.startswith(commit) for commit in commits):
        return ()
    return (
        f"{finetuned}: adapter_config.json names the revision {revision} of its base, and "
        f"{public_name(base)} is not known to be that; give the base as owner/name@{revision}",
    )
