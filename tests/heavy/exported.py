"""What is exported in tests: models of ours whose every parameter matters."""

from __future__ import annotations

import keras

from convnext import create_convnext_v1, create_convnext_v2
from convnext.architecture import VARIANTS
from peers import fill, random_weights

CREATE = {"v1": create_convnext_v1, "v2": create_convnext_v2}
TOLERANCE = 1e-4  # of the largest value


def model_of(name: str, num_classes: int = 10, side: int = 64, **options) -> keras.Model:
    """A model that gives logits, with random weights."""
    variant = VARIANTS[name]
    options = {"classifier_activation": None} | options
    model = CREATE[variant.family](variant.size, num_classes, (side, side, 3), **options)
    fill(model, random_weights(variant, num_classes))
    return model
