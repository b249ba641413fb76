"""What a fine-tune keeps so that a bound can be computed later: the run record.

It lies in ``pacbayes_sft/`` inside the output directory, beside what PEFT or transformers save:

    run.json               which base, which rows in which order, which settings, with hashes
    initial/               the adapter before the first step (LoRA only)
    prior/                 the checkpoint that finished a full schedule on the first m rows
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pacbayes_sft.atomic import replacing
from pacbayes_sft.checkpoints.files import TensorFiles, open_checkpoint
from pacbayes_sft.errors import InputError
from pacbayes_sft.reading import read_json

RECORD_DIR = "pacbayes_sft"
RUN = "run.json"


class RunRecord(BaseModel):
    """The record of one run, of `pacbayes_sft.sft` or a trainer with a `CertificateCallback`.

    Attributes:
        version: Version of this format.
        base_sha256: Hash of the base's weight files.
        train_sha256: Hash of the training file.
        row_sha256: Hash of each row in **training order**.
        order: Index in the file of the row trained on at each place, by first sight; rows that
            were never read come last. Empty where it is unknown.
        order_unknown: Why nobody can know the order; empty where it is known.
        shuffled: Whether that order is known to be random; else it is the order as given.
        prior_rows: m: the prior checkpoint saw only the first m rows of ``order``; 0 without one.
        prior_fixed_in_advance: Whether m was set before training began.
        kept_sha256: Hash of each set of weights the run kept, by its folder.
        settings: Every setting of the run.
        versions: Versions of the libraries used.
    """

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    base: str
    base_sha256: str
    train: str
    train_sha256: str
    row_sha256: list[str]
    order: list[int]
    order_unknown: str = ""
    shuffled: bool = True
    prior_rows: int = Field(ge=0)
    prior_fixed_in_advance: bool = True
    kept_sha256: dict[str, str] = {}
    settings: dict[str, str | int | float | bool | None]
    versions: dict[str, str]

    @model_validator(mode="after")
    def _consistent(self) -> RunRecord:
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError("order names a row twice or not at all")
        if self.prior_rows > len(self.order) or len(self.row_sha256) != len(self.order):
            raise ValueError("prior_rows or row_sha256 do not fit order")
        return self


def read_record(directory: Path) -> RunRecord | None:
    """Return the record kept in a fine-tune's directory, or None if there is none.

    Raises:
        InputError: If there is one and it is broken.
    """
    file = directory / RECORD_DIR / RUN
    if not file.is_file():
        return None
    try:
        return RunRecord.model_validate(read_json(file))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{file}: not a run record ({key}: {first['msg']})") from None


def check_recorded_base(finetuned: Path, base: TensorFiles) -> None:
    """Refuse a base that is not the one a fine-tune's record names, or kept weights that changed.

    Raises:
        InputError: Naming the base that it should be, or the folder that changed.
    """
    record = read_record(finetuned)
    if record is None:
        return
    if record.base_sha256 != base.sha256():
        raise InputError(
            f"{finetuned}: its run record names another base ({record.base}, SHA-256 "
            f"{record.base_sha256[:12]}...); give that one as --base"
        )
    for folder, digest in record.kept_sha256.items():
        kept = finetuned / RECORD_DIR / folder
        if kept.is_dir() and open_checkpoint(kept).sha256() != digest:
            raise InputError(
                f"{kept}: not the weights that the run record names; a prior that was changed "
                "afterwards may have seen anything, so restore it"
            )


def write_record(record: RunRecord, directory: Path) -> None:
    """Write the record into a fine-tune's directory."""
    with replacing(directory / RECORD_DIR / RUN) as partial:
        partial.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
