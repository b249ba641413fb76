"""Options that mean nothing, or would be passed over in silence, are refused when they are made."""

from pathlib import Path

import pytest

from pacbayes_sft.errors import InputError
from pacbayes_sft.inputs import load_inputs
from pacbayes_sft.models import load_model
from pacbayes_sft.options import Options
from pacbayes_sft.refine import Refinement


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"prior_scales": (0.02, 0.02)}, "name one twice"),
        ({"prior_scales": (0.02, 0.020000001)}, "name one twice"),  # alike in the ledger
        ({"units": 8, "refinement": Refinement(start="prior")}, "--start prior needs all"),
        ({"device": "gpu"}, "--device gpu: cannot be used here"),
        ({"max_length": 0}, "--max-length must be at least 1"),
    ],
)
def test_what_means_nothing_is_refused(given, says):
    with pytest.raises(InputError, match=says):
        Options(**given)


def test_any_other_word_for_a_prior_is_a_path(small_run, tiny_base, rows_dir):
    assert Options(prior="initial").prior == "initial"
    kept = small_run / "pacbayes_sft" / "prior"
    rows = [str(rows_dir / name) for name in ("train.jsonl", "test.jsonl")]

    def prior_of(prior):
        found = load_inputs(str(tiny_base), small_run, *rows, prior=Options(prior=prior).prior)
        return found.n, found.pair.prior_source

    assert prior_of(str(kept)) == prior_of(Path(kept)) and prior_of(kept)[0] == 32
    with pytest.raises(InputError, match="intial"):
        prior_of("intial")


def test_auto_is_the_device_there_is(tiny_base):
    import torch

    there = "cuda" if torch.cuda.is_available() else "cpu"
    assert Options(device="auto").device == there
    model = load_model(str(tiny_base), device="auto")
    assert next(model.parameters()).device.type == there
    with pytest.raises(InputError, match="--device gpu"):
        load_model(str(tiny_base), device="gpu")


def test_what_a_float_cannot_hold_is_refused():
    """1 - 1e-17 is 1: "with probability 100 %" would have been said of a bound that may fail."""
    for bad in ({"delta": 1e-17}, {"prior_scales": (1e-200,)}, {"prior_scales": (1e300,)}):
        with pytest.raises(InputError, match=r"must lie between 1e-"):
            Options(**bad)
