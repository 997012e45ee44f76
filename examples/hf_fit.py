"""Fine-tune a classifier of `convnext.hf` on TensorFlow or JAX, with `fit`.

KERAS_BACKEND=tensorflow python examples/hf_fit.py
"""

from __future__ import annotations

import keras
import numpy as np

from convnext.hf import ConvNextV2Config, ConvNextV2ForImageClassification

SMALL = {"depths": [1, 1, 2, 1], "hidden_sizes": [16, 32, 64, 96]}


def data(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with more of the first or more of the last channel in it, and which of the two."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    pixels = rng.standard_normal((count, 3, 64, 64), np.float32)
    pixels[labels == 0, 0] += 1
    pixels[labels == 1, 2] += 1
    return pixels, labels


def main() -> None:
    keras.utils.set_random_seed(0)
    config = ConvNextV2Config(id2label={0: "first", 1: "last"}, **SMALL)
    model = ConvNextV2ForImageClassification(config)
    # Without a loss, the one of the configuration; metrics see logits.
    model.compile(keras.optimizers.AdamW(1e-3), metrics=["sparse_categorical_accuracy"])
    pixels, labels = data(320, 0)
    model.fit(pixels, labels, batch_size=16, epochs=1, validation_data=data(64, 1), verbose=2)
    print(model.predict(pixels[:2], verbose=0).logits)


if __name__ == "__main__":
    main()
