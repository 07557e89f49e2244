"""Window geometry: which input elements each output sees.

Everything here is static: Python ints and NumPy arrays, never traced values. It is the
one place that canonicalises window arguments, and the one place that raises about them.

Letters: `n` input size, `o` output size, `k` window size, `s` stride, `d` dilation,
`lo`/`hi` padding, `ke = d * (k - 1) + 1` the extent of a dilated window; one of each
per pooled axis.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

import jax
import numpy as np
from jax.typing import ArrayLike

from ._check import as_int, canonical_axes, check_bool, check_shape, per_axis

Padding = (
    Literal["VALID", "SAME", "SAME_LOWER"]
    | int
    | tuple[int, ...]
    | tuple[tuple[int, int], ...]
)
PerAxis = int | tuple[int, ...]


class PoolOptions(TypedDict, total=False):
    """The keyword arguments that every windowed pool has."""

    strides: PerAxis | None
    padding: Padding
    dilation: PerAxis
    ceil_mode: bool
    axes: tuple[int, ...] | None
    where: ArrayLike | None
    empty: float


_NAMED_PADDING = ("VALID", "SAME", "SAME_LOWER")


@dataclasses.dataclass(frozen=True)
class Window:
    """A window sliding over axes of an array; a field has one entry per axis."""

    axes: tuple[int, ...]  # negative and ascending, so that vmap composes
    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]  # as asked for: what an average may count
    input: tuple[int, ...]
    output: tuple[int, ...]

    @property
    def taps(self) -> int:
        """Number of positions in a window."""
        return math.prod(self.size)

    @property
    def extent(self) -> tuple[int, ...]:
        """Input positions from a window's first tap to its last, `ke`."""
        return tuple(
            d * (k - 1) + 1 for k, d in zip(self.size, self.dilation, strict=True)
        )

    @property
    def reach(self) -> tuple[tuple[int, int], ...]:
        """Padding that makes the windows fit exactly.

        The high side includes a ceil-mode overhang, and is negative where the last
        window ends before the input does.
        """
        return tuple(
            (lo, (o - 1) * s + ke - n - lo)
            for (lo, _), o, s, ke, n in zip(
                self.padding,
                self.output,
                self.strides,
                self.extent,
                self.input,
                strict=True,
            )
        )

    @property
    def padded(self) -> bool:
        """Whether some window reaches outside the input."""
        return any(map(self._reaches_outside, self._n))

    def _reaches_outside(self, i: int) -> bool:
        return any(pad > 0 for pad in self.reach[i])

    @property
    def overlapping(self) -> bool:
        """Whether some input element lies in the extent of more than one window."""
        return any(ke > s for ke, s in zip(self.extent, self.strides, strict=True))

    def split(self) -> tuple["Window", ...]:
        """The same window as one window per axis, outermost axis first."""
        names = [field.name for field in dataclasses.fields(self)]
        return tuple(
            Window(*((getattr(self, name)[i],) for name in names)) for i in self._n
        )

    def in_two(self) -> tuple["Window", ...]:
        """A window of one axis as two, of fewer taps together: for maxima of maxima.

        Those of `a` neighbours, then of `b` of these, spaced so that they overlap or
        touch. The first takes what padding it reaches, so that none of its windows
        looks at padding alone. Itself where the windows are strided or dilated.
        """
        (k,), ((lo, hi),), (n,) = self.size, self.padding, self.input
        b = round(k**0.5)
        spacing = k // b
        a = k - (b - 1) * spacing
        if self.strides + self.dilation != (1, 1) or a == 1:
            return (self,)
        inner = min(lo, a - 1), min(hi, a - 1)
        m = n + sum(inner) - a + 1
        first = dataclasses.replace(self, size=(a,), padding=(inner,), output=(m,))
        outer = lo - inner[0], hi - inner[1]
        return first, dataclasses.replace(
            self, size=(b,), dilation=(spacing,), padding=(outer,), input=(m,)
        )

    def along(self, ndim: int, values: Sequence[Any], other: Any) -> tuple[Any, ...]:
        """`values` at the pooled axes of an array of `ndim` axes, `other` elsewhere."""
        full = [other] * ndim
        for axis, value in zip(self.axes, values, strict=True):
            full[axis] = value
        return tuple(full)

    def resized(self, shape: Sequence[int], sizes: Sequence[int]) -> tuple[int, ...]:
        """`shape` with other sizes along the pooled axes."""
        shape = list(shape)
        for axis, n in zip(self.axes, sizes, strict=True):
            shape[axis] = n
        return tuple(shape)

    def outer(self, ndim: int, vectors: Sequence[np.ndarray], combine=np.multiply):
        """Outer combination of a vector per axis, shaped to broadcast over an array."""
        shaped = (
            vector.reshape(self.along(ndim, [-1 if j == i else 1 for j in self._n], 1))
            for i, vector in enumerate(vectors)
        )
        return functools.reduce(combine, shaped)

    @property
    def _n(self) -> range:
        return range(len(self.axes))

    def positions(self, i: int) -> np.ndarray:
        """Input position of each (output, tap) of axis i; outside [0, n) in padding."""
        self.check_static(i)
        start = np.arange(self.output[i]) * self.strides[i] - self.padding[i][0]
        return start[:, None] + np.arange(self.size[i]) * self.dilation[i]

    @property
    def static(self) -> bool:
        """Whether all sizes are known; symbolic ones are not."""
        return all(map(_static, self.input))

    @property
    def hides_edges(self) -> bool:
        """Whether windows reach outside an input whose size is not known."""
        return self.padded and not self.static

    def check_static(self, i: int) -> None:
        """Raises where the size of axis i has to be known."""
        if not _static(self.input[i]):
            raise ValueError(
                f"`x` must have a static size along axis {self.axes[i]} here, where "
                f"windows at its edges are told from the others, got the symbolic "
                f"{self.input[i]}: fix it, pool without padding or leave the gradient"
            )

    def inside(self, i: int) -> np.ndarray:
        """Whether each (output, tap) of axis i is an input element."""
        positions = self.positions(i)
        return (positions >= 0) & (positions < self.input[i])

    def counts(self, ndim: int, include_padding: bool) -> np.ndarray:
        """Elements per window, `(*output)` broadcastable to `ndim` axes.

        `include_padding` counts the padding that was asked for, never the overhang that
        ceil mode adds beyond it.
        """
        vectors = []
        for i in self._n:
            # A stride of 1 has no overhang: all padding was asked for.
            all_count = include_padding or not self._reaches_outside(i)
            if all_count and not _static(self.input[i]):
                vectors.append(np.full(1, self.size[i]))
                continue
            lo, hi = self.padding[i] if include_padding else (0, 0)
            positions = self.positions(i)
            counted = (positions >= -lo) & (positions < self.input[i] + hi)
            vectors.append(counted.sum(axis=1))
        return self.outer(ndim, vectors)

    def windows_per_element(self, ndim: int) -> np.ndarray:
        """How many windows each input element is in, broadcastable to `ndim` axes."""
        vectors = []
        for i, n in enumerate(self.input):
            positions = self.positions(i)[self.inside(i)]
            vectors.append(np.bincount(positions, minlength=n))
        return self.outer(ndim, vectors)

    def first_inside(self, ndim: int) -> np.ndarray:
        """Row-major number of each window's first tap that is an input element.

        0 for a window wholly in padding.
        """
        number = np.zeros((), np.int64)
        for i in self._n:
            first = self.inside(i).argmax(axis=1)
            shape = self.along(ndim, [-1 if j == i else 1 for j in self._n], 1)
            number = number * self.size[i] + first.reshape(shape)
        return number


def make_window(
    shape: Sequence[int],
    window_shape: tuple[int, ...],
    *,
    strides: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    axes: Sequence[int] | None = None,
) -> Window:
    """Canonicalise window arguments for an array of `shape`, or say what is wrong."""
    shape = tuple(shape)
    size = _check_window_shape(shape, window_shape, axes)
    count = len(size)
    if axes is None:
        axes = tuple(range(-count - 1, -1))
    axes = canonical_axes(shape, axes, count, "window_shape")
    strides = per_axis("strides", size if strides is None else strides, count, 1)
    dilation = per_axis("dilation", dilation, count, 1)
    check_bool("ceil_mode", ceil_mode)
    pads = _check_padding(padding, count)

    order = sorted(range(count), key=lambda i: axes[i])
    fields = []
    for i in order:
        n, k, s, d = shape[axes[i]], size[i], strides[i], dilation[i]
        if s > 1 and not _static(n):
            raise ValueError(
                f"`x` must have a static size along axis {axes[i]}, which is pooled "
                f"with stride {s}, got the symbolic {n} in shape {tuple(shape)}"
            )
        lo, hi = _same_padding(n, k, s, d, pads) if isinstance(pads, str) else pads[i]
        o = _output_size(n, d * (k - 1) + 1, s, lo, hi, ceil_mode)
        if not _static(n):
            _check_room(n, o, axes[i])
        elif o < 1:
            raise ValueError(
                f"`window_shape` {tuple(size)} with strides {strides}, padding "
                f"{padding!r} and dilation {dilation} must fit into x with shape "
                f"{shape}, got no output along axis {axes[i]}: its size is {n} and the "
                f"window spans {d * (k - 1) + 1}"
            )
        fields.append((axes[i], k, s, d, (lo, hi), n, o))
    return Window(*zip(*fields, strict=True))


def pool_output_shape(
    shape: Sequence[int],
    window_shape: tuple[int, ...],
    *,
    strides: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    axes: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """Shape of the output of a windowed pool.

    Per pooled axis, with `ke = dilation * (k - 1) + 1`:
    `floor((n + lo + hi - ke) / stride) + 1`; with `ceil_mode` the floor becomes a ceil
    and the last window is dropped if it would start in the high padding (PyTorch's
    rule); `"SAME"` gives `ceil(n / stride)`.

    Args:
      shape: shape of the input, `(*batch, *space, channels)`.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept.
      axes: the pooled axes; by default those right before the last.

    Returns:
      The output's shape, a tuple of ints as long as `shape`.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if its value is out of range, or the output would be empty.

    Example:
      >>> import jaxpool
      >>> jaxpool.pool_output_shape((8, 7, 7, 3), (2, 2), strides=3, ceil_mode=True)
      (8, 3, 3, 3)

    References:
      PyTorch, `torch.nn.MaxPool2d`,
      https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html
    """
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
    return window.resized(shape, window.output)


def _check_window_shape(shape, window_shape, axes) -> tuple[int, ...]:
    if isinstance(window_shape, (int, np.integer)):
        k = int(window_shape)
        raise TypeError(
            "`window_shape` must be a tuple with one int per pooled axis, got the int "
            f"{k}: write ({k}, {k}) to pool two axes"
        )
    if isinstance(window_shape, str) or not isinstance(window_shape, Sequence):
        raise TypeError(
            "`window_shape` must be a tuple with one int per pooled axis, got "
            f"{window_shape!r}"
        )
    size = tuple(as_int("window_shape", k) for k in window_shape)
    if not size:
        raise ValueError("`window_shape` must have at least one int, got ()")
    if any(k < 1 for k in size):
        raise ValueError(f"`window_shape` must be at least 1, got {size}")
    most = max(len(shape) - 1, 0) if axes is None else len(shape)
    if len(size) > most:
        raise ValueError(
            f"`window_shape` must have at most {most} ints (the axes of x with shape "
            f"{tuple(shape)}{' before its channels' if axes is None else ''}), got "
            f"{size}"
        )
    return size


def _check_padding(padding: Any, count: int) -> str | tuple[tuple[int, int], ...]:
    if isinstance(padding, str):
        if padding not in _NAMED_PADDING:
            raise ValueError(
                f"`padding` must be one of {', '.join(_NAMED_PADDING)}, an int, one "
                f"int per axis or one (low, high) pair per axis, got {padding!r}"
            )
        return padding
    if not isinstance(padding, Sequence):
        padding = (padding,) * count
    if len(padding) != count:
        raise ValueError(
            f"`padding` must be an int, or have one int or (low, high) pair per pooled "
            f"axis ({count}), got {padding!r}"
        )
    pads = []
    for pad in padding:
        pair = pad if isinstance(pad, Sequence) else (pad, pad)
        if len(pair) != 2:
            raise ValueError(
                f"`padding` must have one int or (low, high) pair per pooled axis, got "
                f"{padding!r}"
            )
        pads.append(tuple(as_int("padding", p) for p in pair))
    if any(p < 0 for pair in pads for p in pair):
        raise ValueError(f"`padding` must not be negative, got {padding!r}")
    return tuple(pads)


def _same_padding(n, k, s, d, name):
    if name == "VALID":
        return 0, 0
    total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
    small, large = total // 2, total - total // 2
    return (small, large) if name == "SAME" else (large, small)


def _static(n) -> bool:
    return isinstance(n, (int, np.integer))


def _check_room(n, o, axis):
    """Raises unless a symbolic size is known to hold a window."""
    try:
        fits = o >= 1
    except jax.errors.InconclusiveDimensionOperation:  # true for some sizes
        fits = False
    if not fits:
        raise ValueError(
            f"`x` must be known to hold a window along axis {axis}, got the symbolic "
            f"size {n} with {o} outputs: add the constraint '{o} >= 1' to "
            "`jax.export.symbolic_shape`"
        )


def _output_size(n, ke, s, lo, hi, ceil_mode):
    room = n + lo + hi - ke
    if not ceil_mode:
        return room // s + 1
    o = -(-room // s) + 1
    # PyTorch's rule: the last window must start in the input or the low padding.
    return o - 1 if (o - 1) * s >= n + lo else o
