"""One check of everything that JAX can do to a function: `check_transforms(fn, x)`.

`fn` takes one float array to one float array. For two inputs, join them on the last
axis and split them in `fn`; for parameters without a batch axis, `vmap_axes=()`. Keep
`x` tiny (about a hundred elements): the Jacobians and Hessians are full.

Compilation is the cost, so what can share a program does, and a check is some seconds:
one float64 program for all derivatives, one in the dtypes of `dtypes`, one sharded, one
of the exported function. Each error still names the transformation that caused it.

Tests leave out what another test has checked of the same code. With the variable
`JAXPOOL_THOROUGH` in the environment nothing is left out (7 minutes on 2 cores).
"""

import contextlib
import functools
import os
import re
from collections import OrderedDict

import jax
import jax.export
import jax.numpy as jnp
import jax.test_util
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxpool import _lowering

# These programs run once on a few numbers: compiling them is all that takes time.
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
if jax.__version_info__ < (0, 11):  # 0.12 has no such option
    QUICK["xla_cpu_use_fusion_emitters"] = False
THOROUGH = "JAXPOOL_THOROUGH" in os.environ
COLLECTIVE = re.compile(
    r"\b(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)\b"
)
SCATTER = re.compile(r"stablehlo\.(select_and_scatter|scatter)\b")


_quick = functools.partial(jax.jit, compiler_options=QUICK)


class TransformError(AssertionError):
    """A transformation failed, or gave another answer than it should."""


@contextlib.contextmanager
def _named(transformation):
    """Put the name of the transformation in front of whatever goes wrong."""
    try:
        yield
    except TransformError:
        raise
    except Exception as error:
        raise TransformError(f"{transformation} failed: {error}") from error


def tie_free(shape, seed=0, dtype=np.float32):
    """Random numbers, about -2 to 2, evenly spaced: no two alike, nor -a and a, nor 0.

    The gaps, some 4 / size wide, let a finite difference keep every order. Up to 128
    elements are exact in bfloat16, up to 1024 in float16.
    """
    size = int(np.prod(shape))
    order = np.random.RandomState(seed).permutation(size)
    scale = 2.0 ** -np.ceil(np.log2(max(size, 1)))
    return ((4 * order - 2 * size + 1) * scale).astype(dtype).reshape(shape)


def check_transforms(
    fn,
    x,
    *,
    grad=True,
    order=2,
    dtypes=("float32", "bfloat16", "float16"),
    vmap_axes=(0,),
    platforms=("cpu", "cuda", "tpu"),
    export=True,
    rtol=1e-5,
    atol=1e-6,
    tie_free=True,
    x64=True,
    eager_grad=True,
    no_scatter=True,
    sharded=True,
    check_grads=False,
):
    """Raise a `TransformError` that names the first transformation `fn` breaks.

    Args:
      fn: a function from one float array to one float array, of any float dtype.
      x: a small array of finite numbers whose windows have no ties (`tie_free(shape)`).
      grad: False for a function without a derivative: leaves out all that follow.
      order: the highest derivative, 1, 2 or 3.
      dtypes: those that must come out as they went in.
      vmap_axes: the leading batch axes of x, which are batch axes of fn(x) as well.
      platforms: those that must lower, without having the hardware.
      export: export with symbolic batch axes, serialise, reload, run, differentiate.
      rtol, atol: float32 tolerances; in float64 the two are squared. A 16-bit result
        may be 2 eps off the float32 result for the same numbers.
      tie_free: False if x has ties, to leave out the finite differences.
      x64: False if fn holds float32 arrays, to check derivatives in float32.
      eager_grad: take the gradient without jit as well.
      no_scatter: refuse a scatter in the gradient, on every platform but the TPU.
      sharded: batch-sharded jit and shard_map, if there are two devices; None where XLA
        gathers the batch (FFTs).
      check_grads: `jax.test_util.check_grads` too (two seconds; the finite differences
        of the float64 program test the same derivatives).
    """
    if THOROUGH:
        order, eager_grad, export = max(order, 2), True, True
        sharded = sharded is not None
        dtypes = ("float32", "bfloat16", "float16")
        platforms = ("cpu", "cuda", "tpu")
    x = jnp.asarray(x)
    vmap_axes = tuple(vmap_axes)
    y = _check_values(fn, x, dtypes, grad and eager_grad, rtol, atol)
    _check_dtypes(fn, x, dtypes, grad, x64)
    if grad:
        with jax.enable_x64(True) if x64 else contextlib.nullcontext():
            wide = jnp.asarray(np.asarray(x), jnp.float64 if x64 else jnp.float32)
            tolerances = (rtol**2, atol**2) if x64 else (10 * rtol, 10 * atol)
            _check_derivatives(fn, wide, order, vmap_axes, tie_free, *tolerances)
            if check_grads and tie_free:
                with _named("jax.test_util.check_grads"):
                    jax.test_util.check_grads(
                        jax.jit(fn), (wide,), order, **_difference_options(wide.dtype)
                    )
    else:
        pairs = _quick(lambda x: _batching(fn, x, vmap_axes))(x)
        _compare(pairs, rtol, atol)
    _check_lowering(fn, x, y, platforms, grad, no_scatter)
    if export:
        _check_export(fn, x, vmap_axes, platforms, grad, rtol, atol)
    if sharded and vmap_axes and len(jax.devices()) >= 2:
        _check_sharding(fn, x, vmap_axes[0], grad, rtol, atol)


# --- Helpers --------------------------------------------------------------------------


def _difference_options(dtype):
    """The step and the tolerance of central differences."""
    if dtype == jnp.float64:
        return {"eps": 1e-5, "rtol": 1e-5, "atol": 1e-5}
    return {"eps": 4e-3, "rtol": 2e-2, "atol": 2e-2}


def _normal(shape, dtype, seed):
    """A tangent or cotangent."""
    return jnp.asarray(np.random.RandomState(seed).randn(*shape), dtype)


def _vjp(fn, x, g):
    return jax.vjp(fn, x)[1](g)[0]


def _jvp(fn, x, t):
    return jax.jvp(fn, (x,), (t,))[1]


def _compare(pairs, rtol, atol):
    """Raise about the first (got, want) of a dict that differs."""
    for name, (got, want) in jax.device_get(pairs).items():
        with _named(name):
            np.testing.assert_allclose(got, want, rtol, atol)


# --- One check each -------------------------------------------------------------------


def _check_dtypes(fn, x, dtypes, grad, x64):
    for dtype in (*dtypes, "float64") if x64 else dtypes:
        wide = dtype == "float64"
        with (
            _named(f"dtype {dtype}"),
            jax.enable_x64(True) if wide else contextlib.nullcontext(),
        ):
            spec = jax.ShapeDtypeStruct(x.shape, dtype)
            y = jax.eval_shape(fn, spec)
            found = {"fn(x)": y}
            if grad:
                found["the gradient"] = jax.eval_shape(
                    lambda x, g: _vjp(fn, x, g), spec, y
                )
            for what, array in found.items():
                if array.dtype != dtype:
                    raise TypeError(f"{what} of a {dtype} x is {array.dtype}")


def _check_values(fn, x, dtypes, eager_grad, rtol, atol):
    """Eager = jit, and 16-bit floats give the float32 answer, rounded."""
    half = [d for d in dtypes if jnp.dtype(d).itemsize == 2]

    def program(x):
        with _named("jit"):
            found = {"jit": fn(x)}
        for dtype in half:
            with _named(f"dtype {dtype}"):
                narrow = x.astype(dtype)
                got = fn(narrow).astype(jnp.float32)
                found[dtype] = got, fn(narrow.astype(jnp.float32))
        return found

    with _named("eager"):
        y = fn(x)
    with _named("compiling in all dtypes"):
        found = _quick(program)(x)
    if not (jnp.isfinite(x).all() and jnp.isfinite(y).all()):
        raise TransformError("check_transforms needs x and fn(x) to be finite")
    _compare({"jit": (found["jit"], y)}, rtol, atol)
    for dtype in half:
        eps = float(jnp.finfo(dtype).eps)
        largest = float(jnp.abs(found[dtype][1]).max(initial=0))
        _compare({f"dtype {dtype}": found[dtype]}, 2 * eps, eps * largest)
    if eager_grad:
        g = _normal(y.shape, y.dtype, 0)
        with _named("eager gradient"):
            eager = _vjp(fn, x, g)
        with _named("gradient under jit"):
            jitted = _quick(lambda x, g: _vjp(fn, x, g))(x, g)
        _compare({"gradient under jit": (jitted, eager)}, rtol, atol)
    return y


def _batching(fn, x, vmap_axes):
    """Pairs of fn under vmap or scan and fn on the whole batch."""
    pairs = {}
    y = fn(x)
    for a in vmap_axes:
        with _named(f"vmap over axis {a}"):
            got = jax.vmap(fn, in_axes=a, out_axes=a)(x)
            pairs[f"vmap over axis {a}"] = got, y
    if vmap_axes:
        a = vmap_axes[0]
        with _named("vmap over the last axis"):
            last = jnp.moveaxis(x, a, -1)
            got = jax.vmap(fn, in_axes=-1, out_axes=-1)(last)
            pairs["vmap over the last axis"] = got, jnp.moveaxis(y, a, -1)
        with _named("scan"):
            _, got = lax.scan(lambda _, x: (None, fn(x)), None, jnp.moveaxis(x, a, 0))
            pairs["scan"] = got, jnp.moveaxis(y, a, 0)
    return pairs


def _batched_gradients(fn, x, g, vmap_axes):
    """Pairs of the gradient of fn under vmap or scan and that on the whole batch."""
    pairs = {}
    dx = _vjp(fn, x, g)
    for a in vmap_axes:
        with _named(f"vmap of the gradient over axis {a}"):
            got = jax.vmap(lambda x, g: _vjp(fn, x, g), (a, a), a)(x, g)
            pairs[f"vmap of the gradient over axis {a}"] = got, dx
        with _named(f"gradient of vmap over axis {a}"):
            got = _vjp(jax.vmap(fn, a, a), x, g)
            pairs[f"gradient of vmap over axis {a}"] = got, dx
    if vmap_axes:
        a = vmap_axes[0]

        def scanned(x):
            return lax.scan(lambda _, x: (None, fn(x)), None, x)[1]

        with _named("gradient of scan"):
            got = _vjp(scanned, jnp.moveaxis(x, a, 0), jnp.moveaxis(g, a, 0))
            pairs["gradient of scan"] = got, jnp.moveaxis(dx, a, 0)
    return pairs


def _first_order(fn, x, t, g):
    """Pairs for jvp, vjp, linearize and checkpoint."""
    pairs = {}
    with _named("jvp"):
        dy = _jvp(fn, x, t)
    with _named("vjp"):
        dx = _vjp(fn, x, g)
    pairs["<jvp(t), g> = <t, vjp(g)>"] = jnp.vdot(dy, g), jnp.vdot(t, dx)
    with _named("linearize"):
        y, linear = jax.linearize(fn, x)
        pairs["linearize"] = linear(t), dy
        pairs["value from linearize"] = y, fn(x)
    with _named("checkpoint"):
        pairs["checkpoint"] = _vjp(jax.checkpoint(fn), x, g), dx
    return pairs


def _jacobians(fn, x, order):
    """Pairs of the same derivative, taken in different orders of fwd and rev."""
    pairs = {}
    with _named("jacfwd"):
        forward = jax.jacfwd(fn)(x)
    with _named("jacrev"):
        pairs["jacfwd = jacrev"] = forward, jax.jacrev(fn)(x)
    y = jax.eval_shape(fn, x)
    weights, t = _normal(y.shape, y.dtype, 3), _normal(x.shape, x.dtype, 4)

    def scalar(x):
        # The sine, because a piecewise linear fn alone has a Hessian of zeros.
        return jnp.vdot(weights, jnp.sin(fn(x)))

    def second(x):
        return _jvp(lambda x: _jvp(scalar, x, t), x, t)

    if order >= 2:
        with _named("hessian"):
            hessian = jax.hessian(scalar)(x)
        with _named("jacrev of jacrev"):
            pairs["hessian = jacrev of jacrev"] = (
                hessian,
                jax.jacrev(jax.jacrev(scalar))(x),
            )
    if order >= 3:
        with _named("third order"):
            pairs["third order, jvp = grad"] = (
                _jvp(second, x, t),
                jnp.vdot(jax.grad(second)(x), t),
            )
    return pairs


def _differences(fn, x, t, u, g, order, eps):
    """Pairs of derivatives along u and central differences, as check_grads makes."""

    def slope(f):
        return (f(x + eps * u) - f(x - eps * u)) / (2 * eps)

    def forward(x):
        return _jvp(fn, x, t)

    def reverse(x):
        return _vjp(fn, x, g)

    first = slope(fn)
    pairs = {
        "jvp = finite difference": (_jvp(fn, x, u), first),
        "vjp = finite difference": (jnp.vdot(reverse(x), u), jnp.vdot(first, g)),
    }
    if order >= 2:
        by_forward, by_reverse = slope(forward), slope(reverse)
        with _named("jvp of jvp"):
            got = _jvp(forward, x, u)
            pairs["jvp of jvp = finite difference"] = got, by_forward
        with _named("vjp of jvp"):
            got = jnp.vdot(_vjp(forward, x, g), u)
            pairs["vjp of jvp = finite difference"] = got, jnp.vdot(by_forward, g)
        with _named("jvp of vjp"):
            got = _jvp(reverse, x, u)
            pairs["jvp of vjp = finite difference"] = got, by_reverse
        with _named("vjp of vjp"):
            got = jnp.vdot(_vjp(reverse, x, t), u)
            pairs["vjp of vjp = finite difference"] = got, jnp.vdot(by_reverse, t)
    return pairs


def _check_derivatives(fn, x, order, vmap_axes, differences, rtol, atol):
    """All derivatives and their batched forms, in one program."""
    y = jax.eval_shape(fn, x)
    t, u = _normal(x.shape, x.dtype, 1), _normal(x.shape, x.dtype, 2)
    g = _normal(y.shape, y.dtype, 0)
    options = _difference_options(x.dtype)
    slice_of_x = x
    for a in vmap_axes:
        slice_of_x = lax.slice_in_dim(slice_of_x, 0, 1, axis=a)

    def program(x, slice_of_x, t, u, g):
        exact = OrderedDict(  # a dict would come back sorted by name
            _first_order(fn, x, t, g)
            | _batching(fn, x, vmap_axes)
            | _batched_gradients(fn, x, g, vmap_axes)
            | _jacobians(fn, slice_of_x, order)
        )
        if not differences:
            return exact, {}
        rough = _differences(fn, x, t, u, g, order, options["eps"])
        return exact, OrderedDict(rough)

    # By one rule: tracing is most of the cost. Second derivatives by the rules of all
    # platforms are traced and lowered for the matrix (conformance.py).
    with _named("compiling the derivatives"), _lowering.force("cpu"):
        compiled = _quick(program)
        exact, rough = compiled(x, slice_of_x, t, u, g)
    _compare(exact, rtol, atol)
    _compare(rough, options["rtol"], options["atol"])


def _check_lowering(fn, x, y, platforms, grad, no_scatter):
    jobs = {"forward": jax.jit(lambda x: fn(x)).trace(x)}
    if grad:
        jobs["gradient"] = jax.jit(lambda x, g: _vjp(fn, x, g)).trace(x, y)
    for what, traced in jobs.items():
        for platform in platforms:
            with _named(f"lowering the {what} for {platform}"):
                text = traced.lower(lowering_platforms=(platform,)).as_text()
                found = SCATTER.search(text)
                checked = no_scatter and what == "gradient" and platform != "tpu"
                if checked and found:
                    raise ValueError(f"it contains {found[0]}")


def _double(x, axis):
    return jnp.concatenate([x, x], axis)


def _check_export(fn, x, vmap_axes, platforms, grad, rtol, atol):
    """Export with symbolic batch axes, reload, and run on a batch twice as large."""
    dims = [f"b{a}" if a in vmap_axes else str(n) for a, n in enumerate(x.shape)]
    shape = jax.export.symbolic_shape(", ".join(dims))
    here = jax.devices()[0].platform.replace("gpu", "cuda")
    with _named("export"):
        exported = jax.export.export(
            jax.jit(lambda x: fn(x)), platforms=sorted({*platforms, here})
        )(jax.ShapeDtypeStruct(shape, x.dtype))
    with _named("serialising the gradient" if grad else "serialising"):
        stored = exported.serialize(vjp_order=1 if grad else 0)
        loaded = jax.export.deserialize(stored).call
    if vmap_axes:
        x = _double(x, vmap_axes[0])
    y = jax.eval_shape(fn, x)
    g = _normal(y.shape, y.dtype, 0)

    def program(x, g):
        pairs = {}
        with _named("calling the exported function"):
            pairs["exported"] = loaded(x), fn(x)
        if grad:
            with _named("gradient of the exported function"):
                pairs["gradient of the exported"] = _vjp(loaded, x, g), _vjp(fn, x, g)
        return pairs

    with _named("compiling the exported function"):
        pairs = _quick(program)(x, g)
    _compare(pairs, rtol, atol)


def _check_sharding(fn, x, axis, grad, rtol, atol):
    """Batch-sharded jit and shard_map: the same numbers, and no communication."""
    x = x if x.shape[axis] % 2 == 0 else _double(x, axis)
    y = jax.eval_shape(fn, x)
    g = _normal(y.shape, y.dtype, 0)
    mesh = Mesh(np.array(jax.devices()[:2]), ("batch",))
    spec = PartitionSpec(*[None] * axis, "batch")
    mapped = jax.shard_map(fn, mesh=mesh, in_specs=spec, out_specs=spec)

    def program(x, g):
        found = {}
        with _named("sharded jit"):
            found["sharded jit"] = fn(x)
            if grad:
                found["gradient in sharded jit"] = _vjp(fn, x, g)
        with _named("shard_map"):
            found["shard_map"] = mapped(x)
            if grad:
                found["gradient of shard_map"] = _vjp(mapped, x, g)
        return found

    split = NamedSharding(mesh, spec)
    with _named("sharded jit and shard_map"):
        args = jax.device_put((x, g), split)
        compiled = jax.jit(program).lower(*args).compile(QUICK)
        if found := COLLECTIVE.search(compiled.as_text() or ""):
            raise ValueError(f"the compiled program contains {found[0]}")
        got = compiled(*args)
    y, dx = _quick(lambda x, g: (fn(x), _vjp(fn, x, g) if grad else None))(x, g)
    _compare({k: (v, dx if "gradient" in k else y) for k, v in got.items()}, rtol, atol)
