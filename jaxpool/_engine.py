"""Windows on arrays: taps, blocks, per-axis reductions, and their derivatives.

*Taps.* The `prod(window)` strided slices of the padded input, each shaped like the
output: tap `t` holds the t-th element of every window, row-major. Values are computed
from taps, tangents from blocks (see `_blocks.py`), whose transpose is a fast gradient.

*Arg-tap.* The number of the tap that an output was taken from: one byte per output, and
all that a selecting pool keeps for its derivative.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from . import _blocks as blocks
from ._lowering import Rule, per_platform, rule_of
from ._window import Window

Reducer = Callable[[Any, Any], Any]

# Most elements of a row whose sum is written out: compiling 8192 took minutes.
_LONGEST = 32


def identity(reducer: Reducer, dtype: Any) -> np.ndarray:
    """The element that leaves `reducer` (lax.add, lax.max, lax.min) unchanged."""
    if reducer is lax.add:
        return np.zeros((), dtype)
    lowest = reducer is lax.max
    if dtype == jnp.bool_:
        return np.array(not lowest)
    if jnp.issubdtype(dtype, jnp.integer):
        info = jnp.iinfo(dtype)
        return np.array(info.min if lowest else info.max, dtype)
    return np.array(-np.inf if lowest else np.inf, dtype)


def is_half(dtype: Any) -> bool:
    """Whether `dtype` is a 16-bit float."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize == 2


def widen(x: jax.Array) -> jax.Array:
    """16-bit floats as float32, in which they are accumulated."""
    return x.astype(jnp.float32) if is_half(x.dtype) else x


def pad(x: jax.Array, window: Window, value: Any) -> jax.Array:
    """Pads (or crops) the pooled axes so that the windows fit exactly."""
    config = [(lo, hi, 0) for lo, hi in window.reach]
    value = np.asarray(value, x.dtype)
    return lax.pad(x, value, window.along(x.ndim, config, (0, 0, 0)))


def taps(x: jax.Array, window: Window) -> Iterator[jax.Array]:
    """The taps of a padded input, in row-major order."""
    for offsets in np.ndindex(*window.size):
        start = [t * d for t, d in zip(offsets, window.dilation, strict=True)]
        limit = [
            a + (o - 1) * s + 1
            for a, o, s in zip(start, window.output, window.strides, strict=True)
        ]
        yield lax.slice(
            x,
            window.along(x.ndim, start, 0),
            tuple(
                n if m is None else m
                for n, m in zip(x.shape, window.along(x.ndim, limit, None), strict=True)
            ),
            window.along(x.ndim, window.strides, 1),
        )


def is_zero(tangent: Any) -> bool:
    """Whether a custom derivative is told that a tangent is 0."""
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


# --- Reductions ---------------------------------------------------------------------


def reduce(x: jax.Array, window: Window, reducer: Reducer) -> jax.Array:
    """Reduces every window by lax.add, lax.max or lax.min.

    Differentiable for lax.add; `select` differentiates the others. Sums of 16-bit
    floats are float32.
    """
    return per_platform(functools.partial(_reduce, window, reducer), x)


def _reduce(window: Window, reducer: Reducer, rule: Rule, x: jax.Array) -> jax.Array:
    if reducer is lax.add:
        return _sum(rule, x, window)
    init = identity(reducer, x.dtype)
    if rule.native:
        return _reduce_window(x, window, reducer, init)
    if rule.integer_order and is_half(x.dtype):
        y = _extremum(rule, *_as_integers(x, reducer), window, reducer)
        return _from_integers(y, x.dtype)
    return _extremum(rule, x, init, window, reducer)


def _reduce_window(x, window, reducer, init):
    ones = (1,) * x.ndim
    pads = [(lo, max(hi, 0)) for lo, hi in window.reach]
    return lax.reduce_window(
        x,
        init[()],
        reducer,
        window.along(x.ndim, window.size, 1),
        window.along(x.ndim, window.strides, 1),
        window.along(x.ndim, pads, (0, 0)),
        base_dilation=ones,
        window_dilation=window.along(x.ndim, window.dilation, 1),
    )


def _sum(rule, x, window):
    # One reduce-window per axis where windows overlap: 5x5/s1 4 against 38 ms, and its
    # transpose 4 against 30.
    if not rule.native and not window.overlapping and 1 not in window.size:
        return _disjoint_sum(x, window, rule)
    x = widen(x)
    zero = identity(lax.add, x.dtype)
    if rule.native:
        return _reduce_window(x, window, lax.add, zero)
    for one in reversed(window.split()):
        if one.taps == 1:
            (x,) = taps(pad(x, one, zero), one)
        else:
            x = _reduce_window(x, one, lax.add, zero)
    return x


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _disjoint_sum(x, window, rule):
    """Sums of disjoint windows; the gradient of a reduce-window looks at every tap.

    Forward and gradient of (8, 112, 112, 64) on 2 cores: 2x2/s2 4.5 against 13 ms,
    8x8/s8 4.6 against 216 ms (jax 0.10.2, 2026-11-25).
    """
    if window.taps <= rule.sum_taps:
        return _sum_of_taps(x, window, rule)
    if rule.sum_taps and is_half(x.dtype) and max(window.size) <= _LONGEST:
        for one in window.split():  # not widened in memory; rows are contiguous
            x = rule.keep(_sum_of_taps(x, one, rule))
        return x
    x = widen(x)
    return _reduce_window(x, window, lax.add, identity(lax.add, x.dtype))


def _sum_of_taps(x, window, rule):
    """Sums of taps in expressions of at most `rule.sum_taps` taps."""
    every = [widen(tap) for tap in taps(pad(x, window, 0), window)]
    few = rule.sum_taps
    groups = (every[i : i + few] for i in range(0, len(every), few))
    parts = [functools.reduce(jnp.add, group) for group in groups]
    if len(parts) == 1:
        return parts[0]
    return functools.reduce(jnp.add, map(rule.keep, parts))


@_disjoint_sum.defjvp
def _disjoint_sum_jvp(window, rule, primals, tangents):
    (tangent,) = tangents
    cut = widen(blocks.to_blocks(tangent, window))
    zero = np.zeros((), cut.dtype)
    parts = (
        (shift, cut if real.all() else jnp.where(real, cut, zero))
        for shift, _, real in blocks.shifts(window, tangent.ndim)
    )
    total = blocks.window_sums(parts, window, tangent.ndim)
    return _disjoint_sum(*primals, window, rule), total


def _extremum(rule, x, init, window, reducer):
    def of_taps(x, window):
        return functools.reduce(reducer, taps(pad(x, window, init), window))

    narrow = x.dtype.itemsize < 4
    if window.taps <= (rule.narrow_taps if narrow else rule.value_taps):
        return of_taps(x, window)
    # Reduce-window for 4 bytes and more, where it vectorises, and for overlap: disjoint
    # windows XLA:CPU gives to YNNPACK, which drops NaN (jaxlib 0.9.1 to 0.12).
    for one in reversed(window.split()):
        if one.overlapping and not narrow:
            x = _reduce_window(x, one, reducer, init)
        else:
            x = rule.keep(of_taps(x, one))
    return x


def _as_integers(x, reducer):
    """16-bit floats as int16 of the same order, and the integer of the identity.

    -0 equals +0, and NaN lies beyond the infinity that it has to win against.
    """
    bits = lax.bitcast_convert_type(x, jnp.int16)
    magnitude = bits & np.int16(0x7FFF)
    key = jnp.where(bits < 0, ~magnitude, magnitude)
    key = jnp.where(magnitude == 0, np.int16(0), key)
    infinity = np.array(np.inf, x.dtype).view(np.int16)
    beyond = np.int16(0x7FFF if reducer is lax.max else -0x8000)
    init = ~infinity if reducer is lax.max else infinity
    return jnp.where(magnitude > infinity, beyond, key), init


def _from_integers(key, dtype):
    bits = jnp.where(key < 0, ~key | np.int16(-0x8000), key)
    return lax.bitcast_convert_type(bits, dtype)


def keep(x: jax.Array) -> jax.Array:
    """The identity; what comes before it is not computed again in what comes after."""
    return per_platform(lambda rule, x: rule.keep(x), x)


# --- Selections: every output is one of the elements of its window --------------------


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def select(
    x: jax.Array, valid: jax.Array | None, window: Window, choose: Callable
) -> jax.Array:
    """Pools by selecting an element of every window; differentiable in x, any order.

    `choose` is lax.max, lax.min, or a function `(x, valid, window) -> y` whose values
    are elements of the windows. `valid` is a mask of x, False where an element takes no
    part; where it is None all of x takes part and, for max and min only, padding is
    told apart by itself. The derivative goes to the first valid tap that equals the
    output (or is NaN).
    """
    if choose in (lax.max, lax.min):
        return reduce(x, window, choose)
    return choose(x, valid, window)


@select.defjvp
def _select_jvp(window, choose, primals, tangents):
    x, valid = primals
    y = select(x, valid, window, choose)
    code = arg_tap(x, y, valid, window, choose)
    code = checkpoint_name(code, "pool_index")
    pick = functools.partial(_pick, window, choose)
    if (rule := rule_of(x)) is None:
        pick = functools.partial(per_platform, pick)
    else:
        # Only native derivatives look at x: elsewhere a byte per output is kept.
        x, pick = (x if rule.native else None), functools.partial(pick, rule)
    # Recomputed in the backward, which would otherwise keep the masks of all taps.
    return y, jax.checkpoint(pick, prevent_cse=False)(x, code, tangents[0])


def code_dtype(taps: int) -> Any:
    """Smallest dtype that numbers the taps of a window."""
    return np.uint8 if taps <= 256 else np.uint16 if taps <= 65536 else np.int32


def arg_tap(
    x: jax.Array, y: jax.Array, valid: jax.Array | None, window: Window, choose
) -> jax.Array:
    """Number of the first valid tap of x that is y, or the first NaN where y is NaN."""
    x, y = lax.stop_gradient((x, y))
    return per_platform(functools.partial(_arg_tap, window, choose), x, y, valid)


def _arg_tap(window, choose, rule, x, y, valid):
    separable = choose in (lax.max, lax.min)
    init = identity(choose, x.dtype) if separable else np.zeros((), x.dtype)
    if separable and rule.integer_order and is_half(x.dtype):
        (x, init), (y, _) = _as_integers(x, choose), _as_integers(y, choose)
    if not separable or window.taps <= rule.gradient_taps:
        code = _first_match(x, y, valid, window, init)
    else:
        code = _first_match_by_axis(rule, x, y, valid, window, init, choose)
    if separable and valid is None and window.padded:
        # A window of identities alone also equals its padding: skip that.
        first = window.first_inside(y.ndim).astype(code.dtype)
        code = jnp.where(y == init, first, code)
    return rule.keep(code)


def _first_match_by_axis(rule, x, y, valid, window, init, choose):
    """Rows first, then columns: the first row that holds y, and the first y in it."""
    code, inner = None, 1
    narrow = max(rule.axis_taps, rule.narrow_taps)
    beside = rule._replace(value_taps=rule.axis_taps, narrow_taps=narrow)
    outermost, *parts = window.split()
    for one in reversed(parts):
        best = _extremum(beside, x, init, one, choose)
        code = rule.keep(_first_match(x, best, valid, one, init, code, inner))
        x, inner = best, inner * one.taps
        if valid is not None:
            valid = window_any(valid, one)
    return _first_match(x, y, valid, outermost, init, code, inner)


def _first_match(x, y, valid, window, init, code=None, inner=1):
    """First tap of x that equals y; `code` numbers `inner` taps inside each of x."""
    dtype = code_dtype(window.taps * inner)
    found = jnp.zeros_like(y, dtype)
    everyone = [None] * window.taps
    codes = everyone if code is None else list(taps(pad(code, window, 0), window))
    valids = (
        everyone if valid is None else list(taps(pad(valid, window, False), window))
    )
    for t, tap in reversed(list(enumerate(taps(pad(x, window, init), window)))):
        match = (tap == y) | (tap != tap)
        if valids[t] is not None:
            match &= valids[t]
        number = np.asarray(t * inner, dtype)
        if codes[t] is not None:
            number = codes[t].astype(dtype) + number
        found = jnp.where(match, number, found)
    return found


def _pick(window, choose, rule, x, code, tangent):
    """The taps of a tangent that `code` names: linear, and fast when transposed."""
    stock = choose in (lax.max, lax.min) and set(window.dilation) == {1}
    if rule.native and stock:
        init = identity(choose, x.dtype)
        pool = functools.partial(
            _reduce_window, window=window, reducer=choose, init=init
        )
        return jax.jvp(pool, (x,), (tangent,))[1]
    dtype = tangent.dtype
    if window.overlapping:
        tangent = widen(tangent)  # gradients of overlapping windows add up
    separable = choose in (lax.max, lax.min) and window.taps > rule.gradient_taps
    parts = window.split() if separable else (window,)
    codes = _codes_per_part(rule, code, parts)
    for i in reversed(range(len(parts))):
        tangent = _pick_taps(codes[i], tangent, parts[i])
        if i > 0:
            tangent = rule.keep(tangent)
    return tangent.astype(dtype)


def _codes_per_part(rule, code, parts):
    """Splits row-major tap numbers into one arg-tap per axis.

    The one of an inner axis is needed wherever an outer one may look: at its input's
    resolution. All windows that look at the same row agree on the tap in it.
    """
    codes = []
    for i, part in enumerate(parts[:-1]):
        inner = np.asarray(math.prod(p.taps for p in parts[i + 1 :]), code.dtype)
        here = rule.keep(code // inner)
        codes.append(here)
        code = rule.keep(_spread_codes(here, code % inner, part))
    return [*codes, code]


def _hits(code, window):
    """For each shift: which elements of the blocks `code` points to."""
    extended = blocks.extend(code, window)
    for shift, number, real in blocks.shifts(window, code.ndim):
        hit = blocks.place(extended, shift, window) == number.astype(code.dtype)
        yield shift, hit if real.all() else hit & real


def _pick_taps(code, tangent, window):
    cut = blocks.to_blocks(tangent, window)
    zero = np.zeros((), tangent.dtype)
    parts = ((shift, jnp.where(hit, cut, zero)) for shift, hit in _hits(code, window))
    return blocks.window_sums(parts, window, tangent.ndim)


def _spread_codes(code, inner, window):
    """`inner`, known per output, at the input elements that `code` points to."""
    extended = blocks.extend(inner, window)
    zero = np.zeros((), inner.dtype)
    parts = (
        jnp.where(hit, blocks.place(extended, shift, window), zero)
        for shift, hit in _hits(code, window)
    )
    return blocks.from_blocks(functools.reduce(jnp.maximum, parts), window)


def flat_index(
    code: jax.Array, window: Window, valid: jax.Array | None = None
) -> jax.Array:
    """Arg-taps as int32 positions in the unpadded pooled axes, flattened row-major.

    -1 where the window has no element.
    """
    index, inside, scale = jnp.zeros_like(code, jnp.int32), True, 1
    rest = code.astype(jnp.int32)
    for one in reversed(window.split()):
        tap, rest = rest % one.taps, rest // one.taps
        start = one.outer(code.ndim, [one.positions(0)[:, 0].astype(np.int32)])
        position = start + tap * np.int32(one.dilation[0])
        inside = inside & (position >= 0) & (position < one.input[0])
        index += position * np.int32(scale)
        scale *= one.input[0]
    if valid is not None:
        inside = inside & window_any(valid, window)
    return jnp.where(inside, index, np.int32(-1))


# --- Masks ----------------------------------------------------------------------------


def spread_mask(valid: jax.Array, window: Window) -> jax.Array:
    """`valid` with its full size along the pooled axes, ready for taps."""
    return jnp.broadcast_to(valid, window.resized(valid.shape, window.input))


def without(x: jax.Array, valid: jax.Array | None) -> jax.Array:
    """x with 0 for what a mask leaves out."""
    return x if valid is None else jnp.where(valid, x, np.zeros((), x.dtype))


def window_any(valid: jax.Array, window: Window) -> jax.Array:
    """Whether each window has an element that takes part."""
    for one in reversed(window.split()):
        valid = functools.reduce(jnp.logical_or, taps(pad(valid, one, False), one))
    return valid


def window_count(valid: jax.Array, window: Window) -> jax.Array:
    """Number of elements that take part in each window, int32."""
    valid = spread_mask(valid, window)
    return reduce(valid.astype(jnp.int32), window, lax.add)


def element_count(x: jax.Array, window: Window, valid: jax.Array | None) -> jax.Array:
    """Number of elements of each window, at least 1, in x's dtype."""
    if valid is None:
        count = np.maximum(window.counts(x.ndim, False), 1)
        return jnp.asarray(count, x.dtype)
    return jnp.maximum(window_count(valid, window), 1).astype(x.dtype)


def fill_empty(
    y: jax.Array, window: Window, valid: jax.Array | None, empty: Any
) -> jax.Array:
    """Puts `empty` where a mask leaves nothing of a window, 0 where all is padding."""
    if valid is not None:
        any_valid = window_any(spread_mask(valid, window), window)
        return jnp.where(any_valid, y, np.asarray(empty, y.dtype))
    counts = window.counts(y.ndim, False)
    if counts.all():
        return y
    return jnp.where(counts > 0, y, np.zeros((), y.dtype))
