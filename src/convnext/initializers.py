"""How parameters start.

It knows the distribution and nothing of which layer takes it.
"""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np
from keras import ops

__all__ = ["Normal"]


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
        values = np.random.default_rng(self.seed).standard_normal(shape, dtype=np.float32)
        values *= np.float32(self.stddev)
        return ops.convert_to_tensor(values, dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {"stddev": self.stddev, "seed": self.seed}
