"""Heat maps of a class by exact Grad-CAM, without a framework.

Grad-CAM weighs the channels of the last feature map by the gradient of a class's logit, and shows
where the weighted sum is positive. Only a few steps follow that map, so the gradient is computed
here in reverse mode, from the map, which every engine computes, and the parameters of those steps.

A norm after the pooling makes the logit independent of the map's scale, so the sum over all
positions is zero before the negative part is cut off: the heat map shows where the class is seen
more than on average.

Reference: Selvaraju et al., "Grad-CAM", https://arxiv.org/abs/1610.02391.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.architecture import Strides
from convnext.classifier.heatmap import Box, overlay
from convnext.classifier.results import ClassScore
from convnext.images.recipe import Preprocess
from convnext.images.sheets import captioned, shown
from convnext.images.transform import resized_size
from convnext.session import Session
from convnext.steps import Activation, Linear, Norm, Pool, Unit

__all__ = ["EXPLAINED", "Explanation", "grad_cam", "heat_of", "over", "seen_region"]

EXPLAINED = ("logits", "stage_3")  # outputs that an explanation needs

Wide = NDArray[np.float64]
Layer = Callable[[Wide], tuple[Wide, Callable[[Wide], Wide]]]
"""Maps a step's input to its output and to a function from the output's to the input's gradient."""


def pooled(x: Wide) -> tuple[Wide, Callable[[Wide], Wide]]:
    """The mean over all positions."""
    positions = x.shape[0] * x.shape[1]
    return x.mean((0, 1)), lambda gradient: np.broadcast_to(gradient / positions, x.shape)


def unit(x: Wide) -> tuple[Wide, Callable[[Wide], Wide]]:
    """A vector divided by its length."""
    length = np.linalg.norm(x)
    y = x / length
    return y, lambda gradient: (gradient - y * (gradient @ y)) / length


def linear(kernel: Wide, bias: Wide) -> Layer:
    """A linear layer over channels."""
    return lambda x: (x @ kernel + bias, lambda gradient: gradient @ kernel.T)


def normed(kind: str, epsilon: float, gamma: Wide, beta: Wide | float = 0.0) -> Layer:
    """A norm over channels: `"layer"`, `"rms"` or `"simple"`."""

    def layer(x: Wide) -> tuple[Wide, Callable[[Wide], Wide]]:
        centred = x if kind == "rms" else x - x.mean(-1, keepdims=True)
        count = x.shape[-1] - (kind == "simple")
        scale = np.sqrt(np.square(centred).sum(-1, keepdims=True) / count + epsilon)
        normal = (centred if kind == "layer" else x) / scale

        def back(gradient: Wide) -> Wide:
            inner = gradient * gamma
            through_scale = (inner * normal).sum(-1, keepdims=True) / count * centred / scale
            through_mean = inner.mean(-1, keepdims=True) if kind == "layer" else 0.0
            slope: Wide = (inner - through_mean - through_scale) / scale
            return slope

        return normal * gamma + beta, back

    return layer


# x (1 + tanh(factor (x + cubic x^3))) / 2; (1 + tanh(z / 2)) / 2 is the logistic function of z.
BY_TANH = {"gelu_tanh": (math.sqrt(2 / math.pi), 0.044715), "silu": (0.5, 0.0)}


def activated(kind: str) -> Layer:
    """An activation: `"gelu"`, `"gelu_tanh"` or `"silu"`."""

    def layer(x: Wide) -> tuple[Wide, Callable[[Wide], Wide]]:
        if kind == "gelu":
            part = 0.5 + np.vectorize(math.erf)(x / math.sqrt(2)) / 2
            slope = np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi)
        else:
            factor, cubic = BY_TANH[kind]
            part = 0.5 + np.tanh(factor * (x + cubic * x**3)) / 2
            slope = 2 * part * (1 - part) * factor * (1 + 3 * cubic * np.square(x))
        return x * part, lambda gradient: gradient * (part + x * slope)

    return layer


def grad_cam(feature_map: NDArray[Any], head: Iterable[Layer]) -> NDArray[np.float32]:
    """Compute the heat map of a class from the last feature map.

    Args:
        feature_map: `[height, width, channels]` of the last stage.
        head: The steps from the map to the logit of the class.

    Returns:
        `[height, width]`, not negative; all 0 if all positions are equal.

    Example:
        >>> one = np.zeros((2, 2, 3))
        >>> one[0, 1] = 1, 0, 0
        >>> head = pooled, normed("layer", 1e-6, np.ones(3)), linear(np.eye(3)[:, :1], np.zeros(1))
        >>> grad_cam(one, head).argmax()
        1
    """
    features = x = feature_map.astype(np.float64)
    backs = []
    for layer in head:
        x, back = layer(x)
        backs.append(back)
    gradient = np.ones_like(x)
    for back in reversed(backs):
        gradient = back(gradient)
    heat: NDArray[np.float32] = np.maximum(features @ gradient.mean((0, 1)), 0).astype(np.float32)
    return heat


def seen_region(
    width: int, height: int, preprocess: Preprocess, cells: tuple[int, int], strides: Strides
) -> Box:
    """The box of a picture that the last feature map covers, in the picture's pixels.

    Args:
        width: Of the picture.
        height: Of the picture.
        preprocess: The preprocessing; the box is inside its centre crop.
        cells: Height and width of the feature map.
        strides: Of the model; incomplete patches at the right and bottom are outside the box.

    Example:
        >>> seen_region(500, 250, Preprocess(224, crop_fraction=0.875), (7, 7), (4, 2, 2, 2))
        (140.625, 15.625, 359.375, 234.375)
    """
    size = preprocess.size
    step = int(np.prod(strides))
    seen = (min(size, cells[1] * step), min(size, cells[0] * step))
    if preprocess.mode == "pad":
        side = max(width, height)
        left, top = -((side - width) // 2), -((side - height) // 2)
        return left, top, left + seen[0] * side / size, top + seen[1] * side / size
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
    """The heat map of a class, and the box that it covers in a picture of a width and height."""
    height, width, _ = feature_map.shape
    region = seen_region(*size, session.preprocess, (height, width), session.strides)
    return grad_cam(feature_map, _head(session, index)), region


def _head(session: Session, index: int) -> list[Layer]:
    """The steps from the last feature map to the logit of a class."""
    values: Mapping[str, Any] = session.head
    layers: list[Layer] = []
    for step in session.variant.head_steps(session.num_classes):
        match step:
            case Pool():
                layers.append(pooled)
            case Norm(name, _, kind, epsilon):
                beta = values.get(f"{name}.beta", 0.0)
                layers.append(normed(kind, epsilon, values[f"{name}.gamma"], beta))
            case Linear(name):
                kernel, bias = values[f"{name}.kernel"], values[f"{name}.bias"]
                if name == "head":
                    kernel, bias = kernel[:, [index]], bias[[index]]
                layers.append(linear(kernel, bias))
            case Activation(kind):
                layers.append(activated(kind))
            case Unit():
                layers.append(unit)
    return layers


def over(
    small: Image.Image, size: tuple[int, int], heat: NDArray[np.float32], region: Box
) -> Image.Image:
    """Overlay a heat map on a reduced picture; `region` is in pixels of the original `size`."""
    across, down = small.width / size[0], small.height / size[1]
    left, top, right, bottom = region
    return overlay(small, heat, (left * across, top * down, right * across, bottom * down))


@dataclass(frozen=True, eq=False)
class Explanation:
    """The heat map of a class in a picture.

    Attributes:
        id: Name of the picture.
        target: The class and its probability.
        heat: `[height, width]` of the last feature map: evidence for the class at each position.
        region: The box that the map covers: left, top, right and bottom in pixels of the picture.
        picture: The picture, upright.
    """

    id: str
    target: ClassScore
    heat: NDArray[np.float32]
    region: Box
    picture: Image.Image

    def draw(self, side: int = 448) -> Image.Image:
        """Draw the picture beside the picture with the heat map, with a caption.

        Parts outside the model's input are faded.

        Args:
            side: Longer side of each of the two, in pixels.
        """
        plain = shown(self.picture, side)
        title = f"{self.target.label}  {self.target.probability:.1%}"
        hot = over(plain, self.picture.size, self.heat, self.region)
        return captioned([plain, hot], title, self.id)
