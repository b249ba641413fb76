"""One certificate, its record, and records with another outcome."""

import copy

import pytest

from pacbayes_sft.bound_json import to_record
from pacbayes_sft.certify import bound
from pacbayes_sft.options import Options


@pytest.fixture(scope="session")
def certificate(tiny_base, small_run, rows_dir):
    files = [str(rows_dir / name) for name in ("train.jsonl", "test.jsonl")]
    options = Options(posterior="isotropic", prior_scales=(0.05,), draws=1)
    held = str(rows_dir / "heldout.jsonl")
    return bound(str(tiny_base), small_run, *files, options, train_heldout=held)


@pytest.fixture
def record(certificate):
    return to_record(certificate)


@pytest.fixture
def outcome(record):
    """Return the record with every bound at a value, and with a label."""

    def changed(value, guarantee="upper", train=None):
        made = copy.deepcopy(record)
        train = value if train is None else train
        for entry in made["bounds"].values():
            entry |= {"raw": value, "train_raw": train, "guarantee": guarantee}
            entry |= {"vacuous": not value < 1, "train_vacuous": not train < 1}
        made["bound"] |= {"value": value, "upper": value, "confidence": 0.95}
        return made

    return changed
