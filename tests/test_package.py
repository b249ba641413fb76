"""What is shipped: the wheel, the README's tables, what is declared."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_wheel_holds_both_packages_the_base_and_the_command(tmp_path):
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            str(tmp_path),
            str(ROOT),
        ],
        check=True,
        timeout=120,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        str(p.relative_to(ROOT))
        for package in ("estimators", "pacbayes_sft")
        for p in (ROOT / package).rglob("*.py")
    }
    assert sources <= names
    for file in (
        "estimators/py.typed",
        "pacbayes_sft/py.typed",
        "pacbayes_sft/bases/strong/model.safetensors",
        "pacbayes_sft/bases/strong/tokenizer.json",
        "pacbayes_sft/report/report.html.jinja",
    ):
        assert file in names
    assert not any(name.startswith("tests/") for name in names)
    (entry,) = (n for n in names if n.endswith("entry_points.txt"))
    assert "pacbayes-sft = pacbayes_sft.cli:main" in zipfile.ZipFile(wheel).read(entry).decode()


PAGES = {
    "demo": "README.md",
    "tightness": "docs/measured.md",
    "real": "docs/measured.md",
    "tightness_real": "docs/measured.md",
    "coverage": "docs/measured.md",
    "streaming": "docs/measured.md",
    "whole_path": "docs/measured.md",
    "monte_carlo": "docs/measured.md",
    "tv": "docs/measured.md",
    "map": "docs/map.md",
    "advice": "docs/advice.md",
}


@pytest.mark.parametrize("name", PAGES)
def test_the_tables_are_made_from_the_committed_figures(name, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    spec = importlib.util.spec_from_file_location(f"{name}_bench", ROOT / f"benchmarks/{name}.py")
    bench = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, bench)  # dataclasses look themselves up there
    spec.loader.exec_module(bench)
    result = json.loads(bench.RESULT.read_text())
    made = bench.page_table(result["pieces"]) if name == "coverage" else bench.table(result)
    assert made in (ROOT / PAGES[name]).read_text()
    if name == "advice":
        assert bench.fewer_table(result) in (ROOT / PAGES[name]).read_text()
        assert bench.halving_table(result) in (ROOT / PAGES[name]).read_text()
    if name == "map":
        assert bench.observations_table(result) in bench.PAGE.read_text()


def test_the_short_tables_of_the_readme_are_made_from_the_committed_figures(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import headlines

    readme = (ROOT / "README.md").read_text()
    for name, table in headlines.tables().items():
        assert f"made by benchmarks/headlines.py -->\n{table}\n<!-- end of {name}" in readme


def test_links_from_the_readme_lead_somewhere():
    import re

    readme = (ROOT / "README.md").read_text()
    for file, place in re.findall(r"\]\(((?:docs|pacbayes_sft)/[^)#]+)#?([^)]*)\)", readme):
        assert (ROOT / file).exists(), file
        if place:
            titles = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^a-z0-9 -]", "", t.lower()).replace(" ", "-") for t in titles}
            assert place in slugs, f"{file}#{place}"


def test_the_tables_of_the_real_map_are_made_from_its_figures(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import map_real

    result, page = json.loads(map_real.RESULT.read_text()), map_real.PAGE.read_text()
    assert map_real.cells_table(result) in page and map_real.table(result) in page
    _all_records_are_told_of(map_real.RECORDS, result)


def test_the_table_of_the_chains_map_is_made_from_its_figures(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import map_gsm

    result = json.loads(map_gsm.RESULT.read_text())
    assert map_gsm.table(result) in map_gsm.PAGE.read_text()
    _all_records_are_told_of(map_gsm.RECORDS, result)


def test_the_table_of_the_devices_is_made_from_its_figures(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import map_devices

    result = json.loads(map_devices.RESULT.read_text())
    assert map_devices.table(result) in map_devices.PAGE.read_text()
    assert all(len(cell["on"]) == 2 for cell in result["cells"])  # else nothing is compared
    names = {file.stem for file in (map_devices.RECORDS / "records").glob("*.json")}
    assert len(names) == len({c["of"] for c in result["cells"]}) + len(result["cells"])


def test_every_selector_that_was_run_is_judged():
    results = ROOT / "benchmarks" / "results"
    run = json.loads((results / "advice_selectors.json").read_text())
    judged = json.loads((results / "advice.json").read_text())["entries"]
    names = {(e["rule"], e["base"], e["budget"], e["pilot_seed"]) for e in judged}
    assert {(r["selector"], r["base"], r["size"], r["seed"]) for r in run} <= names


def _all_records_are_told_of(folder, result):
    names = {file.stem for file in (folder / "records").glob("*.json")}
    assert len(names) == 1 + len(result["measured"])  # the base's own, and a record a cell


def test_the_citation_and_the_changelog_name_this_version():
    import tomllib

    import yaml

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == project["version"] and citation["license"] == project["license"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_what_is_declared_is_pinned():
    """A dependency that nobody pinned is another one on every machine."""
    import re
    import tomllib

    def plain(name):
        return re.match(r"[A-Za-z0-9._-]+", name)[0].lower().replace("_", "-")

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {plain(x) for x in project["dependencies"]}
    for extra in project["optional-dependencies"].values():
        declared |= {plain(x) for x in extra}
    lines = (ROOT / "constraints.txt").read_text().split()
    pinned = {plain(line) for line in lines}
    assert declared - {"pacbayes-sft"} <= pinned
    assert len(pinned) == len(lines), "pinned twice"
