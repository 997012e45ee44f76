"""Everything here runs on one Keras backend; `make test` runs it once for each."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest
from PIL import Image

from convnext.images.recipe import Preprocess
from convnext.images.transform import pixels

PHOTOS = Path(__file__).parent.parent.parent / "examples" / "photos"
NAMES = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Leave out what PyTorch's run shows already: always, or but for the slow run."""
    if os.environ["KERAS_BACKEND"] != "torch":
        for item in items:
            first, each = map(item.get_closest_marker, ("torch_first", "each_backend"))
            if first and not each:
                item.add_marker(pytest.mark.slow)
        elsewhere = [item for item in items if item.get_closest_marker("torch_alone")]
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if not item.get_closest_marker("torch_alone")]


class _Imported:
    """Spares the garbage collector the modules: half a second of each test goes by otherwise."""

    def __init__(self):
        self.count = 0

    def freeze(self):
        if len(sys.modules) > self.count + 100:
            self.count = len(sys.modules)
            gc.collect()
            gc.freeze()


_imported = _Imported()


@pytest.fixture(autouse=True)
def _fresh_keras():
    import keras  # here, since the process that only hands out tests has no need of it

    _imported.freeze()
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    keras.backend.clear_session()


@pytest.fixture(scope="session")
def photos():
    """Real photographs as pixels of any size."""
    images = [Image.open(PHOTOS / name).convert("RGB") for name in NAMES]

    def read(side, count=4):
        recipe = Preprocess(size=side)
        return np.stack([pixels(images[i % len(images)], recipe) for i in range(count)])

    return read
