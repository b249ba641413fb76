"""The main job on the embedded default, as one Python call."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from estimators.posteriors.refined import Schedule
from pacbayes_sft.certify import Certificate, bound
from pacbayes_sft.checkpoints.record import RECORD_DIR
from pacbayes_sft.choices import Posterior
from pacbayes_sft.igsm import OpLaw
from pacbayes_sft.igsm.files import write_problems
from pacbayes_sft.options import Options
from pacbayes_sft.posteriors import Refinement
from pacbayes_sft.sft import PARTIAL, Settings, run_sft

BASE = "strong"
TRAIN_LAW = OpLaw.uniform(6, 10)
TEST_LAW = OpLaw.uniform(7, 11)
TRAIN_SIZE, TEST_SIZE = 768, 256
SCALES = (0.02,)  # one prior scale: no pilot, no race, so that the demo stays short
REFINEMENT = Refinement(Schedule(steps=30, mean_rate=0.1), batch_size=32)
SETTINGS = Settings(steps=24, batch_size=32, learning_rate=2e-3, prior_fraction=0.5, device="cpu")


@dataclass(frozen=True)
class Demo:
    """The two certificates of the demo, of one fine-tune under two priors."""

    base_prior: Certificate
    checkpoint_prior: Certificate


def run_demo(out: Path, *, seed: int = 0) -> Demo:
    """Draw data, fine-tune the shipped base, and bound the result under two priors."""
    finetuned = out / "finetune"
    files = {name: out / f"{name}.jsonl" for name in ("train", "heldout", "test")}
    laws = {"train": TRAIN_LAW, "heldout": TRAIN_LAW, "test": TEST_LAW}
    sizes = {"train": TRAIN_SIZE, "heldout": TEST_SIZE, "test": TEST_SIZE}
    for stream, (name, file) in enumerate(files.items()):
        write_problems(file, laws[name], size=sizes[name], seed=3 * seed + stream)
    if finetuned.exists() and not (finetuned / PARTIAL).exists():
        shutil.rmtree(finetuned)  # an earlier demo's own output
    run_sft(BASE, str(files["train"]), finetuned, SETTINGS)
    train, test = str(files["train"]), str(files["test"])
    heldout = str(files["heldout"])
    return Demo(
        bound(
            BASE,
            finetuned,
            train,
            test,
            Options(posterior=Posterior.REFINED, refinement=REFINEMENT, prior_scales=SCALES),
            train_heldout=heldout,
        ),
        bound(
            BASE,
            finetuned,
            train,
            test,
            Options(
                prior=finetuned / RECORD_DIR / "prior",
                posterior=Posterior.ISOTROPIC,
                prior_scales=SCALES,
            ),
            train_heldout=heldout,
        ),
    )
