"""Bodies of the layers that pool tokens."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer, lecun_normal, normal, uniform
from jax.typing import DTypeLike

from .._attention import attention_pool, netvlad
from .._check import check_float, check_where
from ._base import Layer


@dataclass(eq=False, repr=False, kw_only=True)
class Attention(Layer):
    """A pool with Flax's multi-head attention."""

    num_heads: int
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    def _tokens(self, x: Any, where: Any) -> tuple[jax.Array, Any, Any]:
        """x without what takes no part, Flax's mask, and whether there is anything."""
        x = check_float("x", x)
        valid = check_where(where, x.shape[:-1])
        if valid is None:
            return x, None, None
        valid = jnp.broadcast_to(valid, x.shape[:-1])
        x = jnp.where(valid[..., None], x, np.zeros((), x.dtype))
        return x, valid[..., None, None, :], valid.any(-1)[..., None]


@dataclass(eq=False, repr=False, kw_only=True)
class AttentionPool(Attention):
    """Pools tokens by attention with a learned probe: the MAP head of ViT.

    `y = MHA(probe, x)`, then `y + MLP(LayerNorm(y))` with one hidden layer of
    `mlp_features` (by default four times as many as x has) and the tanh form of GELU.
    For C channels and the default MLP it has `12 C^2 + 12 C` parameters: `probe`,
    `attention`, `norm`, `hidden` and `out`. The call takes `(*batch, N, C)` and
    `where`, boolean `(*batch, N)`: tokens with False take no part. Without any the
    result is 0.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.AttentionPool(16, num_heads=4, rngs=nnx.Rngs(0))
      >>> jax.eval_shape(layer, jnp.ones((8, 49, 16))).shape
      (8, 16)

    References:
      Zhai, Kolesnikov, Houlsby, Beyer, "Scaling Vision Transformers", 2021,
      https://arxiv.org/abs/2106.04560, section 3.2; Lee et al., "Set Transformer",
      2019, https://arxiv.org/abs/1810.00825.
    """

    num_heads: int = 12
    mlp_features: int | None = None

    def _forward(self, x: Any, where: Any, layers: Any, probe: jax.Array) -> jax.Array:
        x, mask, some = self._tokens(x, where)
        probe = jnp.broadcast_to(probe, (*x.shape[:-2], *probe.shape))
        y = layers.attention(probe.astype(x.dtype), x, mask=mask)[..., 0, :]
        hidden = jax.nn.gelu(layers.hidden(layers.norm(y)), approximate=True)
        y = y + layers.out(hidden)
        y = y if some is None else jnp.where(some, y, np.zeros((), y.dtype))
        return y.astype(x.dtype)


@dataclass(eq=False, repr=False, kw_only=True)
class AttentionPool2D(Attention):
    """Pools an image by attention from its mean: the head of CLIP's ResNets.

    The positions of `(*batch, H, W, C)` and their mean in front are tokens, with a
    learned embedding of positions; the mean attends to all. For `image_shape = (H, W)`,
    C channels and E output channels it has `(H W + 1) C + 3 (C^2 + C) + C E + E`
    parameters: `position` and `attention`. Images of another shape are refused: resize
    `position` for them.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.AttentionPool2D(
      ...     16, 8, image_shape=(7, 7), num_heads=4, rngs=nnx.Rngs(0)
      ... )
      >>> jax.eval_shape(layer, jnp.ones((2, 7, 7, 16))).shape
      (2, 8)

    References:
      Radford et al., "Learning Transferable Visual Models From Natural Language
      Supervision", 2021, https://arxiv.org/abs/2103.00020, section 2.4.
    """

    image_shape: tuple[int, int]

    def _position(self, key: jax.Array, features: int) -> jax.Array:
        shape = (math.prod(self.image_shape) + 1, features)
        return normal(features**-0.5)(key, shape, self.param_dtype)

    def _forward(self, x: Any, layers: Any, position: jax.Array) -> jax.Array:
        x = check_float("x", x)
        if x.ndim < 3 or x.shape[-3:-1] != tuple(self.image_shape):
            raise ValueError(
                f"`x` must have shape (*batch, *{tuple(self.image_shape)}, channels), "
                f"got {x.shape}"
            )
        tokens = x.reshape(*x.shape[:-3], math.prod(self.image_shape), x.shape[-1])
        mean = tokens.mean(-2, keepdims=True)
        tokens = jnp.concatenate([mean, tokens], -2)
        tokens += jnp.broadcast_to(position.astype(x.dtype), tokens.shape)
        return layers.attention(tokens[..., :1, :], tokens)[..., 0, :].astype(x.dtype)


@dataclass(eq=False, repr=False, kw_only=True)
class PMA(Layer):
    """Pools a set by attention from k learned seeds: that of the Set Transformer.

    `O = Q + softmax(Q K^T / sqrt(C)) V` in each head, with projections Q of the seeds
    and K, V of the tokens and the square root of all C channels, then
    `O + relu(W O + b)`; with `layer_norm` each of the two is normalised, as in the
    paper's text. For C channels it has `k C + 4 (C^2 + C)` parameters, and `4 C` more
    with norms: `seeds`, `query`, `key`, `value` and `out`, `norm_0` and `norm_1`. The
    call takes `(*batch, N, C)` and `where`, boolean `(*batch, N)`: tokens with False
    take no part. The result is `(*batch, k, C)`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.PMA(16, num_seeds=4, num_heads=2, rngs=nnx.Rngs(0))
      >>> jax.eval_shape(layer, jnp.ones((8, 49, 16))).shape
      (8, 4, 16)

    References:
      Lee, Lee, Kim, Kosiorek, Choi, Teh, "Set Transformer", 2019,
      https://arxiv.org/abs/1810.00825, equations 6 to 8 and 11.
    """

    num_seeds: int = 1
    num_heads: int = 4
    layer_norm: bool = False
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    def _widths(self, features: int) -> dict[str, tuple[int, int]]:
        return dict.fromkeys(("query", "key", "value", "out"), (features, features))

    def _heads(self, x: jax.Array) -> jax.Array:
        if x.shape[-1] % self.num_heads:
            raise ValueError(
                f"`num_heads` must divide the {x.shape[-1]} channels, got "
                f"{self.num_heads}"
            )
        heads = (self.num_heads, x.shape[-1] // self.num_heads)
        x = x.reshape(*x.shape[:-1], *heads)
        return jnp.swapaxes(x, -3, -2)

    def _forward(self, x: Any, where: Any, layers: Any, seeds: jax.Array) -> jax.Array:
        x = check_float("x", x)
        valid = check_where(where, x.shape[:-1])
        if valid is not None:
            # Both here, for the projections, and below, for the weights.
            x = jnp.where(valid[..., None], x, np.zeros((), x.dtype))
            valid = valid[..., None, :]
        q = layers.query(seeds.astype(x.dtype))
        q = jnp.broadcast_to(q, (*x.shape[:-2], *q.shape))
        q, k, v = (self._heads(t) for t in (q, layers.key(x), layers.value(x)))
        scale = 1 / math.sqrt(x.shape[-1])
        y = q + attention_pool(q, k, v, where=valid, scale=scale)
        y = jnp.swapaxes(y, -3, -2)
        y = y.reshape(*y.shape[:-2], y.shape[-2] * y.shape[-1])
        if self.layer_norm:
            y = layers.norm_0(y)
        y = y + jax.nn.relu(layers.out(y))
        if self.layer_norm:
            y = layers.norm_1(y)
        return y.astype(x.dtype)


@dataclass(eq=False, repr=False, kw_only=True)
class NetVLAD(Layer):
    """Adds up the residuals of tokens to learned centres of clusters.

    `jaxpool.netvlad` with learned `centers` `(clusters, C)`, assignment `kernel`
    `(C, clusters)` and, with `use_bias`, `bias` `(clusters,)`: `2 C K` parameters, and
    K more. The paper starts them from clusters of its data:
    `kernel = 2 alpha centers.T`, `bias = -alpha |centers|^2`. The call takes
    `(*batch, N, C)` and `where`, boolean `(*batch, N)`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.NetVLAD(16, clusters=4, rngs=nnx.Rngs(0))
      >>> jax.eval_shape(layer, jnp.ones((8, 49, 16))).shape
      (8, 64)

    References:
      Arandjelović, Gronat, Torii, Pajdla, Sivic, "NetVLAD", 2016,
      https://arxiv.org/abs/1511.07247.
    """

    _pool = staticmethod(netvlad)
    clusters: int = 64
    use_bias: bool = False
    normalize_input: bool = True
    centers_init: Initializer = uniform(1.0)  # noqa: RUF009 a function
    kernel_init: Initializer = lecun_normal()  # noqa: RUF009 a function
    param_dtype: DTypeLike = jnp.float32
