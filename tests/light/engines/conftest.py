from __future__ import annotations

import numpy as np
import pytest

from convnext import VARIANTS
from convnext.weights.canonical import parameter_shapes
from convnext.weights.save import save_weights


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory):
    """Random weights of a small V2 in a file."""
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(VARIANTS["test_v2"], num_classes=10)
    weights = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    path = tmp_path_factory.mktemp("weights") / "test.safetensors"
    save_weights(weights, path)
    return path
