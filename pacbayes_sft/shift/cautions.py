"""What a reader of a survey must know before quoting its interval, each as a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from estimators import Estimate, Guarantee
from estimators.total_variation.attribute import rests_on_attribute
from pacbayes_sft.data.overlap import shared_rows
from pacbayes_sft.data.rows import Table
from pacbayes_sft.shift.findings import Finding


def of_files(train: Table, test: Table) -> list[str]:
    """Say where the two files are of different kinds."""
    if (train.rows[0].messages is None) == (test.rows[0].messages is None):
        return []
    return [
        "one file holds conversations and the other plain prompts: the words for the roles tell "
        "them apart, whatever else the rows say"
    ]


def of_samples(train: Table, test: Table, tv: Estimate) -> list[str]:
    """A limit from two samples needs them independent: say so where they share rows."""
    shared = len(shared_rows(train, test))
    if not shared or tv.guarantee is Guarantee.EXACT:
        return []
    return [
        f"{shared} of {len(test.rows)} rows of {test.source} stand in {train.source} too: limits "
        "from samples hold only if these are coincidences of independent draws, not copies"
    ]


def of_assumption(findings: Sequence[Finding], tv: Estimate, *, asked: bool) -> list[str]:
    """Say that a column's limit was assumed unasked, and which point values speak against it.

    Args:
        findings: All of the survey.
        tv: Its interval.
        asked: Whether the column was named.
    """
    if tv.guarantee is not Guarantee.UPPER or not rests_on_attribute(tv):
        return []
    said = []
    if not asked:
        said.append(
            "that train and test differ only through 'difficulty' was assumed because both files "
            "have that column; --attribute difficulty says that you defend it, --view leaves it out"
        )
    points = {f.view: max(f.tv.value, f.plug_in.value if f.plug_in else 0.0) for f in findings}
    above = [f"{view} {value:.3f}" for view, value in points.items() if value > tv.upper]
    if above:
        said.append(
            f"point estimates lie above this upper limit ({', '.join(above)}): they promise "
            "nothing, but the assumption behind the limit looks wrong"
        )
    return said
