"""Several processes that share one fine-tune, as torchrun and ``accelerate launch`` start them.

Each takes its share of the rows of every step; the first alone writes. `run_sft` may be called in
all of them; `pacbayes_sft.launch` starts them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pacbayes_sft.errors import InputError

# where launchers say how many processes they started (those that accelerate itself reads)
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
SHARDED = tuple(
    f"ACCELERATE_USE_{name}" for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG")
)
PRECISION = "ACCELERATE_MIXED_PRECISION"


def launched() -> int:
    """Return how many processes this one was started as one of."""
    counts = [int(found) for name in SIZES if (found := os.environ.get(name, "")).isdigit()]
    return max(counts, default=1)


@dataclass(frozen=True)
class Team:
    """The processes of one launch.

    Attributes:
        size: How many.
        first: Whether this is the one that writes.
        state: accelerate's, which holds the barrier; None where there is one process.
    """

    size: int = 1
    first: bool = True
    state: Any = None

    @classmethod
    def of(cls, device: str) -> Team:
        """Return the team that this process is in, and join it.

        Args:
            device: ``cpu`` or ``cuda``.

        Raises:
            InputError: If the launcher asks for what a fine-tune here is not, or if the processes
                cannot find each other.
        """
        _refuse_launchers_wishes()
        if launched() == 1:
            return cls()
        from accelerate import PartialState

        state = PartialState(cpu=device == "cpu")
        if state.num_processes != launched():
            raise InputError(
                f"started as one of {launched()} processes, of which {state.num_processes} can be "
                f"reached on {device}; start them by torchrun, or accelerate launch on GPUs"
            )
        return cls(state.num_processes, state.is_main_process, state)

    def wait(self) -> None:
        """Wait until all are here."""
        if self.state is not None:
            self.state.wait_for_everyone()

    def agree(self, facts: Mapping[str, Any], refusal: InputError | None = None) -> None:
        """Go on together, or not at all: no process may meet another's next fine-tune.

        Args:
            facts: What must be the same in all, by name.
            refusal: Why this one cannot go on.

        Raises:
            InputError: In all, if one refuses or sees something else.
        """
        if self.state is None:
            if refusal is not None:
                raise refusal
            return
        from accelerate.utils import gather_object

        mine = {name: json.dumps(value, default=str) for name, value in facts.items()}
        every = gather_object([(mine, None if refusal is None else str(refusal))])
        for _, said in every:
            if said is not None:
                raise InputError(said)
        for name, value in mine.items():
            if any(theirs[name] != value for theirs, _ in every):
                raise InputError(
                    f"the {self.size} processes do not see the same {name}; they share one "
                    "fine-tune, so give all of them the same words and a disk that they share"
                )

    def rows_each(self, batch_size: int) -> int:
        """Return the rows of a step that each takes.

        Raises:
            InputError: If they cannot be shared evenly.
        """
        if batch_size % self.size:
            raise InputError(
                f"a step of {batch_size} rows cannot be shared evenly by {self.size} processes; "
                "give a batch size that it divides"
            )
        return batch_size // self.size


def _refuse_launchers_wishes() -> None:
    for name in SHARDED:
        if os.environ.get(name, "").lower() in ("1", "true", "yes"):
            raise InputError(
                f"{name} is set: weights that lie in pieces in several processes are not "
                "fine-tuned here; take plain data parallelism (--multi_gpu)"
            )
    asked = os.environ.get(PRECISION, "no")
    if asked not in ("", "no"):
        raise InputError(
            f"{PRECISION}={asked}: the dtype of a fine-tune is --dtype; give accelerate "
            "--mixed_precision no"
        )
