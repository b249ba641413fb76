"""Start several processes that share one fine-tune, for a caller that is one itself, as a scan is.

Also what these processes run: ``python -m pacbayes_sft.launch``.
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
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pacbayes_sft.choices import Objective
from pacbayes_sft.errors import InputError
from pacbayes_sft.processes import Team

if TYPE_CHECKING:  # a child must ask to end with its parent before it loads what takes seconds
    from pacbayes_sft.sft import Settings

THIS = "pacbayes_sft.launch"
REFUSED, FAILED = "error: ", "failed: "  # what the last line of a process begins with


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
