"""Pictures: that they show what the functions compute, and leave the style alone."""

import subprocess
import sys

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest

import jaxpool
from jaxpool import plot


@pytest.fixture(autouse=True)
def untouched_style():
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before


def rendered(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def cells(figure):
    """`(output, position, is an element)` of every cell drawn."""
    return sorted(
        (round(p.get_y() + 0.4), round(p.get_x() + 0.4), p.get_hatch() is None)
        for p in figure.axes[0].patches
    )


def test_windows_show_padding_dilation_and_overhang():
    figure = plot.windows(5, 2, strides=3, padding=1, dilation=2, ceil_mode=True)
    assert cells(figure) == [
        (0, -1, False),
        (0, 1, True),
        (1, 2, True),
        (1, 4, True),
    ]
    assert rendered(figure).std() > 0
    figure = plot.windows(5, 2, ceil_mode=True)
    assert cells(figure)[-2:] == [(2, 4, True), (2, 5, False)]


def test_windows_of_adaptive_pools():
    figure = plot.windows(5, output_size=3)
    seen = [[0, 1], [1, 2, 3], [3, 4]]
    assert cells(figure) == [(o, i, True) for o, row in enumerate(seen) for i in row]


def test_gallery_shows_outputs_and_differences(rng):
    image = rng.random((8, 6, 3)).astype(np.float32)
    pools = {
        name: lambda x, name=name: jaxpool.POOLS[name](x, (2, 2))
        for name in ("max", "avg")
    }
    figure = plot.gallery(image, pools)
    _, first, second = figure.axes[:3]
    assert first.get_title() == "max 4 x 3" and second.get_title() == "avg 4 x 3"
    shown = figure.axes[5].images[0].get_array()
    blocks = image.reshape(4, 2, 3, 2, 3)
    want = (blocks.mean((1, 3)) - blocks.max((1, 3))).mean(-1)
    np.testing.assert_allclose(shown, want, rtol=1e-5, atol=1e-6)
    assert rendered(figure).std() > 0


def test_gradient_map_shows_the_first_of_ties():
    x = jnp.array([[1.0, 3.0], [3.0, 0.0]])
    pools = {"max": jaxpool.global_max_pool, "avg": jaxpool.global_avg_pool}
    figure = plot.gradient_map(x, pools)
    assert [t.get_text() for t in figure.axes[1].texts] == ["0", "1", "0", "0"]
    assert [t.get_text() for t in figure.axes[2].texts] == ["0.25"] * 4
    assert rendered(figure).std() > 0


def test_training_is_sorted_by_accuracy():
    modes = {
        name: {
            "accuracy_mean": mean,
            "accuracy_std": 0.01,
            "step_seconds": 1e-3,
            "runs": [{"accuracy": mean - 0.01}, {"accuracy": mean + 0.01}],
        }
        for name, mean in (("max", 0.9), ("avg", 0.8))
    }
    figure = plot.compare_training({"modes": modes})
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["avg", "max"]
    assert len(figure.axes) == 2 and rendered(figure).std() > 0


def test_benchmark_shows_ratios():
    rows = [
        {"case": "max a", "seconds": {"ours": 2.0, "stock": 4.0}},
        {"case": "avg a", "seconds": {"ours": 2.0, "stock": 1.0, "torch": 6.0}},
    ]
    figure = plot.benchmark({"rows": rows})
    marks = {line.get_label(): line.get_xdata() for line in figure.axes[0].lines[1:]}
    np.testing.assert_array_equal(marks["stock"], [2.0, 0.5])
    np.testing.assert_array_equal(marks["torch"], [3.0])
    assert len(plot.benchmark({"rows": rows}, "avg").axes[0].get_yticks()) == 1


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda: plot.windows(5), "`window_size` or `output_size`"),
        (lambda: plot.windows(5, 2, output_size=3), "`window_size` or `output_size`"),
        (lambda: plot.windows(5, output_size=0), "`output_size` must be at least 1"),
        (lambda: plot.gallery(np.zeros(3), {"a": abs}), r"\(H, W\)"),
        (lambda: plot.gallery(np.zeros((2, 2)), {}), "at least one pool"),
        (lambda: plot.gradient_map(np.zeros((2, 2)), {}), "at least one pool"),
        (lambda: plot.compare_training({}), "at least one mode"),
        (lambda: plot.benchmark({"rows": []}, "x"), "`select`"),
    ],
)
def test_wrong_calls(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_not_imported_with_jaxpool():
    code = "import sys, jaxpool; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
