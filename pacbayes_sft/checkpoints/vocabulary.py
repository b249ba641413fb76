"""A vocabulary that grew or shrank: which rows have a pre-trained mean, and what the others get."""

from __future__ import annotations

from pacbayes_sft.checkpoints.adapter_files import EMBEDDINGS, HEADS
from pacbayes_sft.checkpoints.base_weights import Stored
from pacbayes_sft.errors import InputError


def fit_rows(base: Stored, tuned: Stored, name: str, where: str) -> tuple[Stored, str | None]:
    """Return the base's tensor with as many rows as the fine-tune's, and what was done, in words.

    Rows that the base does not have get a mean that does not depend on the training rows: the
    average row of the base's tensor, where transformers' ``resize_token_embeddings`` starts them.

    Raises:
        InputError: If the shapes differ otherwise, or the tensor is no vocabulary.
    """
    if base.shape == tuned.shape:
        return base, None
    parts = name.split(".")
    of_tokens = len(parts) > 1 and parts[-2] in (*EMBEDDINGS, *HEADS)
    if not of_tokens or base.shape[1:] != tuned.shape[1:] or not base.shape:
        raise InputError(
            f"{where}: not a fine-tune of {base.files.directory}: tensor {name!r} has shape "
            f"{tuned.shape} there and {base.shape} in the base"
        )
    rows, new = base.shape[0], tuned.shape[0] - base.shape[0]
    if new > 0:
        note = (
            f"{name} has {new} rows that the base ({rows} rows) does not have, so no pre-trained "
            "mean: their prior is centred on the average row of the base's tensor"
        )
    else:
        note = (
            f"{name} has {-new} rows fewer than the base ({rows} rows): the KL is over the rows "
            "that are left"
        )
    return base.with_rows(tuned.shape[0]), note
