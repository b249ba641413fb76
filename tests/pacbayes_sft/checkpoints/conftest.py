"""One set of tiny bases for every test of checkpoints."""

from __future__ import annotations

import pytest

from pacbayes_sft.checkpoints import base_weights
from tests.pacbayes_sft.checkpoints import tiny


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return {name: tiny.make_base(name, folder / name) for name in tiny.CONFIGS}


@pytest.fixture
def small_blocks(monkeypatch):
    """Tiny tensors, too, are read in several pieces."""
    monkeypatch.setattr(base_weights, "BLOCK", 24)
