"""Write a survey of the shift term: ``tv.json``, pictures, and one self-contained page."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

from estimators.display import confidence, rounded_down, rounded_up
from estimators.total_variation.attribute import rests_on_attribute
from pacbayes_sft.atomic import replacing
from pacbayes_sft.errors import InputError
from pacbayes_sft.shift.findings import CONDITIONS

if TYPE_CHECKING:
    from pacbayes_sft.shift.survey import Survey

TEMPLATE = Path(__file__).parent / "shift.html.jinja"


def shift_sentence(found: Survey) -> str:
    """Say in plain words what is known of the TV, and with which promise."""
    tv = found.best.tv
    if_what = "if the assumptions below hold"
    if rests_on_attribute(tv):
        if_what = f"if train and test differ only through {found.view!r} and the rest below holds"
    if tv.guarantee == "exact":
        return f"TV(D_test, D_train) = {tv.value:.4g}, exactly, {if_what}."
    at = f"at confidence {confidence(tv.confidence)}"
    if tv.guarantee == "upper":
        low = f"at least {rounded_down(tv.lower, 3)} and " if tv.lower > 0 else ""
        one = "".join(f" One of them: {c}." for c in CONDITIONS if c in tv.assumptions)
        return (
            f"TV(D_test, D_train) is {low}at most {rounded_up(tv.upper, 3)} {at}, {if_what}.{one}"
        )
    if tv.guarantee == "lower":
        conditions = "".join(f", if {c}" for c in CONDITIONS if c in tv.assumptions)
        return (
            f"TV(D_test, D_train) is at least {rounded_down(tv.lower, 3)} {at}{conditions}; the "
            f"best guess is {tv.value:.3f}, and nothing bounds it from above. A bound on the test "
            "risk that rests on it is only an estimate."
        )
    return f"TV(D_test, D_train) is estimated as {tv.value:.3f}, without a promise."


def power_words(possible: float, certified: float) -> str:
    """Say what a two-sample test can see at best.

    Args:
        possible: The TV from which on a z-test of the best possible rule has 80 % power.
        certified: About the TV from which on the certificate of that rule is above 0 as often.
    """
    return (
        "of a shift spread over all rows the best possible rule would be found by a z-test with "
        f"80 % power from {possible:.3f} on and certified above 0 as often from about "
        f"{certified:.3f} on; one that sits in few rows is seen earlier, and an actual classifier "
        "may miss any"
    )


def make_folder(folder: Path) -> None:
    """Make the folder of a report.

    Raises:
        InputError: If a file of that name is there.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(
            f"--out {folder}: a file of that name is there; name a folder or FILE.json"
        )
    folder.mkdir(parents=True, exist_ok=True)


def write_shift_report(found: Survey, folder: Path) -> dict[str, Path]:
    """Write pictures and page into a folder (the JSON is the command's); return the pictures.

    Raises:
        InputError: If the folder is a file.
    """
    from jinja2 import Environment, StrictUndefined

    from pacbayes_sft.shift.pictures import draw_survey

    make_folder(folder)
    made = draw_survey(found, folder)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        record=found.to_dict(),
        confidence=confidence,
        power=power_words(*found.floor[1:]) if found.floor else "",
        rounded_down=rounded_down,
        rounded_up=rounded_up,
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
