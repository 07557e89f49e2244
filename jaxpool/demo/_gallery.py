"""The picture: what every mode does to a photograph, and what it looked at.

Drawn with matplotlib's objects alone, so that nobody's style or backend is touched.
"""

import io
import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageOps
from sklearn import datasets

from ._files import DemoError
from ._modes import MODES

WINDOW_SHAPE = (4, 4)
# Pixel values run from 0 to 10: enough for the exponential modes to tell them apart.
LARGEST = 10.0
LONGEST_SIDE = 240
SMALLEST_SIDE = 16
SAMPLE = "china.jpg"

_LONGEST_PANEL = 2 * LONGEST_SIDE  # in pixels of the picture
_DPI = 100
_GRADIENTS = LogNorm(vmin=1e-3, vmax=1.0, clip=True)
_COLOURS = "inferno"  # even steps of lightness, for colour-blind eyes and for print
_INK = "#222222"


class View(NamedTuple):
    """A mode's output `(h, w, c)` and the size of its input gradient `(H, W)`."""

    mode: str
    output: np.ndarray
    gradient: np.ndarray


def load_photo(path: Path | None) -> np.ndarray:
    """Reads a picture, of any kind that Pillow can, as `(H, W, 3)` in [0, 1].

    It is cropped to at most twice as long as wide, shrunk to `LONGEST_SIDE`, and
    trimmed to whole windows. None means scikit-learn's photograph of a temple.
    """
    if path is None:
        image = Image.fromarray(datasets.load_sample_image(SAMPLE))
    else:
        image = _open(path)
    short, long = sorted(image.size)
    if short < SMALLEST_SIDE:
        raise DemoError(
            f"--image: {str(path)!r} is {image.width} x {image.height} pixels, "
            f"too small: at least {SMALLEST_SIDE} on each side are needed"
        )
    scale = min(1.0, LONGEST_SIDE / min(long, 2 * short))
    fitted = [max(SMALLEST_SIDE, round(scale * min(n, 2 * short))) for n in image.size]
    width, height = (n - n % w for n, w in zip(fitted, WINDOW_SHAPE[::-1], strict=True))
    image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    return np.asarray(image, np.float32) / 255


def _open(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, or a large photograph
            with Image.open(path) as image:
                return _to_rgb(ImageOps.exif_transpose(image))
    # A broken file makes Pillow's decoders raise nearly anything.
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        raise DemoError(f"--image: cannot read {str(path)!r}: {reason}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16 and 32 bits: stretched over 8
        values = np.nan_to_num(np.asarray(image, np.float64))
        values = (values - values.min()) / max(np.ptp(values), 1e-9)
        image = Image.fromarray((255 * values).round().astype(np.uint8))
    image = image.convert("RGBA")
    paper = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(paper, image).convert("RGB")


def view(mode: str, photo: np.ndarray) -> View:
    """Pools a photograph, and differentiates the sum of the output by its pixels."""

    def probe(x):
        y = MODES[mode](x, WINDOW_SHAPE)
        return y.sum(), y

    pixels = LARGEST * photo
    (_, output), gradient = jax.jit(jax.value_and_grad(probe, has_aux=True))(pixels)
    return View(mode, np.asarray(output), np.abs(gradient).mean(-1))


def draw(photo: np.ndarray, views: Iterable[View]) -> bytes:
    """Draws the photograph and every view in a grid, as the bytes of a PNG file."""
    views = list(views)
    zoom = _LONGEST_PANEL // max(photo.shape[:2])
    height, width = (zoom * n for n in photo.shape[:2])
    columns, rows = _grid(len(views) + 1, 2 * height / width)
    longest = max(len("photograph"), *(len(shown.mode) for shown in views))
    page = _Page(columns, rows, width, height, longest)
    _draw_photo(page, photo)
    for place, shown in enumerate(views, start=1):
        _draw_view(page, place, shown)
    buffer = io.BytesIO()
    page.canvas.print_png(buffer)
    return buffer.getvalue()


def _grid(cells: int, tallness: float) -> tuple[int, int]:
    """Columns and rows for a page a little wider than high, with few empty cells."""

    def cost(columns):
        rows = math.ceil(cells / columns)
        shape = abs(math.log(columns / (rows * tallness) / 1.3))
        return shape + 2 * (columns * rows - cells) / cells

    columns = min(range(1, cells + 1), key=cost)
    return columns, math.ceil(cells / columns)


class _Page:
    """A grid of cells, each a title over two pictures, measured in pixels."""

    def __init__(self, columns: int, rows: int, width: int, height: int, longest: int):
        # Letters grow with the page, which is looked at as a whole, if they fit.
        self.points = min(
            8 + 2 * min(columns, 7), _points_to_fit(1.2 * longest + 12, width)
        )
        self.line = 1.5 * self.points * _DPI / 72
        self.gap = 0.8 * self.line
        self.width, self.height, self.columns = width, height, columns
        self.cell = (width + self.gap, 2 * height + 0.25 * self.gap + 1.6 * self.line)
        self.size = (
            columns * self.cell[0] + self.gap,
            rows * (self.cell[1] + 0.6 * self.gap) + self.gap,
        )
        inches = (self.size[0] / _DPI, self.size[1] / _DPI)
        self.figure = Figure(figsize=inches, dpi=_DPI, facecolor="white")
        self.canvas = FigureCanvasAgg(self.figure)

    def corner(self, place: int) -> tuple[float, float]:
        """The upper left corner of a cell, from the upper left of the page."""
        row, column = divmod(place, self.columns)
        return (
            self.gap + column * self.cell[0],
            self.gap / 2 + row * (self.cell[1] + 0.6 * self.gap),
        )

    def axes(self, place: int, lower: bool) -> Any:
        """Empty axes over the upper or lower picture of a cell."""
        x, y = self.corner(place)
        y += 1.6 * self.line + lower * (self.height + 0.25 * self.gap)
        total_width, total_height = self.size
        axes = self.figure.add_axes(
            (
                x / total_width,
                1 - (y + self.height) / total_height,
                self.width / total_width,
                self.height / total_height,
            )
        )
        axes.set_axis_off()
        return axes

    def title(self, place: int, name: str, note: str) -> None:
        """Writes a name at the left over a cell, and a note at its right."""
        x, y = self.corner(place)
        base = 1 - (y + 1.25 * self.line) / self.size[1]
        left, right = x / self.size[0], (x + self.width) / self.size[0]
        self.figure.text(
            left, base, name, fontsize=self.points, weight="bold", color=_INK
        )
        self.figure.text(
            right, base, note, fontsize=0.75 * self.points, ha="right", color="#555555"
        )


def _draw_photo(page: _Page, photo: np.ndarray) -> None:
    height, width, _ = photo.shape
    page.title(0, "photograph", f"{width} x {height} pixels")
    axes = page.axes(0, lower=False)
    axes.imshow(photo, interpolation="nearest", aspect="auto")
    h, w = WINDOW_SHAPE
    corner = (w * (width // w // 2) - 0.5, h * (height // h // 2) - 0.5)
    for colour, line in (("white", 4), ("black", 1.5)):
        axes.add_patch(Rectangle(corner, w, h, fill=False, ec=colour, lw=line))
    _draw_key(page, page.axes(0, lower=True))


def _draw_key(page: _Page, axes: Any) -> None:
    h, w = WINDOW_SHAPE
    lines = [
        f"Windows of {h} x {w} pixels (one is outlined),",
        f"stride {h}; pixel values run from 0 to {LARGEST:g}.",
        "Above: the output, stretched over its range.",
        "Below: |gradient| of the output's sum",
        "by each pixel, coloured so:",
    ]
    points = _points_to_fit(max(map(len, lines)), page.width)
    points = min(points, 0.8 * page.points)
    axes.text(
        0,
        0.96,
        "\n".join(lines),
        va="top",
        fontsize=points,
        color=_INK,
        linespacing=1.5,
    )
    bar = axes.inset_axes((0, 0.16, 1, 0.12))
    colours = ScalarMappable(norm=_GRADIENTS, cmap=_COLOURS)
    page.figure.colorbar(colours, cax=bar, orientation="horizontal", extend="both")
    bar.set_xticks([0.001, 0.01, 0.1, 1.0], ["0.001", "0.01", "0.1", "1"])
    bar.tick_params(which="both", labelsize=points, labelcolor=_INK)


def _points_to_fit(letters: float, width: float) -> float:
    # A letter of the default font is half its size wide, and some more if it is bold.
    return width * 72 / _DPI / (0.52 * letters)


def _draw_view(page: _Page, place: int, shown: View) -> None:
    finite = shown.output[np.isfinite(shown.output)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    page.title(place, shown.mode, f"{low:.3g} to {high:.3g}")
    stretched = np.nan_to_num((shown.output - low) / max(high - low, 1e-9))
    page.axes(place, lower=False).imshow(
        stretched[..., :3].clip(0, 1), interpolation="nearest", aspect="auto"
    )
    page.axes(place, lower=True).imshow(
        shown.gradient,  # a NaN stays white
        norm=_GRADIENTS,
        cmap=_COLOURS,
        interpolation="nearest",
        aspect="auto",
    )
