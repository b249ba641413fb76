"""What pilots cost, and how that is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pacbayes_sft.advise.pilots import Pilot
from pacbayes_sft.scan.config import FineTune


def cost_of(
    pilots: Sequence[Pilot], budgets: Sequence[int], fine_tune: FineTune
) -> dict[str, float | None]:
    """Return what pilots cost, also against trying every arm at every budget once.

    What a fine-tune costs is the units that its steps read, one again each time, and not n: a
    small one takes `FineTune.least_steps` all the same.
    """
    read = fine_tune.batch_size * sum(fine_tune.steps(p.size) for p in pilots)
    arms = len({p.arm for p in pilots})
    sweep = arms * fine_tune.batch_size * sum(map(fine_tune.steps, budgets))
    return {
        "pilots": len(pilots),
        "units": sum(p.size for p in pilots),
        "units_read": read,
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
        f"{cost['units_read']:,} units{against}; {cost['seconds']:.0f} s (those kept from an "
        "earlier call with what they cost then)."
    )
