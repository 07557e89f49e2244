"""The rules that every public function keeps, and every file of the package."""

import ast
import inspect
import pathlib
import re

import catalogue
import pytest

import jaxpool

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "jaxpool").rglob("*.py"))
FUNCTIONS = catalogue.public_functions()
WINDOW = ("strides", "padding", "dilation", "ceil_mode", "axes", "where", "empty")
PLATFORMS = {"cpu", "gpu", "cuda", "rocm", "tpu"}


def strings(tree):
    """The string constants of a file that are no docstrings."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in docs:
                yield node.value


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_are_keyword_only(name):
    for parameter in inspect.signature(FUNCTIONS[name]).parameters.values():
        # A second input is no option.
        required = parameter.default is inspect.Parameter.empty or parameter.name == "y"
        assert required or parameter.kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", jaxpool.POOLS)
def test_registered_pools_take_the_plain_window_arguments(name):
    pool = jaxpool.POOLS[name]
    assert pool is FUNCTIONS[f"{name}_pool"]
    parameters = inspect.signature(pool).parameters
    assert tuple(parameters)[:9] == ("x", "window_shape", *WINDOW)
    defaults = [parameters[option].default for option in WINDOW]
    assert defaults == [None, "VALID", 1, False, None, None, 0.0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_file_keeps_the_rules(path):
    tree = ast.parse(path.read_text())
    imported = set()
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), "errors are raised, not asserted"
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    private = r"jax\.(_src|core|interpreters|extend|experimental)\b"
    assert not [name for name in imported if re.match(private, name)]
    if path.name != "_lowering.py" and path.parent.name != "demo":
        assert not PLATFORMS & set(strings(tree)), "only _lowering.py names platforms"


def imports_flax(tree):
    return any(
        isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flax")
        for node in ast.walk(tree)
    )


def test_only_the_layers_import_flax():
    importers = {
        str(path.relative_to(ROOT / "jaxpool").parent)
        for path in FILES
        if imports_flax(ast.parse(path.read_text()))
    }
    assert importers == {"nnx", "linen", "demo"}


def test_readme_block_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert (ROOT / "README.md").read_text().splitlines()[4] == "```python"
    exec(blocks[0], {})
