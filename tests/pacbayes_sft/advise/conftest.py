"""A pool whose difficulties are known, and pilots that are formulas instead of fine-tunes."""

import pytest

from pacbayes_sft.advise.prepare import NAME
from pacbayes_sft.scan import jobs
from tests.pacbayes_sft.advise.cases import record, untouched, write


@pytest.fixture
def files(tmp_path):
    pool = [
        {"prompt": f"p{i}", "completion": f"c{i}", "difficulty": 2 + i % 9, "unit": f"u{i}"}
        for i in range(2700)
    ]
    test = [{"difficulty": 2 + i % 9} for i in range(90)]  # the column alone
    return write(tmp_path / "pool.jsonl", pool), write(tmp_path / "test.jsonl", test)


@pytest.fixture
def faked(monkeypatch):
    """Fine-tunes from formulas; returns the keys of those that ran."""
    ran = []

    def fake(config, cell, key, folder, processes=1):
        ran.append(key)
        made = record(cell.window, cell.size, cell.seed, cell.objective.value)
        return made | {"key": key, "bounds": {NAME: made["bounds"]["plain"]}}

    def fake_base(config, base, key, folder):
        return {"key": key, "base": base, "measured": untouched()}

    monkeypatch.setattr(jobs, "measure_cell", fake)
    monkeypatch.setattr(jobs, "measure_base", fake_base)
    return ran
