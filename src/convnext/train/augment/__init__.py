"""Augmentation of single pictures, and mixing of pairs."""

from convnext.train.augment.mixing import Mixer, Mixing
from convnext.train.augment.transforms import Augment, Augmentation

__all__ = ["Augment", "Augmentation", "Mixer", "Mixing"]
