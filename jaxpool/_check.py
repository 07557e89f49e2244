"""Checks of arguments, made before any work is done: what each must be, and what it is.

Those about windows are in `_window.py`.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export


def canonical_axes(
    shape: Sequence[int], axes: Sequence[int], count: int | None, per: str = ""
) -> tuple[int, ...]:
    """`axes` of an array of `shape` as negative ints; `count` of them if given."""
    if isinstance(axes, (str, int)) or not isinstance(axes, Sequence):
        raise TypeError(f"`axes` must be a tuple of ints, got {axes!r}")
    ndim = len(shape)
    if count is not None and len(axes) != count:
        raise ValueError(
            f"`axes` must name one axis per entry of `{per}` ({count}), got {axes!r}"
        )
    negative = []
    for axis in axes:
        axis = as_int("axes", axis)
        if not -ndim <= axis < ndim:
            raise ValueError(
                f"`axes` must lie in [-{ndim}, {ndim}) for x with shape "
                f"{tuple(shape)}, got {tuple(axes)}"
            )
        negative.append(axis if axis < 0 else axis - ndim)
    if len(set(negative)) != len(negative):
        raise ValueError(f"`axes` must not repeat an axis, got {tuple(axes)}")
    return tuple(negative)


def as_array(name: str, x: Any) -> jax.Array:
    """`x` as a jax array of any dtype."""
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError):
        raise TypeError(f"`{name}` must be an array, got {x!r}") from None


def check_array(name: str, x: Any, *, complex_ok: bool = False) -> jax.Array:
    """`x` as a jax array of a dtype that can be pooled."""
    is_array = hasattr(x, "dtype") or isinstance(x, (int, float, complex, list, tuple))
    if not (is_array or hasattr(x, "__jax_array__")):
        raise TypeError(f"`{name}` must be an array, got {type(x).__name__}")
    dtype = getattr(x, "dtype", np.dtype(float))
    if not (jnp.issubdtype(dtype, jnp.number) or dtype == np.bool_):
        raise TypeError(f"`{name}` must hold numbers, got dtype {dtype}")
    x = as_array(name, x)
    if jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize < 2:
        raise TypeError(
            f"`{name}` must hold floats of 16 bits or more, got {x.dtype}: convert it"
        )
    if jnp.issubdtype(x.dtype, jnp.complexfloating) and not complex_ok:
        raise TypeError(
            f"`{name}` must be real, since complex numbers have no order, got "
            f"{x.dtype} with shape {x.shape}"
        )
    return x


def check_float(name: str, x: Any) -> jax.Array:
    """`x` as a real floating-point array; integers become the default float."""
    x = check_array(name, x)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x
    return x.astype(jnp.result_type(float))


def check_inexact(name: str, x: Any) -> jax.Array:
    """`x` as a real or complex array; integers become the default float."""
    x = check_array(name, x, complex_ok=True)
    if jnp.issubdtype(x.dtype, jnp.inexact):
        return x
    return x.astype(jnp.result_type(float))


def check_parameter(
    name: str,
    value: Any,
    shape: Sequence[int],
    dtype: Any,
    expected: str,
    holds: Callable[[np.ndarray], np.ndarray],
) -> jax.Array:
    """A number or an array that broadcasts to `shape`, in `dtype`.

    An error says that it must be as `expected` where it is known and not all of it
    `holds`.
    """
    given = value
    try:
        value = check_array(name, value)
    except TypeError:
        raise TypeError(
            f"`{name}` must be a number or an array, got {given!r}"
        ) from None
    shape = tuple(shape)
    if not broadcasts(value.shape, shape):
        raise ValueError(
            f"`{name}` must be a number or broadcast to shape {shape}, got shape "
            f"{value.shape}"
        )
    try:
        valid = bool(holds(np.asarray(value)).all())
    except jax.errors.TracerArrayConversionError:
        valid = True  # not known yet
    if not valid:
        raise ValueError(f"`{name}` must {expected}, got {given!r}")
    return value.astype(dtype).reshape((1,) * (len(shape) - value.ndim) + value.shape)


def check_positive(
    name: str, value: Any, x: jax.Array, axes: Sequence[int], finite: bool = False
) -> jax.Array:
    """A positive parameter, one for all or one per channel, in the dtype of x."""
    pooled = [axis % x.ndim for axis in axes]
    shape = [1 if i in pooled else n for i, n in enumerate(x.shape)]
    expected = "be positive and finite" if finite else "be positive"

    def holds(v):
        return (v > 0) & np.isfinite(v) if finite else v > 0

    return check_parameter(name, value, shape, x.dtype, expected, holds)


def check_empty(empty: Any, dtype: Any) -> np.ndarray:
    """`empty` in `dtype`, which must hold it."""
    try:
        if isinstance(empty, str) or np.ndim(empty) != 0:
            raise TypeError
        value = complex(empty)
    except TypeError:
        raise TypeError(f"`empty` must be a number, got {empty!r}") from None
    real = not jnp.issubdtype(dtype, jnp.complexfloating)
    held = not (real and value.imag)
    if not jnp.issubdtype(dtype, jnp.inexact):
        info = jnp.iinfo(np.uint8 if dtype == np.bool_ else dtype)
        high = 1 if dtype == np.bool_ else info.max
        held &= value.real.is_integer() and info.min <= value.real <= high
    if not held:
        raise ValueError(f"`empty` must be a number that {dtype} holds, got {empty!r}")
    return np.asarray(np.real(empty) if real else empty).astype(dtype)


def check_key(key: Any) -> jax.Array | None:
    """One key of `jax.random`, typed or legacy, as a typed one; or None."""
    if key is None:
        return None
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    if dtype is None or shape is None:
        raise TypeError(
            "`key` must be a key of jax.random, such as jax.random.key(0), or None, "
            f"got {key!r}"
        )
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        if shape:
            raise ValueError(
                f"`key` must be one key, got an array of keys with shape {shape}"
            )
        return key
    if dtype != np.uint32 or len(shape) != 1:
        raise TypeError(
            "`key` must be a key of jax.random, such as jax.random.key(0), or None, "
            f"got an array of {dtype} with shape {shape}"
        )
    try:
        return jax.random.wrap_key_data(jnp.asarray(key))
    except TypeError as error:
        raise TypeError(f"`key` must be a key of jax.random: {error}") from None


def check_where(
    where: Any, shape: Sequence[int], axes: Sequence[int] = ()
) -> jax.Array | None:
    """`where` as a boolean array with as many axes as `shape`, or None.

    Along `axes` it has its full size.
    """
    if where is None:
        return None
    where = as_array("where", where)
    if where.dtype != jnp.bool_:
        raise TypeError(f"`where` must be boolean, got dtype {where.dtype}")
    if not broadcasts(where.shape, shape):
        raise ValueError(
            f"`where` must broadcast to x with shape {tuple(shape)}, got shape "
            f"{where.shape}"
        )
    where = where.reshape((1,) * (len(shape) - where.ndim) + where.shape)
    full = list(where.shape)
    for axis in axes:
        full[axis] = shape[axis]
    return jnp.broadcast_to(where, full)


def broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    """Whether an array of `shape` broadcasts to the shape `to`, symbolic or not."""
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(n == m or n == 1 for n, m in pairs)


def check_bool(name: str, value: Any) -> None:
    """Raises unless `value` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{name}` must be True or False, got {value!r}")


def check_divisor(name: str, value: Any) -> None:
    """Raises unless `value` is a number other than 0."""
    if isinstance(value, (bool, str)) or not np.isscalar(value) or np.iscomplex(value):
        raise TypeError(f"`{name}` must be a real number, got {value!r}")
    if value == 0 or not np.isfinite(value):
        raise ValueError(f"`{name}` must be finite and not 0, got {value!r}")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raises unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {value!r}")


def as_int(name: str, value: Any) -> int:
    """`value` as an int; bools and floats are refused."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{name}` must hold ints, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must hold ints, got {value!r}") from None


def per_axis(name: str, value: Any, count: int, least: int) -> tuple[int, ...]:
    """An int, or one per axis, as a tuple of `count` ints of at least `least`."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        values = tuple(as_int(name, v) for v in value)
        if len(values) != count:
            raise ValueError(
                f"`{name}` must be an int or have one int per pooled axis ({count}), "
                f"got {values}"
            )
    else:
        values = (as_int(name, value),) * count
    if any(v < least for v in values):
        raise ValueError(f"`{name}` must be at least {least}, got {value!r}")
    return values


def pooled_axes(shape: Sequence[int], axes: Sequence[int], least: int = 1):
    """`axes` as negative ints, at least so many and none of size 0."""
    axes = canonical_axes(shape, axes, None)
    if len(axes) < least:
        number = "one axis" if least == 1 else "two axes"
        raise ValueError(f"`axes` must name at least {number}, got {axes}")
    if any(shape[axis] == 0 for axis in axes):
        raise ValueError(
            f"`x` must not be empty along axes {axes}, got shape {tuple(shape)}"
        )
    return axes


def check_static(shape: Sequence[int], axes: Sequence[int]) -> None:
    """Raises where the size of a pooled axis has to be known."""
    if not all(isinstance(shape[axis], (int, np.integer)) for axis in axes):
        raise ValueError(
            f"`x` must have static sizes along axes {tuple(axes)} here, got the "
            f"symbolic shape {tuple(shape)}"
        )


def check_integers(name: str, indices: Any) -> jax.Array:
    """`indices` as an int32 array."""
    indices = check_array(name, indices)
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise TypeError(f"`{name}` must be integers, got dtype {indices.dtype}")
    return indices.astype(jnp.int32)


def check_shape(name: str, shape: Any) -> None:
    """Raises unless `shape` is one: ints of at least 0, or symbolic."""
    if isinstance(shape, str) or not isinstance(shape, Sequence):
        raise TypeError(f"`{name}` must be a tuple of ints, got {shape!r}")
    for n in shape:
        if not export.is_symbolic_dim(n) and as_int(name, n) < 0:
            raise ValueError(f"`{name}` must not be negative, got {tuple(shape)}")


def check_sizes(name: str, sizes: Any, least: int = 1) -> tuple[int, ...]:
    """`sizes` as a tuple of ints of at least `least`."""
    if isinstance(sizes, str) or not isinstance(sizes, Sequence):
        raise TypeError(f"`{name}` must be a tuple of ints, got {sizes!r}")
    sizes = tuple(as_int(name, n) for n in sizes)
    if not sizes or any(n < least for n in sizes):
        raise ValueError(f"`{name}` must hold ints of at least {least}, got {sizes}")
    return sizes
