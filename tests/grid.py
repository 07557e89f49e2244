"""Pools against oracles and goldens, many cases in one compiled program.

`check` compares a pool with its oracle, `check_goldens` with what PyTorch recorded, and
`check_all_transforms` runs `check_transforms` on two configurations.
"""

import goldens
import jax
import jax.numpy as jnp
import numpy as np
import oracles
from transforms import QUICK, check_transforms, tie_free

import jaxpool
from jaxpool import _lowering

RULES = ["cpu", "default", "tpu"]
OWN_RULES = ["cpu", "default"]  # the native ops route ties, NaN and -inf their own way

# The shape of x, the window, and options.
GEOMETRIES = [
    ((9, 2), (3,), {"strides": 2, "padding": ((2, 1),)}),
    ((2, 11, 1), (4,), {"strides": 3, "dilation": 2, "ceil_mode": True}),
    ((2, 5, 6, 3), (2, 2), {}),
    ((2, 5, 7, 2), (3, 2), {"strides": (2, 1), "padding": ((1, 2), (0, 1))}),
    ((7, 5, 1), (4, 3), {"strides": (1, 2), "padding": "SAME_LOWER"}),
    ((8, 5, 2), (3, 2), {"strides": (3, 2), "padding": 1, "ceil_mode": True}),
    ((9, 8, 1), (7, 6), {"strides": (1, 2), "padding": ((3, 2), (1, 0))}),
    ((6, 3, 8), (2, 3), {"strides": (1, 2), "dilation": (3, 2), "axes": (0, -1)}),
    ((9, 1, 8, 1), (2, 1, 3), {"strides": (4, 1, 5), "padding": "SAME"}),
    ((2, 3, 2, 4, 1), (2, 2, 1, 3), {"strides": (1, 2, 1, 1), "axes": (0, 1, 2, 3)}),
]
# The shapes that differ most: for the other rules, and for other options. Some more.
FEW = [GEOMETRIES[i] for i in (1, 3, 5, 6, 7)]
SEVERAL = [*FEW, GEOMETRIES[0], GEOMETRIES[9]]

# A mask that empties windows, one of every shape, and one that leaves nothing at all.
MASKS = [
    ((6, 2), (2,), {"where": np.array([[1], [0], [0], [0], [1], [1]]) > 0}),
    (
        (4, 5, 2),
        (3, 2),
        {"strides": 1, "padding": ((2, 0), (1, 1)), "where": tie_free((5, 2), 2) > 0},
    ),
    (
        (9, 8, 1),
        (7, 6),
        {"strides": (1, 2), "where": tie_free((9, 8, 1)) > 1.8, "empty": 2.0},
    ),
    ((4, 4, 1), (2, 2), {"where": np.zeros((1, 1, 1), bool), "empty": 5.0}),
]


def cases(geometries, dtype="float32", **options):
    """Tie-free inputs for geometries, with NaN and infinity wherever a mask is off."""
    for seed, (shape, window_shape, geometry) in enumerate(geometries):
        x = tie_free(shape, seed, jnp.dtype(dtype))
        if (where := geometry.get("where")) is not None:
            garbage = np.resize(np.array([np.nan, np.inf, -np.inf], x.dtype), shape)
            x = np.where(where, x, garbage)
        yield x, {"window_shape": window_shape} | geometry | options


def _cotangent(rng, shape, dtype):
    g = rng.normal(size=shape)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        g = g + 1j * rng.normal(size=shape)
    return g.astype(dtype)


def _expected(name, x, options, rng):
    """A tangent, a cotangent, and the oracle's y, indices, <jvp(t), g> and vjp(g)."""
    options = dict(options)
    y = getattr(oracles, name)(x, **options)
    y, indices = y if isinstance(y, tuple) else (y, None)
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return None, None, (y, indices, None, None)
    for value_only in ("empty", "return_indices"):
        options.pop(value_only, None)
    g = _cotangent(rng, y.shape, x.dtype)
    dx = getattr(oracles, f"{name}_vjp")(x, g, **options)
    if "where" not in options:
        return None, g, (y, indices, None, dx)
    t = np.where(options["where"], _cotangent(rng, x.shape, x.dtype), np.nan)
    return t.astype(x.dtype), g, (y, indices, (np.nan_to_num(t) * dx).sum(), dx)


def _found(pool, options, x, t, g):
    def f(x):
        y = pool(x, **options)
        return y if isinstance(y, tuple) else (y, None)

    if g is None:
        return *f(x), None, None
    y, vjp, indices = jax.vjp(f, x, has_aux=True)
    jvp = None if t is None else jax.jvp(lambda x: f(x)[0], (x,), (t,))[1]
    return y, indices, None if jvp is None else (jvp * g).sum(), vjp(g)[0]


def check(name, cases, rule="cpu"):
    """Values, indices and gradients are the oracle's; with a mask, tangents as well."""
    pool, rng = getattr(jaxpool, name), np.random.default_rng(0)
    cases, inputs, expected = list(cases), [], []
    for x, options in cases:
        t, g, wanted = _expected(name, x, options, rng)
        inputs.append((x, t, g))
        expected.append(wanted)

    def program(inputs):
        return [
            _found(pool, options, *args)
            for (_, options), args in zip(cases, inputs, strict=True)
        ]

    with _lowering.force(rule):
        got = jax.device_get(jax.jit(program, compiler_options=QUICK)(inputs))
    whats = ("y", "indices", "jvp", "vjp")
    for (x, options), *pair in zip(cases, got, expected, strict=True):
        for what, a, b in zip(whats, *pair, strict=True):
            about = f"{what} of {name}, {x.dtype} {x.shape}, {options}"
            if b is not None:
                _compare(a, b, about)
        if jnp.issubdtype(x.dtype, jnp.inexact):
            assert pair[0][0].dtype == x.dtype


def _compare(a, b, about):
    if jnp.issubdtype(a.dtype, jnp.integer) or a.dtype == bool:
        np.testing.assert_array_equal(a, b, about)
    else:
        eps = float(jnp.finfo(a.dtype).eps)
        # One rounding of a 16-bit result; some of every operation of a wider one.
        rtol = 1.01 * eps if eps > 1e-4 else 100 * eps
        a = a.astype(np.result_type(b))
        np.testing.assert_allclose(a, b, rtol, 10 * eps, err_msg=about)


def check_rule(name, rule, geometries=GEOMETRIES, **options):
    """`check` by a rule: all geometries, or a few if the rule is not for the CPU."""
    some = [*geometries, *MASKS] if rule == "cpu" else [*FEW, MASKS[1]]
    check(name, cases(some, **options), rule)


def _as(x, dtype):
    """Numbers of about -2 to 2 in another dtype, as integers with ties."""
    if dtype == np.bool_:
        return x > 0
    if jnp.issubdtype(dtype, jnp.unsignedinteger):
        return np.abs(4 * x).astype(dtype)
    if jnp.issubdtype(dtype, jnp.integer):
        return (4 * x).astype(dtype)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return (x + 1j * x[..., ::-1, :] ** 2).astype(dtype)
    return x.astype(dtype)


OTHER_INTEGERS = ("int8", "int16", "uint16", "uint32", "int64", "uint64")


def check_dtypes(name, others=(), rules=("cpu",), **options):
    """`check` of 16-bit floats, of `others` with a mask as well, and of float64.

    Of every integer type if one is among the others.
    """
    shape, kept = (5, 7, 2), {"window_shape": (3, 2), "strides": (2, 1), **options}
    x = tie_free(shape)
    padded = kept | {"padding": ((1, 2), (0, 1))}
    some = [(x.astype(d), padded) for d in (jnp.bfloat16, jnp.float16)]
    for d in map(jnp.dtype, others):
        some.append((_as(x, d), padded))
        some.append((_as(x, d), kept | {"where": x > 0.2}))
    for rule in rules:
        check(name, some, rule)
    with jax.enable_x64(True):
        wide = list(cases(FEW[1:2], "float64", **options))
        if "int32" in others:
            wide += [(_as(x, np.dtype(d)), padded) for d in OTHER_INTEGERS]
        check(name, wide)


def _ceil_matters(case):
    """Whether a case would be another one, or none, in floor mode."""

    def output(**mode):
        geometry = ("window_shape", "strides", "padding", "dilation")
        options = {k: v for k, v in case["kwargs"].items() if k in geometry}
        return oracles.output_shape(case["x"].shape, **options, **mode)

    try:
        return case["kwargs"]["ceil_mode"] and output(ceil_mode=True) != output()
    except ValueError:
        return True


def check_goldens(name, pool, **options):
    """The values that ceil mode changes, and some others; some gradients and indices.

    Ceil mode changes nothing where its windows are those of floor mode, half the cases.
    """

    def check_values(group):
        def program(x):
            return [pool(x, **case["kwargs"]) for case in group]

        compiled = jax.jit(program, compiler_options=QUICK)
        for case, y in zip(group, compiled(group[0]["x"]), strict=True):
            np.testing.assert_allclose(y, case["y"], 1e-6, err_msg=case["name"])

    def derived(x, **kwargs):
        return pool(x, **kwargs, **options)

    with _lowering.force("cpu"):
        for group in goldens.groups(name):
            check_values(
                [c for i, c in enumerate(group) if i % 20 == 0 or _ceil_matters(c)]
            )
        for group in goldens.groups(name, every=1 if name == "lp" else 60):
            got = goldens.outputs(derived, group)
            for case, (y, dx) in zip(group, got, strict=True):
                y, indices = y if isinstance(y, tuple) else (y, None)
                np.testing.assert_allclose(y, case["y"], 1e-6, err_msg=case["name"])
                np.testing.assert_allclose(
                    dx, case["dx"], 1e-5, 1e-6, err_msg=case["name"]
                )
                if indices is not None:
                    np.testing.assert_array_equal(
                        indices, case["indices"], case["name"]
                    )


PLAIN = ((2, 4, 5, 2), (2, 2), {})
INVOLVED = (
    (2, 6, 2),
    (2,),
    {"strides": 2, "padding": ((2, 0),), "dilation": 2, "ceil_mode": True},
)


def check_plain_transforms(pool, **options):
    """Every transformation of a pool with disjoint windows, and first derivatives.

    Without 16-bit floats, which `check_dtypes` compares with the oracle.
    """
    shape, window_shape, geometry = PLAIN
    check_transforms(
        lambda x: pool(x, window_shape, **geometry),
        tie_free(shape),
        **{"order": 1, "dtypes": ("float32",)} | options,
    )


def check_involved_transforms(pool, order=2):
    """Derivatives of overlapping, dilated, padded and overhanging windows."""
    shape, window_shape, geometry = INVOLVED
    with _lowering.force("cpu"):  # a third of the program; the rest is in the plain one
        check_transforms(
            lambda x: pool(x, window_shape, **geometry),
            tie_free(shape),
            order=order,
            dtypes=("float32",),
            platforms=(),
            export=False,
            sharded=False,
            eager_grad=False,
        )
