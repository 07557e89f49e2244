"""Which implementation each platform gets: the one file that names a platform.

A `Rule` holds the choices; the engine is written once, with the rule as an argument.
Adding a platform is adding a row to `RULES`, but for GPUs: arrays on them do not tell
CUDA from ROCm, so these share a row.

Figures: jax 0.10.2, 2 cores, float32, NHWC, 2026-11-25, medians in ms, unless said
otherwise. The table behind them is printed by `benchmarks/core.py`.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._blocks import Pads, padded


class Rule(NamedTuple):
    """How windows are computed on a platform."""

    # Stock `reduce_window` for windows of up to `value_taps` elements.
    native: bool
    # The same for the maximum of windows that overlap along one axis: 3/s2 SAME of
    # (16, 4096, 128) 3.3, by taps 12 (2026-11-27).
    native_axis: bool
    # Largest window whose maximum has the stock derivative, `select_and_scatter`, which
    # takes a TPU's compiler the longer the more taps it has. (8, 56, 56, 128) with its
    # gradient for a v5e, float32 and bfloat16: 5x5/s1 13 and 16 s, by axis 1.3 and 1.7;
    # 13x13/s1 100 and 129 s, by axis 2.6 and 2.7, with 1.1 and 1.5 times the bytes
    # (libtpu 0.0.42.1, 2026-11-28).
    native_taps: int
    # Materialises its argument, padded if so asked: keeps the passes before and after
    # it apart.
    keep: Callable[..., jax.Array]
    # Whether each shift of an array is a pad of it, not a slice of one padded array.
    # 3x3/s2 by the compiler for an H100: 28 loads against 53, 461 instructions against
    # 646; 3x3/s1 with its gradient 2 kernels against 3; of an axis split over devices
    # only borders travel. On CPU pads do not vectorise: the gradient of 3x3/s2 takes 40
    # ms by pads, 3.9 by slices (2026-11-27).
    pads: bool
    # Largest window whose maximum is one expression over its taps; larger ones go axis
    # by axis. 3x3/s2 SAME with its gradient: 12.7 at once, 24.8 by axis. On a TPU,
    # largest window of one reduce-window, which compiles the longer the larger it is:
    # 17x17/s1 float32 11 s, bfloat16 more than 100, by axis with the gradient 4.5;
    # average of 31x31/s1 with its gradient 73 s, by axis 2.2 and 1.2 times the bytes.
    value_taps: int
    # The same below 4 bytes and for integers, where taps vectorise and reduce-window
    # does not: 5x5/s1 of bfloat16 3.1 by taps, 24.3 by reduce-window and axis.
    narrow_taps: int
    # Largest window whose arg-tap and gradient are one expression: 5x5/s1 33 at once,
    # 65 by axis.
    gradient_taps: int
    # The same along one axis, for the maximum whose arg-tap is taken beside it.
    axis_taps: int
    # Longest axis along which a maximum is one reduce-window; longer ones are maxima of
    # maxima: 31x31/s1 10 by 7 and 5 taps along each axis, 19 to 34 by 31; 13x13/s1 9.9
    # and 12.7 (2026-11-28). Not below 4 bytes: 13x13/s1 of bfloat16 7.2 and 4.9. 0:
    # never; not timed on a GPU.
    axis_values: int
    # Most taps of a disjoint window that are summed in one expression, and of a row of
    # bfloat16, which reduce-window would first copy as float32; 0: reduce-window.
    # (8, 112, 112, 64) 2x2/s2: 1.2 by taps, 2.0 by reduce-window; bfloat16 0.9 and 3.5;
    # (8, 224, 224, 64) 32x32/s32 bfloat16: 5.8 by rows of 8 taps, 8.5 of 4, 42 of 16,
    # 15 by reduce-window (2026-11-26). Also of an axis of overlapping windows: 3x3/s2
    # of bfloat16 with its gradient 9.3, 26 by reduce-window; (16, 4096, 128) 3/s2 of
    # bfloat16 6.7 and 31, of float32 16 and 19 (2026-11-27).
    sum_taps: int
    # Whether floats are compared as integers: of 16 bits, and of 32 in windows above
    # `value_taps`. (4, 80, 80, 128) float32 with its gradient, sum of the loops: 5x5/s1
    # 16, 24 as floats; 31x31/s1 76 and 111 (2026-11-27).
    integer_order: bool
    # Whether scatter-add applies updates in order: the same bits on every run.
    ordered_scatter: bool


def _keep_cpu(x: jax.Array, pads: Pads | None = None) -> jax.Array:
    """The identity, as a reduce-window that sums each element with padding alone.

    XLA:CPU drops `optimization_barrier` before it fuses (jaxlib <= 0.11), and then
    recomputes an arg-tap in every tap of the backward; no fusion crosses a
    reduce-window. Its window is dilated past a new axis of size 1, so that it costs one
    read and one write, is its own transpose, and never meets a sharded axis. Padding it
    costs no pass of its own.
    """
    if x.dtype == jnp.bool_:
        return _keep_cpu(x.astype(jnp.uint8), pads).astype(jnp.bool_)
    *outer, last = pads or [(0, 0)] * x.ndim
    x = jnp.expand_dims(x, -2)
    ones, two = (1,) * x.ndim, (*(1,) * (x.ndim - 2), 2, 1)
    all_pads, zero = [*outer, (0, 2), last], np.zeros((), x.dtype)
    x = lax.reduce_window(x, zero, lax.add, two, ones, all_pads, window_dilation=two)
    return jnp.squeeze(x, -2)


def _keep_by_barrier(x: jax.Array, pads: Pads | None = None) -> jax.Array:
    return lax.optimization_barrier(padded(x, pads))


RULES: dict[str, Rule] = {
    "tpu": Rule(
        native=True,
        native_axis=True,
        native_taps=27,
        keep=padded,
        pads=False,
        value_taps=169,
        narrow_taps=169,
        gradient_taps=9,
        axis_taps=32,
        axis_values=0,
        sum_taps=0,
        integer_order=False,
        ordered_scatter=True,
    ),
    "cpu": Rule(
        native=False,
        native_axis=True,
        native_taps=0,
        keep=_keep_cpu,
        pads=False,
        value_taps=9,
        narrow_taps=32,
        gradient_taps=32,
        axis_taps=9,
        axis_values=8,
        sum_taps=8,
        integer_order=True,
        ordered_scatter=True,
    ),
    # One kernel may look at 9 taps; more cost it more than another pass over the data.
    # An H200 (jax 0.11.2, 2026-11-26), (64, 80, 80, 128) float32, 5x5/s1: maximum 0.70
    # ms at once, 0.31 by axis; with its gradient 2.79 and 1.61 (stock 1.80). 31x31/s1
    # with its gradient: 13.2 with all taps of an axis beside the arg-tap, else 17.0.
    "default": Rule(
        native=False,
        native_axis=False,
        native_taps=0,
        keep=_keep_by_barrier,
        pads=True,
        value_taps=9,
        narrow_taps=9,
        gradient_taps=9,
        axis_taps=32,
        axis_values=0,
        sum_taps=0,
        integer_order=False,
        ordered_scatter=False,
    ),
}

# Of each thread its own: one may trace for a platform while another computes.
_forced: contextvars.ContextVar[Rule | None] = contextvars.ContextVar(
    "forced", default=None
)


def force(platform: str) -> contextlib.AbstractContextManager[None]:
    """Use the rule of `platform` whatever the device: for tests and benchmarks."""
    return _force(RULES[platform])


@contextlib.contextmanager
def _force(rule: Rule) -> Iterator[None]:
    before = _forced.set(rule)
    try:
        yield
    finally:
        _forced.reset(before)


def rule_of(x: Any) -> Rule | None:
    """The rule for `x` if that is known now: forced, or `x` is on a device."""
    if (rule := _forced.get()) is not None:
        return rule
    try:
        (platform,) = {device.platform for device in x.devices()}
    except (AttributeError, ValueError, jax.errors.ConcretizationTypeError):
        return None  # traced: the platform is known when it is lowered
    return RULES.get(platform, RULES["default"])


def per_platform(fn: Callable[..., Any], x: Any, *args: Any) -> Any:
    """`fn(rule, x, *args)` with the rule of the platform that it is lowered for."""
    if (rule := rule_of(x)) is not None:
        return fn(rule, x, *args)

    def under(rule, *args):
        with _force(rule):  # decided: also for what `fn` asks in its turn
            return fn(rule, *args)

    rules = {name: functools.partial(under, rule) for name, rule in RULES.items()}
    return lax.platform_dependent(x, *args, **rules)
