"""Weights of a trained model's scale, in files."""

from __future__ import annotations

import pytest

from convnext.architecture import VARIANTS
from convnext.images.recipe import Preprocess
from convnext.weights.info import WeightsInfo
from convnext.weights.random_weights import random_weights
from convnext.weights.save import save_weights

INFO = WeightsInfo(name="mine", licence="MIT", preprocess=Preprocess(size=48))


def _write(path, name="test_v2", num_classes=10, info=INFO):
    weights = random_weights(VARIANTS[name], num_classes or 1)
    if not num_classes:
        weights = {key: array for key, array in weights.items() if not key.startswith("head.")}
    save_weights(weights, path, info=info)
    return path


@pytest.fixture(scope="session")
def written():
    """Writes weights into a file."""
    return _write


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A file for each test variant."""
    folder = tmp_path_factory.mktemp("weights")
    return {name: _write(folder / f"{name}.safetensors", name) for name in ("test_v1", "test_v2")}


@pytest.fixture
def weights(files):
    return files["test_v2"]
