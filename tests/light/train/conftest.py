"""An augmentation with every step."""

from __future__ import annotations

import pytest

from convnext.images.recipe import Preprocess
from convnext.train.augment import Augment, Augmentation


@pytest.fixture
def augmentation():
    """An augmentation with every step, at 8 x 8."""
    settings = Augment(rand_augment="rand-m9-mstd0.5-inc1", erase=0.5)
    return Augmentation(settings, Preprocess(size=8))
