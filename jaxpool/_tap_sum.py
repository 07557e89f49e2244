"""Sums over windows of a function of their elements, with fast exact derivatives."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from . import _blocks as blocks
from . import _engine
from ._window import Window


def passes(window: Window) -> tuple[Window, ...]:
    """The window in as many steps as cost least: at once if it is small, or by axis."""
    if window.taps <= 9 or not window.overlapping:
        return (window,)
    return tuple(reversed(window.split()))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def tap_sum(
    fn: Callable, window: Window, fills: tuple, inputs: tuple, outputs: tuple
) -> jax.Array:
    """`sum_t fn(*inputs[t], *outputs)` over the taps t of every window.

    `inputs` are shaped like the pool's input and `outputs` like its output, or with
    size 1 instead of any axis of it; `fn` works elementwise. In padding the inputs are
    `fills`, and outputs that do not exist are 1: `fn` must be 0 there, and its
    derivative too.
    """
    return _sum_of_taps(fn, window, fills, inputs, outputs)


def _sum_of_taps(fn, window, fills, inputs, outputs):
    each = zip(inputs, fills, strict=True)
    every = zip(*(_engine.taps(x, window, fill) for x, fill in each), strict=True)
    terms = (fn(*tapped, *outputs) for tapped in every)
    return functools.reduce(jnp.add, terms)


@functools.partial(tap_sum.defjvp, symbolic_zeros=True)
def _tap_sum_jvp(fn, window, fills, primals, tangents):
    inputs, outputs = primals
    total = tap_sum(fn, window, fills, inputs, outputs)
    tangent = jnp.zeros_like(total)
    # Tangents of the inputs go through blocks, whose transpose is fast; those of the
    # outputs are already in place.
    for values, by in zip(tangents, (_block_tangent, _tap_tangent), strict=True):
        moving = tuple(i for i, t in enumerate(values) if not _engine.is_zero(t))
        if moving:
            part = functools.partial(by, fn, window, fills, moving)
            part = jax.checkpoint(part, prevent_cse=False)
            tangent += part(inputs, outputs, tuple(values[i] for i in moving))
        # Others for the next sum: what two sums share would be stored for every tap.
        outputs = tuple(_engine.keep(_engine.keep(y)) for y in outputs)
    return total, tangent


def _replace(values, where, new):
    values = list(values)
    for i, value in zip(where, new, strict=True):
        values[i] = value
    return values


def _tap_tangent(fn, window, fills, moving, inputs, outputs, tangents):
    count = len(inputs)

    def linear(*args):
        fixed, tangents = args[: -len(moving)], args[-len(moving) :]
        tapped, outputs = fixed[:count], fixed[count:]
        return jax.jvp(
            lambda *moved: fn(*tapped, *_replace(outputs, moving, moved)),
            tuple(outputs[i] for i in moving),
            tangents,
        )[1]

    return _sum_of_taps(linear, window, fills, inputs, (*outputs, *tangents))


def _block_tangent(fn, window, fills, moving, inputs, outputs, tangents):
    ndim = inputs[0].ndim
    cut = [blocks.to_blocks(x, window, f) for x, f in zip(inputs, fills, strict=True)]
    tangents = tuple(blocks.to_blocks(t, window) for t in tangents)
    placed_at = [blocks.placing(y, window, 1) for y in outputs]

    def at(shift, real):
        placed = [place(shift) for place in placed_at]
        here = cut
        if not (real := real & blocks.occupied(shift, window, ndim)).all():
            here = [
                jnp.where(real, x, np.asarray(fill, x.dtype))
                for x, fill in zip(cut, fills, strict=True)
            ]
        return jax.jvp(
            lambda *moved: fn(*_replace(here, moving, moved), *placed),
            tuple(here[i] for i in moving),
            tangents,
        )[1]

    parts = ((shift, at(shift, real)) for shift, _, real in blocks.shifts(window, ndim))
    return blocks.window_sums(parts, window, ndim)
