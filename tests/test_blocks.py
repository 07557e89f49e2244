"""Blocks of convolutions against PyTorch's numbers, and in both module systems."""

import dataclasses
import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from parity import by_name, copy_to_nnx, shapes
from transforms import QUICK

import jaxpool
import jaxpool.linen
import jaxpool.nnx

try:
    import torch
except ImportError:
    torch = None

FILE = pathlib.Path(__file__).parent / "goldens" / "torch_blocks.npz"
# By case of the goldens: channels of the output, and options.
CASES = {
    "ConvNormAct": (6, {"strides": 2, "dilation": 2, "groups": 2}),
    "SPP": (6, {"kernel_sizes": (3, 5)}),
    "SPPF": (6, {"kernel_size": 3, "repeats": 2}),
    "SPPF/later": (8, {"repeats": 1, "reduce_activation": False, "shortcut": True}),
    "SimSPPF": (4, {"kernel_size": 3, "repeats": 2}),
    "SPPCSPC": (4, {"kernel_sizes": (3, 5)}),
    "SPPFCSPC": (4, {"kernel_size": 3, "repeats": 2}),
    "CSPSPPF": (8, {"kernel_size": 3, "repeats": 2}),
    "ASPP": (4, {"rates": (1, 2), "dropout_rate": 0.0}),
    "ASPP/sum": (3, {"form": "sum", "rates": (1, 2, 3)}),
    "PPM": (None, {}),
    "PPM/half": (None, {"bins": (1, 3), "align_corners": False}),
    "SPBlock": (None, {}),
    "StripPooling": (None, {"sizes": (4, 3)}),
    "StripPooling/corners": (None, {"sizes": (4, 1), "align_corners": True}),
}
# Those of local importance pooling are compared with their definition in test_lip.py.
OPTIONS = CASES | {"SimplifiedLIP": (None, {}), "LIP": (None, {"width": 5})}
BLOCKS = [case for case in OPTIONS if "/" not in case]
BATCH_NORMED = [name for name in BLOCKS if "LIP" not in name]
X = np.random.default_rng(0).normal(size=(2, 7, 6, 8)).astype(np.float32)

every_case = pytest.mark.parametrize("case", CASES)
every_block = pytest.mark.parametrize("name", BLOCKS)


def build(case, system, channels=8, features=None, **more):
    """A block, as the case has it."""
    name = case.split("/")[0]
    out, options = OPTIONS[case]
    sizes = () if out is None else (out if features is None else features,)
    if name == "ConvNormAct":
        sizes = (*sizes, (3, 3))
    if system == "nnx":
        sizes, more = (channels, *sizes), {"rngs": nnx.Rngs(0)} | more
    return getattr(getattr(jaxpool, system), name)(*sizes, **options | more)


@functools.cache
def goldens():
    return dict(np.load(FILE))


def recorded(case, seed=None):
    """What PyTorch computed, stored or (with a seed) now; maps with channels last."""
    if seed is None:
        found = goldens().items()
        arrays = {k.split(":")[1]: v for k, v in found if k.startswith(f"{case}:")}
    else:
        from goldens import record_torch_blocks

        arrays = record_torch_blocks.run(case, seed)
    maps = {k for k in arrays if k in ("x", "g") or k.startswith(("y_", "dx_"))}
    return {k: np.moveaxis(v, 1, -1) if k in maps else v for k, v in arrays.items()}


def part(arrays, kind):
    """The arrays of one kind, by name in the state dict."""
    return {k.split("/", 1)[1]: v for k, v in arrays.items() if k.startswith(kind)}


def close(got, want, digits=5):
    """To so many digits of the largest number, or of 1 if that is larger."""
    atol = 10.0**-digits * max(np.abs(want).max(), 1)
    np.testing.assert_allclose(got, want, 0, atol)


# --- The same numbers as PyTorch ------------------------------------------------------


def program_of_nnx(case):
    """Of weights, x and g, what is recorded: as arrays, and gradients by name."""
    graphdef, _ = nnx.split(build(case, "nnx"))

    def loss(layer, x, g):
        y = layer(x)
        return (y * g).sum(), y

    def run(state, x, g):
        layer = nnx.merge(graphdef, state)
        grad = nnx.grad(loss, argnums=(0, 1), has_aux=True)
        found = {}
        layer.eval()
        (_, found["dx_eval"]), found["y_eval"] = grad(layer, x, g)
        layer.train()
        (dw, found["dx_train"]), found["y_train"] = grad(layer, x, g)
        layer(2 * x + 1)
        layer(-x)
        layer.eval()
        found["y_after"] = layer(x)
        stats = nnx.state(layer, nnx.BatchStat)
        return found, nnx.to_pure_dict(dw), nnx.to_pure_dict(stats)

    def weights(state_dict):
        layer = build(case, "nnx")
        layer.load_state_dict(state_dict)
        return nnx.state(layer)

    def named(state_dict):
        layer = build(case, "nnx")
        layer.load_state_dict(state_dict)
        return by_name(layer), by_name(layer, "batch_stats")

    return run, weights, named


def program_of_linen(case):
    module = build(case, "linen")

    def loss(params, x, variables, g):
        apply = functools.partial(module.apply, mutable="batch_stats")
        y, stats = apply(variables | {"params": params}, x, False)
        return (y * g).sum(), (y, stats)

    def run(variables, x, g):
        grad = jax.grad(loss, argnums=(0, 1), has_aux=True)
        found = {"y_eval": module.apply(variables, x, True)}
        (dw, found["dx_train"]), aux = grad(variables["params"], x, variables, g)
        found["y_train"], stats = aux
        for step in (2 * x + 1, -x):
            now = variables | stats
            _, stats = module.apply(now, step, False, mutable="batch_stats")
        found["y_after"] = module.apply(variables | stats, x, True)
        return found, dw, stats.get("batch_stats", {})

    def named(state_dict):
        variables = module.load_state_dict(state_dict)
        return variables["params"], variables.get("batch_stats", {})

    return run, module.load_state_dict, named


@pytest.mark.parametrize("program", [program_of_nnx, program_of_linen])
@every_case
def test_equals_torch(case, program):
    run, weights, named = program(case)
    step = None
    for seed in (None, 1) if torch is not None else (None,):
        arrays = recorded(case, seed)
        args = (weights(part(arrays, "state")), arrays["x"], arrays["g"])
        step = step or jax.jit(run).lower(*args).compile(QUICK)
        found, *variables = step(*args)
        for name, got in found.items():
            # Gradients are sums of hundreds of products, divided by small variances.
            close(got, arrays[name], 4 if name.startswith("dx") else 5)
        # Gradients and averages have the names of the weights.
        dw, stats = named(part(arrays, "after") | part(arrays, "grad"))
        jax.tree.map(functools.partial(close, digits=4), variables[0], dw)
        jax.tree.map(close, variables[1], stats)
        assert bool(stats) == (case != "ASPP/sum")


def test_the_guide_names_every_part():
    guide = (FILE.parents[2] / "docs" / "porting.md").read_text()
    rows = {line.split("|")[1]: line for line in guide.splitlines() if line[:1] == "|"}
    for case in CASES:
        block = build(case, "linen")
        call = f'{case[:4]}(form="sum")' if case == "ASPP/sum" else case.split("/")[0]
        (row,) = (row for head, row in rows.items() if f"`{call}`" in head)
        for part, names in block._torch_names().items():
            # Of numbered parts the first two stand for all.
            assert re.sub(r"[2-9]$", "1", part) in row
            for name in names:
                top = (name or "").split(".")[0]
                assert re.sub(r"^c[2-9]$", "c1", top) in row


# --- In both systems ------------------------------------------------------------------


def moved(name):
    """A layer of either system, with the same variables away from where they start."""
    layer = nnx.eval_shape(lambda: build(name, "nnx"))
    module = build(name, "linen", use_running_average=False)
    abstract = jax.eval_shape(module.init, jax.random.key(0), X)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda v: rng.uniform(0.1, 1, v.shape).astype(v.dtype), abstract
    )
    variables["params"] = jax.tree.map(
        lambda v: v * rng.choice(np.float32([-1, 1]), v.shape), variables["params"]
    )
    copy_to_nnx(layer, variables)
    return layer, module, variables


def sizes(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "name, features, options, expected",
    [
        ("SPPF", (1024, 1024), {}, 2_624_512),
        ("SPPF", (512, 512), {}, 656_896),
        ("SPPF", (768, 768), {}, 1_476_864),
        ("SPP", (1024, 1024), {}, 2_624_512),
        ("SimSPPF", (512, 512), {}, 656_896),
        ("SPPCSPC", (1024, 512), {}, 7_609_344),
        ("SPPCSPC", (512, 512), {}, 7_085_056),
        ("SPPFCSPC", (1024, 512), {}, 7_609_344),
        ("CSPSPPF", (1024, 1024), {}, 8_134_656),
        ("CSPSPPF", (512, 512), {}, 2_035_712),
        ("ASPP", (2048, 256), {}, 15_535_104),
        ("ASPP", (2048, 21), {"form": "sum"}, 1_548_372),
        ("PPM", (2048,), {}, 4_198_400),
        ("SPBlock", (256,), {}, 460_032),
        ("StripPooling", (1024,), {}, 4_397_568),
        ("SimplifiedLIP", (64,), {}, 36_992),
        ("LIP", (256,), {}, 214_016),
        ("LIP", (512,), {}, 280_064),
    ],
)
def test_numbers_of_parameters(name, features, options, expected):
    make = getattr(jaxpool.nnx, name)
    layer = nnx.eval_shape(lambda: make(*features, **options, rngs=nnx.Rngs(0)))
    x = jax.ShapeDtypeStruct((1, 4, 4, features[0]), jnp.float32)
    module = getattr(jaxpool.linen, name)(*features[1:], **options)
    init = functools.partial(module.init, use_running_average=True)
    variables = jax.eval_shape(init, jax.random.key(0), x)
    assert shapes(by_name(layer)) == shapes(variables["params"])
    assert sizes(by_name(layer)) == sizes(variables["params"]) == expected


@every_block
@jax.numpy_dtype_promotion("standard")  # Flax's norms rely on it
def test_dtypes(name, key):
    float32, bfloat16 = jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)
    keeps = name in ("SPBlock", "StripPooling", "SimplifiedLIP", "LIP")
    for dtype, param_dtype, x in (
        (None, float32, X.astype(bfloat16)),
        (bfloat16, float32, X.astype(bfloat16)),
        (bfloat16, bfloat16, X),
    ):
        options = {"dtype": dtype, "param_dtype": param_dtype}
        module = build(name, "linen", use_running_average=False, **options)
        y, variables = jax.eval_shape(module.init_with_output, key, x)
        layer = nnx.eval_shape(lambda options=options: build(name, "nnx", **options))
        graphdef, state = nnx.split(layer)
        params = (variables["params"], nnx.state(layer, nnx.Param))
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {param_dtype}
        of_state = jax.make_jaxpr(lambda s, x, g=graphdef: nnx.merge(g, s)(x))
        jaxpr = of_state(state, x)
        inner = bfloat16 if dtype else float32
        assert y.dtype == jaxpr.out_avals[0].dtype == (x.dtype if keeps else inner)
        inside = {
            eqn.outvars[0].aval.dtype
            for eqn in jaxpr.eqns
            if eqn.primitive.name == "conv_general_dilated"
        }
        assert inside == {inner}


@every_block
def test_in_models(name, key):
    layer, module, _ = moved(name)
    assert layer.__doc__ == module.__doc__
    assert name in module.tabulate(key, X, console_kwargs={"width": 200})
    again = build(name, "linen", use_running_average=False)
    assert module == again and hash(module) == hash(again)
    assert nnx.split(layer)[0] == nnx.split(nnx.clone(layer))[0]
    # Both say what they are made with.
    assert "norm=" in repr(layer) and "norm = " in repr(module)


@pytest.mark.parametrize("name", ["ConvNormAct", "SPPF", "ASPP", "StripPooling"])
def test_running_averages(name):
    layer, module, variables = moved(name)
    before = by_name(layer, "batch_stats")
    graphdef, state = nnx.split(layer)

    def run(state, variables, x):
        layer = nnx.merge(graphdef, state)
        layer.eval()
        fixed = layer(x)
        layer.train()
        view = nnx.view(layer, use_running_average=True)
        same = [view(x), layer(x, use_running_average=True)]
        same.append(module.clone(use_running_average=True).apply(variables, x))
        unchanged = by_name(layer, "batch_stats")
        return fixed, same, unchanged, layer(x), by_name(layer, "batch_stats")

    quick = jax.jit(run, compiler_options=QUICK)
    fixed, same, unchanged, learning, after = quick(state, variables, X)
    for y in same:
        np.testing.assert_allclose(y, fixed, 1e-5, 1e-5)
    jax.tree.map(np.testing.assert_array_equal, before, unchanged)
    assert jnp.abs(learning - fixed).max() > 0.01
    jax.tree.map(lambda a, b: np.testing.assert_((a != b).any()), before, after)


@pytest.mark.parametrize("name", BATCH_NORMED)
def test_linen_wants_to_know_what_to_average(name, key):
    module = build(name, "linen")
    with pytest.raises(ValueError, match="use_running_average"):
        module.init(key, X)
    init = functools.partial(module.init, use_running_average=True)
    assert jax.eval_shape(init, key, X)


# --- Transformations ------------------------------------------------------------------


def loss_of_linen(module, remat=False):
    """A loss, its gradients and what was learned, from variables and x."""
    if remat:
        options = {k: v for k, v in vars(module).items() if k in fields(module)}
        module = nn.remat(type(module), static_argnums=(2,))(**options)

    def loss(params, x, variables):
        apply = functools.partial(module.apply, mutable="batch_stats")
        y, stats = apply(variables | {"params": params}, x, False)
        return (y**2).sum(), stats

    return lambda variables, x: jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(
        variables["params"], x, variables
    )


def fields(module):
    return [f.name for f in dataclasses.fields(module) if f.name not in PRIVATE]


PRIVATE = ("parent", "name", "use_running_average")


@every_block
def test_lowers_for_tpu(name):
    layer, module, variables = moved(name)
    module = module.clone(use_running_average=None)
    graphdef, state = nnx.split(layer)

    def both(state, variables, x):
        layer = nnx.merge(graphdef, state)
        nnx.view(layer, deterministic=True, raise_if_not_found=False)
        return layer(x), loss_of_linen(module)(variables, x)

    traced = jax.jit(both).trace(state, variables, X)
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert "stablehlo.convolution" in text


@pytest.mark.parametrize("name", ["SPPF", "SPPCSPC", "StripPooling"])
def test_remat_vmap_and_sharding(name):
    layer, module, variables = moved(name)
    module = module.clone(use_running_average=None)
    graphdef, state = nnx.split(layer)
    devices = jax.make_mesh((2,), ("batch",), (AxisType.Auto,))
    sharded = jax.device_put(X, NamedSharding(devices, PartitionSpec("batch")))

    def of_nnx(state, x, remat):
        def loss(layer, x):
            call = type(layer).__call__
            y = nnx.remat(call)(layer, x) if remat else layer(x)
            return (y**2).sum()

        layer = nnx.merge(graphdef, state, copy=True)  # or both see what was learned
        value, dw = nnx.value_and_grad(loss)(layer, x)
        return value, nnx.to_pure_dict(dw), by_name(layer, "batch_stats")

    def run(state, variables, x):
        plain = of_nnx(state, x, False)
        kept = loss_of_linen(module, True)(variables, x)
        fixed = module.clone(use_running_average=True)
        one = fixed.apply(variables, x)
        each = jax.vmap(functools.partial(fixed.apply, variables))(x)
        return plain, of_nnx(state, x, True), kept, one, each

    quick = jax.jit(run, compiler_options=QUICK)
    plain, again, kept, one, each = quick(state, variables, X)
    near = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(near, plain, again)
    (value, stats), (dw, _) = kept
    jax.tree.map(near, plain, (value, dw, stats["batch_stats"]))
    near(one, each)
    # Sharded over the batch the statistics are still those of all of it.
    jax.tree.map(near, plain, quick(state, variables, sharded)[0])


# --- Options --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, options",
    [
        ("SPPF", {"norm": "group", "activation": jax.nn.gelu}),
        ("SPPF", {"norm": "instance", "spatial_dims": 3}),
        ("SPPF", {"norm": None, "spatial_dims": 1}),
        ("SPPCSPC", {"use_bias": True, "spatial_dims": 1}),
        ("PPM", {"spatial_dims": 1, "norm": None}),
        ("PPM", {"spatial_dims": 3, "norm": None, "bins": (2, 1)}),
        ("ASPP", {"separable": True, "spatial_dims": 1}),
        ("ASPP", {"image_pool": False, "spatial_dims": 3, "norm": "group"}),
        ("ASPP", {"form": "sum", "use_bias": False}),
        ("StripPooling", {"norm": "instance", "use_bias": True}),
        ("LIP", {"norm": "batch", "use_bias": True}),
        ("ConvNormAct", {"norm": "group", "padding": ((0, 1), (2, 0))}),
        ("ConvNormAct", {"norm": None, "activation": None, "padding": "VALID"}),
    ],
)
def test_options_in_both_systems(name, options, key):
    space = options.get("spatial_dims", 2)
    x = (
        X[:, :, 0]
        if space == 1
        else X
        if space == 2
        else X[:, :, :, None] + X[:, :, None]
    )
    module = build(name, "linen", use_running_average=False, **options)
    variables = jax.eval_shape(module.init, key, x)
    layer = nnx.eval_shape(lambda: build(name, "nnx", **options))
    rng = np.random.default_rng(2)
    variables = jax.tree.map(
        lambda v: rng.normal(size=v.shape).astype(v.dtype), variables
    )
    copy_to_nnx(layer, variables)
    graphdef, state = nnx.split(layer)

    def run(state, variables, x):
        y, _ = module.apply(variables, x, mutable="batch_stats")
        return nnx.merge(graphdef, state)(x), y

    a, b = jax.jit(run, compiler_options=QUICK)(state, variables, x)
    np.testing.assert_allclose(a, b, 1e-4, 1e-4)
    leaves = {path[-2:] for path, _ in nnx.to_flat_state(state)}
    norm = None if "form" in options else options.get("norm", "batch")
    assert (("norm", "scale") in leaves) == (norm is not None)
    assert (("norm", "mean") in leaves) == (norm == "batch")
    bias = options.get("use_bias", norm is None)
    assert (("conv", "bias") in leaves) == bias
