"""A tiny model overfits real pictures in Keras' own `fit`."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from convnext import create_convnext_v2
from convnext.data.examples import open_examples


@pytest.mark.torch_alone
@pytest.mark.slow
def test_a_tiny_model_overfits_real_pictures(class_folders):
    train = open_examples(class_folders / "train")
    images = np.stack([np.asarray(train.read(i).resize((32, 32))) for i in range(len(train))])
    model = create_convnext_v2(
        "test", len(train.classes), (32, 32, 3), include_preprocessing=True, drop_path_rate=0.05
    )
    model.compile(
        keras.optimizers.AdamW(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(images, train.labels, batch_size=12, epochs=40, verbose=0)
    _, accuracy = model.evaluate(images, train.labels, verbose=0)
    assert accuracy > 0.95
