import subprocess
import sys

import pytest

import estimators
import pacbayes_sft


def test_the_statistics_are_re_exported():
    for name in estimators.__all__:
        assert getattr(pacbayes_sft, name) is getattr(estimators, name)
    for name in set(pacbayes_sft.__all__) - set(estimators.__all__):
        assert callable(getattr(pacbayes_sft, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = pacbayes_sft.nonsense


def test_a_foreign_estimators_is_named(tmp_path):
    (tmp_path / "estimators.py").write_text("")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import pacbayes_sft as p; p.Estimate"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "is not the `estimators` shipped with pacbayes-sft" in done.stderr


def test_the_statistics_stand_alone():
    code = (
        "import sys, estimators;"
        "bad = {'pacbayes_sft', 'transformers', 'peft', 'trl', 'datasets'} & sys.modules.keys();"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
