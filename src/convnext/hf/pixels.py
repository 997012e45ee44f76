"""Convert pictures of any form to arrays, and arrays to tensors of a framework.

As in transformers, the axis of the channels and the range of values are guessed from the array; an
ambiguous array is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.errors import (
    ArgumentError,
    ArgumentTypeError,
    MissingDependencyError,
    UnknownNameError,
)
from convnext.images.decode import decode
from convnext.images.read import Readable

__all__ = [
    "Array",
    "DataFormat",
    "check_not_rescaled",
    "eight_bits",
    "flat",
    "normalize",
    "pixels",
    "tensors",
]

CHANNELS = (1, 3, 4)

Array = NDArray[Any]
DataFormat = Literal["channels_first", "channels_last"]


def flat(images: Any) -> list[Any]:
    """A list of the pictures in a picture, a batch, or nested lists of them."""
    if isinstance(images, list | tuple):
        return [one for image in images for one in flat(image)]
    if isinstance(images, Image.Image | str | Path | bytes | Readable):
        return [images]
    shape = getattr(images, "shape", None)
    if shape is None:
        raise ArgumentTypeError(
            f"Cannot read pictures from {type(images).__name__}: give PIL images, arrays, tensors, "
            "paths, URLs or bytes, or a list of them."
        )
    return list(images) if len(shape) == 4 else [images]


def pixels(image: Any, data_format: DataFormat | None, to_rgb: bool | None = None) -> Array:
    """One picture as an array, channels first.

    Args:
        image: The picture.
        data_format: Axis of the channels of an array; None to find it by its length.
        to_rgb: Whether to convert to RGB; None to convert all but arrays.
    """
    if isinstance(image, Image.Image) and to_rgb is False:
        image, data_format = np.array(image), "channels_last"
    if isinstance(image, Image.Image | str | Path | bytes | Readable):
        rgb = decode(image, orientation=not isinstance(image, Image.Image))
        return np.array(rgb).transpose(2, 0, 1)
    if hasattr(image, "detach"):
        image = image.detach().cpu()
    array = np.asarray(image)
    if not array.size:
        raise ArgumentError(f"A picture of shape {array.shape} has no pixels. Leave it out.")
    array = _channels_first(array, data_format)
    return _rgb(array) if to_rgb else array


def _channels_first(array: Array, data_format: DataFormat | None) -> Array:
    if array.ndim == 2:
        return array[None]
    if array.ndim != 3:
        raise ArgumentError(
            f"A picture has 2 or 3 axes, not the {array.ndim} of shape {array.shape}."
        )
    if data_format is None:
        if array.shape[0] in CHANNELS:
            data_format = "channels_first"
        elif array.shape[2] in CHANNELS:
            data_format = "channels_last"
        else:
            raise ArgumentError(
                f"Cannot tell the channels of a picture of shape {array.shape}: neither its first "
                "nor its last axis has 1, 3 or 4. Pass input_data_format='channels_first' or "
                "'channels_last'."
            )
    return array if data_format == "channels_first" else array.transpose(2, 0, 1)


def _rgb(array: Array) -> Array:
    """One or four channels as RGB; transparency is blended over white."""
    if array.shape[0] == 1:
        return np.repeat(array, 3, axis=0)
    if array.shape[0] != 4:
        return array
    white = 255 if np.issubdtype(array.dtype, np.integer) else 1
    if array.min() < 0 or array.max() > white:
        raise ArgumentError(
            f"Cannot convert four channels with values from {array.min()} to {array.max()} to RGB. "
            "Allowed: whole numbers in 0..255, or fractions in 0..1."
        )
    opaque = array[3:] / white
    over_white = array[:3] * opaque + white * (1 - opaque)
    return (over_white if white == 1 else np.rint(over_white)).astype(array.dtype)


def check_not_rescaled(image: Array) -> None:
    """Refuse a picture in 0..1, which would be rescaled twice."""
    if not np.issubdtype(image.dtype, np.floating) or not image.size:
        return
    if image.min() >= 0 and 0 < image.max() <= 1:
        raise ArgumentError(
            "This picture's values are in 0..1 already, and do_rescale would multiply them by "
            "rescale_factor again. Pass do_rescale=False, or give pixels in 0..255."
        )


def eight_bits(image: Array, fraction: bool) -> Array:
    """A picture as 8-bit numbers, channels last; fractions in 0..1 are scaled to 0..255."""
    largest = 1 if fraction else 255
    if not (image.min() >= 0 and image.max() <= largest):  # true for NaN as well
        raise ArgumentError(
            f"Cannot resize a picture with values from {image.min()} to {image.max()}. Allowed: "
            "whole numbers in 0..255, or fractions in 0..1 with do_rescale=False."
        )
    image = image.transpose(1, 2, 0)
    if image.shape[-1] not in CHANNELS:
        raise ArgumentError(
            f"Cannot resize a picture with {image.shape[-1]} channels. Give 1, 3 or 4, or pass "
            "do_resize=False."
        )
    if fraction:
        image = (image.astype(np.float64) * 255).astype(np.float32)
    image = np.ascontiguousarray(image.astype(np.uint8))
    return image[..., 0] if image.shape[-1] == 1 else image


def normalize(image: Array, mean: float | Sequence[float], std: float | Sequence[float]) -> Array:
    """Subtract the mean of each channel and divide by its deviation; channels first."""
    if not np.issubdtype(image.dtype, np.floating):
        image = image.astype(np.float32)
    for name, values in (("image_mean", mean), ("image_std", std)):
        if not isinstance(values, int | float) and len(values) != len(image):
            raise ArgumentError(
                f"{name} has {len(values)} numbers for a picture with {len(image)} channels. Give "
                "one for each channel, or a single number."
            )
    shift = np.array(mean, image.dtype).reshape(-1, 1, 1)
    scale = np.array(std, image.dtype).reshape(-1, 1, 1)
    return cast("Array", (image - shift) / scale)


def tensors(images: list[Array], kind: str | None) -> Any:
    """Pictures as one tensor of a framework; the list unchanged if `kind` is None."""
    if kind is None:
        return images
    kinds = ("np", "pt", "tf", "jax")
    if kind not in kinds:
        raise UnknownNameError("kind of tensors", kind, kinds)
    if len({image.shape for image in images}) > 1:
        raise ArgumentError(
            "These pictures have different sizes and make no batch. Pass do_resize=True, or "
            "return_tensors=None for a list."
        )
    batch = np.stack(images) if images else np.empty((0, 3, 0, 0), np.float32)
    module = {"pt": "torch", "tf": "tensorflow", "jax": "jax.numpy"}.get(kind)
    if module is None:
        return batch
    import importlib

    try:
        framework = importlib.import_module(module)
    except ModuleNotFoundError as error:
        extra = module.partition(".")[0]
        raise MissingDependencyError(f"return_tensors={kind!r} needs {extra}. It", extra) from error
    if kind == "pt":
        return framework.from_numpy(np.ascontiguousarray(batch))
    return framework.convert_to_tensor(batch) if kind == "tf" else framework.asarray(batch)
