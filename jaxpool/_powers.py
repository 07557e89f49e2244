"""Window sums of exponentials and of powers, at any magnitude.

Each window is scaled by its own maximum, so that nothing overflows, and nothing that
counts vanishes. Axis by axis where windows are large and overlap: the sum of a window
follows from the sums and maxima of its rows.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from . import _engine
from ._tap_sum import passes, tap_sum


def exponential_sums(x, window, moment=True):
    """`(m, z, n)`: the maximum, `z = sum exp(x - m)`, `n = sum (x - m) exp(x - m)`.

    `m` counts as a constant: what is made of the three does not depend on it. Without
    `moment` only `(m, z)`.
    """
    state = [x]
    for part in passes(window):
        level = lax.stop_gradient(_engine.reduce(state[0], part, lax.max))
        _, m = finite_part(level)
        fills = (-np.inf, 0, 0)[: len(state)]
        z = tap_sum(_total, part, fills, tuple(state), (m,))
        sums = [_engine.keep(z)]
        if moment:
            # Another m: sharing the exponentials would store them for every tap.
            n = tap_sum(_moment, part, fills, tuple(state), (_engine.keep(m),))
            sums.append(_engine.keep(n))
        state = [level, *sums]
    return state


def finite_part(level):
    """Whether a maximum is finite, and the maximum with 0 where it is not."""
    finite = jnp.isfinite(level)
    return finite, jnp.where(finite, level, np.zeros((), level.dtype))


def _total(level, *rest):
    z, m = (1, *rest) if len(rest) == 1 else (rest[0], rest[-1])
    return z * jnp.exp(_below(level, m))


def _moment(level, *rest):
    z, n, m = (1, 0, *rest) if len(rest) == 1 else rest
    d = _below(level, m)
    return jnp.exp(d) * (n + d * z)


def _below(level, m):
    # exp(-104) is 0 in float32, exp(-746) in float64: what lies lower has weight 0.
    lowest = np.asarray(-104 if level.dtype == jnp.float32 else -746, level.dtype)
    return jnp.maximum(level - m, lowest)


def norm(magnitude, window, p, count: Any = 1):
    """`(sum |x|^p / count)^(1/p) = m (sum (|x| / m)^p / count)^(1/p)` of `|x|`.

    `m`, the maximum, counts as a constant, since the norm does not depend on it.
    """
    state = [magnitude]
    for part in passes(window):
        level = lax.stop_gradient(_engine.reduce(state[0], part, lax.max))
        level = at_least_0(level)
        power = _power if len(state) == 1 else _power_times
        outputs = (_scale(level), p)
        total = tap_sum(power, part, (0, 0)[: len(state)], tuple(state), outputs)
        state = [level, _engine.keep(total)]
    level, total = state
    scaled, one = (level > 0) & (level < np.inf), np.ones((), level.dtype)
    root = _scale(level) * jnp.where(scaled, total / count, one) ** (one / p)
    return jnp.where(scaled, root, level)


def _scale(level):
    return jnp.where((level > 0) & (level < np.inf), level, np.ones((), level.dtype))


def at_least_0(level):
    """A maximum of magnitudes: 0 where all is padding."""
    return jnp.maximum(level, np.zeros((), level.dtype))


def _power_times(x, total, m, p):
    return _power(x, m, p) * total


def _power(x, m, p):
    positive = x > 0
    ratio = jnp.where(positive, x / m, np.ones((), x.dtype))
    return jnp.where(positive, ratio**p, np.zeros((), x.dtype))
