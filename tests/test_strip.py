"""strip_pool."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_antialias import check_linear_in_both_widths, compiled
from transforms import check_transforms, tie_free

from jaxpool import strip_pool


def strip_oracle(x, axes=(-3, -2), where=True, empty=0.0):
    """The means of strips, one place and one strip at a time."""
    x = np.asarray(x, np.float64)
    where = np.broadcast_to(where, x.shape)
    axes = [axis % x.ndim for axis in axes]
    strips = []
    for kept in axes:
        shape = [1 if i in axes and i != kept else n for i, n in enumerate(x.shape)]
        y = np.zeros(shape)
        for place in np.ndindex(*shape):
            strip = tuple(
                slice(None) if i in axes and i != kept else p
                for i, p in enumerate(place)
            )
            values = x[strip][where[strip]]
            y[place] = values.sum() / len(values) if len(values) else empty
        strips.append(y)
    return strips


def flat(strips):
    return np.concatenate([np.ravel(y) for y in strips])


def pool(x, **options):
    """The strips in one array."""
    return jnp.concatenate([y.ravel() for y in strip_pool(x, **options)])


CASES = [
    ((2, 3, 4, 2), {}),
    ((2, 3, 4), {"axes": (-1, -2)}),
    ((2, 3, 2, 2), {"axes": (0, 1, 2)}),
    ((1, 4, 1), {}),
    ((3, 4, 2), {"where": tie_free((3, 4, 1)) > 0}),
    ((2, 3, 4, 1), {"where": tie_free((4, 1), 1) > 0}),
    ((2, 3, 4, 1), {"where": tie_free((2, 3, 1, 1), 1) > 0.5}),
    ((3, 4, 2), {"where": np.zeros((1, 1, 1), bool)}),
]


def test_strip_pool_equals_the_oracle():
    check_linear_in_both_widths(
        pool, lambda x, **options: flat(strip_oracle(x, **options)), CASES
    )


def test_strip_pool_is_the_means(rng):
    x = rng.normal(size=(2, 70, 66, 3)).astype(np.float32)
    rows, columns = jax.jit(strip_pool)(x)
    np.testing.assert_allclose(rows, x.mean(2, keepdims=True), 1e-4, 1e-6)
    np.testing.assert_allclose(columns, x.mean(1, keepdims=True), 1e-4, 1e-6)
    assert (rows + columns).shape == x.shape


def test_strip_pool_never_sees_what_a_mask_leaves_out():
    where = np.array([[1, 0, 1], [0, 0, 0], [1, 0, 0]], bool)[..., None]
    x = np.where(where, tie_free((3, 3, 2)), np.array([np.nan, np.inf], np.float32))
    t = np.where(where, x, np.nan)

    def program(x, t):
        y, back = jax.vjp(lambda x: pool(x, where=where, empty=7.0), x)
        tangent = jax.jvp(lambda x: pool(x, where=where), (x,), (t,))[1]
        return y, back(jnp.ones_like(y))[0], tangent

    y, dx, tangent = compiled(program, x, t)
    np.testing.assert_allclose(y, flat(strip_oracle(x, where=where, empty=7.0)), 1e-6)
    assert (y == 7).sum() == 4  # row 1 and column 1, two channels
    # One over the number of elements in the row, and in the column.
    counts = where.sum(1, keepdims=True), where.sum(0, keepdims=True)
    want = np.where(where, sum(1 / np.maximum(c, 1) for c in counts), 0)
    np.testing.assert_allclose(dx, np.broadcast_to(want, x.shape), 1e-6)
    np.testing.assert_allclose(tangent, flat(strip_oracle(x, where=where)), 1e-6)


def test_strip_pool_dtypes():
    bf16 = jnp.dtype(jnp.bfloat16)
    for dtype, out in [
        (bf16, bf16),
        (np.int8, "f4"),
        (bool, "f4"),
        (np.complex64, "c8"),
    ]:
        x = np.arange(6).reshape(2, 3, 1).astype(dtype)
        rows, columns = strip_pool(x)
        assert rows.dtype == columns.dtype == out
        np.testing.assert_allclose(rows, x.mean(1, keepdims=True), 1e-6)
    # 16-bit floats add up in float32: 4096 ones are more than float16 counts to.
    rows, _ = strip_pool(jnp.ones((1, 4099, 1), jnp.float16))
    assert rows.dtype == jnp.float16 and rows.item() == 1
    rows, columns = strip_pool(np.zeros((0, 2, 3, 4), np.float32))
    assert rows.shape == (0, 2, 1, 4) and columns.shape == (0, 1, 3, 4)


@pytest.mark.parametrize("where", [None, tie_free((3, 1)) > -1])
def test_strip_transforms(where):
    def product(x):
        rows, columns = strip_pool(x, where=where)
        return rows * columns

    options = {"order": 1, "dtypes": ("float32",), "eager_grad": False}
    check_transforms(product, tie_free((2, 2, 3, 1)), **options)


X = np.zeros((2, 6, 6, 3), np.float32)


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: strip_pool("x"), TypeError, "`x` must be an array"),
        (lambda: strip_pool(X, axes=(1,)), ValueError, "`axes` must name at least two"),
        (lambda: strip_pool(X, axes=-2), TypeError, "`axes` must be a tuple of ints"),
        (lambda: strip_pool(X[0, 0]), ValueError, "`axes` must lie in"),
        (lambda: strip_pool(X[:, :0]), ValueError, "`x` must not be empty"),
        (lambda: strip_pool(X, where=X), TypeError, "`where` must be boolean"),
        (
            lambda: strip_pool(X, where=np.ones((5, 1), bool)),
            ValueError,
            "`where` must broadcast to x",
        ),
    ],
)
def test_wrong_calls_say_what_is_wrong(call, error, match):
    with pytest.raises(error, match=match):
        call()
