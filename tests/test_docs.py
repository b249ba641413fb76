"""The pages say what happens: their examples are run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import estimators
import pacbayes_sft
from pacbayes_sft import models

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
FILE = re.compile(r"```python\n# (\w+\.py)\n(.*?)```", re.S)
# Not called by a page: it takes minutes, and `make demo` runs it.
TOO_LONG = {"run_demo", "advise_on"}


def examples(text):
    return doctest.DocTestParser().get_examples(text)


@pytest.fixture
def folder(tiny_base, rows_dir, tmp_path, monkeypatch):
    """What the pages take for granted: the shipped base (here a tiny one), and rows."""
    monkeypatch.setattr(models, "BASES", tiny_base.parent)
    for file in rows_dir.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "page", [p for p in PAGES if examples(p.read_text())], ids=lambda p: p.stem
)
def test_the_examples_of_a_page_run(page, folder):
    text = page.read_text(encoding="utf-8")
    for name, body in FILE.findall(text):
        (folder / name).write_text(body)
    if '"run"' in text:  # a fine-tune that lies there already
        settings = pacbayes_sft.Settings(steps=2, batch_size=16, lora_rank=4, device="cpu")
        pacbayes_sft.run_sft("strong", "train.jsonl", folder / "run", settings)
    test = doctest.DocTestParser().get_doctest(text, {}, page.stem, str(page), 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=said.append)
    for name, _ in FILE.findall(text):
        sys.modules.pop(name.removesuffix(".py"), None)
    assert not runner.failures, "".join(said)


def own_examples(name, value):
    """The examples in the docstring of a public name, or of its methods."""
    documented = [value, *(vars(value).values() if inspect.isclass(value) else ())]
    docs = [inspect.getdoc(getattr(each, "__func__", each)) or "" for each in documented]
    return [e.source for doc in docs if ">>>" in doc for e in examples(doc)]


@pytest.mark.parametrize("package", [estimators, pacbayes_sft], ids=lambda p: p.__name__)
def test_every_public_name_has_a_running_example(package):
    """In its own docstring, or on a page of `docs/`; both are run."""
    run = [e.source for page in PAGES for e in examples(page.read_text())]
    run += own_examples("", estimators.catoni_grid)  # a constant has no docstring of its own
    pages = "\n".join(run)
    without = []
    for name in package.__all__:
        value = getattr(package, name)
        word = re.compile(rf"\b{name}\b")
        own = own_examples(name, value) if callable(value) else []
        if not any(map(word.search, [*own, pages])):
            without.append(name)
    assert set(without) <= TOO_LONG, without
    assert {n for n in TOO_LONG if n in package.__all__} <= set(without), "no exception needed"


def test_the_page_of_names_lists_them_all():
    """`docs/api.md` holds every public name of both packages, and no other."""
    text = (ROOT / "docs" / "api.md").read_text()
    listed = re.findall(r"^\.\. auto(?:function|class|data|exception):: (\w+)\.(\w+)$", text, re.M)
    assert len(listed) == len(set(listed))
    own = set(pacbayes_sft.__all__) - set(estimators.__all__)
    wanted = {("estimators", name) for name in estimators.__all__}
    wanted |= {("pacbayes_sft", name) for name in own}
    assert set(listed) == wanted


def test_an_example_that_is_wrong_is_seen():
    """The eyes of this file work."""
    assert own_examples("x", importlib.import_module) == []
    assert "kl_bound" in "".join(own_examples("kl_bound", estimators.kl_bound))


@pytest.mark.slow
def test_the_pages_are_built_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", ROOT / "docs", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "kl_bound" in (tmp_path / "api.html").read_text()
