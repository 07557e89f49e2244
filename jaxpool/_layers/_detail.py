"""Body of the layer that learns to preserve details."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from .. import _engine
from .._check import check_choice, check_float, check_where
from .._detail import detail_preserving_pool
from .._window import make_window
from ._learned import Learned
from ._windowed import Windowed


@dataclass(eq=False, repr=False, kw_only=True)
class DPP(Learned, Windowed):
    """Averages every window with larger weights for details, and learns how much.

    The arguments are the options of `jaxpool.detail_preserving_pool`. The parameters
    `log_alpha` and `log_lam` are the logarithms of `alpha` and `lam`, one for all
    channels, or `(features,)` if `features` is given, of dtype `param_dtype`. They
    start at 0.

    With `form="lite"` the elements are compared with the average of their window. With
    `form="full"`, which needs `features` and in nnx `rngs`, they are compared with
    `reference`, a `flax` convolution of x: of each channel on its own, with a bias, 3
    wide along each axis, around the middle of each window (of an even window, the
    first of its two middles, as the authors have it for 2x2).

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> y = jaxpool.nnx.DPP((4,))(jnp.array([0.0, 0.0, 0.0, 4.0])[:, None])
      >>> [round(v, 3) for v in y[:, 0].tolist()]
      [1.464]
      >>> layer = jaxpool.nnx.DPP((2, 2), features=16, form="full", rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 8, 8, 16))).shape
      (2, 4, 4, 16)

    References:
      Saeedan, Weber, Goesele, Roth, "Detail-Preserving Pooling in Deep Networks", 2018,
      https://arxiv.org/abs/1804.04076
    """

    _pool = staticmethod(detail_preserving_pool)
    symmetric: bool = True
    normalize: bool = True
    form: Literal["lite", "full"] = "lite"

    def __post_init__(self):
        check_choice("form", self.form, ("lite", "full"))
        if self.form == "full" and self.features is None:
            raise ValueError('`features` must be given where `form` is "full"')
        if self.form == "full" and self.axes is not None:
            raise ValueError(
                f'`axes` must be None where `form` is "full", got {self.axes}'
            )
        super().__post_init__()

    def _convolution(self) -> dict[str, Any]:
        """Options of the convolution, in either system."""
        return {
            "kernel_size": (3,) * len(self.window_shape),
            "strides": self.window_shape if self.strides is None else self.strides,
            "padding": "VALID",
            "feature_group_count": self.features,
            "param_dtype": self.param_dtype,
        }

    def _weights(self, log_alpha: jax.Array, log_lam: jax.Array) -> dict[str, Any]:
        return {"alpha": jnp.exp(log_alpha), "lam": jnp.exp(log_lam)}

    def _around(self, x: ArrayLike, where: ArrayLike | None) -> jax.Array:
        """x, padded and cut so that the convolution has an output for each window."""
        x = check_float("x", x)
        options = {name: getattr(self, name) for name in ("strides", "padding")}
        options |= {"dilation": self.dilation, "ceil_mode": self.ceil_mode}
        window = make_window(x.shape, self.window_shape, **options)
        x = _engine.without(_engine.widen(x), check_where(where, x.shape))
        config = [(0, 0, 0)] * x.ndim
        for axis, n, s, ke, (lo, _), o in zip(
            window.axes,
            window.input,
            window.strides,
            window.extent,
            window.padding,
            window.output,
            strict=True,
        ):
            first = (ke - 1) // 2 - lo - 1
            config[axis] = (-first, first + (o - 1) * s + 3 - n, 0)
        return lax.pad(x, np.zeros((), x.dtype), config)
