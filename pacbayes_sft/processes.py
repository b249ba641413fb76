"""Several processes that share one fine-tune, as torchrun and ``accelerate launch`` start them.

Each takes its share of the rows of every step; the first alone writes. `run_sft` may be called in
all of them, and `run_sft_on` starts them for a caller that is one process itself, as a scan is.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacbayes_sft.choices import Objective
from pacbayes_sft.errors import InputError

if TYPE_CHECKING:
    from pacbayes_sft.sft import Settings

# where launchers say how many processes they started (those that accelerate itself reads)
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
THIS = "pacbayes_sft.processes"
SHARDED = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
ERROR = "error: "  # what a sentence for the user begins with
SHOWN = 12  # lines of a failed launch


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
        """Return the team that this process is in, and join it."""
        if launched() == 1:
            return cls()
        for name in SHARDED:
            if os.environ.get(name, "").lower() in ("1", "true", "yes"):
                raise InputError(
                    f"{name} is set: weights that lie in pieces in several processes are not "
                    "fine-tuned here; take plain data parallelism (--multi_gpu)"
                )
        from accelerate import PartialState

        state = PartialState(cpu=device == "cpu")
        return cls(state.num_processes, state.is_main_process, state)

    def wait(self) -> None:
        """Wait until all are here."""
        if self.state is not None:
            self.state.wait_for_everyone()

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


def run_sft_on(processes: int, base: str, train: Path, out: Path, settings: Settings) -> None:
    """Do what `run_sft` does in several processes on this machine, by torch's own launcher.

    Each GPU takes one; on a CPU they share the cores. Rows a step are those of ``settings``,
    whatever their number, so weights differ by rounding alone where these divide the rows.

    Args:
        processes: How many.
        base: As for `run_sft`, and so are the others.
        train: Rows.
        out: Output directory.
        settings: See `Settings`.

    Raises:
        InputError: With the sentence that one of them ended in, or if there are fewer GPUs.
        RuntimeError: If one failed otherwise.
    """
    Team(processes).rows_each(settings.batch_size)
    _refuse_too_few_gpus(processes, settings.device)
    asked = {"base": base, "train": str(train), "out": str(out), "settings": asdict(settings)}
    words = [sys.executable, "-m", THIS, str(processes), json.dumps(asked)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.splitlines()
        if said := [line for line in lines if line.startswith(ERROR)]:
            raise InputError(said[0].removeprefix(ERROR))
        trace = [line for line in lines if line.startswith("[rank")] or lines
        raise RuntimeError(
            f"a fine-tune in {processes} processes failed:\n" + "\n".join(trace[-SHOWN:])
        )


def _refuse_too_few_gpus(processes: int, device: str) -> None:
    import torch

    if device != "cpu" and torch.cuda.is_available() and torch.cuda.device_count() < processes:
        raise InputError(
            f"--processes {processes}: each takes a GPU, and {torch.cuda.device_count()} can be "
            "seen here; give no more, and on Ray as many --gpus"
        )


def _launch(processes: str, asked: str) -> None:
    """Be torch's launcher, until the processes end or the parent does."""
    from torch.distributed.run import main

    if sys.platform == "linux":  # a killed scan must not train on unseen
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)
    main(["--standalone", "--nproc_per_node", processes, "-m", THIS, asked])


def _share(words: str) -> int:
    """Be one of the processes."""
    from pacbayes_sft.sft import Settings, run_sft

    asked = json.loads(words)
    settings = asked["settings"]
    settings["objective"] = Objective(settings["objective"])
    try:
        run_sft(asked["base"], asked["train"], Path(asked["out"]), Settings(**settings))
    except InputError as error:
        print(f"{ERROR}{error}", file=sys.stderr, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 2:
        _launch(*sys.argv[1:])
    else:
        sys.exit(_share(sys.argv[1]))
