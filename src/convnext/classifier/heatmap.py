"""Draw heat maps (arrays of numbers that are not negative) over pictures."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Box", "colours", "overlay"]

Box = tuple[float, float, float, float]  # left, top, right, bottom

PAPER = (255, 255, 255)
OPACITY = 0.6

# The colour map in Oklab's cylinder: from dark violet over red to light yellow. Lightness rises
# evenly, so that equal steps of heat look equal, in grey too. Chroma stays inside sRGB throughout.
LIGHTNESS = (0.30, 0.95)
HUES = (290.0, 460.0)
CHROMA = (0.12, 0.17, 0.10)  # at the start, in the middle, at the end

# Björn Ottosson, "A perceptual color space for image processing", 2020.
OKLAB_TO_LMS = np.array(
    [
        [1, 0.3963377774, 0.2158037573],
        [1, -0.1055613458, -0.0638541728],
        [1, -0.0894841775, -1.2914855480],
    ]
)
LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


@functools.cache
def colours() -> NDArray[np.uint8]:
    """The colour map, `[256, 3]`, from cold to hot."""
    fine = np.linspace(0, 1, 4096)
    path = _oklab(fine)
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    length = np.concatenate([[0], np.cumsum(steps)])
    even = np.interp(np.linspace(0, length[-1], 256), length, fine)
    linear = (_oklab(even) @ OKLAB_TO_LMS.T) ** 3 @ LMS_TO_RGB.T
    linear = linear.clip(0, 1)
    encoded = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    table: NDArray[np.uint8] = np.rint(255 * encoded).astype(np.uint8)
    return table


def _oklab(heat: NDArray[Any]) -> NDArray[Any]:
    """Points of the colour map's path, for heat from 0 to 1."""
    lightness = np.interp(heat, (0, 1), LIGHTNESS)
    hue = np.radians(np.interp(heat, (0, 1), HUES))
    chroma = np.interp(heat, (0, 0.5, 1), CHROMA)
    return np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)


def overlay(picture: Image.Image, heat: NDArray[Any], region: Box) -> Image.Image:
    """Overlay a heat map on a region of a picture; the rest is faded.

    Args:
        picture: In mode RGB.
        heat: `[height, width]`, not negative; the largest number becomes the hottest colour.
        region: The box that the map covers, in pixels of the picture.
    """
    left, top = round(region[0]), round(region[1])
    size = (max(1, round(region[2]) - left), max(1, round(region[3]) - top))
    relative = heat / (heat.max() or 1)
    # Bilinear between the centres of cells, as in PyTorch with align_corners=False.
    smooth = Image.fromarray(relative.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    hot = Image.fromarray(colours()[np.rint(255 * np.asarray(smooth).clip(0, 1)).astype(np.uint8)])
    grey = picture.convert("L").convert("RGB")  # colours would look like heat
    seen = grey.crop((left, top, left + size[0], top + size[1]))
    canvas = Image.blend(grey, Image.new("RGB", grey.size, PAPER), 0.5)
    canvas.paste(Image.blend(seen, hot, OPACITY), (left, top))
    return canvas
