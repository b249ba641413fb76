"""The notebooks run from clean state, within three minutes, as a reader would find them."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

BOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
SECONDS = 180
NOT_RUN = "not-run-here"  # the tag of cells that need a GPU or the hub
FAST = {"03_difficulty_map", "04_theory"}  # the others are run by `make test-slow`


def marked(book: Path) -> object:
    slow = [] if book.stem in FAST else [pytest.mark.slow]
    return pytest.param(book, id=book.stem, marks=slow)


def code_cells(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def busy() -> float:
    """Seconds of work that finished kernels have done; waiting on a busy machine is not theirs."""
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("path", BOOKS, ids=lambda p: p.stem)
def test_what_is_committed_is_clean_and_says_what_is_not_run(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert book.cells[0].cell_type == "markdown" and book.cells[0].source.startswith("# ")
    for before, cell in zip([None, *book.cells], book.cells, strict=False):
        if cell.cell_type != "code":
            continue
        assert not cell.outputs and cell.execution_count is None
        if not any(line.startswith(("%", "!")) for line in cell.source.splitlines()):
            ast.parse(cell.source)
        if NOT_RUN in cell.metadata.get("tags", ()):
            assert "not run here" in before.source.lower(), "say so above the cell"
        else:
            assert "cuda" not in cell.source, f"a cell for a GPU needs the tag {NOT_RUN}"
    assert path.stat().st_size < 200_000


@pytest.mark.parametrize("path", [marked(book) for book in BOOKS])
def test_it_runs_from_clean_state(path, tmp_path):
    from nbclient import NotebookClient

    book = nbformat.read(path, as_version=4)
    book.cells = [c for c in book.cells if NOT_RUN not in c.metadata.get("tags", ())]
    began = busy()
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(book, timeout=5 * SECONDS, resources=where).execute()
    assert busy() - began < SECONDS
    pictures = [
        len(output.data["image/png"])
        for cell in code_cells(book)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert all(size < 300_000 for size in pictures), "keep figures small"
