"""What works where: every public function by transformation, dtype and platform.

`row(name)` tries it, without computing anything: tracing and lowering need no device.
`python tests/conformance.py` writes `docs/conformance.md`, and `test_conformance.py`
compares it with what is found anew.
"""

import functools
import pathlib
import warnings

import catalogue
import jax
import jax.numpy as jnp
from jax import lax

import jaxpool

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "conformance.md"
PLATFORMS = ("cpu", "cuda", "tpu")
FLOATS = ("float32", "bfloat16", "float16", "float64")
OTHERS = ("int32", "uint8", "bool", "complex64")
# The calls of the catalogue make integers of floats.
OF_INTEGERS = {
    "indices_to_tensorflow": lambda x: jaxpool.indices_to_tensorflow(x, x.shape),
    "indices_from_tensorflow": lambda x: jaxpool.indices_from_tensorflow(x, x.shape),
}
ALL, VALUE, REFUSED = "all", "value", "-"

TEXT = """# What works where

Written by `python tests/conformance.py`; a test compares it with the library.

In the columns of floats, **all** says that the function has every transformation, in
this dtype, on every platform: its value under `jit`, `vmap`, `scan` and `checkpoint`;
`jvp`; `grad`; and Hessians, forward over reverse, under `vmap` and `scan`, of a loss
of its outputs. The program of all of them is lowered for CPU, CUDA and TPU. What fails
would stand here by name. *value*: there is nothing to differentiate. *-*: refused by a
`TypeError` that says what is expected.

`export` with a symbolic batch and sharding have tests of their own, of every function
(`tests/test_export.py`, `tests/test_sharding.py`); numbers are compared with the
formulas by the tests of each family.

"""


def _leaves(y, kind):
    return [leaf for leaf in jax.tree.leaves(y) if jnp.issubdtype(leaf.dtype, kind)]


def _loss(call):
    def loss(x):
        parts = [jnp.abs(y) ** 2 for y in _leaves(call(x), jnp.inexact)]
        return functools.reduce(jnp.add, [p.sum().astype(x.real.dtype) for p in parts])

    return loss


def transformations(call):
    """Functions of x, by name; the last applies all of them at once."""
    loss = _loss(call)
    gradient = jax.grad(loss)

    def tangent(f):
        return lambda x: jax.jvp(f, (x,), (x,))[1]

    def batched(f):
        return lambda x: jax.vmap(f)(jnp.stack([x, x]))

    def scanned(f):
        return lambda x: lax.scan(lambda _, x: (None, f(x)), None, x[None])[1]

    everything = jax.grad(jax.checkpoint(loss))
    return {
        "jit": call,
        "vmap": batched(call),
        "scan": scanned(call),
        "checkpoint": jax.checkpoint(call),
        "jvp": tangent(loss),
        "grad": gradient,
        "hessian": tangent(gradient),
        "all": lambda x: (call(x), scanned(batched(tangent(everything)))(x)),
    }


def _lowers(fn, x, platforms=PLATFORMS):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # second derivatives of stock maxima, on TPU
        jax.jit(fn).trace(x).lower(lowering_platforms=platforms)


def cell(name, dtype):
    """What a function can do in a dtype."""
    call = OF_INTEGERS.get(name, catalogue.CALLS[name])
    shape = catalogue.SHAPES.get(name, catalogue.SHAPE)
    with jax.enable_x64(dtype == "float64"):
        x = jax.ShapeDtypeStruct(shape, dtype)
        try:
            y = jax.eval_shape(call, x)
        except TypeError as error:
            if not str(error).startswith("`"):
                raise  # not ours, which begin with the argument's name
            return REFUSED
        if not jnp.issubdtype(dtype, jnp.inexact) or not _leaves(y, jnp.inexact):
            _lowers(call, x)
            return VALUE
        tried = transformations(call)
        try:
            _lowers(tried["all"], x)
            return ALL
        except Exception:
            return ", ".join(_broken(tried, x)) or "not all at once"


def _broken(tried, x):
    """What fails on its own, by transformation and platform."""
    for name, fn in tried.items():
        for platform in PLATFORMS:
            try:
                _lowers(fn, x, (platform,))
            except Exception as error:
                yield f"no {name} on {platform} ({type(error).__name__})"


def row(name):
    """A function's line of the table."""
    cells = [cell(name, dtype) for dtype in (*FLOATS, *OTHERS)]
    return f"| `{name}` | {' | '.join(cells)} |"


def page(rows):
    """The whole page."""
    head = f"| function | {' | '.join((*FLOATS, *OTHERS))} |"
    rule = "|---" * (1 + len(FLOATS) + len(OTHERS)) + "|"
    return TEXT + "\n".join([head, rule, *rows]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page([row(name) for name in sorted(catalogue.CALLS)]))
