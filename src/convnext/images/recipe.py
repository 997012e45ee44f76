"""What is done to a picture before a checkpoint sees it, as data.

The published Keras ports lose up to 0.8 points of top-1 to a resize that differs from the authors',
so every checkpoint carries its recipe, and one piece of code (`images.transform`) follows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Preprocess"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """One checkpoint's way from a decoded RGB picture to the numbers its model takes.

    Attributes:
        size: Side of the square picture that the model sees.
        crop_fraction: In mode `"crop"`, the short side is resized to `int(size / crop_fraction)`.
        mode: `"crop"` keeps the aspect ratio and crops the centre; `"squash"` warps to the square.
        interpolation: Resampling filter, always antialiased.
        mean: Subtracted from each channel, after rescaling.
        std: Each channel is divided by it.
        rescale: The uint8 pixels are multiplied by it first.

    Example:
        >>> Preprocess(size=224).resized_side
        256
    """

    size: int = 224
    crop_fraction: float = 0.875
    mode: Literal["crop", "squash"] = "crop"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    rescale: float = 1 / 255

    @property
    def resized_side(self) -> int:
        """The short side after resizing and before cropping (mode `"crop"`)."""
        return int(self.size / self.crop_fraction)
