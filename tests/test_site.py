"""The documentation site builds without a warning, and documents every public name."""

import inspect
import os
import pathlib
import re
import subprocess
import sys

import catalogue
import pytest

import jaxpool.linen
import jaxpool.nnx
import jaxpool.plot

pytest.importorskip("mkdocs")
ROOT = pathlib.Path(__file__).parent.parent
pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages of the site, as text, by path."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", out]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    pages = out.rglob("*.html")
    return {page.relative_to(out).as_posix(): page.read_text() for page in pages}


def public_names():
    yield from (f"jaxpool.{name}" for name in catalogue.public_functions())
    for system in (jaxpool, jaxpool.nnx, jaxpool.linen):
        classes = inspect.getmembers(system, inspect.isclass)
        yield from (f"{system.__name__}.{name}" for name, _ in classes)
    for name, value in vars(jaxpool.plot).items():
        if inspect.isfunction(value) and value.__module__ == "jaxpool.plot":
            if not name.startswith("_"):
                yield f"jaxpool.plot.{name}"


def test_every_public_name_is_documented_once(site):
    found = re.findall(r'id="(jaxpool\.[\w.]+)"', "".join(site.values()))
    assert len(found) == len(set(found))
    assert set(public_names()) == set(found)


def test_layers_show_their_arguments_and_docstrings(site):
    for system in ("nnx", "linen"):
        text = re.sub(r"<[^>]+>", "", site[f"layers/{system}.html"])
        assert re.search(r"MaxPool\(\s+window_shape,\s+\*,\s+strides=None", text)
        assert "Takes the largest element of every window." in text


def test_formulas_are_drawn(site):
    for path, text in site.items():
        if path.startswith("families/") and "plot" not in path:
            assert "<math" in text, path
            assert not re.search(r"\\(frac|sum|max|left)\b", text), path


def test_every_family_has_a_picture(site):
    for path, text in site.items():
        if path.startswith("families/") and "plot" not in path:
            assert re.search(r'<img [^>]*src="../pictures/\w+\.png"', text), path


def test_notebooks_are_pages_with_pictures(site):
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert "<img " in site[f"notebooks/{notebook.stem}.html"]
