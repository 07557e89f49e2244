"""max_unpool, avg_unpool and TensorFlow's indices."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from transforms import QUICK, check_transforms, tie_free

from jaxpool import _lowering, avg_pool, max_pool
from jaxpool._indices import indices_from_tensorflow, indices_to_tensorflow
from jaxpool._unpool import avg_unpool, max_unpool

RULES = ["cpu", "default", "tpu"]
REDUCE = ["set", "add", "max"]
GOLDENS = Path(__file__).with_name("goldens") / "torch_unpool.npz"


def quick(fn, *args):
    """fn(*args) as one compiled program, as NumPy arrays."""
    return jax.device_get(jax.jit(fn, compiler_options=QUICK)(*args))


def goldens(kind):
    """The recorded cases whose name starts with `kind`, as dicts of arrays."""
    with np.load(GOLDENS) as file:
        names = sorted({n.split("/")[0] for n in file if n.startswith(kind)})
        return [
            {n.split("/")[1]: file[n] for n in file if n.startswith(f"{name}/")}
            for name in names
        ]


# --- max_unpool against loops ---------------------------------------------------------


def loop(y, indices, size, reduce):
    """Rows (rest, windows) un-pooled, and which window each element was taken from."""
    x = np.zeros((len(y), size), np.float64)
    kept = np.zeros(y.shape, bool)
    for r, row in enumerate(y):
        for i in range(size):
            windows = [o for o in range(len(row)) if indices[r, o] == i]
            if not windows:
                continue
            values = row[windows].astype(np.float64)
            chosen = {
                "set": [windows[-1]],
                "add": windows,
                "max": [windows[int(np.argmax(values))]],  # first of equals, or NaN
            }[reduce]
            x[r, i] = row[chosen].astype(np.float64).sum()
            kept[r, chosen] = True
    return x, kept


# Rows of windows and their indices into 6 elements: duplicates, nowhere, ties, NaN.
ROWS = np.array([[1, -2, 3, -2, 4], [-1, -1, -5, 2, 2], [0.5, np.nan, 7, np.nan, -3]])
PLACES = np.array([[0, 3, 0, 5, 3], [2, 2, 2, -1, 4], [1, 1, 1, 1, 5]], np.int32)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("reduce", REDUCE)
def test_duplicates_are_as_in_a_loop(reduce, rule):
    g = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    t = np.random.default_rng(1).normal(size=ROWS.shape).astype(np.float32)

    def program(y, indices, g, t):
        def back(y):
            return max_unpool(y, indices, (6,), axes=(-1,), reduce=reduce)

        x, vjp = jax.vjp(back, y)
        return x, vjp(g)[0], jax.jvp(back, (y,), (t,))[1]

    with _lowering.force(rule):
        x, dy, dx = quick(program, ROWS.astype(np.float32), PLACES, g, t)
    want, kept = loop(ROWS, PLACES, 6, reduce)
    np.testing.assert_allclose(x, want)
    taken = np.take_along_axis(g, np.maximum(PLACES, 0), 1)
    np.testing.assert_allclose(dy, np.where(kept, taken, 0))
    tangent = [(row * k, i, s) for row, k, i, s in zip(t, kept, PLACES, g, strict=True)]
    want = [np.bincount(i[i >= 0], row[i >= 0], 6) for row, i, _ in tangent]
    np.testing.assert_allclose(dx, want, rtol=1e-6)


def test_the_last_window_in_row_major_order_is_set():
    y = np.arange(1.0, 5.0, dtype=np.float32).reshape(2, 2, 1)
    indices = np.array([[2, 0], [0, 2]], np.int32).reshape(2, 2, 1)
    x = max_unpool(y, indices, (1, 3))
    np.testing.assert_array_equal(x.ravel(), [3, 0, 4])


@pytest.mark.parametrize("rule", RULES)
def test_dtypes(rule):
    indices = np.array([[0, 2, 2, -1]], np.int32)
    dtypes = ["int8", "uint16", "bool", "bfloat16", "float16", "float32", "complex64"]
    y = {d: np.array([[3, 1, 0, 5]]).astype(jnp.dtype(d)) for d in dtypes}
    cases = [(d, r) for d in dtypes for r in REDUCE if (d, r) != ("complex64", "max")]

    def program(y, indices):
        back = functools.partial(max_unpool, output_shape=(4,), axes=(1,))
        return [back(y[d], indices, reduce=r) for d, r in cases]

    with _lowering.force(rule):
        found = quick(program, y, indices)
    for (dtype, reduce), x in zip(cases, found, strict=True):
        counted = (dtype, reduce) == ("bool", "add")
        assert x.dtype == ("int32" if counted else dtype)
        want = [[3, 0, int(reduce != "set"), 0]]
        want = np.array(want).astype(bool) if dtype == "bool" else np.array(want)
        np.testing.assert_array_equal(x.astype(np.complex64), want, f"{dtype} {reduce}")


@pytest.mark.parametrize("rule", RULES)
def test_sixteen_bits_add_up_in_float32(rule):
    y = np.ones((1, 400), jnp.bfloat16)  # in bfloat16, 256 + 1 is 256

    def program(y):
        return max_unpool(y, y.astype(int) - 1, (2,), axes=(1,), reduce="add")

    with _lowering.force(rule):
        x = quick(program, y)
    np.testing.assert_array_equal(x.astype(np.float32), [[400, 0]])


def test_a_batch_of_none():
    y = np.ones((0, 2, 2, 1), np.float32)
    assert max_unpool(y, y.astype(int), (4, 5)).shape == (0, 4, 5, 1)
    assert avg_unpool(y, (2, 3)).shape == (0, 4, 6, 1)


def test_axes_in_any_order():
    x = abs(tie_free((4, 3, 6)))

    def program(x):
        y, indices = max_pool(x, (3, 2), axes=(2, 0), return_indices=True)
        back = max_unpool(y, indices, (6, 4), axes=(2, 0))
        return y, back, max_pool(back, (3, 2), axes=(2, 0))

    y, back, again = quick(program, x)
    assert back.shape == x.shape
    np.testing.assert_array_equal(back[back != 0], x[back != 0])
    np.testing.assert_array_equal(again, y)


# --- max_unpool and max_pool ----------------------------------------------------------


@pytest.mark.parametrize(
    "shape, window, options",
    [
        ((2, 7, 2), (3,), {}),
        ((2, 6, 5, 2), (2, 2), {"padding": (0, 1), "ceil_mode": True}),
        ((1, 3, 4, 6, 2), (2, 2, 3), {"strides": (2, 3, 3)}),
    ],
)
def test_pooling_again_gives_non_negative_values_back(shape, window, options):
    def program(x):
        y, indices = max_pool(x, window, return_indices=True, **options)
        space = shape[-len(window) - 1 : -1]
        backs = [max_unpool(y, indices, space, reduce=reduce) for reduce in REDUCE]
        return y, [max_pool(x, window, **options) for x in backs], backs

    y, again, backs = quick(program, abs(tie_free(shape)))
    for pooled, back in zip(again, backs, strict=True):
        np.testing.assert_array_equal(pooled, y)
        np.testing.assert_array_equal(back, backs[0])  # windows have no duplicates


@pytest.mark.parametrize("rule", RULES)
def test_adding_a_cotangent_is_the_gradient_of_max_pool(rule):
    options = {"strides": (1, 2), "padding": (1, 0), "dilation": (1, 2)}

    def program(x, g):
        pool = functools.partial(max_pool, window_shape=(3, 2), **options)
        _, indices = pool(x, return_indices=True)
        return max_unpool(g, indices, (6, 7), reduce="add"), jax.vjp(pool, x)[1](g)[0]

    g = np.random.default_rng(0).integers(-4, 5, (2, 6, 3, 2)).astype(np.float32)
    with _lowering.force(rule):
        back, dx = quick(program, tie_free((2, 6, 7, 2)), g)
    np.testing.assert_array_equal(back, dx)
    assert (back != 0).sum() < g.size  # some windows share their maximum


# --- PyTorch --------------------------------------------------------------------------


def check_golden(cases):
    def program(cases):
        found = []
        for case in cases:

            def back(y, case=case):
                space = case["x"].shape[1:-1]
                return max_unpool(y, case["indices"], space)

            x, vjp = jax.vjp(back, case["y"])
            found.append((x, vjp(case["g"])[0] if "g" in case else None))
        return found

    for case, (x, dy) in zip(cases, quick(program, cases), strict=True):
        np.testing.assert_array_equal(x, case["x"])
        if dy is not None:
            np.testing.assert_array_equal(dy, case["dy"])


def test_goldens_from_torch():
    cases = goldens("unpool")
    assert {case["x"].ndim for case in cases} == {3, 4, 5}
    check_golden(cases)


def test_torch():
    pytest.importorskip("torch")
    from goldens import record_torch_unpool as record

    rng = np.random.RandomState(1)
    check_golden([record.unpool(rng, *args) for args in record.UNPOOL])


# --- avg_unpool -----------------------------------------------------------------------

# The shape of the pool's input, the window and its options.
AVERAGES = [
    ((2, 7, 1), (3,), {"strides": 2, "padding": ((1, 2),)}),
    ((1, 9, 2), (2,), {"strides": 3, "dilation": 2, "ceil_mode": True}),
    ((2, 5, 6, 1), (2, 3), {}),
    ((2, 6, 5, 1), (3, 2), {"strides": (1, 2), "padding": "SAME"}),
    ((1, 8, 5, 2), (3, 2), {"strides": (3, 2), "padding": 1, "ceil_mode": True}),
    ((3, 2, 7), (2, 4), {"axes": (0, 2), "strides": (1, 5), "dilation": (2, 1)}),
    ((1, 3, 4, 3, 1), (2, 2, 3), {"strides": (1, 3, 1), "padding": (1, 0, 1)}),
    ((9, 1), (1,), {"strides": 4, "padding": 1}),
]


def size_of(shape, window, options):
    axes = oracles.canonical_axes(len(shape), window, options.get("axes"))
    return tuple(shape[a] for a in axes)


def average_loop(y, shape, window, mode, include, options):
    """avg_unpool, window by window."""
    if mode == "adjoint":
        x = np.zeros(shape)
        options = options | {"count_include_pad": include}
        return oracles.avg_pool_vjp(x, y, window, **options)
    total = oracles.sum_pool_vjp(np.zeros(shape), y, window, **options)
    count = oracles.sum_pool_vjp(np.zeros(shape), np.ones_like(y), window, **options)
    return total / np.maximum(count, 1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mode", ["adjoint", "replicate"])
def test_averages_are_as_in_a_loop(mode, rule):
    rng = np.random.default_rng(0)
    cases = [(*case, include) for case in AVERAGES for include in (True, False)]
    ys = [
        rng.normal(size=oracles.output_shape(shape, window, **options))
        for shape, window, options, _ in cases
    ]
    ys = [y.astype(np.float32) for y in ys]

    def program(ys):
        found = []
        for y, (shape, window, options, include) in zip(ys, cases, strict=True):
            size = size_of(shape, window, options)
            more = {"output_shape": size, "count_include_pad": include, "mode": mode}
            found.append(avg_unpool(y, window, **options, **more))
        return found

    with _lowering.force(rule):
        found = quick(program, ys)
    for x, y, case in zip(found, ys, cases, strict=True):
        shape, window, options, include = case
        want = average_loop(y, shape, window, mode, include, options)
        np.testing.assert_allclose(x, want, rtol=1e-5, atol=1e-6, err_msg=str(case))


def test_the_adjoint_of_avg_pool():
    """`<avg_pool(x), y> = <x, avg_unpool(y)>`, and so for the tangents of both."""
    cases = [(*case, include) for case in AVERAGES for include in (True, False)]
    xs = [tie_free(shape, i) for i, (shape, *_) in enumerate(cases)]

    def program(xs):
        pairs = []
        for x, (shape, window, options, include) in zip(xs, cases, strict=True):
            pooled = avg_pool(x, window, count_include_pad=include, **options)
            y = jnp.cos(np.float32(3) * pooled)
            more = {"output_shape": size_of(shape, window, options)}
            more |= {"count_include_pad": include}
            spread = avg_unpool(y, window, **options, **more)
            pairs.append((jnp.vdot(pooled, y), jnp.vdot(x, spread)))
        return pairs

    for case, (a, b) in zip(cases, quick(program, xs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=str(case))


def test_averages_without_an_output_shape():
    y = np.random.default_rng(0).normal(size=(2, 3, 4, 1)).astype(np.float32)
    x = avg_unpool(y, (2, 3), mode="replicate")
    np.testing.assert_array_equal(x, y.repeat(2, 1).repeat(3, 2))
    np.testing.assert_allclose(avg_pool(x, (2, 3)), y, rtol=1e-6)
    np.testing.assert_allclose(avg_unpool(y, (2, 3)).sum(), y.sum(), rtol=1e-5)
    options = {"strides": 2, "dilation": (1, 2), "padding": (1, 0)}
    assert avg_unpool(y, (3, 2), **options).shape == (2, 5, 9, 1)
    assert avg_unpool(y, (3, 2), strides=2, padding="SAME").shape == (2, 6, 8, 1)


def test_averages_keep_their_dtype():
    y = np.array([[2.0], [6.0]])
    for dtype, want in (
        ("bfloat16", "bfloat16"),
        ("int32", "float32"),
        ("bool", "float32"),
        ("complex64", "complex64"),
    ):
        x = avg_unpool(y.astype(jnp.dtype(dtype)), (2,))
        assert x.dtype == want
        value = [1, 1, 3, 3] if dtype != "bool" else [0.5] * 4
        np.testing.assert_array_equal(x[:, 0].astype(np.complex64), value)


# --- Transformations ------------------------------------------------------------------


def test_max_unpool_transforms():
    places = np.array([[[7], [-1]], [[3], [7]]], np.int32)

    def back(y, reduce):
        indices = jnp.broadcast_to(places, y.shape)
        return max_unpool(y, indices, (2, 4), reduce=reduce)

    y = tie_free((2, 2, 2, 1))
    some = {"no_scatter": False, "order": 1, "eager_grad": False, "dtypes": ()}
    for reduce in REDUCE:
        if reduce == "max":  # is "set" with another order
            some |= {"export": False, "sharded": False}
        check_transforms(functools.partial(back, reduce=reduce), y, **some)


def test_avg_unpool_transforms():
    options = {"strides": (2, 1), "padding": ((1, 0), (0, 1)), "output_shape": (6, 3)}

    def back(y):
        x = avg_unpool(y, (3, 2), count_include_pad=False, **options)
        return x + avg_unpool(y, (3, 2), mode="replicate", **options)

    # Linear: its higher derivatives are 0.
    check_transforms(back, tie_free((2, 3, 3, 1)), order=1, eager_grad=False)


# --- Determinism ----------------------------------------------------------------------

SCATTER = re.compile(r'"stablehlo\.scatter"\(.*?\}\) : \(', re.DOTALL)


def scatter_adds(fn, *args):
    """How many scatters of the program for a GPU add, all of them to unique places."""
    text = jax.jit(fn).trace(*args).lower(lowering_platforms=("cuda",)).as_text()
    adds = [found for found in SCATTER.findall(text) if "stablehlo.add" in found]
    assert text.count('"stablehlo.scatter"(') == len(SCATTER.findall(text))
    for found in adds:
        assert "unique_indices = true" in found
    return len(adds)


def test_scatter_adds_is_not_vacuous():
    with pytest.raises(AssertionError):
        scatter_adds(lambda x, i: x.at[i].add(x), jnp.ones(3), jnp.zeros(3, int))


@pytest.mark.parametrize("reduce", REDUCE)
def test_nothing_is_added_twice_to_a_place(reduce):
    y = jax.ShapeDtypeStruct((2, 3, 4, 2), np.float32)
    indices = jax.ShapeDtypeStruct(y.shape, np.int32)

    def back(y, indices):
        return max_unpool(y, indices, (6, 8), reduce=reduce)

    def gradient(y, indices):
        return jax.grad(lambda y: (back(y, indices) ** 3).sum())(y)

    def forward(y, indices):
        return jax.jvp(lambda y: back(y, indices), (y,), (y,))[1]

    for fn in (back, gradient, forward, jax.vmap(back), jax.vmap(gradient)):
        assert scatter_adds(fn, y, indices) >= 1


# --- Wrong calls ----------------------------------------------------------------------

Y = np.ones((1, 2, 2, 1), np.float32)
I = np.zeros(Y.shape, np.int32)  # noqa: E741


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: max_unpool(Y, I + 4, (2, 2)), ValueError, r"in \[-1, 3\].*got 4 to 4"),
        (lambda: max_unpool(Y, I - 2, (2, 2)), ValueError, r"`indices`.*got -2 to -2"),
        (
            lambda: max_unpool(Y, I + np.int64(2**32), (2, 2)),
            ValueError,
            r"`indices`.*got 4294967296 to",
        ),
        (lambda: max_unpool(Y, I[0], (2, 2)), ValueError, r"`indices`.*shape of y"),
        (lambda: max_unpool(Y, Y, (2, 2)), TypeError, r"`indices` must be integers"),
        (lambda: max_unpool(Y, I, 4), TypeError, r"`output_shape` must be a tuple"),
        (lambda: max_unpool(Y, I, (4, 0)), ValueError, r"`output_shape`.*at least 1"),
        (lambda: max_unpool(Y, I, (4, 2.0)), TypeError, r"`output_shape` must hold"),
        (lambda: max_unpool(Y, I, (1,) * 4), ValueError, r"`output_shape`.*at most 3"),
        (lambda: max_unpool(Y, I, (4,), axes=(1, 2)), ValueError, r"`output_shape`"),
        (lambda: max_unpool(Y, I, (4,), reduce="sum"), ValueError, r"`reduce`.*'sum'"),
        (
            lambda: max_unpool(Y + 1j, I, (2, 2), reduce="max"),
            TypeError,
            r"`y` must be real",
        ),
        (lambda: max_unpool("y", I, (2, 2)), TypeError, r"`y` must be an array"),
        (lambda: avg_unpool(Y, 2), TypeError, r"`window_shape` must be a tuple"),
        (lambda: avg_unpool(Y, (2, 2), mode="mean"), ValueError, r"`mode`.*'mean'"),
        (
            lambda: avg_unpool(Y, (2, 2), count_include_pad=1),
            TypeError,
            r"`count_include_pad`",
        ),
        (
            lambda: avg_unpool(Y, (2, 2), output_shape=(4, 7)),
            ValueError,
            r"`output_shape`.*got \(4, 7\), which they pool to \(2, 3\)",
        ),
        (
            lambda: avg_unpool(Y, (2, 2), output_shape=(4,)),
            ValueError,
            r"`output_shape` must have one int per entry",
        ),
        (lambda: avg_unpool(Y, (2, 2), padding=2), ValueError, r"`padding` 2 .* of 0"),
        (
            lambda: indices_to_tensorflow(Y, (1, 4, 4, 1)),
            TypeError,
            r"`indices` must be integers",
        ),
        (
            lambda: indices_from_tensorflow(I, (1, 4, 4, 2)),
            ValueError,
            r"`input_shape` must equal the shape of `argmax`",
        ),
        (
            lambda: indices_to_tensorflow(I, (1, 4, 4)),
            ValueError,
            r"`input_shape` must equal",
        ),
        (
            lambda: indices_to_tensorflow(I, (1, 2, 2, 1), axes=(-3,)),
            ValueError,
            r"`axes` must be in a row",
        ),
        (
            lambda: indices_to_tensorflow(I, (1, 2**16, 2**15, 1)),
            ValueError,
            r"`input_shape` must have fewer than 2\^31",
        ),
        (
            lambda: indices_to_tensorflow(I, (1, 4, 4, 1), include_batch=1),
            TypeError,
            r"`include_batch`",
        ),
    ],
)
def test_wrong_calls(call, error, match):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize("rule", RULES)
def test_traced_indices_outside_are_dropped(rule):
    y = np.arange(1.0, 6.0, dtype=np.float32)[None]
    indices = np.array([[4, -2, 1, 2**31 - 1, -1]], np.int32)

    def program(y, indices):
        def back(y, reduce):
            return max_unpool(y, indices, (4,), axes=(-1,), reduce=reduce)

        def gradient(reduce):
            return jax.grad(lambda y: back(y, reduce).sum())(y)

        return [(back(y, reduce), gradient(reduce)) for reduce in REDUCE]

    with _lowering.force(rule):
        for x, dy in quick(program, y, indices):
            np.testing.assert_array_equal(x, [[0, 3, 0, 0]])
            np.testing.assert_array_equal(dy, [[0, 0, 1, 0, 0]])


# --- TensorFlow's indices -------------------------------------------------------------


TENSORFLOW = [
    ((2, 4, 6, 3), (2, 3), (-3, -2)),
    ((2, 3, 4, 4, 2), (2, 2), (2, 3)),
    ((2, 6, 3), (3,), (1,)),
    ((1, 2, 4, 6, 2), (1, 2, 3), (-4, -3, -2)),
]


def test_tensorflow_indices():
    cases = [(*case, batch) for case in TENSORFLOW for batch in (False, True)]
    xs = [tie_free(shape) for shape, *_ in cases]

    def program(xs):
        found = []
        for x, (shape, window, axes, include_batch) in zip(xs, cases, strict=True):
            _, indices = max_pool(x, window, axes=axes, return_indices=True)
            options = {"include_batch": include_batch, "axes": axes}
            argmax = indices_to_tensorflow(indices, shape, **options)
            back = indices_from_tensorflow(argmax, shape, **options)
            found.append((indices, argmax, back))
        return found

    for x, case, found in zip(xs, cases, quick(program, xs), strict=True):
        shape, window, _, include_batch = case
        indices, argmax, back = found
        assert argmax.dtype == back.dtype == np.int32
        np.testing.assert_array_equal(back, indices)
        # TensorFlow's position is in x flattened, of one image or of the whole batch.
        images = x.reshape((-1, *shape[-len(window) - 1 :]))
        argmax = argmax.reshape(len(images), -1)
        for image, positions in zip(images, argmax, strict=True):
            source = x if include_batch else image
            want = oracles.max_pool(image, window)
            np.testing.assert_array_equal(source.ravel()[positions], want.ravel())


def test_nowhere_stays_nowhere():
    nowhere = jnp.full((3, 1, 1, 2), -1)
    for convert in (indices_to_tensorflow, indices_from_tensorflow):
        found = convert(nowhere, (3, 4, 4, 2), include_batch=True)
        np.testing.assert_array_equal(found, nowhere)
