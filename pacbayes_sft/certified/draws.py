"""Count the draws made from a fine-tune's posteriors: each that could be kept must be paid for.

A disintegrated bound holds for one draw fixed before it is seen. Whoever draws again and keeps the
better one has made two, so every draw is written down beside the fine-tune, and the k-th that was
not declared in advance is certified at 6δ/(π²k²).
"""

from __future__ import annotations

import json
from pathlib import Path

from estimators import draw_delta
from pacbayes_sft.atomic import replacing
from pacbayes_sft.checkpoints.files import read_json
from pacbayes_sft.checkpoints.record import RECORD_DIR
from pacbayes_sft.errors import InputError

DRAWS = "draws.json"


def share_of_draw(delta: float, k: int, declared: int | None) -> float:
    """Return the δ of the k-th draw: an equal share if draws were declared, else 6δ/(π²k²)."""
    within = delta * (1 - 1e-12)  # rounding must not overdraw the ledger
    if declared is None:
        return draw_delta(within, k=k)
    return draw_delta(within, declared=declared)


def number_of_draw(finetuned: Path, draw: str, declared: int | None) -> int:
    """Return k of a draw, and write it down if it is new; the same draw again has the same k.

    Args:
        finetuned: Directory of the fine-tune.
        draw: What identifies the draw: hash of the posterior and seed.
        declared: How many draws were declared in advance.

    Raises:
        InputError: If more draws were made than declared, or the count cannot be kept.
    """
    file = finetuned / RECORD_DIR / DRAWS
    made = list(read_json(file).get("draws", [])) if file.is_file() else []
    if draw not in made:
        made.append(draw)
        try:
            with replacing(file) as partial:
                partial.write_text(json.dumps({"draws": made}, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"{file}: the number of draws cannot be kept there ({error.strerror}), and a draw "
                "that is not counted cannot be certified; make the directory writable"
            ) from None
    k = made.index(draw) + 1
    if declared is not None and k > declared:
        raise InputError(
            f"{file}: this is draw {k} from this fine-tune, but --declared-draws says {declared}; "
            "leave the flag out to pay for undeclared draws"
        )
    return k
