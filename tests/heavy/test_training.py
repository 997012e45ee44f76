"""A tiny model overfits real pictures in Keras' own `fit`."""

from __future__ import annotations

import io
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

from convnext import create_convnext_v2

PICTURES, CLASSES = 64, 8


@pytest.fixture(scope="module")
def cifar(shared_data):
    archive = zipfile.ZipFile(shared_data / "cifar10" / "train.zip")
    names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
    labels = sorted({name.split("/")[-2] for name in names})[:CLASSES]
    images, targets = [], []
    for index, label in enumerate(labels):
        mine = [name for name in names if name.split("/")[-2] == label][: PICTURES // CLASSES]
        for name in mine:
            images.append(np.asarray(Image.open(io.BytesIO(archive.read(name)))))
            targets.append(index)
    return np.stack(images).astype("float32"), np.array(targets)


@pytest.mark.torch_alone
@pytest.mark.slow
def test_a_tiny_model_overfits_64_real_pictures(cifar):
    images, labels = cifar
    model = create_convnext_v2(
        "test", CLASSES, (32, 32, 3), include_preprocessing=True, drop_path_rate=0.05
    )
    model.compile(
        keras.optimizers.AdamW(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(images, labels, batch_size=32, epochs=40, verbose=0)
    _, accuracy = model.evaluate(images, labels, verbose=0)
    assert accuracy > 0.95
