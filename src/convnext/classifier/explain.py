"""Where in a picture a class was seen: exact Grad-CAM, without gradients.

Grad-CAM weighs the channels of the last feature map by the gradient of a class's logit, and shows
where the weighted sum is positive. ConvNeXt's head is a linear layer on the norm of the map's mean,

    m = mean of A over the positions
    x = (m - mean(m)) / s,  s = sqrt(var(m) + epsilon)
    logit = sum(w * (gamma * x + beta)) + bias

so the gradient is the same at every position and, with g = gamma * w, has a closed form:

    d logit / d A[i, j] = (g - mean(g) - x * mean(g * x)) / s / positions

All it takes are the map, which every engine gives, and three vectors of the weights. The norm makes
the logit independent of the map's scale, so the sum over all positions is zero before the negative
part is cut off: what is shown is where the class is seen more than on average.

Reference: Selvaraju et al., "Grad-CAM", https://arxiv.org/abs/1610.02391.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.architecture import Strides
from convnext.classifier.heatmap import Box, captioned, overlay, shown
from convnext.classifier.results import ClassScore
from convnext.images.recipe import Preprocess
from convnext.images.transform import resized_size
from convnext.session import Session

__all__ = ["EXPLAINED", "Explanation", "grad_cam", "heat_of", "over", "seen_region"]

EXPLAINED = ("logits", "stage_3")  # what an explanation is made of

NORM_EPSILON = 1e-6  # of the norm before the classifier


def grad_cam(
    feature_map: NDArray[Any], gamma: NDArray[Any], kernel: NDArray[Any]
) -> NDArray[np.float32]:
    """Where the last feature map speaks for a class.

    Args:
        feature_map: `[height, width, channels]` of the last stage.
        gamma: `[channels]`, the scale of the head's norm.
        kernel: `[channels]`, the classifier's weights of the class.

    Returns:
        `[height, width]`, not negative; zeros where no position differs from the others.

    Example:
        >>> one = np.zeros((2, 2, 3))
        >>> one[0, 1] = 1, 0, 0
        >>> grad_cam(one, np.ones(3), np.array([1.0, 0, 0])).argmax()
        1
    """
    features = feature_map.astype(np.float64)
    mean = features.mean((0, 1))
    scale = np.sqrt(mean.var() + NORM_EPSILON)
    x = (mean - mean.mean()) / scale
    g = gamma.astype(np.float64) * kernel
    gradient = (g - g.mean() - x * (g * x).mean()) / scale
    positions = features.shape[0] * features.shape[1]
    weighted = features @ gradient / positions
    heat: NDArray[np.float32] = np.maximum(weighted, 0).astype(np.float32)
    return heat


def seen_region(
    width: int, height: int, preprocess: Preprocess, cells: tuple[int, int], strides: Strides
) -> Box:
    """The part of a picture that the last feature map lies over, in the picture's pixels.

    Args:
        width: Of the picture.
        height: Of the picture.
        preprocess: The checkpoint's recipe: what lies outside the centre crop was never seen.
        cells: Height and width of the feature map.
        strides: Of the model. Pixels at the right and bottom that fill no patch are not seen.

    Example:
        >>> seen_region(500, 250, Preprocess(224, crop_fraction=0.875), (7, 7), (4, 2, 2, 2))
        (140.625, 15.625, 359.375, 234.375)
    """
    size = preprocess.size
    step = int(np.prod(strides))
    seen = (min(size, cells[1] * step), min(size, cells[0] * step))
    resized, offsets = (size, size), (0, 0)
    if preprocess.mode == "crop":
        resized = resized_size(width, height, preprocess.resized_side)
        offsets = (round((resized[0] - size) / 2), round((resized[1] - size) / 2))
    across, down = width / resized[0], height / resized[1]
    left, top = offsets
    return left * across, top * down, (left + seen[0]) * across, (top + seen[1]) * down


def heat_of(
    session: Session, feature_map: NDArray[Any], index: int, size: tuple[int, int]
) -> tuple[NDArray[np.float32], Box]:
    """Where a picture speaks for a class, and what part of it that lies over.

    Args:
        session: What saw it.
        feature_map: `[height, width, channels]` of the last stage.
        index: The class.
        size: Width and height of the picture.
    """
    gamma, kernel = session.head
    height, width, _ = feature_map.shape
    region = seen_region(*size, session.preprocess, (height, width), session.strides)
    return grad_cam(feature_map, gamma, kernel[:, index]), region


def over(
    small: Image.Image, size: tuple[int, int], heat: NDArray[np.float32], region: Box
) -> Image.Image:
    """Heat over a picture.

    Args:
        small: The picture, reduced.
        size: Its width and height before.
        heat: What `heat_of` gives.
        region: What that lies over, in pixels of the picture before.
    """
    across, down = small.width / size[0], small.height / size[1]
    left, top, right, bottom = region
    return overlay(small, heat, (left * across, top * down, right * across, bottom * down))


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where in a picture a class was seen.

    Attributes:
        id: Names the picture.
        target: The class, and how probable the model finds it.
        heat: `[height, width]` of the last feature map: how much each part speaks for the class.
        region: What the map lies over: left, top, right and bottom in pixels of the picture.
        picture: The picture itself, upright.
    """

    id: str
    target: ClassScore
    heat: NDArray[np.float32]
    region: Box
    picture: Image.Image

    def draw(self, side: int = 448) -> Image.Image:
        """The picture and, beside it, the heat over the picture, with a caption.

        Args:
            side: The longer side of each of the two. What the model did not see is faded.
        """
        plain = shown(self.picture, side)
        title = f"{self.target.label}  {self.target.probability:.1%}"
        hot = over(plain, self.picture.size, self.heat, self.region)
        return captioned([plain, hot], title, self.id)
