"""What pools cost: the operations of their formulas, the bytes they move.

Letter: `n` the number of elements of a window, without padding.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ._check import check_choice, check_shape
from ._order import sorting_network
from ._registry import POOLS
from ._window import Padding, PerAxis, make_window


class PoolCost(NamedTuple):
    """The cost of pooling an array, as `pool_cost` counts it."""

    additions: int
    comparisons: int
    multiplications: int
    divisions: int
    exponentials: int
    bytes_read: int
    bytes_written: int
    parameters: int
    output_shape: tuple[int, ...]


def pool_cost(
    name: str,
    shape: tuple[int, ...],
    window_shape: tuple[int, ...],
    *,
    strides: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    axes: tuple[int, ...] | None = None,
    dtype: DTypeLike = jnp.float32,
) -> PoolCost:
    """Counts what a pool computes, reads and writes.

    The operations are those of the formula in the pool's docstring with its default
    options, window by window, over the elements of each: padding costs nothing. They
    are the same for every implementation, which may need fewer (windows share work)
    or more (scaling against overflow). A subtraction counts as an addition, a maximum
    of two as a comparison; a power, a root, a logarithm as an exponential; absolute
    values and signs count nothing. A multiplication and an addition are two
    operations. The median counts the comparisons of Batcher's merge-exchange network.

    Args:
      name: a key of `jaxpool.POOLS`; random pools count as what they are without a key.
      shape: the input's shape, `(*batch, *space, channels)`.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      dtype: the input's dtype, for the bytes.

    Returns:
      A named tuple of ints: `additions`, `comparisons`, `multiplications`, `divisions`
      and `exponentials` of the whole call; `bytes_read` and `bytes_written`, the input
      and the output once; `parameters`, the number of those that the mode's layer
      learns with one for all channels (0 if it learns none); and the `output_shape`.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if there is no such pool, or the window does not fit.

    Example:
      >>> import jaxpool
      >>> cost = jaxpool.pool_cost("avg", (8, 112, 112, 64), (2, 2))
      >>> cost.additions, cost.divisions, cost.output_shape
      (4816896, 1605632, (8, 56, 56, 64))
      >>> jaxpool.pool_cost("soft", (1, 2, 2, 1), (2, 2)).exponentials
      4

    References:
      The formulas are those of the pools; the network is that of Batcher, "Sorting
      Networks and Their Applications", 1968, https://doi.org/10.1145/1468075.1468121.
    """
    check_choice("name", name, tuple(POOLS))
    check_shape("shape", shape)
    window = make_window(
        shape,
        window_shape,
        strides=strides,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        axes=axes,
    )
    pool = functools.partial(
        POOLS[name],
        window_shape=window_shape,
        strides=strides,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        axes=axes,
    )
    x = jax.ShapeDtypeStruct(shape, dtype)
    y = jax.eval_shape(pool, x)
    counts = window.counts(len(shape), False)
    windows = math.prod(window.resized(shape, window.output)) // counts.size
    total = dict.fromkeys(PoolCost._fields[:5], 0)
    for n, times in zip(*np.unique(counts, return_counts=True), strict=True):
        operations = _OPERATIONS[name](int(n)) if n else {}
        for operation, count in operations.items():
            total[operation] += count * int(times) * windows
    return PoolCost(
        **total,
        bytes_read=math.prod(shape) * x.dtype.itemsize,
        bytes_written=math.prod(y.shape) * y.dtype.itemsize,
        parameters=_PARAMETERS.get(name, 0),
        output_shape=y.shape,
    )


# --- Operations of a window of n elements ---------------------------------------------


def _cost(additions=0, comparisons=0, multiplications=0, divisions=0, exponentials=0):
    return dict(
        additions=additions,
        comparisons=comparisons,
        multiplications=multiplications,
        divisions=divisions,
        exponentials=exponentials,
    )


def _detail_preserving(n):
    # The reference, the mean of v, and both sums; d, v and w of each element.
    return _cost(
        additions=4 * (n - 1) + 3 * n,
        multiplications=2 * n,
        divisions=3 + n,
        exponentials=n,
    )


def _edscw(n):
    # The mean and both sums; s of each element, and m^2.
    return _cost(
        additions=3 * (n - 1) + n,
        multiplications=4 * n + 1,
        divisions=2 + n,
        exponentials=n,
    )


def _idw(n):
    # The mean and both sums; w of each element; e.
    return _cost(
        additions=3 * (n - 1) + 2 * n,
        comparisons=n,
        multiplications=n + 1,
        divisions=2 + n,
    )


def _mixed(n):
    return _cost(additions=n, comparisons=n - 1, multiplications=2, divisions=1)


_OPERATIONS: Mapping[str, Callable[[int], dict[str, int]]] = {
    "max": lambda n: _cost(comparisons=n - 1),
    "min": lambda n: _cost(comparisons=n - 1),
    "avg": lambda n: _cost(additions=n - 1, divisions=1),
    "sum": lambda n: _cost(additions=n - 1),
    "median": lambda n: _cost(comparisons=len(sorting_network(n))),
    "soft": lambda n: _cost(
        additions=2 * (n - 1), multiplications=n, divisions=n + 1, exponentials=n
    ),
    "lp": lambda n: _cost(additions=n - 1, exponentials=n + 1),
    "gem": lambda n: _cost(
        additions=n - 1, comparisons=n, divisions=1, exponentials=n + 1
    ),
    "lse": lambda n: _cost(
        additions=n - 1, multiplications=1, divisions=n + 1, exponentials=n + 1
    ),
    "detail_preserving": _detail_preserving,
    "edscw": _edscw,
    "idw": _idw,
    "mixed": _mixed,
    "combined": lambda n: _cost(additions=n - 1, comparisons=n - 1, divisions=1),
    "random_mixed": _mixed,
    "stochastic": lambda n: _cost(
        additions=2 * (n - 1), comparisons=n, multiplications=n, divisions=1
    ),
    "random": lambda n: _cost(additions=n - 1, divisions=1),
}

# Of PowerAvgPool, GeMPool, LSEPool, DPP (its lite form) and MixedPool.
_PARAMETERS = {"lp": 1, "gem": 1, "lse": 1, "detail_preserving": 2, "mixed": 1}
