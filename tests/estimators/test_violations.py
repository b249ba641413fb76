"""The guarantee, tested: a short run of `benchmarks/violations.py`, and its committed figures."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from estimators import clopper_pearson

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


def load(name):
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench = load("violations")


@pytest.mark.parametrize("name", [n for n in bench.SOUND if "gradients" not in n])
def test_a_sound_rule_holds_its_level(name):
    rule, _ = bench.SOUND[name]
    found = bench.count(name, rule, 300, 0.2, keep=False)
    assert clopper_pearson(found, 300, 0.1).upper <= 0.2


@pytest.mark.parametrize("name", bench.MISTAKES)
def test_a_planted_mistake_is_caught(name):
    rule, _ = bench.MISTAKES[name]
    found = bench.count(name, rule, 60, 0.05, keep=False)
    assert clopper_pearson(found, 60, 0.1).lower > 0.05


def test_refine_itself_holds():
    name = "refined.fit itself, by gradients"
    found = bench.count(name, bench.SOUND[name][0], 12, 0.2, keep=False)
    assert clopper_pearson(found, 12, 0.1).upper <= 0.25


def test_the_moment_behind_the_bounds_is_below_xi():
    found = bench.moment(1500)
    assert found["mean"] - 3 * found["standard_error"] <= found["xi"]


def test_the_committed_figures_pass():
    result = json.loads(bench.RESULT.read_text())
    for rule in result["rules"]:
        if rule["kind"] == "sound":
            assert rule["passed"] and rule["upper"] <= rule["delta"], rule
            assert rule["delta"] != 0.05 or rule["repetitions"] >= 10_000 or "fit" in rule["rule"]
        else:
            assert rule["lower"] > rule["delta"], rule
    assert result["moment"]["mean"] <= result["moment"]["xi"]
