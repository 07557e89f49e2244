"""The pages: no dead link inside the repository, no name that does not exist."""

import json
import pathlib
import re

import jax
import numpy as np
import pytest

import jaxpool
import jaxpool.linen
import jaxpool.nnx
from benchmarks import tables

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("notebooks/*.ipynb"),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text()
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        prose = [cell for cell in cells if cell["cell_type"] == "markdown"]
        text = "".join(line for cell in prose for line in cell["source"])
    links = re.findall(r"\]\(([^)#\s]+)", text)
    inside = [link for link in links if "://" not in link]
    assert [link for link in inside if not (page.parent / link).exists()] == []


def test_pools_to_choose_from_exist():
    text = (ROOT / "docs" / "choosing.md").read_text()
    column = [row.split("|")[2] for row in text.splitlines() if row.startswith("| ")]
    names = re.findall(r"`(\w+)`", " ".join(column))
    assert len(names) > 50
    found = {*vars(jaxpool), *vars(jaxpool.nnx)} & {
        *vars(jaxpool),
        *vars(jaxpool.linen),
    }
    assert set(names) - found == set()


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_tables_are_the_figures(page):
    text = page.read_text()
    assert tables.TABLE.search(text)
    assert tables.filled(text) == text, "`python -m benchmarks.tables` writes them"


def calls_of_the_guide():
    """What stands in the last column of the tables on coming from other libraries."""
    text = (ROOT / "docs" / "migration.md").read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| ")]
    codes = re.findall("`([^`]+)`", " ".join(row[2] for row in rows if len(row) == 4))
    return [code for code in codes if re.search(r"[pP]ool\(", code)]


def test_calls_of_the_guide_work():
    """Traced, for an array that each takes."""
    image = np.ones((2, 28, 28, 8), np.float32)
    y, i = jaxpool.max_pool(image, (2, 2), return_indices=True)
    graph = {"x": np.ones((2, 6, 4), np.float32), "mask": np.ones((2, 6), bool)}
    graph |= {"adj": np.ones((2, 6, 6), np.float32), "s": np.ones((2, 6, 3))}
    several = {
        "segment": {"x": np.ones((6, 4)), "batch": np.arange(6) // 2, "size": 3},
        "diff_pool": graph,
        "mincut_pool": graph,
        "ps_roi": {"x": np.ones((2, 14, 14, 98), np.float32)},
    }
    names = {"x": image, "y": y, "i": i, "h": 14, "w": 14, "key": jax.random.key(0)}
    names |= {"boxes": np.array([[1.0, 2.0, 9.0, 9.0]]), "index": np.zeros(1, int)}
    names |= {"mask": np.ones((2, 28, 28), bool), "temp": 1.0, "n": 4, "r": 1.5}
    codes = calls_of_the_guide()
    assert len(codes) > 40
    for code in codes:
        if code.endswith("(...)"):
            continue
        code = code.removeprefix("y, i = ")
        more = next((v for k, v in several.items() if code.startswith(k)), {})
        known = {**vars(jaxpool), "jaxpool": jaxpool, **names, **more}

        def call(code=code, known=known):
            found = eval(code, known)
            return found(known["x"]) if callable(found) else found

        assert jax.tree.leaves(jax.eval_shape(call)), code


def test_examples_of_scaling_run():
    text = (ROOT / "docs" / "scaling.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    names: dict = {}
    for block in blocks:
        if "mine" not in block:  # the share of a process, which there is none of here
            exec(block, names)
    assert names["y"].shape == (16, 16, 16, 64)
    assert names["y"].sharding.spec[0] == "batch"


@pytest.mark.parametrize("system", ["nnx", "linen"])
def test_models_with_layers_run(system):
    text = (ROOT / "docs" / "layers" / f"{system}.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.S)
    names: dict = {}
    exec(block, names)
    assert names["logits"].shape == (4, 10)


def test_models_of_the_readme_run():
    text = (ROOT / "README.md").read_text()
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.S)[:2]:
        exec(block, names)
    assert names["y"].shape == (2, 2, 2, 8)


def test_the_example_of_adding_a_mode_runs(monkeypatch):
    import grid
    import oracles

    from jaxpool import _norm, _tap_sum

    text = (ROOT / "docs" / "adding.md").read_text()
    function, oracle, tests = re.findall(r"```python\n(.*?)```", text, re.S)
    new: dict = {}
    exec(function, vars(_norm) | {"tap_sum": _tap_sum.tap_sum}, new)
    monkeypatch.setattr(jaxpool, "energy_pool", new["energy_pool"], raising=False)
    new = {}
    exec(oracle, vars(oracles), new)
    for name, value in new.items():
        monkeypatch.setattr(oracles, name, value, raising=False)
    new = {}
    exec(tests, vars(grid), new)
    assert len(new) == 3
    for test in new.values():
        test()
