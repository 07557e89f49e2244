"""Every notebook runs, and is committed with its pictures."""

import pathlib
import re
import time

import pytest

nbformat = pytest.importorskip("nbformat")
FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
pytestmark = pytest.mark.once


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_with_pictures(path):
    cells = nbformat.read(path, 4).cells
    titles = [c.source for c in cells if re.match("#+ ", c.source)]
    assert cells[0].source.startswith("# ")
    assert not [title for title in titles[1:] if title.startswith("# ")]
    outputs = [o for cell in cells for o in cell.get("outputs", ())]
    assert not [o for o in outputs if o.output_type == "error"]
    assert [o for o in outputs if "image/png" in o.get("data", {})]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")  # of the kernel's libraries
def test_runs(path):
    from nbclient import NotebookClient

    notebook = nbformat.read(path, 4)
    start = time.monotonic()
    resources = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=240, resources=resources).execute()
    print(f"{path.stem}: {time.monotonic() - start:.0f} s")
