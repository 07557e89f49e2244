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
        for field in fields(self):
            if isinstance(value := getattr(self, field.name), (list, tuple)):
                setattr(self, field.name, _as_tuple(value))
        # linen's modules finish their construction here; nnx's have nothing to do.
        getattr(super(), "__post_init__", lambda: None)()

    def _call(self, *arrays: ArrayLike, **more: ArrayLike | None) -> Any:
        # Not simply all fields: linen and subclasses add some of their own.
        known = inspect.signature(self._pool).parameters
        names = [field.name for field in fields(self) if field.name in known]
        options = {name: getattr(self, name) for name in names}
        return self._pool(*arrays, **options | more)


def _as_tuple(value):
    return tuple(map(_as_tuple, value)) if isinstance(value, (list, tuple)) else value
