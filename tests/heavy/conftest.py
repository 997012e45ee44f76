"""Everything here runs on one Keras backend; `make test` runs it once for each."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
from PIL import Image

from convnext.images.recipe import Preprocess
from convnext.images.transform import pixels

PHOTOS = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Leave out what PyTorch's run shows already: always, or but for the slow run."""
    if keras.backend.backend() != "torch":
        for item in items:
            first, each = map(item.get_closest_marker, ("torch_first", "each_backend"))
            if first and not each:
                item.add_marker(pytest.mark.slow)
        elsewhere = [item for item in items if item.get_closest_marker("torch_alone")]
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if not item.get_closest_marker("torch_alone")]


@pytest.fixture(autouse=True)
def _fresh_keras():
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    keras.backend.clear_session()


@pytest.fixture(scope="session")
def photos(shared_data):
    """Real photographs as pixels of any size."""

    def read(side):
        recipe = Preprocess(size=side)
        images = [Image.open(shared_data / "photos" / name).convert("RGB") for name in PHOTOS]
        return np.stack([pixels(image, recipe) for image in images])

    return read
