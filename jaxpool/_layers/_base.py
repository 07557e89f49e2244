"""What every body has: the options of its function as fields."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from jax.typing import ArrayLike

# Every dataclass below is written out, for type checkers, with the same three options.
# eq=False: nnx hashes modules by identity. repr=False: either system has its own.
# kw_only=True: linen puts its `parent` and `name` right after the positional fields.


@dataclass(eq=False, repr=False, kw_only=True)
class Layer:
    """A pool as a layer: `_pool`, with the fields as its options."""

    _pool: ClassVar[Callable[..., Any]]

    def __post_init__(self):
        # A list would make the layer unhashable, which linen and nnx.jit refuse.
        for name in self._names():
            setattr(self, name, _as_tuple(getattr(self, name)))
        # linen's modules finish their construction here; nnx's have nothing to do.
        getattr(super(), "__post_init__", lambda: None)()

    def _call(self, *arrays: ArrayLike, **more: ArrayLike | None) -> Any:
        options = {name: getattr(self, name) for name in self._names()}
        return self._pool(*arrays, **options | more)

    def _names(self) -> list[str]:
        # Not simply all fields: linen and subclasses add some of their own.
        known = inspect.signature(self._pool).parameters
        return [field.name for field in fields(self) if field.name in known]


def _as_tuple(value):
    return tuple(map(_as_tuple, value)) if isinstance(value, (list, tuple)) else value
