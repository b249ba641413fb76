"""What pilots cost, and how that is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pacbayes_sft.advise.pilots import Pilot
from pacbayes_sft.scan.config import FineTune


def cost_of(
    pilots: Sequence[Pilot],
    budgets: Sequence[int],
    fine_tune: FineTune,
    rows_a_unit: float = 1.0,
) -> dict[str, float | None]:
    """Return what pilots cost, also against trying every arm at every budget once.

    What a fine-tune costs is the rows that its steps read, one again each time, and not n: a
    small one takes `FineTune.least_steps` all the same.

    Args:
        pilots: The pilots.
        budgets: The training sizes advised on, in units.
        fine_tune: As the pilots were made.
        rows_a_unit: Rows of the pool over its units.
    """

    def rows_read(units: int) -> int:
        return fine_tune.batch_size * fine_tune.steps(round(units * rows_a_unit))

    read = sum(rows_read(p.size) for p in pilots)
    arms = len({p.arm for p in pilots})
    sweep = arms * sum(map(rows_read, budgets))
    return {
        "pilots": len(pilots),
        "units": sum(p.size for p in pilots),
        "rows_read": read,
        "seconds": sum(p.seconds for p in pilots),
        "share_of_sweep": read / sweep if sweep else None,
    }


def cost_said(cost: Mapping[str, float | None]) -> str:
    """Say what the pilots cost."""
    share = cost["share_of_sweep"]
    against = (
        ""
        if share is None
        else (
            f", {share:.1%} of what a fine-tune of every arm at every budget advised on would read"
        )
    )
    return (
        f"{cost['pilots']} pilots on {cost['units']:,} training units; their steps read "
        f"{cost['rows_read']:,} rows{against}; {cost['seconds']:.0f} s (those kept from an "
        "earlier call with what they cost then)."
    )
