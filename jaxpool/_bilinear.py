"""Second-order pools: products of channels, averaged over positions.

Letters: `L` positions, those of the pooled axes, with features `a[l]` `(C,)` and `b[l]`
`(E,)`.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ._check import (
    as_int,
    check_bool,
    check_choice,
    check_float,
    check_key,
    check_parameter,
    check_where,
    pooled_axes,
)
from ._engine import widen, without
from ._vectors import einsum, unit

SqrtForm = Literal["smooth", "authors"]


def bilinear_pool(
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    axes: tuple[int, ...] = (-3, -2),
    where: ArrayLike | None = None,
    signed_sqrt: SqrtForm | None = "smooth",
    normalize: bool = True,
    eps: float = 1e-8,
) -> jax.Array:
    """Averages the outer products of two features over all positions.

    `B = 1/L sum_l a[l] b[l]^T`, flattened row by row; then the signed square root
    `sign(B) (sqrt(|B| + eps) - sqrt(eps))` of every element, and division by the norm
    of the vector. Without positions (`where`) and for B = 0 the result is 0, and all
    gradients are finite. Computed in float32 at least, the products of matrices at
    full precision.

    The authors' code has `sign(B) sqrt(|B| + eps)`, which jumps at 0:
    `signed_sqrt="authors"`.

    Args:
      x: `(*batch, *space, C)`, of any real dtype.
      y: `(*batch, *space, E)`, with x's axes but the last; None means x.
      axes: the pooled axes, not the last.
      where: boolean, broadcastable to `(*batch, *space, 1)`; positions with False take
        no part.
      signed_sqrt: the form of the signed square root, None for none.
      normalize: whether the vector is divided by its L2 norm.
      eps: the constant of the square root; its slope is at most `1 / (2 sqrt(eps))`.

    Returns:
      `(*batch, C E)`, with x's dtype; the default float for integers.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range, or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([[3.0, 0.0], [1.0, 4.0]])[:, None]
      >>> jaxpool.bilinear_pool(x, signed_sqrt=None, normalize=False)
      Array([5., 2., 2., 8.], dtype=float32)

    References:
      Lin, RoyChowdhury, Maji, "Bilinear CNN Models for Fine-grained Visual
      Recognition", 2015, https://arxiv.org/abs/1504.07889, equations 1 and 2.
    """
    a, b, _some, count, dtype = _features(x, y, axes, where)
    finish = _finish(signed_sqrt, normalize, eps, a.dtype)
    with jax.named_scope("jaxpool.bilinear_pool"):
        product = einsum("...lc,...le->...ce", a, b) / count[..., None]
        flat = (*product.shape[:-2], math.prod(product.shape[-2:]))
        return finish(product.reshape(flat)).astype(dtype)


def compact_bilinear_pool(
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    features: int,
    key: jax.Array,
    method: Literal["tensor_sketch", "random_maclaurin"] = "tensor_sketch",
    axes: tuple[int, ...] = (-3, -2),
    where: ArrayLike | None = None,
    signed_sqrt: SqrtForm | None = "smooth",
    normalize: bool = True,
    eps: float = 1e-8,
) -> jax.Array:
    """Approximates bilinear pooling by random projections to D features.

    `z = 1/L sum_l phi(a[l], b[l])` with `E <phi(a, b), phi(c, d)> = <a, c> <b, d>`: the
    inner products of `bilinear_pool` without its D = C E elements. Tensor sketch is
    `phi = irfft(rfft(S a) rfft(T b))`, where `S` and `T` add every channel, with a
    random sign, to a random feature; the sum over positions is taken before the inverse
    transform. Random Maclaurin is `phi = (S a) (T b) / sqrt(D)` with matrices of random
    signs (the authors' code leaves out the `sqrt(D)`). Then the signed square root and
    the norm as in `bilinear_pool`. In a program sharded over the batch XLA gathers what
    it transforms; `shard_map` keeps it apart.

    Args:
      x: `(*batch, *space, C)`, of any real dtype.
      y: `(*batch, *space, E)`, with x's axes but the last; None means x.
      features: D; the paper takes 8192 for 512 channels.
      key: draws the projections, which are not learned: the same key in training and
        inference.
      method: `"tensor_sketch"` or `"random_maclaurin"`.
      axes: the pooled axes, not the last.
      where: boolean, broadcastable to `(*batch, *space, 1)`; positions with False take
        no part.
      signed_sqrt: the form of the signed square root, None for none.
      normalize: whether the vector is divided by its L2 norm.
      eps: the constant of the square root.

    Returns:
      `(*batch, features)`, with x's dtype; the default float for integers.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range, or shapes do not fit.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool
      >>> x, key = jnp.ones((8, 7, 7, 64)), jax.random.key(0)
      >>> pool = lambda x: jaxpool.compact_bilinear_pool(x, features=1024, key=key)
      >>> jax.eval_shape(pool, x).shape
      (8, 1024)

    References:
      Gao, Beijbom, Zhang, Darrell, "Compact Bilinear Pooling", 2016,
      https://arxiv.org/abs/1511.06062, algorithms 1 and 2.
    """
    a, b, _some, count, dtype = _features(x, y, axes, where)
    finish = _finish(signed_sqrt, normalize, eps, a.dtype)
    check_choice("method", method, ("tensor_sketch", "random_maclaurin"))
    if as_int("features", features) < 1:
        raise ValueError(f"`features` must be at least 1, got {features}")
    if (one_key := check_key(key)) is None:
        raise TypeError("`key` must be a key of jax.random, got None")
    project = {"tensor_sketch": _tensor_sketch, "random_maclaurin": _maclaurin}[method]
    with jax.named_scope("jaxpool.compact_bilinear_pool"):
        z = project(a, b, features, jax.random.split(one_key)) / count
        return finish(z).astype(dtype)


def low_rank_bilinear_pool(
    x: ArrayLike,
    u: ArrayLike,
    v: ArrayLike,
    *,
    y: ArrayLike | None = None,
    factors: int = 1,
    activation: Callable[[jax.Array], jax.Array] | None = None,
    axes: tuple[int, ...] = (-3, -2),
    where: ArrayLike | None = None,
    signed_sqrt: SqrtForm | None = None,
    normalize: bool = False,
    eps: float = 1e-8,
) -> jax.Array:
    """Averages products of two projections over all positions.

    `z[d] = 1/L sum_l sum_k f(U^T a[l])[d k] f(V^T b[l])[d k]`, the sum over `factors`
    consecutive entries: bilinear forms of rank `factors`, without the outer product.
    With one factor and `activation=jnp.tanh` it is MLB (whose last projection is a
    dense layer after the pool), with `factors=5`, the signed square root and the norm
    MFB.

    Args:
      x: `(*batch, *space, C)`, of any real dtype.
      u: `(C, D factors)`, the projection of x.
      v: `(E, D factors)`, that of y.
      y: `(*batch, *space, E)`, with x's axes but the last; None means x.
      factors: how many entries are added up.
      activation: f, applied to both projections; None for the identity.
      axes: the pooled axes, not the last.
      where: boolean, broadcastable to `(*batch, *space, 1)`; positions with False take
        no part.
      signed_sqrt: the form of the signed square root, None for none.
      normalize: whether the vector is divided by its L2 norm.
      eps: the constant of the square root.

    Returns:
      `(*batch, D)`, with x's dtype; the default float for integers.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range, or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([[3.0, 0.0], [1.0, 4.0]])[:, None]
      >>> u = v = jnp.eye(2)
      >>> jaxpool.low_rank_bilinear_pool(x, u, v), jaxpool.low_rank_bilinear_pool(
      ...     x, u, v, factors=2
      ... )
      (Array([5., 8.], dtype=float32), Array([13.], dtype=float32))

    References:
      Kim, On, Lim, Kim, Ha, Zhang, "Hadamard Product for Low-rank Bilinear Pooling",
      2017, https://arxiv.org/abs/1610.04325, equation 8; Yu, Yu, Fan, Tao, "Multi-modal
      Factorized Bilinear Pooling", 2017, https://arxiv.org/abs/1708.01471, equation 4.
    """
    a, b, some, count, dtype = _features(x, y, axes, where)
    finish = _finish(signed_sqrt, normalize, eps, a.dtype)
    u, v = _check_projections(a, b, u, v, factors)
    with jax.named_scope("jaxpool.low_rank_bilinear_pool"):
        p, q = einsum("...lc,cd->...ld", a, u), einsum("...le,ed->...ld", b, v)
        if activation is not None:
            p, q = activation(p), activation(q)
        # A projection of nothing may be something: f(0) is left out again.
        z = without(p * q, some).sum(-2) / count
        z = z.reshape(*z.shape[:-1], z.shape[-1] // factors, factors).sum(-1)
        return finish(z).astype(dtype)


def covariance_pool(
    x: ArrayLike,
    *,
    axes: tuple[int, ...] = (-3, -2),
    where: ArrayLike | None = None,
    iterations: int = 5,
    triangle: bool = True,
) -> jax.Array:
    """Takes the square root of the covariance of the channels.

    `S = 1/L sum_l (a[l] - m)(a[l] - m)^T` and its root by Newton and Schulz: from
    `Y = S / tr S` and `Z = I`, `iterations` times `T = (3 I - Z Y) / 2`, `Y T`, `T Z`;
    the result is `sqrt(tr S) Y`. The error of the root falls quadratically: for well
    conditioned 8x8 matrices 14 % after 3 iterations, 0.9 % after 5, 1e-6 after 7. A
    constant input gives 0, with finite gradients. Products of matrices are taken at
    full float32 precision on every platform (`precision="highest"`), without which the
    iteration loses its digits.

    Args:
      x: `(*batch, *space, C)`, of any real dtype.
      axes: the pooled axes, not the last.
      where: boolean, broadcastable to `(*batch, *space, 1)`; positions with False take
        no part.
      iterations: steps of Newton and Schulz; the authors take 5. With 0 the result is
        the covariance itself.
      triangle: whether the upper triangle is returned, row by row, instead of the
        matrix.

    Returns:
      `(*batch, C (C + 1) / 2)`, or `(*batch, C, C)`, with x's dtype; the default float
      for integers.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range, or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([[4.0, 0.0], [0.0, 0.0], [0.0, 2.0], [4.0, 2.0]])[:, None]
      >>> jaxpool.covariance_pool(x, iterations=12).round(3)
      Array([2., 0., 1.], dtype=float32)

    References:
      Li, Xie, Wang, Gao, "Towards Faster Training of Global Covariance Pooling Networks
      by Iterative Matrix Square Root Normalization", 2018,
      https://arxiv.org/abs/1712.01034, equations 2 to 5.
    """
    check_bool("triangle", triangle)
    if as_int("iterations", iterations) < 0:
        raise ValueError(f"`iterations` must not be negative, got {iterations}")
    a, _, some, count, dtype = _features(x, None, axes, where)
    with jax.named_scope("jaxpool.covariance_pool"):
        mean = a.sum(-2, keepdims=True) / count[..., None]
        centred = without(a - mean, some)
        covariance = einsum("...lc,...le->...ce", centred, centred) / count[..., None]
        y = _square_root(covariance, iterations) if iterations else covariance
        if triangle:
            y = y[..., *np.triu_indices(y.shape[-1])]
        return y.astype(dtype)


# --- Helpers --------------------------------------------------------------------------


def _positions(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The pooled axes as one, right before the last."""
    count = math.prod(x.shape[axis] for axis in axes)
    x = jnp.moveaxis(x, axes, range(-1 - len(axes), -1))
    return x.reshape(*x.shape[: -1 - len(axes)], count, x.shape[-1])


def _features(x: Any, y: Any, axes: Any, where: Any):
    """Both features `(*batch, L, C)` with 0 for positions that take no part, those that
    do `(*batch, L, 1)`, their number `(*batch, 1)`, and the dtype of the result.
    """
    x = check_float("x", x)
    axes = pooled_axes(x.shape, axes)
    if -1 in axes:
        raise ValueError(f"`axes` must not name the last, the channels, got {axes}")
    shape = (*x.shape[:-1], 1)
    valid = check_where(where, shape)
    valid = jnp.ones(shape, bool) if valid is None else jnp.broadcast_to(valid, shape)
    some = _positions(valid, axes)
    a = without(_positions(widen(x), axes), some)
    count = jnp.maximum(some.sum(-2), 1).astype(a.dtype)
    if y is None:
        return a, a, some, count, x.dtype
    y = check_float("y", y)
    if y.shape[:-1] != x.shape[:-1]:
        raise ValueError(
            f"`y` must have the axes of x with shape {x.shape} but the last, got shape "
            f"{y.shape}"
        )
    b = without(_positions(widen(y).astype(a.dtype), axes), some)
    return a, b, some, count, x.dtype


def _finish(signed_sqrt, normalize, eps, dtype) -> Callable[[jax.Array], jax.Array]:
    """The signed square root and the norm, checked now."""
    if signed_sqrt is not None:
        check_choice("signed_sqrt", signed_sqrt, ("smooth", "authors"))
    check_bool("normalize", normalize)
    eps = check_parameter("eps", eps, (), dtype, "be positive", lambda v: v > 0)

    def finish(z):
        if signed_sqrt is not None:
            root = jnp.sqrt(jnp.abs(z) + eps)
            if signed_sqrt == "authors":
                z = jnp.sign(z) * root
            else:  # root - sqrt(eps) with the sign of z, precise and smooth at 0
                z = z / (root + jnp.sqrt(eps))
        return unit(z) if normalize else z

    return finish


def _signs(key, shape, dtype):
    """-1 or 1 by chance, the same with and without 64-bit numbers."""
    return (2 * jax.random.randint(key, shape, 0, 2, np.int32) - 1).astype(dtype)


def _tensor_sketch(a, b, features, keys):
    def sketch(x, key):
        place, sign = jax.random.split(key)
        channels = x.shape[-1]
        place = jax.random.randint(place, (channels, 1), 0, features, np.int32)
        sign = _signs(sign, (channels, 1), x.dtype)
        hot = place == np.arange(features, dtype=place.dtype)[None]
        matrix = without(sign, hot)
        return jnp.fft.rfft(einsum("...lc,cd->...ld", x, matrix))

    product = sketch(a, keys[0]) * sketch(b, keys[1])
    return jnp.fft.irfft(product.sum(-2), features).astype(a.dtype)


def _maclaurin(a, b, features, keys):
    def project(x, key):
        signs = _signs(key, (x.shape[-1], features), x.dtype)
        return einsum("...lc,cd->...ld", x, signs)

    product = project(a, keys[0]) * project(b, keys[1])
    return product.sum(-2) / np.asarray(math.sqrt(features), a.dtype)


def _check_projections(a, b, u, v, factors):
    if as_int("factors", factors) < 1:
        raise ValueError(f"`factors` must be at least 1, got {factors}")
    u = widen(check_float("u", u)).astype(a.dtype)
    v = widen(check_float("v", v)).astype(a.dtype)
    for name, matrix, of in (("u", u, a), ("v", v, b)):
        if matrix.ndim != 2 or matrix.shape[0] != of.shape[-1]:
            raise ValueError(
                f"`{name}` must have shape ({of.shape[-1]}, D factors), got shape "
                f"{matrix.shape}"
            )
    if u.shape[1] != v.shape[1] or u.shape[1] % factors:
        raise ValueError(
            f"`u` and `v` must have the same number of columns, a multiple of {factors}"
            f", got {u.shape[1]} and {v.shape[1]}"
        )
    return u, v


def _square_root(matrix: jax.Array, iterations: int) -> jax.Array:
    """The root of a positive semidefinite matrix; 0 for 0."""
    trace = jnp.trace(matrix, axis1=-2, axis2=-1)[..., None, None]
    some = trace > 0
    trace = jnp.where(some, trace, np.ones((), trace.dtype))
    eye = jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=trace.dtype), matrix.shape)
    y, z = matrix / trace, eye
    for i in range(iterations):
        half = (3 * eye - einsum("...ij,...jk->...ik", z, y)) / 2
        y = einsum("...ij,...jk->...ik", y, half)
        if i < iterations - 1:
            z = einsum("...ij,...jk->...ik", half, z)
    return without(jnp.sqrt(trace) * y, some)
