"""The main job on the embedded default, as one Python call."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from estimators.posteriors.refined import Schedule
from pacbayes_sft.certify import Certificate, bound
from pacbayes_sft.checkpoints.record import RECORD_DIR, read_record
from pacbayes_sft.choices import Posterior
from pacbayes_sft.data.metadata import read_metadata
from pacbayes_sft.errors import InputError
from pacbayes_sft.igsm import OpLaw
from pacbayes_sft.igsm.files import generator_name, write_problems
from pacbayes_sft.options import Options
from pacbayes_sft.posteriors import Refinement
from pacbayes_sft.reading import sha256_of
from pacbayes_sft.sft import Settings, run_sft
from pacbayes_sft.sft_folder import PARTIAL

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
    """Draw data, fine-tune the shipped base, and bound the result under two priors.

    Raises:
        InputError: If ``out`` holds rows or a fine-tune that no demo made.
    """
    finetuned, settings = out / "finetune", replace(SETTINGS, seed=seed)
    files = {name: out / f"{name}.jsonl" for name in ("train", "heldout", "test")}
    laws = {"train": TRAIN_LAW, "heldout": TRAIN_LAW, "test": TEST_LAW}
    sizes = {"train": TRAIN_SIZE, "heldout": TEST_SIZE, "test": TEST_SIZE}
    unfinished = (finetuned / PARTIAL).exists()  # `run_sft` goes on with it, or refuses it
    for name, file in files.items():
        if file.exists() and not _drawn(file, laws[name]):
            raise InputError(f"{file}: not the rows that a demo draws; give another --out")
    if finetuned.exists() and not unfinished and not _trained(finetuned):
        raise InputError(f"{finetuned}: not what a demo left there; give another --out")
    for stream, (name, file) in enumerate(files.items()):
        write_problems(file, laws[name], size=sizes[name], seed=3 * seed + stream)
    if finetuned.exists() and not unfinished:
        shutil.rmtree(finetuned)
    run_sft(BASE, str(files["train"]), finetuned, settings)
    train, test = str(files["train"]), str(files["test"])
    heldout = str(files["heldout"])
    return Demo(
        bound(
            BASE,
            finetuned,
            train,
            test,
            Options(
                posterior=Posterior.REFINED,
                refinement=REFINEMENT,
                prior_scales=SCALES,
                seed=seed,
            ),
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
                seed=seed,
            ),
            train_heldout=heldout,
        ),
    )


def _drawn(file: Path, law: OpLaw) -> bool:
    """Whether a file holds problems of a law as they were drawn: they can be drawn again."""
    known = read_metadata(file, sha256_of(file)) if file.is_file() else None
    if known is None or known.generator != generator_name(abstract=True):
        return False
    return known.law == {str(op): weight for op, weight in law.weights.items()}


def _trained(finetuned: Path) -> bool:
    """Whether a folder holds a fine-tune by the demo's own settings, of whatever seed."""
    record = read_record(finetuned) if finetuned.is_dir() else None
    own = json.loads(json.dumps(asdict(SETTINGS)))
    return record is not None and {**record.settings, "seed": own["seed"]} == own
