"""One set of tiny bases for every test of checkpoints."""

from __future__ import annotations

import pytest

from tests.pacbayes_sft.checkpoints import tiny


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return {name: tiny.make_base(name, folder / name) for name in tiny.CONFIGS}
