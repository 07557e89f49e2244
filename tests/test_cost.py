"""pool_cost against counts of the definitions, and what Flax's tables report."""

import collections
import dataclasses
import math
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxpool
import jaxpool.linen
import jaxpool.nnx

COUNTS = ["additions", "comparisons", "multiplications", "divisions", "exponentials"]


class Counter(collections.Counter):
    """Counts the operations of its numbers."""

    def number(self, value):
        return Number(self, float(value))


@dataclasses.dataclass
class Number:
    """A number that reports what is done with it."""

    counter: Counter
    value: float

    def _of(self, kind, value):
        self.counter[kind] += 1
        return Number(self.counter, value)

    def __add__(self, other):
        return self._of("additions", self.value + _value(other))

    def __sub__(self, other):
        return self._of("additions", self.value - _value(other))

    def __mul__(self, other):
        return self._of("multiplications", self.value * _value(other))

    def __truediv__(self, other):
        return self._of("divisions", self.value / _value(other))

    def __pow__(self, other):
        return self._of("exponentials", self.value**other)

    def __abs__(self):
        return Number(self.counter, abs(self.value))  # free

    def exp(self):
        return self._of("exponentials", math.exp(self.value))

    def log(self):
        return self._of("exponentials", math.log(self.value))


def _value(x):
    return x.value if isinstance(x, Number) else x


def largest(*numbers):
    """The largest, by comparisons of two."""
    best = numbers[0]
    for x in numbers[1:]:
        numbered = next(n for n in (best, x) if isinstance(n, Number))
        best = numbered._of("comparisons", max(_value(best), _value(x)))
    return best


def total(numbers):
    """The sum, without adding to 0."""
    result, *rest = numbers
    for x in rest:
        result = result + x
    return result


def mean(x):
    return total(x) / len(x)


def weighted(w, x):
    return total([a * b for a, b in zip(w, x, strict=True)]) / total(w)


def detail_preserving(x):
    reference = mean(x)
    d = [a - reference for a in x]
    v = [a * a + 0.001 for a in d]
    level = mean(v)
    return weighted([(a / level) ** 0.5 + 1.0 for a in v], x)


def edscw(x):
    m = mean(x)
    square = m * m
    s = [abs(a * m) * 2 / (a * a + square) for a in x]
    return weighted([a.exp() for a in s], x)


def idw(x):
    m = mean(x)
    e = largest(*map(abs, x), 1.0) * 1e-6
    one = Number(m.counter, 1.0)
    return weighted([one / (abs(a - m) + e) for a in x], x)


def mixed(x):
    return largest(*x) * 0.5 + mean(x) * 0.5


def stochastic(x):
    return weighted(*[[largest(a, 0.0) for a in x]] * 2)


# Each mode of a window, from the formula in its docstring.
DEFINITIONS = {
    "max": lambda x: largest(*x),
    "min": lambda x: largest(*x),  # as many comparisons
    "avg": mean,
    "sum": total,
    "soft": lambda x: weighted([(a / 1.0).exp() for a in x], x),
    "lp": lambda x: total([abs(a) ** 2.0 for a in x]) ** 0.5,
    "gem": lambda x: mean([largest(a, 1e-6) ** 3.0 for a in x]) ** (1 / 3),
    "lse": lambda x: mean([(a / 1.0).exp() for a in x]).log() * 1.0,
    "detail_preserving": detail_preserving,
    "edscw": edscw,
    "idw": idw,
    "mixed": mixed,
    "combined": lambda x: (largest(*x), mean(x)),
    "random_mixed": mixed,
    "stochastic": stochastic,
    "random": mean,
}
# Comparisons of Batcher's network for 0, 1, 2... elements (OEIS A006282).
BATCHER = [0, 0, 1, 3, 5, 9, 12, 16, 19, 26, 31, 37, 41, 48, 53, 59, 63]


def windows_of(x, size, stride, pad):
    """The elements of each window of a sequence, padding left out."""
    for start in range(-pad, len(x) + pad - size + 1, stride):
        yield x[max(start, 0) : max(start + size, 0)]


@pytest.mark.parametrize("name", jaxpool.POOLS)
def test_counts_equal_the_definition(name, rng):
    x = rng.uniform(0.5, 2, 11)
    for size, stride, pad in [(3, 2, 1), (4, 4, 0), (5, 1, 2), (1, 1, 0)]:
        counter, windows = Counter(), 0
        for window in windows_of(list(map(counter.number, x)), size, stride, pad):
            windows += 1
            if name == "median":
                counter["comparisons"] += BATCHER[len(window)]
            else:
                DEFINITIONS[name](window)
        shape = (2, 11, 3)
        cost = jaxpool.pool_cost(name, shape, (size,), strides=stride, padding=pad)
        assert {k: getattr(cost, k) for k in COUNTS} == {
            k: 6 * counter[k] for k in COUNTS
        }
        channels = 6 if name == "combined" else 3
        assert cost.output_shape == (2, windows, channels)
        assert cost.bytes_read == 4 * 66
        assert cost.bytes_written == 4 * 2 * windows * channels


def test_definitions_are_the_pools(rng):
    x = rng.uniform(0.5, 2, 6)
    numbers = list(map(Counter().number, x))
    for name, definition in DEFINITIONS.items():
        if name not in ("min", "combined"):
            y = jaxpool.POOLS[name](jnp.asarray(x, jnp.float32)[:, None], (6,))
            np.testing.assert_allclose(y[0, 0], definition(numbers).value, 1e-5)


@pytest.mark.parametrize("count", range(1, 17))
def test_median_network_has_the_published_size(count):
    cost = jaxpool.pool_cost("median", (count, 1), (count,))
    assert cost.comparisons == BATCHER[count]


def test_geometry_and_dtype():
    cost = jaxpool.pool_cost(
        "avg", (2, 3, 7, 9), (2, 2), strides=3, ceil_mode=True, axes=(-2, -1)
    )
    assert cost.output_shape == (2, 3, 3, 3)
    # The last of three rows of windows has one row of elements.
    assert cost.additions == 6 * (6 * (4 - 1) + 3 * (2 - 1))
    half = jaxpool.pool_cost("avg", (4, 4, 1), (2, 2), dtype=jnp.bfloat16)
    assert (half.bytes_read, half.bytes_written) == (32, 8)
    whole = jaxpool.pool_cost("avg", (4, 4, 1), (2, 2), dtype=jnp.int8)
    assert (whole.bytes_read, whole.bytes_written) == (16, 16)
    large = jaxpool.pool_cost("sum", (10**6, 10**6, 10**6), (1000, 1000))
    assert large.additions == 999_999 * 10**12
    outside = jaxpool.pool_cost("max", (2, 1), (1,), strides=3, padding=1)
    assert (outside.comparisons, outside.output_shape) == (0, (2, 1))


def test_wrong_calls():
    with pytest.raises(ValueError, match=r"`name` must be one of max, min, .* got 'a'"):
        jaxpool.pool_cost("a", (4, 4, 1), (2, 2))
    with pytest.raises(TypeError, match=r"write \(2, 2\)"):
        jaxpool.pool_cost("max", (4, 4, 1), 2)


LEARNED = {
    "lp": ("PowerAvgPool", {}),
    "gem": ("GeMPool", {}),
    "lse": ("LSEPool", {}),
    "detail_preserving": ("DPP", {}),
    "mixed": ("MixedPool", {}),
}


@pytest.mark.parametrize("name", jaxpool.POOLS)
def test_parameters_are_those_of_the_layers(name):
    expected = jaxpool.pool_cost(name, (4, 4, 1), (2, 2)).parameters
    if name not in LEARNED:
        assert expected == 0
        return
    layer, options = LEARNED[name]
    x = jnp.ones((1, 4, 4, 3))
    ours = getattr(jaxpool.nnx, layer)((2, 2), **options)
    state = nnx.state(ours, nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == expected
    table = nnx.tabulate(ours, x, console_kwargs={"width": 200})
    assert re.search(rf"Total Parameters: {expected} ", table)
    ours = getattr(jaxpool.linen, layer)((2, 2), **options)
    table = ours.tabulate(jax.random.key(0), x, console_kwargs={"width": 200})
    assert re.search(rf"Total Parameters: {expected} ", table)


def test_tables_of_flax_report_blocks():
    x = jnp.zeros((1, 2, 2, 64))
    # 64 -> 32 and 4 * 32 -> 64, each with scale and bias.
    count = 64 * 32 + 2 * 32 + 128 * 64 + 2 * 64
    wide = {"width": 200}
    block = jaxpool.nnx.SPPF(64, 64, rngs=nnx.Rngs(0))
    assert f"{count:,}" in nnx.tabulate(block, x, console_kwargs=wide)
    block = jaxpool.linen.SPPF(64, use_running_average=True)
    assert f"{count:,}" in block.tabulate(jax.random.key(0), x, console_kwargs=wide)


def test_the_table_of_costs_is_right():
    path = pathlib.Path(__file__).parents[1] / "docs" / "cost.md"
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", path.read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == list(jaxpool.POOLS)
    for name, row in rows:
        found = [int(n) for n in row.split(" | ")]
        small = jaxpool.pool_cost(name, (2, 2, 1), (2, 2))
        large = jaxpool.pool_cost(name, (3, 3, 1), (3, 3))
        assert found == [*small[:5], *large[:5], small.parameters], name
