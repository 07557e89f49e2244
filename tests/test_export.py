"""Every function exported with a symbolic batch, written, read back and run."""

import re

import catalogue
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from transforms import QUICK, tie_free

import jaxpool

BATCHED = [name for name in catalogue.CALLS if not name.startswith("segment_")]
SEGMENTS = [name for name in catalogue.CALLS if name.startswith("segment_")]


# CUDA draws random numbers by a kernel of JAX's own, the one custom call there is.
DRAWN = {
    *("compact_bilinear_pool", "fractional_max_pool", "random_mixed_pool"),
    *("random_pool", "s3_pool", "stochastic_pool"),
}


def reloaded(fn, *specs, platforms=("cpu", "tpu")):
    """`fn` as it comes back from bytes, and its program."""
    exported = jax.export.export(jax.jit(fn), platforms=platforms)(*specs)
    again = jax.export.deserialize(exported.serialize())
    return again.call, exported.mlir_module()


def check_same(call, fn, *args):
    got, want = jax.jit(lambda *args: (call(*args), fn(*args)), compiler_options=QUICK)(
        *args
    )
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(np.float64(a), np.float64(b), rtol=1e-5, atol=1e-6)


def custom_calls(text):
    return set(re.findall(r"stablehlo\.custom_call @(\S+?)\(", text)) - {
        "shape_assertion"  # of symbolic sizes, resolved when the program is compiled
    }


@pytest.mark.parametrize("name", BATCHED)
def test_symbolic_batch(name):
    _, *rest = catalogue.SHAPES.get(name, catalogue.SHAPE)
    shape = jax.export.symbolic_shape(", ".join(["b", *map(str, rest)]))
    fn = catalogue.CALLS[name]
    platforms = ("cpu", "tpu") if name in DRAWN else ("cpu", "cuda", "tpu")
    spec = jax.ShapeDtypeStruct(shape, jnp.float32)
    call, text = reloaded(fn, spec, platforms=platforms)
    assert not custom_calls(text)
    check_same(call, fn, jnp.asarray(tie_free((3, *rest))))


@pytest.mark.parametrize("name", SEGMENTS)
def test_symbolic_number_of_nodes(name):
    pool = getattr(jaxpool, name)

    def fn(x, ids):
        logits = (x[:, :1],) if name == "segment_softmax_pool" else ()
        return pool(x, *logits, ids, 4)

    nodes = jax.export.symbolic_shape("n")
    call, text = reloaded(
        fn,
        jax.ShapeDtypeStruct((*nodes, 4), jnp.float32),
        jax.ShapeDtypeStruct(nodes, jnp.int32),
    )
    assert not custom_calls(text)
    ids = jnp.asarray(np.array([0, 2, 0, 1, 2, 2, 1], np.int32))
    check_same(call, fn, jnp.asarray(tie_free((7, 4))), ids)


SIZES = "b, h, w, 4"


@pytest.mark.parametrize("name", ["max", "min", "avg", "sum", "median", "soft", "lse"])
def test_symbolic_sizes_at_stride_1(name):
    """With the gradient, at edges and without; 5x5 goes axis by axis."""

    def fn(x):
        pool = getattr(jaxpool, f"{name}_pool")
        same = pool(x, (3, 3), strides=1, padding="SAME")
        y, pullback = jax.vjp(lambda x: pool(x, (5, 5), strides=1), x)
        _, pullback_same = jax.vjp(
            lambda x: pool(x, (3, 3), strides=1, padding=1), x.astype(jnp.bfloat16)
        )
        half = pullback_same(jnp.ones(x.shape, jnp.bfloat16))
        return same, y, pullback(y * y), half

    shape = jax.export.symbolic_shape(SIZES, constraints=["h >= 5", "w >= 5"])
    call, _ = reloaded(fn, jax.ShapeDtypeStruct(shape, jnp.float32))
    check_same(call, fn, jnp.asarray(tie_free((2, 5, 6, 4))))


@pytest.mark.parametrize(
    "fn, message",
    [
        (lambda x: jaxpool.max_pool(x, (3, 3), strides=1), r"constraint 'h - 2 >= 1'"),
        (
            jax.grad(lambda x: jaxpool.lp_pool(x, (3,), strides=1, axes=(2,)).sum()),
            "static",
        ),
    ],
)
def test_sizes_that_must_be_known(fn, message):
    shape = jax.export.symbolic_shape(SIZES, constraints=["w >= 3"])
    with pytest.raises(ValueError, match=message):
        reloaded(fn, jax.ShapeDtypeStruct(shape, jnp.float32))


# With a stride, with weights per tap, or to a size that depends on the input's.
STATIC = {
    *("ada_unpool", "adaptive_avg_pool", "adaptive_max_pool", "adaptive_min_pool"),
    *("avg_unpool", "blur_pool", "detail_preserving_pool", "fractional_max_pool"),
    *("indices_from_tensorflow", "indices_to_tensorflow", "max_blur_pool"),
    *("max_unpool", "polyphase_pool", "rank_pool", "s3_pool", "spatial_pyramid_pool"),
    *("spectral_pool", "topk_avg_pool", "wavelet_pool"),
}


def test_symbolic_sizes_work_or_are_refused():
    """Every function of images or of tokens; those that refuse say what they need."""
    images = jax.export.symbolic_shape("b, h, w, 4", constraints=["h >= 6", "w >= 6"])
    tokens = jax.export.symbolic_shape("b, n, 4", constraints=["n >= 6"])
    refused = set()
    for name in BATCHED:
        shape = tokens if name in catalogue.TOKENS else images
        try:
            jax.eval_shape(
                catalogue.CALLS[name], jax.ShapeDtypeStruct(shape, jnp.float32)
            )
        except (TypeError, ValueError) as error:
            assert re.match(
                r"`(x|output_shape)` must (.*(static|unknown) size|hold ints)",
                str(error),
            )
            refused.add(name)
    assert refused == STATIC


@pytest.mark.parametrize("name", ["roi_align", "roi_pool", "ps_roi_align"])
def test_regions_of_images_of_any_size(name):
    """And any number of boxes."""

    def fn(x, boxes):
        return getattr(jaxpool, name)(x, boxes, (2, 2))

    scope = jax.export.SymbolicScope()
    shapes = (jax.export.symbolic_shape(s, scope=scope) for s in ("h, w, 4", "k, 4"))
    call, _ = reloaded(fn, *(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes))
    check_same(call, fn, jnp.asarray(tie_free((6, 7, 4))), jnp.asarray(catalogue.BOXES))


def test_strides_need_static_sizes():
    shape = jax.export.symbolic_shape(SIZES)
    with pytest.raises(ValueError, match="static"):
        reloaded(
            lambda x: jaxpool.max_pool(x, (2, 2)),
            jax.ShapeDtypeStruct(shape, jnp.float32),
        )
