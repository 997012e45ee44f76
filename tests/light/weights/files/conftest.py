"""What the tests of weight files share."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """Tensors of every kind that each format can hold, under names that each can hold."""
    values = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    return {
        "stem/kernel": values,
        "stem/transposed": values.T,
        "stem/scalar": values[0, 0, 0].reshape(()),
        "head/empty": np.zeros((0, 3), np.float32),
        "head/half": values.astype(np.float16),
        "head/count": np.arange(5),
        "head/flags": np.array([True, False, True]),
    }
