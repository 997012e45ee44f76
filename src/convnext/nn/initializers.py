"""How parameters start.

It knows the distribution and nothing of which layer takes it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np
from keras import ops

__all__ = ["Normal", "undrawn"]

_DRAWING = ContextVar("drawing", default=True)


@contextmanager
def undrawn(loaded: bool = True) -> Iterator[None]:
    """Zeros instead of random values, for a model whose every parameter is loaded right after.

    Drawing takes half of the time that building a large model takes.

    Args:
        loaded: Whether that is so; otherwise values are drawn.
    """
    token = _DRAWING.set(not loaded)
    try:
        yield
    finally:
        _DRAWING.reset(token)


@keras.saving.register_keras_serializable(package="convnext")
class Normal(keras.initializers.Initializer):  # type: ignore[misc]
    """Normally distributed initial values, the same on every backend for the same seed.

    They are drawn by NumPy. JAX would compile a program for each shape it draws, which for a tiny
    model takes longer than everything else that building it takes.

    Args:
        stddev: Standard deviation; the mean is zero.
        seed: Any integer; by default one that `keras.utils.set_random_seed` determines.
    """

    def __init__(self, stddev: float, seed: int | None = None) -> None:
        self.stddev = stddev
        self.seed = random.randrange(2**31) if seed is None else seed

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Draw values of this shape."""
        if not _DRAWING.get():
            return ops.zeros(shape, dtype)
        values = np.random.default_rng(self.seed).standard_normal(shape, dtype=np.float32)
        values *= np.float32(self.stddev)
        return ops.convert_to_tensor(values, dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {"stddev": self.stddev, "seed": self.seed}
