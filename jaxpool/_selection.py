"""Selections on windows: every output is one of the elements of its window.

*Arg-tap.* The number of the tap that an output was taken from: one byte per output, and
all that a selecting pool keeps for its derivative. Maxima and minima of large windows
go axis by axis, innermost first, and keep an arg-tap of each.
"""

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from . import _blocks as blocks
from . import _engine
from ._lowering import RULES, Rule, per_platform, rule_of
from ._window import Window


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
        return _engine.reduce(x, window, choose)
    return choose(x, valid, window)


@select.defjvp
def _select_jvp(window, choose, primals, tangents):
    x, valid = primals
    y = select(x, valid, window, choose)
    codes = arg_taps(x, y, valid, window, choose)
    codes = tuple(checkpoint_name(code, "pool_index") for code in codes)
    pick = functools.partial(_pick, window, choose)
    rule = rule_of(x)
    possible = RULES.values() if rule is None else [rule]
    if not any(_is_stock(rule, window, choose) for rule in possible):
        x = None  # only the stock derivative looks at it
    if rule is None:
        pick = functools.partial(per_platform, pick)
    else:
        pick = functools.partial(pick, rule)
    # Recomputed in the backward, which would otherwise keep the masks of all taps.
    return y, jax.checkpoint(pick, prevent_cse=False)(x, codes, tangents[0])


def code_dtype(taps: int) -> Any:
    """Smallest dtype that numbers the taps of a window."""
    return np.uint8 if taps <= 256 else np.uint16 if taps <= 65536 else np.int32


def _parts(rule: Rule, window: Window, choose: Callable) -> tuple[Window, ...]:
    """The windows that are searched one after the other, the last one first."""
    separable = choose in (lax.max, lax.min) and window.taps > rule.gradient_taps
    return window.split() if separable else (window,)


def _is_stock(rule: Rule, window: Window, choose: Callable) -> bool:
    """Whether the derivative is that of `reduce_window`, which knows no dilation."""
    plain = choose in (lax.max, lax.min) and set(window.dilation) == {1}
    return plain and window.taps <= rule.native_taps


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def arg_taps(
    x: jax.Array, y: jax.Array, valid: jax.Array | None, window: Window, choose
) -> tuple[jax.Array, ...]:
    """Arg-taps of each part: the first valid tap that is y, or the first NaN.

    That of an inner axis has the input's size along the axes before it: all windows
    that look at the same row agree on the tap in it. Platforms that search at once
    leave those blank.
    """
    return per_platform(functools.partial(_arg_taps, window, choose), x, y, valid)


@arg_taps.defjvp
def _arg_taps_jvp(window, choose, primals, _):
    # A rule, for all that there is no derivative: JAX would trace the search once more
    # per platform to find that out.
    codes = arg_taps(*primals, window, choose)
    return codes, tuple(np.zeros(code.shape, jax.dtypes.float0) for code in codes)


def _arg_taps(window, choose, rule, x, y, valid):
    codes = _search(window, choose, rule, x, y, valid)
    parts = max((_parts(other, window, choose) for other in RULES.values()), key=len)
    blank, blanks = lax.full_like(codes[0], 0), []
    for before, one in itertools.pairwise(parts):
        # By a pad, which keeps an explicit sharding.
        config = [(0, before.input[0] - before.output[0], 0)]
        config = before.along(blank.ndim, config, (0, 0, 0))
        blank = lax.pad(blank, np.zeros((), blank.dtype), config)
        blanks.append(blank.astype(code_dtype(one.taps)))
    return (*codes, *blanks[len(codes) - 1 :])


def _search(window, choose, rule, x, y, valid):
    """An arg-tap of each part."""
    if choose not in (lax.max, lax.min):
        return [rule.keep(_nearest_tap(rule, x, y, valid, window))]
    if rule.native:
        # Or a TPU's compiler takes y apart for every tap: 17x17 with its gradient 14 s
        # to compile, without this more than 100 (libtpu 0.0.42.1, 2026-11-28).
        y = lax.optimization_barrier(y)
    if valid is None and window.hides_edges:
        valid = lax.full_like(x, True, bool)  # where padding is, is not known
    large = window.taps > rule.value_taps
    largest, _ = _engine.comparable(rule, y, choose, large)
    x, init = _engine.comparable(rule, x, choose, large)
    outermost, *inner = _parts(rule, window, choose)
    narrow = max(rule.axis_taps, rule.narrow_taps)
    beside = rule._replace(value_taps=rule.axis_taps, narrow_taps=narrow)
    codes = []
    for one in reversed(inner):
        here = _engine.extremum(beside, x, init, one, choose)
        codes.append(_first_tap(rule, choose, x, here, valid, one, init))
        x = here
        if valid is not None:
            valid = _engine.window_any(valid, one)
    codes.append(_first_tap(rule, choose, x, largest, valid, outermost, init))
    return codes[::-1]


def _first_tap(rule, reducer, x, y, valid, window, init):
    """First tap of x that is the extremum, which y tells from padding."""
    numbers = np.arange(window.taps, dtype=code_dtype(window.taps))
    taps = _engine.taps(x, window, init, rule.pads)
    code = first(reducer, zip(numbers, taps, _masks(rule, valid, window), strict=True))
    if valid is None and window.padded:
        # A window of identities alone also equals its padding: skip that.
        inside = window.first_inside(y.ndim).astype(code.dtype)
        code = jnp.where(y == init, inside, code)
    return rule.keep(code)


def arg_tap(
    x: jax.Array, y: jax.Array, valid: jax.Array | None, window: Window, choose
) -> jax.Array:
    """Row-major number of the first valid tap of x that is y, or of the first NaN."""
    codes = arg_taps(x, y, valid, window, choose)
    return per_platform(functools.partial(_joined, window, choose), x, codes)


def _joined(window, choose, rule, _, codes):
    parts, dtype = _parts(rule, window, choose), code_dtype(window.taps)
    *outer, code = codes[: len(parts)]
    code, inner = code.astype(dtype), parts[-1].taps
    for here, one in zip(outer[::-1], parts[-2::-1], strict=True):
        named = (
            jnp.where(here == np.asarray(t, here.dtype), tap, np.zeros((), dtype))
            for t, tap in enumerate(_engine.taps(code, one, 0, rule.pads))
        )
        row = here.astype(dtype) * np.asarray(inner, dtype)
        code = row + functools.reduce(jnp.maximum, named)
        inner *= one.taps
    return code


def _nearest_tap(rule, x, y, valid, window):
    """First tap of x that is y: the nearest, if XLA rounds x differently this time."""
    numbers = np.arange(window.taps, dtype=code_dtype(window.taps))

    def far(tap):
        same, other = (tap == y) | (tap != tap), np.ones((), tap.dtype)
        if jnp.issubdtype(tap.dtype, jnp.floating):
            other = jnp.abs(tap - y)
            other = jnp.where(other < np.inf, other, np.asarray(np.inf, tap.dtype))
        return jnp.where(same, np.zeros((), tap.dtype), other)

    taps = map(far, _engine.taps(x, window, 0, rule.pads))
    return first(lax.min, zip(numbers, taps, _masks(rule, valid, window), strict=True))


def _masks(rule, valid, window):
    if valid is None:
        return [None] * window.taps
    return _engine.taps(valid, window, False, rule.pads)


def first(reducer: _engine.Reducer, terms: Iterable[tuple[Any, Any, Any]]) -> jax.Array:
    """Number of the first maximum or minimum, or first NaN, of `(number, x, valid)`.

    `valid` is None where all take part. Elements are compared with one another and not
    with an extremum known before: XLA may compute x anew for every use, as part of
    different loops, and round it differently.
    """
    # By lax: operators and `jnp.where` are traced as calls of their own.
    beats = lax.gt if reducer is lax.max else lax.lt
    terms = iter(terms)
    number, best, seen = next(terms)
    found = _filled(number, best)
    for number, x, valid in terms:
        better = beats(x, best)
        if jnp.issubdtype(x.dtype, jnp.floating):
            nan_first = lax.bitwise_and(lax.ne(x, x), lax.eq(best, best))
            better = lax.bitwise_or(better, nan_first)
        if valid is not None:
            better, seen = valid & (better | ~seen), seen | valid
        best = lax.select(better, x, best)
        found = lax.select(better, _filled(number, best), found)
    return found


def _filled(number, like):
    """`number` with the shape, and the explicit sharding, of `like`."""
    if number.shape == like.shape:
        return number
    if number.shape:
        return number + lax.full_like(like, 0, number.dtype)
    return lax.full_like(like, number, number.dtype)


def _pick(window, choose, rule, x, codes, tangent):
    """The taps of a tangent that `codes` name: linear, and fast when transposed."""
    if _is_stock(rule, window, choose):
        init = _engine.identity(choose, x.dtype)
        pool = functools.partial(
            _engine.reduce_window, window=window, reducer=choose, init=init
        )
        return jax.jvp(pool, (x,), (tangent,))[1]
    dtype = tangent.dtype
    if window.overlapping:
        tangent = _engine.widen(tangent)  # gradients of overlapping windows add up
    parts = _parts(rule, window, choose)
    for i in reversed(range(len(parts))):
        tangent = pick_taps(codes[i], tangent, parts[i], rule.pads)
        if i > 0:
            tangent = rule.keep(tangent)
    return tangent.astype(dtype)


def _hits(code, window, pads):
    """For each shift: which elements of the blocks `code` points to."""
    place = blocks.placing(code, window, pads=pads)
    for shift, number, real in blocks.shifts(window, code.ndim):
        hit = place(shift) == number.astype(code.dtype)
        yield shift, hit if real.all() else hit & real


def pick_taps(
    code: jax.Array, tangent: jax.Array, window: Window, pads: bool = False
) -> jax.Array:
    """The tap of each window that `code` names; its transpose is a fast gradient."""
    cut = blocks.to_blocks(tangent, window)
    zero, hits = np.zeros((), tangent.dtype), _hits(code, window, pads)
    parts = ((shift, jnp.where(hit, cut, zero)) for shift, hit in hits)
    return blocks.window_sums(parts, window, tangent.ndim, pads)


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
        inside = inside & _engine.window_any(valid, window)
    return jnp.where(inside, index, np.int32(-1))
