"""One peer on one job, in the peer's own environment: ``python tv_peers.py NAME JOB.json``.

The job holds texts and their twelve counts for each repetition; one JSON object a repetition is
printed: its own statistic, whether it calls the sides different at level 0.05, and its seconds.
Nothing of this project is imported.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

LEVEL = 0.05


def sbi(job: dict) -> tuple[float, bool]:
    """c2st with its default classifier on the counts; accuracy against a coin's 95 % point."""
    import math

    import torch
    from sbi.utils.metrics import c2st

    a, b = (torch.tensor(x, dtype=torch.float32) for x in job["counts"])
    accuracy = float(c2st(a, b))
    return accuracy, accuracy > 0.5 + 1.645 * math.sqrt(0.25 / (len(a) + len(b)))


def hyppo(job: dict) -> tuple[float, bool]:
    """Energy distance on the standardised counts, with its fast null law."""
    import numpy as np
    from hyppo.ksample import Energy

    a, b = (np.array(x) for x in job["counts"])
    every = np.concatenate([a, b])
    keep = every.std(0) > 0
    mean, spread = every.mean(0)[keep], every.std(0)[keep]
    a, b = (a[:, keep] - mean) / spread, (b[:, keep] - mean) / spread
    statistic, p = Energy().test(a, b, auto=True)
    return float(statistic), bool(p <= LEVEL)


def evidently(job: dict) -> tuple[float, bool]:
    """Text drift: ROC-AUC of a domain classifier, against a bootstrap of random scores."""
    import pandas as pd
    from evidently.legacy.utils.data_drift_utils import calculate_text_drift_score

    a, b = (pd.Series(x) for x in job["texts"])
    auc, drifted = calculate_text_drift_score(a, b, bootstrap=True, p_value=LEVEL)
    return float(auc), bool(drifted)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    peer = {"sbi": sbi, "hyppo": hyppo, "evidently": evidently}[sys.argv[1]]
    for job in json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")):
        began = time.process_time()
        value, different = peer(job)
        seconds = time.process_time() - began
        print(json.dumps({"value": value, "different": different, "seconds": seconds}), flush=True)
