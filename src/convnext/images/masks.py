"""Masks on disk: PNG files whose pixels are class numbers.

A mask may hold a palette, with which viewers show it in colour; the numbers are its indices.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.atomic import replaced
from convnext.errors import ArgumentError, ImageError
from convnext.images.read import DEFAULT_LIMITS, Limits, Location, read_bytes

__all__ = ["Numbers", "mask_image", "read_mask", "write_mask"]

Numbers = NDArray[np.uint8] | NDArray[np.uint16]

MODES = ("1", "L", "P", "I;16", "I")  # of Pillow; "I" is another name for 16 bits
STEPS = {"L;2": 85, "L;4": 17}  # Pillow multiplies grey values of two and four bits
MOST = 256  # classes that a palette can colour


def read_mask(source: Location, limits: Limits = DEFAULT_LIMITS) -> Numbers:
    """Read the class number of each pixel of a mask.

    Args:
        source: A PNG with a palette, whose indices are the numbers, or in grey, whose values are
            the numbers: a path, a URL, a file object or bytes.
        limits: Limits on bytes and pixels.

    Returns:
        `(height, width)`, uint8, or uint16 of a file with 16 bits.

    Raises:
        ImageError: It cannot be read, is over a limit, is in colour, or is in a lossy format.
    """
    data = read_bytes(source, limits)
    name = str(source) if isinstance(source, str | os.PathLike) else "The given mask"
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.format != "PNG":
                raise ImageError(
                    f"{name} is a {image.format} file. Masks are PNG files, as other formats may "
                    "change the class numbers of pixels."
                )
            if image.mode not in MODES:
                raise ImageError(
                    f"{name} is in colour ({image.mode}), and a mask has one class number for each "
                    "pixel. Save it as PNG with a palette or in grey, with the class numbers as "
                    "values."
                )
            if image.width * image.height > limits.pixels:
                raise ImageError(
                    f"{name} has {image.width} x {image.height} pixels; at most {limits.pixels:,} "
                    "are allowed. If you trust it, allow more with Limits(pixels=...)."
                )
            step = STEPS.get(str(image.tile[0][3])) if image.tile else None
            values = np.array(image)
    except ImageError:
        raise
    except Exception as error:  # damaged files make decoders raise many kinds of errors
        raise ImageError(f"{name} is not a mask that can be read: {error}") from error
    if values.dtype.kind != "b" and values.itemsize > 1:
        return values.astype(np.uint16)
    return values.astype(np.uint8) // np.uint8(step or 1)


def mask_image(numbers: NDArray[Any], palette: NDArray[np.uint8]) -> Image.Image:
    """Class numbers as a picture to be saved as PNG: with a palette, or above 255 in grey.

    Args:
        numbers: `(height, width)`, whole numbers.
        palette: Colour of each class, `(classes, 3)`.

    Raises:
        ArgumentError: The numbers are not those of classes.
    """
    numbers = np.asarray(numbers)
    if numbers.ndim != 2 or numbers.dtype.kind not in "iu":
        raise ArgumentError(
            f"A mask is an array (height, width) of whole numbers, not {numbers.dtype} of shape "
            f"{numbers.shape}."
        )
    low, high = (int(numbers.min()), int(numbers.max())) if numbers.size else (0, 0)
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise ArgumentError(f"Class numbers are from 0 to 65535, not from {low} to {high}.")
    if high < MOST:
        image = Image.fromarray(numbers.astype(np.uint8, copy=False))
        # Pillow clips numbers beyond the colours of a short palette.
        image.putpalette(np.asarray(palette, np.uint8)[:MOST].tobytes().ljust(3 * MOST, b"\0"))
        return image
    return Image.fromarray(numbers.astype(np.uint16))


def write_mask(
    path: str | os.PathLike[str], numbers: NDArray[Any], palette: NDArray[np.uint8]
) -> None:
    """Write class numbers as a PNG atomically; see `mask_image`.

    Args:
        path: The file.
        numbers: `(height, width)`, whole numbers.
        palette: Colour of each class, `(classes, 3)`.

    Raises:
        ArgumentError: The numbers are not those of classes.
        OSError: The file cannot be written.
    """
    image = mask_image(numbers, palette)
    with replaced(Path(path), durable=False) as temporary:
        image.save(temporary, format="PNG")
