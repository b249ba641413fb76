"""Write a survey of the shift term: ``tv.json``, pictures, and one self-contained page."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

from pacbayes_sft.atomic import replacing
from pacbayes_sft.errors import InputError
from pacbayes_sft.shift.findings import COPIES

if TYPE_CHECKING:
    from pacbayes_sft.shift.survey import Survey

TEMPLATE = Path(__file__).parent / "shift.html.jinja"


def shift_sentence(found: Survey) -> str:
    """Say in plain words what is known of the TV, and with which promise."""
    tv = found.best.tv
    if tv.guarantee == "exact":
        return f"TV(D_test, D_train) = {tv.value:.4g}, exactly, if the assumptions below hold."
    at = f"at confidence {tv.confidence:.4g}"
    if tv.guarantee == "upper":
        low = f"at least {tv.lower:.3f} and " if tv.lower > 0 else ""
        copies = f" One of them: {COPIES}." if COPIES in tv.assumptions else ""
        return (
            f"TV(D_test, D_train) is {low}at most {tv.upper:.3f} {at}, if the assumptions below "
            f"hold.{copies}"
        )
    if tv.guarantee == "lower":
        copies = f", if {COPIES}" if COPIES in tv.assumptions else ""
        return (
            f"TV(D_test, D_train) is at least {tv.lower:.3f} {at}{copies}; the best guess is "
            f"{tv.value:.3f}, and nothing bounds it from above. A bound on the test risk that "
            "rests on it is only an estimate."
        )
    return f"TV(D_test, D_train) is estimated as {tv.value:.3f}, without a promise."


def write_shift_report(found: Survey, folder: Path) -> dict[str, Path]:
    """Write pictures and page into a folder (the JSON is the command's); return the pictures.

    Raises:
        InputError: If the folder is a file.
    """
    from jinja2 import Environment, StrictUndefined

    from pacbayes_sft.shift.pictures import draw_survey

    if folder.exists() and not folder.is_dir():
        raise InputError(
            f"--out {folder}: a file of that name is there; name a folder or FILE.json"
        )
    folder.mkdir(parents=True, exist_ok=True)
    made = draw_survey(found, folder)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        record=found.to_dict(),
        sentence=shift_sentence(found),
        reasons=found.best.reasons,
        delta=found.delta,
        sources=(found.train, found.test),
        pictures={
            title: base64.b64encode(file.read_bytes()).decode() for title, file in made.items()
        },
        raw=json.dumps(found.to_dict(), indent=1),
    )
    with replacing(folder / "tv.html") as partial:
        partial.write_text(page, encoding="utf-8")
    return made
