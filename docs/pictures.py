"""Draws the pictures of the documentation: `python docs/pictures.py [name ...]`.

One function per picture, named as its file in `docs/pictures/`. They are drawn with
`jaxpool.plot`, on transparent ground with grey letters, for light and dark pages.
"""

import io
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.patches import Rectangle
from PIL import Image
from sklearn import datasets

import jaxpool
from jaxpool import plot
from jaxpool.demo import _gallery

FOLDER = pathlib.Path(__file__).parent / "pictures"
KEY = jax.random.key(0)
WINDOW = (8, 8)


def photo(name="china.jpg", top=100, left=60, size=192):
    image = datasets.load_sample_image(name)[top : top + size, left : left + size]
    return jnp.asarray(image / 255.0, jnp.float32)


def pooled(*names, window_shape=WINDOW, **options):
    return {
        name: lambda x, name=name: jaxpool.POOLS[name](x, window_shape, **options)
        for name in names
    }


def order():
    pools = pooled("median", "max", "min")
    pools["rank"] = lambda x: jaxpool.rank_pool(
        x, WINDOW, weights=jnp.linspace(2, 0, 64) / 64
    )
    pools["top 8"] = lambda x: jaxpool.topk_avg_pool(x, WINDOW, k=8)
    return plot.gallery(photo(), pools)


def mean():
    pools = pooled("avg")
    for p in (3.0, 10.0):
        pools[f"gem, p = {p:g}"] = lambda x, p=p: jaxpool.gem_pool(x, WINDOW, p=p)
    for t in (0.1, 0.02):
        pools[f"lse, T = {t:g}"] = lambda x, t=t: jaxpool.lse_pool(
            x, WINDOW, temperature=t
        )
    return plot.gallery(photo(), pools | pooled("max"))


def weighted():
    pools = pooled("avg", "edscw", "idw")
    pools["soft, T = 0.1"] = lambda x: jaxpool.soft_pool(x, WINDOW, temperature=0.1)
    pools["detail"] = lambda x: jaxpool.detail_preserving_pool(
        x, WINDOW, alpha=0.1, lam=2.0
    )
    pools["by saturation"] = lambda x: jaxpool.local_importance_pool(
        x, 10 * (x.max(-1) - x.min(-1))[..., None] + 0 * x, WINDOW
    )
    return plot.gallery(photo("flower.jpg", 120, 210), pools)


def mixed():
    pools = pooled("avg")
    for alpha in (0.25, 0.75):
        pools[f"mixed, {alpha:g}"] = lambda x, a=alpha: jaxpool.mixed_pool(
            x, WINDOW, alpha=a
        )
    pools["gated by darkness"] = lambda x: jaxpool.gated_pool(
        x, jnp.full(64, -0.3), WINDOW
    )
    pools["random"] = lambda x: jaxpool.random_mixed_pool(
        x, WINDOW, key=KEY, per="region"
    )
    return plot.gallery(photo(), pools | pooled("max"))


def stochastic():
    pools = {"inference": lambda x: jaxpool.stochastic_pool(x, WINDOW)}
    for i in range(2):
        pools[f"key {i}"] = lambda x, i=i: jaxpool.stochastic_pool(
            x, WINDOW, key=jax.random.key(i)
        )
    pools["s3"] = lambda x: jaxpool.s3_pool(x, WINDOW, grid=(16, 16), key=KEY)
    pools["fractional"] = lambda x: jaxpool.fractional_max_pool(
        x, WINDOW, output_shape=(24, 24), key=KEY
    )
    return plot.gallery(photo(), pools)


def antialias():
    y, x = np.mgrid[-1:1:192j, -1:1:192j]
    rings = 0.5 + 0.5 * np.cos(150 * (x**2 + y**2) * (1 - 0.15 * x))
    pools = {
        "subsample": lambda x: jaxpool.subsample(x, 4),
        "max": lambda x: jaxpool.max_pool(x, (4, 4)),
        "blur": lambda x: jaxpool.blur_pool(x, strides=4, filter_size=7),
        "max, blur": lambda x: jaxpool.max_blur_pool(
            x, (4, 4), strides=4, filter_size=7
        ),
        "polyphase": lambda x: jaxpool.polyphase_pool(x, strides=4),
        "spectral": lambda x: jaxpool.spectral_pool(x, (48, 48)),
    }
    return plot.gallery(jnp.asarray(rings, jnp.float32), pools)


def adaptive():
    return plot.windows(10, output_size=4)


def windows():
    return plot.windows(10, 3, strides=2, padding=1, dilation=2)


def global_():
    numbers = np.random.default_rng(0).integers(0, 9, (5, 5))
    x = jnp.asarray(numbers, jnp.float32)
    pools = {
        "max": jaxpool.global_max_pool,
        "average": jaxpool.global_avg_pool,
        "lse, T = 1": lambda x: jaxpool.global_lse_pool(x, temperature=1.0),
        "gem, p = 3": lambda x: jaxpool.global_gem_pool(x, p=3.0),
    }
    return plot.gradient_map(x, pools)


def unpool():
    def by_indices(x):
        y, indices = jaxpool.max_pool(x, WINDOW, return_indices=True)
        return jaxpool.max_unpool(y, indices, x.shape[:2])

    def by_weights(x):
        y = jaxpool.ada_pool(x, 0.5, WINDOW)
        return jaxpool.ada_unpool(y, x, 0.5, WINDOW, mode="replicate")

    def spread(x):
        return jaxpool.avg_unpool(jaxpool.avg_pool(x, WINDOW), WINDOW, mode="replicate")

    pools = {"avg": spread, "ada": by_weights, "max": by_indices}
    return plot.gallery(photo("flower.jpg", 120, 210), pools)


def pyramid():
    pools = {
        f"{k} x {k}": lambda x, i=i: jaxpool.max_pool_pyramid(x)[i]
        for i, k in enumerate((5, 9, 13))
    }
    return plot.gallery(photo(size=96), pools)


def region():
    image = photo("flower.jpg", 60, 150, 256)
    boxes = np.array([[70.0, 70.0, 190.0, 160.0]], np.float32)
    pools = {}
    for name in ("roi_pool", "roi_align", "precise_roi_pool"):
        pools[name] = lambda x, name=name: getattr(jaxpool, name)(
            x[None], boxes, (9, 12)
        )[0]
    figure = plot.gallery(image, pools)
    left, top, right, bottom = boxes[0]
    figure.axes[0].add_patch(
        Rectangle((left, top), right - left, bottom - top, fc="none", ec="w", lw=2)
    )
    return figure


def bilinear():
    noise = np.random.default_rng(0).normal(size=(400, 4))
    mix = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.5], [0, 0, 0, 1]])
    x = jnp.asarray((noise @ mix).reshape(20, 20, 4), jnp.float32)
    root = jaxpool.covariance_pool(x, iterations=9, triangle=False).reshape(4, 4)
    matrices = {"covariance": root @ root, "its square root": root}
    return _matrices(matrices)


def attention():
    keys = jax.random.normal(KEY, (10, 4))
    queries = keys[jnp.array([1, 4])]
    where = jnp.arange(10) < 7
    weights = jaxpool.attention_pool(3 * queries, keys, jnp.eye(10), where=where)
    return _matrices({"weights of 10 tokens, by query": weights})


def _matrices(matrices):
    rows, columns = next(iter(matrices.values())).shape
    figure, (axes,) = plot._grid(1, len(matrices), 0.6 * columns, 0.6 * rows)
    for ax, (name, matrix) in zip(axes, matrices.items(), strict=True):
        largest = float(jnp.abs(matrix).max())
        plot._show(ax, np.asarray(matrix), name, -largest, largest, "RdBu_r")
        plot._write(ax, np.asarray(matrix))
    return figure


def graph():
    points, adjacency = _communities()
    select = jaxpool.topk_pool(adjacency.sum(-1)[:, None], adjacency, jnp.ones(1), k=6)
    nodes = jnp.arange(len(points))
    colours = {
        "graph": jnp.zeros(len(points)),
        "mincut_pool: clusters": _clusters(adjacency),
        "topk_pool: the 6 of most edges": jnp.isin(nodes, select.indices),
    }
    figure, (axes,) = plot._grid(1, 3, 2.8, 2.8)
    for ax, (title, colour) in zip(axes, colours.items(), strict=True):
        for i, j in np.argwhere(np.triu(adjacency)):
            ax.plot(*points[[i, j]].T, color=plot.GRID, zorder=1)
        shades = [plot.COLOURS[int(c)] for c in colour]
        ax.scatter(*points.T, c=shades, s=60, zorder=2)
        ax.set_title(title, color=plot.INK, fontsize=9)
        ax.set_axis_off()
    return figure


def _communities():
    """Three groups of eight nodes: where to draw them, and who is joined."""
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(3), 8)
    angle = 2 * np.pi * group / 3
    centres = np.stack([np.cos(angle), np.sin(angle)], -1)
    points = centres + 0.35 * rng.normal(size=(24, 2))
    likely = np.where(group[:, None] == group, 0.5, 0.03)
    upper = np.triu(rng.random((24, 24)) < likely, 1)
    return points, jnp.asarray(upper + upper.T, jnp.float32)


def _clusters(adjacency):
    """The cluster of every node, by descent on the losses of mincut_pool."""
    x = jnp.eye(len(adjacency))

    def loss(logits):
        pooled = jaxpool.mincut_pool(x, adjacency, logits)
        return sum(pooled.losses.values())

    logits = 0.1 * jax.random.normal(KEY, (len(x), 3))
    step = jax.jit(lambda logits: logits - 10 * jax.grad(loss)(logits))
    for _ in range(300):
        logits = step(logits)
    return logits.argmax(-1)


def gallery():
    """What the demo draws: every registered mode on the photograph."""
    shown = _gallery.load_photo(None)
    views = [_gallery.view(mode, shown) for mode in jaxpool.POOLS]
    page = Image.open(io.BytesIO(_gallery.draw(shown, views))).convert("RGB")
    page.thumbnail((1280, 1280))
    return page.quantize(256)


def main(names):
    FOLDER.mkdir(exist_ok=True)
    for name in names:
        picture = PICTURES[name]()
        path = FOLDER / f"{name}.png"
        if isinstance(picture, Image.Image):
            picture.save(path)
        else:
            picture.savefig(path, dpi=80)


FAMILIES = [order, mean, weighted, mixed, stochastic, antialias, adaptive, unpool]
FAMILIES += [pyramid, region, bilinear, attention, graph, windows, gallery]
PICTURES = {f.__name__: f for f in FAMILIES} | {"global": global_}

if __name__ == "__main__":
    main(sys.argv[1:] or PICTURES)
