"""Initializers of parameters."""

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
    """Initialize with zeros in this context, for a model whose parameters are loaded afterwards.

    Random values would take half of the time of building a large model.

    Args:
        loaded: Whether all parameters will be loaded; otherwise values are random.
    """
    token = _DRAWING.set(not loaded)
    try:
        yield
    finally:
        _DRAWING.reset(token)


@keras.saving.register_keras_serializable(package="convnext")
class Normal(keras.initializers.Initializer):  # type: ignore[misc]
    """Normally distributed initial values, the same on every backend for the same seed.

    NumPy draws them, as JAX would compile a program for each shape, which would take most of the
    time of building a small model.

    Args:
        stddev: Standard deviation; the mean is zero.
        seed: Any integer; by default one that `keras.utils.set_random_seed` determines.
    """

    def __init__(self, stddev: float, seed: int | None = None) -> None:
        self.stddev = stddev
        self.seed = random.randrange(2**31) if seed is None else seed

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Draw values of a shape."""
        if not _DRAWING.get():
            return ops.zeros(shape, dtype)
        values = np.random.default_rng(self.seed).standard_normal(shape, dtype=np.float32)
        values *= np.float32(self.stddev)
        return ops.convert_to_tensor(values, dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {"stddev": self.stddev, "seed": self.seed}
