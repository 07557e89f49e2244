"""Window geometry: shapes, padding, divisors and axes; and what wrong calls say."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import jaxpool
from jaxpool._window import make_window

# --- Output shapes --------------------------------------------------------------------

NAMED = ["VALID", "SAME", "SAME_LOWER"]


@st.composite
def geometries(draw, most_axes=4):
    """The shape of x, and the arguments of a pool, which may not fit it."""
    rank = draw(st.integers(1, most_axes))

    def per_axis(values):
        return st.tuples(*[values] * rank)

    def one_or_per_axis(low, high):
        return st.integers(low, high) | per_axis(st.integers(low, high))

    pair = st.tuples(st.integers(0, 4), st.integers(0, 4))
    padding = st.sampled_from(NAMED) | one_or_per_axis(0, 4) | per_axis(pair)
    batch = draw(st.lists(st.integers(0, 2), max_size=2))
    space = draw(st.lists(st.integers(1, 12), min_size=rank, max_size=rank))
    return (*batch, *space, draw(st.integers(1, 3))), {
        "window_shape": draw(per_axis(st.integers(1, 6))),
        "strides": draw(st.none() | one_or_per_axis(1, 5)),
        "padding": draw(padding),
        "dilation": draw(one_or_per_axis(1, 3)),
        "ceil_mode": draw(st.booleans()),
    }


@settings(max_examples=300, deadline=None, derandomize=True)
@given(geometries())
def test_output_shape_is_the_closed_formula(geometry):
    shape, options = geometry
    try:
        expected = oracles.output_shape(shape, **options)
    except ValueError:
        with pytest.raises(ValueError, match=r"`window_shape` .* must fit into x"):
            jaxpool.pool_output_shape(shape, **options)
    else:
        assert jaxpool.pool_output_shape(shape, **options) == expected


@settings(max_examples=25, deadline=None, derandomize=True)
@given(geometries(most_axes=2))
def test_output_shape_is_that_of_the_array(geometry):
    shape, options = geometry
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    try:
        expected = jaxpool.pool_output_shape(shape, **options)
    except ValueError:
        return
    for pool in (jaxpool.max_pool, jaxpool.avg_pool):
        assert jax.eval_shape(lambda x, pool=pool: pool(x, **options), x).shape == (
            expected
        )


@pytest.mark.parametrize(
    "n, k, s, p, floor, ceil",
    [
        (5, 2, 2, 0, 2, 3),
        (6, 3, 2, 1, 3, 4),
        (4, 2, 2, 1, 3, 3),  # the last window would start in the padding
        (4, 1, 2, 0, 2, 2),  # or after the input
        (4, 2, 3, 0, 1, 2),
        (1, 1, 2, 0, 1, 1),
    ],
)
def test_ceil_mode_is_that_of_torch(n, k, s, p, floor, ceil):
    for ceil_mode, size in ((False, floor), (True, ceil)):
        shape = jaxpool.pool_output_shape(
            (n, 1), (k,), strides=s, padding=p, ceil_mode=ceil_mode
        )
        assert shape == (size, 1)


@pytest.mark.parametrize("name", NAMED)
def test_named_padding_is_that_of_lax(name):
    for n, k, s, d in itertools.product((7, 8), (1, 2, 3, 4), (1, 2, 3), (1, 2)):
        window = make_window((n, 1), (k,), strides=s, padding=name, dilation=d)
        pads = lax.padtype_to_pads((n,), (d * (k - 1) + 1,), (s,), name)
        assert window.padding == tuple(pads), (n, k, s, d)


def test_strides_default_to_the_window():
    assert jaxpool.pool_output_shape((2, 7, 9, 3), (2, 4)) == (2, 3, 2, 3)


def test_zero_size_batch():
    shape = jaxpool.pool_output_shape((0, 5, 5, 3), (2, 2))
    assert shape == (0, 2, 2, 3)
    for name, pool in jaxpool.POOLS.items():
        channels = 6 if name == "combined" else 3  # side by side
        y = jax.eval_shape(lambda x: pool(x, (2, 2)), jnp.zeros((0, 5, 5, 3)))  # noqa: B023
        assert y.shape == (*shape[:-1], channels)


# --- Divisors -------------------------------------------------------------------------

DIVISORS = [
    {"strides": 2, "padding": ((1, 2), (0, 1)), "ceil_mode": True},
    {"strides": (3, 2), "padding": 1, "ceil_mode": True, "dilation": (1, 2)},
    {"strides": 1, "padding": "SAME_LOWER"},
    {"strides": 4, "padding": ((5, 0), (2, 3)), "dilation": 2},  # wholly in padding
]


@pytest.mark.parametrize("options", DIVISORS, ids=str)
def test_counts_are_the_elements_of_each_window(options):
    shape = (6, 7, 1)
    window = make_window(shape, (3, 2), **options)
    found = list(oracles.windows(shape, (3, 2), **options))
    for include, expected in (
        (False, [len(w.taps) for w in found]),
        (True, [len(w.taps) + w.padding for w in found]),
    ):
        counts = window.counts(3, include)
        assert counts.shape == (*window.output, 1)
        np.testing.assert_array_equal(counts.ravel(), expected)


# --- Axes -----------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [(0, 2), (-3, -1), (0, -1)])
def test_axes_may_count_from_either_end(axes):
    x = np.random.default_rng(0).normal(size=(5, 2, 6)).astype(np.float32)
    y = jaxpool.max_pool(x, (2, 3), axes=axes)
    np.testing.assert_array_equal(y, oracles.max_pool(x, (2, 3), axes=(0, 2)))


def test_axes_in_any_order():
    """Each argument keeps to its axis; ties and indices follow the array's order."""
    x = np.random.default_rng(0).integers(0, 3, (5, 2, 6)).astype(np.float32)
    swapped = {"strides": (1, 2), "padding": ((0, 1), (1, 0)), "dilation": (2, 1)}

    def pool(x):
        return jaxpool.max_pool(x, (2, 3), axes=(-1, 0), return_indices=True, **swapped)

    y, vjp, indices = jax.vjp(jax.jit(pool), x, has_aux=True)
    options = {k: v[::-1] for k, v in swapped.items()} | {"axes": (0, 2)}
    expected = oracles.max_pool(x, (3, 2), return_indices=True, **options)
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(indices, expected[1])
    dx = oracles.max_pool_vjp(x, np.ones_like(y), (3, 2), **options)
    np.testing.assert_array_equal(vjp(jnp.ones_like(y))[0], dx)


def test_channels_first():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype(np.float32)
    y = jaxpool.avg_pool(x, (2, 3), axes=(-2, -1))
    last = jaxpool.avg_pool(np.moveaxis(x, 1, -1), (2, 3))
    assert y.shape == (2, 3, 2, 2)
    np.testing.assert_allclose(y, np.moveaxis(last, -1, 1), 1e-6)


# --- Wrong calls ----------------------------------------------------------------------
# Each message names the argument, what is expected, and what was given.

X = np.ones((4, 6, 3), np.float32)


def call(match, pool="max", x=X, window=(2, 2), **options):
    """A wrong call and what its error says."""
    return pytest.param(match, jaxpool.POOLS[pool], x, window, options, id=match)


TYPE_ERRORS = [
    call("`x` must be an array, got str", x="abc"),
    call("`x` must be an array, got NoneType", x=None),
    call("`x` must hold numbers, got dtype <U1", x=np.full((4, 4, 1), "a")),
    call(r"`x` .* real, .* complex64 with shape \(4, 6, 3\)", x=X.astype("complex64")),
    call("`x` must be real", "soft", x=X.astype("complex64")),
    call(r"`window_shape` .* tuple .* got the int 2: write \(2, 2\)", window=2),
    call("`window_shape` must be a tuple .* got '22'", window="22"),
    call("`window_shape` must hold ints, got 2.0", window=(2.0, 2)),
    call("`window_shape` must hold ints, got True", window=(2, True)),
    call("`strides` must hold ints, got True", strides=True),
    call("`strides` must hold ints, got 1.5", strides=(1, 1.5)),
    call("`dilation` must hold ints, got None", dilation=None),
    call("`padding` must hold ints, got 0.5", padding=((0, 1), (0, 0.5))),
    call("`ceil_mode` must be True or False, got 1", ceil_mode=1),
    call("`axes` must be a tuple of ints, got 1", axes=1),
    call("`axes` must hold ints, got 0.0", axes=(0.0, 1)),
    call("`where` must be boolean, got dtype float32", where=X),
    call("`p` must .* got '2'", "lp", p="2"),
    call("`temperature` must .* got '1'", "soft", temperature="1"),
    call("`divisor_override` must .* got '2'", "avg", divisor_override="2"),
    call("`count_include_pad` .* True or False, got 1", "avg", count_include_pad=1),
]

VALUE_ERRORS = [
    call(r"`window_shape` must have at least one int, got \(\)", window=()),
    call(r"`window_shape` must be at least 1, got \(2, 0\)", window=(2, 0)),
    call(r"`window_shape` .* at most 2 ints .* \(4, 6, 3\) .* got", window=(1, 1, 1)),
    call(r"must fit into x with shape \(4, 6, 3\), got no output", window=(5, 2)),
    call("axis -2: its size is 6 and the window spans 7", dilation=(1, 6)),
    call(r"`window_shape` .* x with shape \(4, 0, 3\)", x=np.ones((4, 0, 3))),
    call(r"`strides` .* per pooled axis \(2\), got \(1, 2, 3\)", strides=(1, 2, 3)),
    call("`strides` must be at least 1, got 0", strides=0),
    call(r"`dilation` must be at least 1, got \(1, 0\)", dilation=(1, 0)),
    call("`padding` must not be negative, got .*-1", padding=-1),
    call("`padding` .* VALID, SAME, SAME_LOWER, an int, .* 'FULL'", padding="FULL"),
    call(r"`padding` .* per pooled axis \(2\), got", padding=((0, 1),)),
    call(r"`padding` .* \(low, high\) pair .*\(0, 1, 2\)", padding=((0, 1, 2), 0)),
    call(r"`axes` .* one axis per entry .* \(2\), got \(0,\)", axes=(0,)),
    call(r"`axes` must lie in \[-3, 3\) .* \(4, 6, 3\), got \(0, 3\)", axes=(0, 3)),
    call(r"`axes` must not repeat an axis, got \(0, -3\)", axes=(0, -3)),
    call(r"`where` .* to x .* \(4, 6, 3\), got shape \(4, 6\)", where=X[..., 0] > 0),
    call(r"`where` must broadcast .* \(1, 4, 6, 3\)", where=X[None] > 0),
    call("`even` .* lower, upper, mean, got 'middle'", "median", even="middle"),
    call("`p` must be positive, got 0", "lp", p=0),
    call("`p` must be positive, got nan", "lp", p=float("nan")),
    call("`p` must be positive, got .*-1.0", "lp", p=np.float32(-1)),
    call(r"`p` must .* got .*\(2,\)", "lp", p=np.ones(2, "f")),
    call(r"`p` must .* got .*\(1, 1, 1, 1\)", "lp", p=np.ones((1, 1, 1, 1), "f")),
    call("`temperature` .* positive and finite, got -1", "soft", temperature=-1.0),
    call("`temperature` .* positive and finite, got inf", "lse", temperature=np.inf),
    call("`empty` .* number that int8 holds, got 0.5", x=X.astype("i1"), empty=0.5),
    call("`empty` .* number that float32 holds, got 1j", "avg", empty=1j),
    call("`temperature` must be pos.* got .*0.0", "soft", temperature=np.float32(0)),
    call(r"`temperature` must .*\(2,\)", "soft", temperature=np.ones(2, "f")),
    call("`divisor_override` must be finite and not 0", "avg", divisor_override=0),
]


@pytest.mark.parametrize("match, pool, x, window, options", TYPE_ERRORS)
def test_a_wrong_kind_is_a_type_error(match, pool, x, window, options):
    with pytest.raises(TypeError, match=match):
        pool(x, window, **options)


@pytest.mark.parametrize("match, pool, x, window, options", VALUE_ERRORS)
def test_a_wrong_value_is_a_value_error(match, pool, x, window, options):
    with pytest.raises(ValueError, match=match):
        pool(x, window, **options)


@pytest.mark.parametrize("pool, name", [("lp", "p"), ("soft", "temperature")])
def test_a_parameter_does_not_change_the_shape(pool, name):
    """It is a scalar, or one per channel: three for one channel is an error."""
    with pytest.raises(ValueError, match=f"`{name}` must"):
        jaxpool.POOLS[pool](X[..., :1], (2, 2), **{name: np.ones(3, "f")})


def test_pool_output_shape_says_the_same():
    with pytest.raises(TypeError, match="`window_shape` must be a tuple"):
        jaxpool.pool_output_shape((4, 4, 1), 2)
    with pytest.raises(ValueError, match=r"must fit into x with shape \(4, 4, 1\)"):
        jaxpool.pool_output_shape((4, 4, 1), (5, 1))
    with pytest.raises(TypeError, match="`shape` must be a tuple of ints, got 5"):
        jaxpool.pool_output_shape(5, (2, 2))  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"`shape` must hold ints, got 4\.0"):
        jaxpool.pool_cost("avg", (4.0, 4, 1), (2, 2))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="`shape` must not be negative, got"):
        jaxpool.pool_output_shape((-1, 4, 4, 1), (2, 2))


@pytest.mark.parametrize("name", jaxpool.POOLS)
def test_every_pool_checks_its_arguments(name):
    pool = jaxpool.POOLS[name]
    for match, call in {
        "`x`": lambda: pool("abc", (2, 2)),
        "`window_shape`": lambda: pool(X, 2),
        "`strides`": lambda: pool(X, (2, 2), strides=0),
        "`padding`": lambda: pool(X, (2, 2), padding=-1),
        "`dilation`": lambda: pool(X, (2, 2), dilation=0),
        "`ceil_mode`": lambda: pool(X, (2, 2), ceil_mode="yes"),
        "`axes`": lambda: pool(X, (2, 2), axes=(1, 1)),
        "`where`": lambda: pool(X, (2, 2), where=X),
        "`empty`": lambda: pool(X, (2, 2), empty=(0.0, 1.0)),
        "16 bits or more": lambda: pool(X.astype(jnp.float8_e4m3fn), (2, 2)),
    }.items():
        with pytest.raises((TypeError, ValueError), match=match):
            call()


def test_errors_come_before_tracing():
    """Under vmap and jit too, with the shapes that the function sees."""
    with pytest.raises(ValueError, match=r"must fit into x with shape \(4, 6, 3\)"):
        jax.jit(jax.vmap(lambda x: jaxpool.max_pool(x, (5, 5))))(X[None])


def test_what_is_no_array():
    for x in (["no"], [[1.0], [1.0, 2.0]]):
        with pytest.raises(TypeError, match="`x` must be an array, got"):
            jaxpool.max_pool(x, (1,))
    with pytest.raises(TypeError, match="`where` must be an array, got 'no'"):
        jaxpool.max_pool(X, (2, 2), where="no")
    for pool in (jaxpool.max_pool, jaxpool.adaptive_max_pool):
        with pytest.raises(ValueError, match="must have at most 0"):
            pool(np.float32(1), (1,))


@pytest.mark.parametrize(
    "argument, call",
    [
        ("window_shape", lambda n: jaxpool.max_pool(X, (n, 2))),
        ("strides", lambda n: jaxpool.avg_pool(X, (2, 2), strides=n)),
        ("padding", lambda n: jaxpool.soft_pool(X, (2, 2), padding=n)),
        ("dilation", lambda n: jaxpool.lp_pool(X, (2, 2), dilation=(1, n))),
        ("output_shape", lambda n: jaxpool.adaptive_avg_pool(X, (n, 2))),
        ("output_shape", lambda n: jaxpool.max_unpool(X, X.astype(int), (9, n))),
        ("window_shape", lambda n: jaxpool.avg_unpool(X, (n, n))),
        ("input_size", lambda n: jaxpool.fixed_window((n,), (1,))),
        (
            "output_shape",
            lambda n: jaxpool.fractional_max_pool(X, (1, 1), output_shape=(n, 2)),
        ),
    ],
)
def test_traced_sizes_are_errors(argument, call):
    with pytest.raises(TypeError, match=f"`{argument}` must hold ints, got .*Tracer"):
        jax.jit(call)(2)
