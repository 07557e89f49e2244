"""The harness is tested first: the oracles against torch, the checker against bugs."""

import functools
import itertools

import goldens
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax import lax
from transforms import TransformError, check_transforms, tie_free

# --- Oracles --------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("pool", ["max", "avg", "lp"])
def test_oracles_equal_the_goldens(pool, rank):
    value = getattr(oracles, f"{pool}_pool")
    gradient = getattr(oracles, f"{pool}_pool_vjp")
    for case in goldens.cases(pool, rank):
        x, kwargs, name = case["x"], case["kwargs"], case["name"]
        if pool == "max":
            y, indices = value(x, **kwargs, return_indices=True)
            np.testing.assert_array_equal(indices, case["indices"], name)
        else:
            y = value(x, **kwargs)
        np.testing.assert_allclose(y, case["y"], 1e-12, err_msg=name)
        dx = gradient(x, case["g"], **kwargs)
        np.testing.assert_allclose(dx, case["dx"], 1e-12, err_msg=name)


def test_goldens_cover_what_they_promise():
    found = list(goldens.cases())
    ranks = {(case["pool"], len(case["kwargs"]["window_shape"])) for case in found}
    assert ranks == set(itertools.product(("max", "avg", "lp"), (1, 2, 3)))
    assert len({case["name"] for case in found}) > 2500
    assert any((case["indices"] == -1).any() for case in goldens.cases("max"))
    grouped = [case["name"] for group in goldens.groups() for case in group]
    assert grouped == [case["name"] for case in found]


def test_goldens_in_one_program():
    def sum_pool(x, window_shape, strides, p, **_):
        window, strides = (1, *window_shape, 1), (1, *strides, 1)
        return lax.reduce_window(x, np.float32(0), lax.add, window, strides, "VALID")

    for group in goldens.groups("lp"):
        group = [case for case in group if case["kwargs"]["p"] == 1]
        for case, (y, dx) in zip(group, goldens.outputs(sum_pool, group), strict=True):
            np.testing.assert_allclose(y, case["y"], 1e-6)
            np.testing.assert_allclose(dx, case["dx"], 1e-6)


GEOMETRIES = [
    {"strides": 1, "padding": (1, 1)},
    {"strides": (2, 3), "padding": (0, 1), "ceil_mode": True},
    {"strides": 2, "padding": 1, "ceil_mode": True},
]


def torch_options(geometry):
    return {"stride" if k == "strides" else k: v for k, v in geometry.items()}


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_oracles_equal_torch(geometry, rng):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, 7, 6, 3))
    first = torch.from_numpy(np.moveaxis(x, -1, 1)).requires_grad_()
    options = torch_options(geometry)
    avg = functools.partial(torch.nn.functional.avg_pool2d, kernel_size=(3, 2))
    exp = first.exp()
    expected = {
        "max": torch.nn.functional.max_pool2d(first, (3, 2), **options),
        "min": -torch.nn.functional.max_pool2d(-first, (3, 2), **options),
        "avg": avg(first, **options),
        "sum": avg(first, divisor_override=1, **options),
        "soft": avg(first * exp, **options) / avg(exp, **options),
        "lp": avg(first**2, divisor_override=1, **options).sqrt(),
    }
    for name, y in expected.items():
        g = rng.normal(size=y.shape)
        (dx,) = torch.autograd.grad(y, first, torch.from_numpy(g), retain_graph=True)
        got = getattr(oracles, f"{name}_pool")(x, (3, 2), **geometry)
        got_dx = getattr(oracles, f"{name}_pool_vjp")(
            x, np.moveaxis(g, 1, -1), (3, 2), **geometry
        )
        y, dx = y.detach().numpy(), dx.numpy()
        np.testing.assert_allclose(got, np.moveaxis(y, 1, -1), 1e-10, err_msg=name)
        np.testing.assert_allclose(got_dx, np.moveaxis(dx, 1, -1), 1e-9, 1e-12)


def test_median_oracle_equals_torch(rng):
    torch = pytest.importorskip("torch")
    x = rng.integers(0, 5, (3, 4, 6, 1)).astype(float)
    taps = torch.from_numpy(x[..., 0].reshape(3, 2, 2, 3, 2)).transpose(2, 3)
    lower = taps.reshape(3, 2, 3, 4).median(-1).values
    np.testing.assert_array_equal(oracles.median_pool(x, (2, 2))[..., 0], lower)
    mean = taps.reshape(3, 2, 3, 4).quantile(0.5, -1)
    got = oracles.median_pool(x, (2, 2), even="mean")[..., 0]
    np.testing.assert_array_equal(got, mean)


MASKED_POOLS = {
    "max": {},
    "min": {},
    "sum": {},
    "avg": {},
    "avg, valid": {"count_include_pad": False},
    "avg, override": {"divisor_override": 5},
    "lp": {"p": 3.0},
    "lp, inf": {"p": np.inf},
    "soft": {"temperature": 0.7},
    "median": {},
    "median, upper": {"even": "upper"},
    "median, mean": {"even": "mean"},
}


@pytest.mark.parametrize("name", MASKED_POOLS)
def test_oracle_gradients_are_the_oracles_slopes(name, rng):
    """With a mask, other axes, dilation and uneven padding."""
    x, where = rng.normal(size=(2, 5, 6, 3)), rng.random((5, 6, 1)) > 0.5
    options = MASKED_POOLS[name] | {"where": where, "axes": (1, -1), "strides": 1}
    options |= {"padding": ((0, 1), (2, 1)), "dilation": (2, 1)}
    f = getattr(oracles, f"{name.partition(',')[0]}_pool")
    vjp = getattr(oracles, f"{name.partition(',')[0]}_pool_vjp")
    t, eps = rng.normal(size=x.shape), 1e-6
    slope = (f(x + eps * t, (3, 2), **options) - f(x - eps * t, (3, 2), **options)) / (
        2 * eps
    )
    g = rng.normal(size=slope.shape)
    dx = vjp(x, g, (3, 2), **options)
    np.testing.assert_allclose((dx * t).sum(), (slope * g).sum(), 1e-6)
    assert not dx[np.broadcast_to(~where, x.shape)].any()


def column(*values):
    return np.array(values)[:, None]


def test_oracle_corner_cases():
    nan, inf = np.nan, np.inf
    y, indices = oracles.max_pool(
        column(1, 3, 3, nan, 2, nan), (3,), strides=1, return_indices=True
    )
    np.testing.assert_array_equal(y, column(3, nan, nan, nan))  # the first of equals
    np.testing.assert_array_equal(indices, column(1, 3, 3, 3))  # the first NaN
    np.testing.assert_array_equal(
        oracles.max_pool_vjp(column(-inf, -inf), column(1.0), (2,)), column(1, 0)
    )
    padded = {"window_shape": (1,), "padding": ((1, 0),)}
    for x in (column(7.0), column(7), column(True)):
        lowest = {"f": -inf, "i": np.iinfo(int).min, "b": False}[x.dtype.kind]
        y, indices = oracles.max_pool(x, **padded, return_indices=True)
        assert y.dtype == x.dtype and y[0, 0] == lowest and indices[0, 0] == -1
        assert oracles.max_pool(x, **padded, where=column(True), empty=1)[0, 0] == 1
    assert oracles.avg_pool(column(7.0), **padded)[0, 0] == 0
    masked = {"where": column(True, False, False, False), "empty": 9.0}
    x, window = column(1.0, nan, inf, 5.0), (2,)
    for pool in (oracles.max_pool, oracles.sum_pool, oracles.soft_pool):
        np.testing.assert_array_equal(pool(x, window, **masked), column(1, 9))
    # A mask takes elements out of the divisor, padding stays in.
    y = oracles.avg_pool(column(6.0, nan), (3,), padding=1, where=column(True, False))
    np.testing.assert_array_equal(y, column(3))
    np.testing.assert_array_equal(
        oracles.soft_pool(column(-inf, 1.0, inf, 2.0), window), column(1, inf)
    )
    assert oracles.max_pool(np.zeros((0, 4, 4, 1)), (2, 2)).shape == (0, 2, 2, 1)
    with pytest.raises(ValueError, match="no window of 5"):
        oracles.max_pool(column(1, 2, 3), (5,))


def test_oracle_average_of_the_published_example():
    y = oracles.avg_pool(
        np.arange(49.0).reshape(7, 7, 1), (2, 2), strides=3, ceil_mode=True
    )
    expected = [[4, 7, 9.5], [25, 28, 30.5], [42.5, 45.5, 48]]
    np.testing.assert_array_equal(y[..., 0], expected)


@pytest.mark.parametrize(
    "n, k, s, p, floor, ceil",
    [
        (5, 2, 2, 0, 2, 3),
        (6, 3, 2, 1, 3, 4),
        (4, 2, 2, 1, 3, 3),
        (4, 1, 2, 0, 2, 2),
        (4, 2, 3, 0, 1, 2),
        (1, 1, 2, 0, 1, 1),
    ],
)
def test_oracle_output_sizes(n, k, s, p, floor, ceil):
    assert len(oracles.axis_windows(n, k, s, p)) == floor
    assert len(oracles.axis_windows(n, k, s, p, ceil_mode=True)) == ceil


@pytest.mark.parametrize("padding", ["VALID", "SAME", "SAME_LOWER"])
def test_oracle_named_padding_is_that_of_lax(padding):
    for n, k, s, d in itertools.product((5, 8), (1, 2, 3, 4), (1, 2, 3), (1, 2)):
        pads = lax.padtype_to_pads((n,), (d * (k - 1) + 1,), (s,), padding)
        if padding != "VALID" or d * (k - 1) < n:
            named = oracles.axis_windows(n, k, s, padding, d)
            assert named == oracles.axis_windows(n, k, s, *pads, d)
            assert padding == "VALID" or len(named) == -(-n // s)


# --- The checker ----------------------------------------------------------------------


def windows_of(x):
    """The reduce_window arguments of a 2x2 pool of (..., h, w, c)."""
    size = (1,) * (x.ndim - 3) + (2, 2, 1)
    return size, size, "VALID"


def sum_pool(x):
    return lax.reduce_window(x, x.dtype.type(0), lax.add, *windows_of(x))


def max_pool(x):
    return lax.reduce_window(x, x.dtype.type(-np.inf), lax.max, *windows_of(x))


def square_pool(x):
    return sum_pool(x * x)


SMALL = tie_free((2, 4, 4, 2))
GOOD = {
    "sum": (sum_pool, SMALL, {"order": 3, "check_grads": True}),
    "square": (square_pool, SMALL, {"order": 3}),
    "stock max": (max_pool, SMALL, {"no_scatter": False}),
    "two batch axes": (sum_pool, tie_free((2, 3, 2, 2, 1)), {"vmap_axes": (0, 1)}),
    "no batch axis": (sum_pool, tie_free((4, 4, 2)), {"vmap_axes": ()}),
    "odd batch": (sum_pool, tie_free((3, 2, 2, 1)), {"x64": False}),
    "no gradient": (lambda x: lax.stop_gradient(sum_pool(x)), SMALL, {"grad": False}),
}


@pytest.mark.parametrize("name", GOOD)
def test_checker_accepts(name):
    fn, x, options = GOOD[name]
    check_transforms(fn, x, **options)


def with_jvp(fn, tangent):
    """fn with a derivative rule of its own, tangent(x, t)."""
    wrapped = jax.custom_jvp(fn)
    wrapped.defjvp(lambda x, t: (fn(*x), tangent(*x, *t)))
    return wrapped


def with_vjp(fn, cotangent):
    wrapped = jax.custom_vjp(fn)
    wrapped.defvjp(lambda x: (fn(x), x), lambda x, g: (cotangent(x, g),))
    return wrapped


def upsampled(g):
    return jnp.repeat(jnp.repeat(g, 2, axis=-3), 2, axis=-2)


def frozen_slope(x, t):
    """The right first derivative of square_pool, held constant for the second."""
    return sum_pool(2 * lax.stop_gradient(x) * t)


def never_double(x):
    return sum_pool(x.astype(jnp.float32) if x.dtype == jnp.float64 else x)


def kept_batch(x):
    """Writes the batch size into the program."""
    return sum_pool(jnp.broadcast_to(x, (int(x.shape[0]), *x.shape[1:])))


def only_cpu(x):
    return lax.platform_dependent(x, cpu=sum_pool, cuda=sum_pool)


def gathered(x):
    """A strided pick by indexing, whose gradient is a scatter."""
    return x[..., np.array([0, 2]), :, :]


# What the error must say, and a function that breaks just that.
BAD = [
    ("eager failed", lambda x: sum_pool(x + jnp.ones(2))),
    ("jit failed", lambda x: sum_pool(x) if x.sum() < 99 else -sum_pool(x)),
    ("dtype bfloat16 failed: \nNot equal", lambda x: sum_pool(x + 999) - 4 * 999),
    ("dtype bfloat16 failed: fn", lambda x: sum_pool(x.astype(jnp.float32))),
    ("dtype float64 failed: fn", never_double),
    (
        "<jvp.* rtol=1e-10",  # float32 inside, float64 outside
        lambda x: sum_pool(x.astype(jnp.float32)).astype(x.dtype),
    ),
    ("forward-mode", with_vjp(sum_pool, lambda x, g: upsampled(g))),
    ("eager gradient", with_jvp(sum_pool, lambda x, t: sum_pool(abs(t)))),
    ("jvp = finite difference", with_jvp(sum_pool, lambda x, t: -sum_pool(t))),
    ("jvp of jvp = finite difference", with_jvp(square_pool, frozen_slope)),
    ("vmap over axis 0", lambda x: sum_pool(x - x.mean())),
    ("lowering the forward for tpu", only_cpu),
    ("lowering the gradient for cpu failed: .*scatter", gathered),
    ("lowering the gradient for cpu failed: .*select_and_scatter", max_pool),
    ("export failed", kept_batch),
    ("all-reduce", lambda x: sum_pool(x) + 0 * x.sum()),
]


@pytest.mark.parametrize("message, fn", BAD, ids=[message for message, _ in BAD])
def test_checker_refuses(message, fn):
    with pytest.raises(TransformError, match=f"(?s){message}"):
        check_transforms(fn, SMALL)


def test_checker_refuses_infinite_numbers():
    with pytest.raises(TransformError, match="finite"):
        check_transforms(sum_pool, np.full((2, 2, 2, 1), np.inf, np.float32))


@pytest.mark.parametrize("shape", [(), (1,), (5, 3), (2, 8, 8, 1)])
def test_tie_free_numbers_are_distinct(shape):
    x = np.abs(tie_free(shape))
    assert x.shape == shape and len(np.unique(x)) == x.size and x.min() > 0
    assert (x == x.astype(jnp.bfloat16).astype(np.float32)).all()


def test_fixtures(key, rng):
    assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    assert isinstance(rng, np.random.Generator)
    if jax.default_backend() == "cpu":
        assert len(jax.devices()) == 8
