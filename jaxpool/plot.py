"""Pictures of pools, for notebooks: galleries, windows, gradients, results.

Needs the extra `plot` (matplotlib). Each function returns a `matplotlib` figure, which
a notebook shows. Figures are made of matplotlib's objects alone: no display is needed,
and nobody's style or backend is touched. Backgrounds are transparent and letters of a
grey that reads on light and dark pages alike; colours are of Okabe and Ito's palette
and of maps with even steps of lightness, for colour-blind eyes.
"""

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ._uneven import edges
from ._window import Padding, make_window

Pools = Mapping[str, Callable[[jax.Array], Any]]

INK = "#808080"  # contrast about 4 on white and 5 on black
ELEMENT, PADDING, GRID = "#0072B2", "#E69F00", "#80808050"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_CELL = 0.3  # inches


def gallery(image: ArrayLike, pools: Pools) -> Figure:
    """An image, what pools make of it, and how they differ from the first of them.

    Args:
      image: `(H, W)`, `(H, W, 1)` or `(H, W, 3)`.
      pools: functions of the image as `(H, W, C)`, by name.

    Returns:
      A figure: above the image and the outputs, all on the scale of the image; below
      the differences from the first output, blue where smaller, red where larger.

    Raises:
      ValueError: if the image has another shape, or there are no pools.

    Example:
      >>> import jax.numpy as jnp, jaxpool, jaxpool.plot
      >>> image = jnp.arange(64.0).reshape(8, 8)
      >>> pools = {"max": lambda x: jaxpool.max_pool(x, (2, 2))}
      >>> pools["avg"] = lambda x: jaxpool.avg_pool(x, (2, 2))
      >>> len(jaxpool.plot.gallery(image, pools).axes)
      6
    """
    x = _image(image)
    outputs = {name: np.asarray(pool(x)) for name, pool in _some(pools).items()}
    low, high = float(jnp.min(x)), float(jnp.max(x))
    first, *others = outputs.values()
    rows = 1 + any(y.shape == first.shape for y in others)
    size = 2.2, 2.4 * x.shape[0] / x.shape[1]
    figure, axes = _grid(rows, len(outputs) + 1, *size)
    _show(axes[0][0], np.asarray(x), f"input {x.shape[0]} x {x.shape[1]}", low, high)
    for column, (name, y) in enumerate(outputs.items(), start=1):
        title = f"{name} {y.shape[0]} x {y.shape[1]}"
        _show(axes[0][column], y, title, low, high)
        if column > 1 and y.shape == first.shape:
            change = (y - first).mean(-1)
            largest = max(float(np.nanmax(np.abs(change))), 1e-12)
            title = f"difference up to {largest:.2g}"
            _show(axes[1][column], change, title, -largest, largest, "RdBu_r")
    return figure


def windows(
    input_size: int,
    window_size: int | None = None,
    *,
    strides: int | None = None,
    padding: Padding = "VALID",
    dilation: int = 1,
    ceil_mode: bool = False,
    output_size: int | None = None,
) -> Figure:
    """Which inputs each output sees, along one axis.

    A row per output and a column per position: filled where the output sees an element,
    hatched where it sees padding, which lies beyond the thick lines.

    Args:
      input_size: the size of the axis.
      window_size: that of the window, or `output_size` is given.
      strides: int; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, or `((low, high),)`.
      dilation: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept.
      output_size: instead of a window, the size of an adaptive pool's output.

    Returns:
      A figure.

    Raises:
      ValueError: if neither or both sizes are given, or the window does not fit.

    Example:
      >>> import jaxpool.plot
      >>> figure = jaxpool.plot.windows(7, 3, strides=2, padding=1)
      >>> figure.axes[0].get_title()
      '7 to 4'
    """
    seen = []
    if (window_size is None) == (output_size is None):
        raise ValueError(
            "either `window_size` or `output_size` must be given, got "
            f"{window_size!r} and {output_size!r}"
        )
    if output_size is not None:
        if not 1 <= output_size:
            raise ValueError(f"`output_size` must be at least 1, got {output_size}")
        pairs = zip(*edges(input_size, output_size), strict=True)
        seen = [np.arange(*pair) for pair in pairs]
    elif window_size is not None:
        window = make_window(
            (input_size, 1),
            (window_size,),
            strides=strides,
            padding=padding,
            dilation=dilation,
            ceil_mode=ceil_mode,
        )
        seen = list(window.positions(0))
    low = min(0, *(int(s.min()) for s in seen))
    high = max(input_size, *(int(s.max()) + 1 for s in seen))
    size = ((high - low + 3) * _CELL, (len(seen) + 3) * _CELL)
    figure, ((ax,),) = _grid(1, 1, *size)
    for row, positions in enumerate(seen):
        for p in positions:
            real = 0 <= p < input_size
            ax.add_patch(_cell(p, row, ELEMENT if real else PADDING, real))
    ax.set_xlim(low - 0.5, high - 0.5)
    ax.set_ylim(len(seen) - 0.5, -0.5)
    ax.set_xticks(range(low, high), minor=False)
    ax.set_yticks(range(len(seen)))
    ax.set_xlabel("position in the input", color=INK)
    ax.set_ylabel("output", color=INK)
    for edge in (-0.5, input_size - 0.5):
        ax.axvline(edge, color=INK, lw=2)
    ax.set_title(f"{input_size} to {len(seen)}", color=INK)
    return figure


def gradient_map(x: ArrayLike, pools: Pools) -> Figure:
    """Where the gradient goes: of the sum of each pool's outputs by every input.

    Args:
      x: `(H, W)`, or `(H, W, C)`, of which the channels are added up.
      pools: functions of `(H, W, C)`, by name.

    Returns:
      A figure: x, and a map of the gradient per pool, with its numbers if x has at
      most 100 elements. Blue is negative, red positive.

    Raises:
      ValueError: if x has another shape, or there are no pools.

    Example:
      >>> import jax.numpy as jnp, jaxpool, jaxpool.plot
      >>> x = jnp.array([[1.0, 1.0], [0.0, 1.0]])  # of three ties the first has it all
      >>> figure = jaxpool.plot.gradient_map(x, {"max": jaxpool.global_max_pool})
      >>> [text.get_text() for text in figure.axes[1].texts]
      ['1', '0', '0', '0']
    """
    x = _image(x)
    maps = {
        name: np.asarray(jax.grad(lambda x, pool=pool: pool(x).sum())(x)).sum(-1)
        for name, pool in _some(pools).items()
    }
    side = 2.4 if x.size > 100 else max(2.0, 0.45 * x.shape[1])
    figure, (axes,) = _grid(1, len(maps) + 1, side, side * x.shape[0] / x.shape[1])
    shown = np.asarray(x).sum(-1)
    _show(axes[0], shown, "input", None, None, "gray")
    _write(axes[0], shown)
    largest = max(float(np.abs(m).max()) for m in maps.values()) or 1.0
    for ax, (name, values) in zip(axes[1:], maps.items(), strict=True):
        _show(ax, values, name, -largest, largest, "RdBu_r")
        _write(ax, values)
    return figure


def compare_training(results: Mapping[str, Any]) -> Figure:
    """The accuracy of networks that differ by their pools, and the time of a step.

    Args:
      results: what the demo writes to `results.json`, read.

    Returns:
      A figure: the modes by their accuracy, the mean of seeds with one standard
      deviation and every seed as a dot, and the time of a training step.

    Raises:
      ValueError: if there are no results.

    Example:
      >>> import jaxpool.plot
      >>> mode = {"accuracy_mean": 0.9, "runs": [{"accuracy": 0.9}]}
      >>> figure = jaxpool.plot.compare_training({"modes": {"max": mode}})
      >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
      ['max']
    """
    modes = dict(results.get("modes", {}))
    if not modes:
        raise ValueError("`results` must hold at least one mode under 'modes'")
    names = sorted(modes, key=lambda name: modes[name]["accuracy_mean"])
    timed = all("step_seconds" in modes[name] for name in names)
    figure, (axes,) = _grid(1, 1 + timed, 4.5, max(1.5, 0.28 * len(names)))
    for y, name in enumerate(names):
        mode = modes[name]
        deviation = mode.get("accuracy_std") or 0.0
        axes[0].errorbar(
            100 * mode["accuracy_mean"], y, xerr=100 * deviation, fmt="o", color=ELEMENT
        )
        every = [100 * run["accuracy"] for run in mode["runs"]]
        axes[0].plot(every, [y] * len(every), ".", color=PADDING, ms=4)
        if timed:
            axes[1].barh(y, 1e3 * mode["step_seconds"], color=ELEMENT)
    for ax in axes:
        ax.set_yticks(range(len(names)), names if ax is axes[0] else [""] * len(names))
        ax.set_ylim(-0.5, len(names) - 0.5)  # a row of names for both
        ax.grid(axis="x", color=GRID)
    axes[0].set_xlabel("accuracy on the test images, %", color=INK)
    if timed:
        axes[1].set_xlabel("milliseconds per training step", color=INK)
    return figure


def benchmark(results: Mapping[str, Any], select: str = "") -> Figure:
    """How many times faster jaxpool is than its peers, case by case.

    Args:
      results: a file of `benchmarks/results`, read.
      select: what the names of the cases shown must contain.

    Returns:
      A figure: a row per case, a mark per peer, on a logarithmic scale. Right of the
      line at 1 jaxpool is faster; the `limit` is a copy of the bytes.

    Raises:
      ValueError: if no case is selected.

    Example:
      >>> import jaxpool.plot
      >>> row = {"case": "max 2x2/s2", "seconds": {"ours": 1.0, "stock": 4.0}}
      >>> figure = jaxpool.plot.benchmark({"rows": [row], "date": "2026-11-26"})
      >>> float(figure.axes[0].lines[1].get_xdata()[0])
      4.0
    """
    rows = [row for row in results["rows"] if select in row["case"]]
    if not rows:
        raise ValueError(f"`select` must be part of the name of a case, got {select!r}")
    peers = [name for name in rows[0]["seconds"] if name != "ours"]
    for row in rows:
        peers += [n for n in row["seconds"] if n not in (*peers, "ours")]
    figure, ((ax,),) = _grid(1, 1, 8.0, max(1.5, 0.25 * len(rows) + 0.8))
    ax.axvline(1, color=INK, lw=1)
    marks = "osD^vP"
    for i, peer in enumerate(peers):
        points = [
            (row["seconds"][peer] / row["seconds"]["ours"], y)
            for y, row in enumerate(rows)
            if peer in row["seconds"]
        ]
        colour, mark = COLOURS[i % len(COLOURS)], marks[i % len(marks)]
        ax.plot(*zip(*points, strict=True), mark, color=colour, label=peer, ms=5)
    ax.set_xscale("log")
    ax.set_yticks(range(len(rows)), [row["case"] for row in rows], fontsize=8)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(color=GRID)
    ax.set_xlabel("times faster than", color=INK)
    ax.legend(loc="lower right", frameon=False, labelcolor=INK, fontsize=8)
    about = (results.get(k) for k in ("title", "device", "jax", "date"))
    ax.set_title(", ".join(str(a) for a in about if a), color=INK, fontsize=9)
    return figure


# --- Helpers --------------------------------------------------------------------------


class _Picture(Figure):
    """A figure that notebooks show without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=64)
        return buffer.getvalue()


def _image(x):
    x = jnp.asarray(x)
    x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)
    x = x[..., None] if x.ndim == 2 else x
    if x.ndim != 3 or not x.size:
        raise ValueError(f"`x` must have shape (H, W) or (H, W, C), got {x.shape}")
    return x


def _some(pools):
    if not pools:
        raise ValueError("`pools` must hold at least one pool")
    return pools


def _grid(rows: int, columns: int, width: float, height: float):
    """A transparent figure of `rows` x `columns` axes of a size in inches."""
    size = (columns * (width + 0.2), rows * (height + 0.5))
    figure = _Picture(figsize=size, layout="constrained", facecolor="none")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_facecolor("none")
        ax.tick_params(colors=INK, labelsize=8)
        for spine in ax.spines.values():
            spine.set_color(GRID)
    if rows > 1:
        for ax in axes.flat:
            ax.set_axis_off()
    return figure, axes


def _show(ax, values, title, low, high, colours="gray"):
    values = values if values.ndim == 2 or values.shape[-1] == 3 else values[..., 0]
    if values.ndim == 3:
        values = ((values - low) / max(high - low, 1e-12)).clip(0, 1)
    ax.imshow(values, vmin=low, vmax=high, cmap=colours, interpolation="nearest")
    ax.set_title(title, color=INK, fontsize=9)
    ax.set_axis_off()


def _write(ax, values):
    """The numbers of a small array, on a ground of their own.

    To two digits of the largest: smaller ones would not fit.
    """
    if values.size > 100:
        return
    largest = np.abs(values[np.isfinite(values)]).max(initial=0)
    digits = 1 - math.floor(math.log10(largest)) if largest else 0
    for (i, j), value in np.ndenumerate(values):
        ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1}
        text = (
            f"{round(float(value), digits):.4g}" if np.isfinite(value) else str(value)
        )
        ax.text(j, i, text, ha="center", va="center", fontsize=8, bbox=ground)


def _cell(x, y, colour, filled):
    hatch = None if filled else "////"
    face = colour if filled else "none"
    return Rectangle((x - 0.4, y - 0.4), 0.8, 0.8, fc=face, ec=colour, hatch=hatch)
