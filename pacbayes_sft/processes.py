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
import time
import traceback
from collections.abc import Mapping
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
SHARDED = tuple(
    f"ACCELERATE_USE_{name}" for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG")
)
PRECISION = "ACCELERATE_MIXED_PRECISION"
REFUSED, FAILED = "error: ", "failed: "  # what the last line of a process begins with


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


def run_sft_on(processes: int, base: str, train: Path, out: Path, settings: Settings) -> None:
    """Do what `run_sft` does in several processes on this machine, by torch's own launcher.

    Each GPU takes one; on a CPU they share the threads. Rows a step are those of ``settings``,
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
    words = [sys.executable, "-m", THIS, str(os.getpid()), str(processes), json.dumps(asked)]
    done = subprocess.run(
        words,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        env=_environment(processes),
    )
    lines = done.stderr.splitlines()
    if done.returncode:
        if said := [line for line in lines if line.startswith(REFUSED)]:
            raise InputError(said[0].removeprefix(REFUSED))
        failures = [json.loads(x.removeprefix(FAILED)) for x in lines if x.startswith(FAILED)]
        _, trace = min(failures, default=(0.0, done.stderr))  # the others' come of the first
        raise RuntimeError(f"a fine-tune in {processes} processes failed:\n{trace}")
    for line in lines:
        if "UserWarning: " in line:
            print(line, file=sys.stderr)


def _environment(processes: int) -> dict[str, str]:
    """Return this process's, without what it says to other launchers; threads shared evenly."""
    import torch

    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PET_", "ACCELERATE_"))}
    threads = str(max(1, torch.get_num_threads() // processes))
    return {"OMP_NUM_THREADS": threads} | kept


def _refuse_too_few_gpus(processes: int, device: str) -> None:
    import torch

    if ":" in device:
        raise InputError(f"--processes {processes}: each takes a GPU, so {device} names one of all")
    if device != "cpu" and torch.cuda.is_available() and torch.cuda.device_count() < processes:
        raise InputError(
            f"--processes {processes}: each takes a GPU, and {torch.cuda.device_count()} can be "
            "seen here; give no more, and on Ray as many --gpus"
        )


def _end_with(parent: int, by: signal.Signals) -> None:
    """Ask Linux to end this process with its parent: a killed scan must not train on unseen."""
    if sys.platform == "linux":
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, by)
        if os.getppid() != parent:  # it ended before it could be asked
            sys.exit(1)


def _launch(parent: str, processes: str, asked: str) -> None:
    """Be torch's launcher, until the processes end (on Linux also until the parent does)."""
    _end_with(int(parent), signal.SIGTERM)
    from torch.distributed.run import main

    main(["--standalone", "--nproc_per_node", processes, "-m", THIS, asked])


def _share(words: str) -> int:
    """Be one of the processes."""
    _end_with(os.getppid(), signal.SIGKILL)
    try:
        from pacbayes_sft.sft import Settings, run_sft

        asked = json.loads(words)
        settings = asked["settings"]
        settings["objective"] = Objective(settings["objective"])
        run_sft(asked["base"], asked["train"], Path(asked["out"]), Settings(**settings))
    except InputError as error:
        print(f"{REFUSED}{error}", file=sys.stderr, flush=True)
        return 2
    except Exception:
        trace = json.dumps([time.time(), traceback.format_exc()])
        print(f"\n{FAILED}{trace}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 2:
        _launch(*sys.argv[1:])
    else:
        sys.exit(_share(sys.argv[1]))
