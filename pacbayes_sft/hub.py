"""Fine-tunes and priors by hub id, and whether an adapter was made for the base it is given."""

from __future__ import annotations

from pathlib import Path

from pacbayes_sft.checkpoints.adapter_files import adapter_directory
from pacbayes_sft.checkpoints.lora import CONFIG, other_base
from pacbayes_sft.checkpoints.record import read_record
from pacbayes_sft.models import local_directory, public_name
from pacbayes_sft.reading import read_json


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
