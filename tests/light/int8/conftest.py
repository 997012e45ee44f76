"""Networks with weights of a trained model's scale, read from files."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest

from convnext.architecture import VARIANTS
from convnext.graphs.network import Network
from convnext.images.recipe import Preprocess
from convnext.weights.info import WeightsInfo
from convnext.weights.load import read_weights
from convnext.weights.random_weights import random_weights
from convnext.weights.save import save_weights

CUSTOM = replace(VARIANTS["test_v2"], name="custom", depths=(2, 1, 1, 1), dims=(4, 12, 8, 20))


@pytest.fixture
def network_of(tmp_path):
    """A function that makes a network of a variant and a picture size."""

    def network_of(name, side=32, *, num_classes=7, any_size=False):
        weights = random_weights(VARIANTS.get(name, CUSTOM), num_classes or 1)
        if not num_classes:
            weights = {key: array for key, array in weights.items() if not key.startswith("head.")}
        path = tmp_path / f"{name}.safetensors"
        save_weights(weights, path, info=WeightsInfo(preprocess=Preprocess(size=side)))
        return Network.of_weights(open_files.enter_context(read_weights(path)), any_size=any_size)

    with ExitStack() as open_files:
        yield network_of
