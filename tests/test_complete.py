"""What a public function needs besides its code: `missing(name)` says what it lacks.

For the author of a new mode: write the function, and run this file until it is quiet.
"""

import inspect
import pathlib
import re

import catalogue
import jax
import jax.numpy as jnp
import pytest
from test_api import WINDOW

import jaxpool
import jaxpool.linen
import jaxpool.nnx

ROOT = pathlib.Path(__file__).parent.parent
FUNCTIONS = sorted(catalogue.public_functions())
# Functions of nodes without a batch, or of boxes, which lie on images.
NO_BATCH = re.compile("segment|roi")
SECTIONS = ("Args:", "Returns:", "Raises:", "Example:", "References:")
# Functions without a layer, and why.
NO_LAYER = {
    "pool_output_shape": "says a shape, pools nothing",
    "fixed_window": "says a window, pools nothing",
    "pool_cost": "counts, pools nothing",
    "indices_to_tensorflow": "converts indices, pools nothing",
    "indices_from_tensorflow": "converts indices, pools nothing",
}
# Functions with the plain window arguments that are no entry of POOLS, and why.
NO_ENTRY = {
    "pool_output_shape": "says a shape, pools nothing",
    "s3_pool": "takes rows and columns of maxima, padded by default; not of windows",
}
INDEPENDENT = r"def test_\w*(oracle|formula|definition|loop|torch|numpy|expected)"


def missing(name):
    """What the function of this name lacks, a line each."""
    lacks = []
    function = getattr(jaxpool, name, None)
    if function is None:
        return [f"a line in jaxpool/__init__.py that exports {name}"]
    text = inspect.getdoc(function) or ""  # Python 3.13 strips the indent itself
    for section in SECTIONS:
        if f"\n{section}\n" not in text:
            lacks.append(f"the section {section!r} of its docstring")
    if ">>> " not in text:
        lacks.append("an example in its docstring")
    parameters = inspect.signature(function).parameters
    for parameter in parameters:
        if not re.search(rf"^ +{parameter}: ", text, re.M):
            lacks.append(f"`{parameter}` in its docstring")

    tests = {path: path.read_text() for path in (ROOT / "tests").glob("test_*.py")}
    named = [t for t in tests.values() if re.search(rf"\b{_stem(name)}", t)]
    if not any(re.search(INDEPENDENT, text) for text in named):
        lacks.append("a test against an oracle: tests/oracles.py or its own test file")
    if name not in catalogue.STATIC:
        if name not in catalogue.CALLS:
            lacks.append("a line in tests/catalogue.py")
        if not any(re.search(r"check_\w*transforms\(", text) for text in named):
            lacks.append("check_transforms in its test file")

    if name not in NO_LAYER:
        for system in (jaxpool.nnx, jaxpool.linen):
            if name.replace("_", "") not in [export.lower() for export in vars(system)]:
                lacks.append(f"a layer in {system.__name__}")
    required = [p for p in parameters.values() if p.default is p.empty]
    windowed = set(WINDOW) <= set(parameters) and len(required) == 2
    if windowed and name not in NO_ENTRY:
        if name.removesuffix("_pool") not in jaxpool.POOLS:
            lacks.append("an entry in jaxpool/_registry.py")
        if f"`{name.removesuffix('_pool')}`" not in _text("docs/cost.md"):
            lacks.append("its operations in jaxpool/_cost.py, a row in docs/cost.md")

    if f"`{name}`" not in _text("README.md"):
        lacks.append("a row in the table of README.md")
    pages = [path.read_text() for path in (ROOT / "docs" / "families").glob("*.md")]
    if sum(f"::: jaxpool.{name}\n" in page for page in pages) != 1:
        lacks.append(f"a line `::: jaxpool.{name}` in one page of docs/families")
    if not any(re.search(rf"^\| `{name}` \| .+ \|", page, re.M) for page in pages):
        lacks.append("its formula in the table of a page of docs/families")
    if name in catalogue.CALLS and f"| `{name}` |" not in _text("docs/conformance.md"):
        lacks.append("a row in docs/conformance.md: python tests/conformance.py")
    return lacks


def _stem(name):
    """As it is named in tests: with or without what all of a family share."""
    return name if name in ("pool_cost", "fixed_window") else name.split("_pool")[0]


def _text(path):
    return (ROOT / path).read_text()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_is_missing(name):
    lacks = missing(name)
    assert not lacks, f"jaxpool.{name} lacks:\n  " + "\n  ".join(lacks)


def test_a_new_mode_is_told_what_it_lacks(monkeypatch):
    def new_pool(x, window_shape, **options):
        """Pools."""

    new_pool.__signature__ = inspect.signature(jaxpool.sum_pool)
    assert missing("new_pool") == [
        "a line in jaxpool/__init__.py that exports new_pool"
    ]
    monkeypatch.setattr(jaxpool, "new_pool", new_pool, raising=False)
    lacks = "\n".join(missing("new_pool"))
    for part in ("Args", "`dilation`", "oracle", "check_transforms", "catalogue"):
        assert part in lacks
    for part in ("jaxpool.nnx", "jaxpool.linen", "_registry", "_cost", "README"):
        assert part in lacks
    assert "docs/families" in lacks


@pytest.mark.parametrize("name", catalogue.CALLS)
def test_a_batch_may_be_empty(name):
    if NO_BATCH.search(name):
        pytest.skip("x has no batch")
    call, shape = catalogue.CALLS[name], catalogue.SHAPES.get(name, catalogue.SHAPE)
    full = jax.eval_shape(call, jnp.zeros(shape))
    x = jnp.zeros((0, *shape[1:]))
    y, dx = jax.eval_shape(catalogue.gradient(call), x)
    assert dx.shape == x.shape
    for none, some in zip(jax.tree.leaves(y), jax.tree.leaves(full), strict=True):
        assert none.shape == (0, *some.shape[1:])
