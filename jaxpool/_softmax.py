"""Softmax means of windows, axis by axis, with fast exact derivatives.

A window, or a part of it, is known by three numbers: the largest logit `m`,
`z = sum exp(logit - m)`, and the mean `c` of the values with the weights
`softmax(logits)`. Nothing overflows, and nothing that counts vanishes. Those of a
window follow from those of its rows `i`, and of these from the elements, which have
`z[i] = 1`:

    z = sum_i e[i] z[i]    c = sum_i e[i] z[i] c[i] / z    with  e[i] = exp(m[i] - m)

The derivatives are `dz = sum_i e[i] dz[i]` and
`dc = sum_i e[i] (z[i] dc[i] + (c[i] - c) dz[i]) / z`: `m` counts as a constant, except
that a logit `l` moves its own `z` by `dl`.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from . import _blocks as blocks
from . import _engine
from ._check import check_empty
from ._tap_sum import passes
from ._window import Window


class _Parts(NamedTuple):
    """What is known of the parts of windows. If m is not finite, z is 1 and c is 0."""

    level: Any  # m
    z: Any  # None: 1
    mean: Any  # c; None: the level itself


def softmax_mean(
    logits: jax.Array, values: jax.Array | None, window: Window
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`(m, z, c)` of every window; a logit of -inf leaves its element out.

    Without `values` these are the logits themselves, and c is relative to the level:
    `m + c` is the mean, and c is precise where all logits are large.
    """
    parts = _Parts(logits, None, values)
    for one in passes(window):
        level, z, mean = _pool(one, values is None, *parts)
        parts = _Parts(lax.stop_gradient(level), z, mean)
    return parts.level, parts.z, parts.mean


def softmax_average(
    x: jax.Array,
    logits: jax.Array,
    window: Window,
    valid: jax.Array | None,
    empty: float = 0.0,
) -> jax.Array:
    """`sum exp(l) x / sum exp(l)` of every window; `empty` where all l are -inf."""
    logits = _engine.spread_mask(logits, window)
    # Neither NaN nor an infinity takes part with a weight of 0.
    x = _engine.without(_engine.without(x, ~jnp.isneginf(logits)), valid)
    if valid is not None:
        logits = jnp.where(valid, logits, np.asarray(-np.inf, x.dtype))
    level, _, mean = softmax_mean(logits, x, window)
    mean = jnp.where(jnp.isfinite(level), mean, np.asarray(np.nan, x.dtype))
    return jnp.where(jnp.isneginf(level), check_empty(empty, x.dtype), mean)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _pool(window, relative, level, z, mean):
    m = _engine.keep(_engine.reduce(lax.stop_gradient(level), window, lax.max))
    parts, one, zero = _Parts(level, z, mean), np.ones((), m.dtype), blocks.zero(m)
    total = _window_sum(_weight, parts, m, window)
    weighted = _window_sum(
        lambda part, m: (
            _weight(part, m) * _value(part, _below(part.level, m), relative)
        ),
        parts,
        m,
        window,
    )
    some = total > 0
    c = _engine.keep(jnp.where(some, weighted / jnp.where(some, total, one), zero))
    # Another m: sharing the exponentials would store them for every tap. Not so in c,
    # whose two sums are one loop.
    again = _window_sum(_weight, parts, _engine.keep(m), window)
    return m, _engine.keep(jnp.where(again > 0, again, one)), c


@functools.partial(_pool.defjvp, symbolic_zeros=True)
def _pool_jvp(window, relative, primals, tangents):
    top, z, c = _pool(window, relative, *primals)
    dz, dmean = _moving(*tangents[:2]), _moving(tangents[2])
    # Recomputed in the backward, which would otherwise keep the weights of all taps.
    tangent = functools.partial(_tangent, window, relative)
    tangent = jax.checkpoint(tangent, prevent_cse=False)
    dz, dc = tangent(_Parts(*primals), _Parts(top, z, c), dz, dmean)
    return (top, z, c), (jnp.zeros_like(top), dz, dc)


def _moving(*tangents):
    """The tangent that is not 0, if there is one."""
    some = [t for t in tangents if t is not None and not _engine.is_zero(t)]
    return some[0] if some else None


def _weight(part, m):
    """`e z`, with `e = exp(level - m)`."""
    e = jnp.exp(_below(part.level, m))
    return e if part.z is None else e * part.z


def _value(part, below, relative):
    """The mean of a part; relative to that of the window if so `below` it."""
    if not relative:
        return part.mean
    return below if part.mean is None else below + part.mean


def _below(level, m):
    # exp(-104) is 0 in float32, exp(-746) in float64: what lies lower has weight 0. A
    # finite m, so that -inf has weight 0 in a window of nothing else, too.
    lowest = np.asarray(-104 if level.dtype == jnp.float32 else -746, level.dtype)
    m = jnp.maximum(m, np.asarray(jnp.finfo(m.dtype).min, m.dtype))
    # Only where there is no output, and m is 0, is a level above it.
    return jnp.maximum(jnp.where(level > m, blocks.zero(m), level - m), lowest)


_FILLS = _Parts(-np.inf, 0, 0)  # in padding


def _map(fn, parts, *more):
    """Maps what there is of the parts."""
    each = zip(parts, *more, strict=True)
    return _Parts(*(None if x is None else fn(x, *rest) for x, *rest in each))


def _window_sum(term, parts, m, window):
    """`sum term(part, m)` over the parts of every window."""

    def tapped(x, fill):
        return list(_engine.taps(x, window, fill))

    taps = _map(tapped, parts, _FILLS)
    each = (_map(lambda t, i=i: t[i], taps) for i in range(window.taps))
    return functools.reduce(jnp.add, (term(part, m) for part in each))


def _tangent(window, relative, parts, outputs, dz, dmean):
    """`dz` and `dc` of every window, by blocks."""
    ndim, (m, z, c) = parts.level.ndim, outputs
    here = _map(lambda x, fill: blocks.to_blocks(x, window, fill), parts, _FILLS)

    def sums(term, tangent, m, *outputs):
        """`sum e term(..) tangent`, 0 for a tangent of None."""
        if tangent is None:
            return jnp.zeros_like(z)
        places = [blocks.placing(y, window, keep=_engine.keep) for y in (m, *outputs)]
        tangent = blocks.to_blocks(tangent, window)

        def at(shift, real):
            m, *rest = (place(shift) for place in places)
            level = here.level
            if not real.all():
                level = jnp.where(real, level, np.asarray(-np.inf, level.dtype))
            below = _below(level, m)
            return jnp.exp(below) * term(below, *rest) * tangent

        shifts = blocks.shifts(window, ndim)
        terms = ((shift, at(shift, real)) for shift, _, real in shifts)
        # Kept for its transpose: as part of a pad its cotangent would not vectorise.
        return blocks.window_sums(terms, window, ndim, keep=_engine.keep)

    one = np.ones((), m.dtype)
    logits_are_values = relative and here.mean is None

    def slope(below, c):
        value = _value(here, below, relative) - c
        return value + one if logits_are_values else value

    # Another m for dmean: what is shared by the derivatives of two arrays would be
    # stored for every shift.
    by_mean = sums(lambda _: one if here.z is None else here.z, dmean, _engine.keep(m))
    dc = (sums(slope, dz, m, c) + by_mean) / z
    return sums(lambda _: one, dz, m), dc
