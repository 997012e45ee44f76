"""Decode one picture of any supported source and colour mode to RGB, within limits.

Colour profiles are not applied: the authors and timm apply none.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from convnext.errors import ArgumentError, ConvNeXtError, ImageError
from convnext.images.read import DEFAULT_LIMITS, Limits, Location, read_bytes

__all__ = ["WHITE", "Color", "Source", "decode"]

Color = tuple[int, int, int]
Source = Location | Image.Image | NDArray[Any]

WHITE: Color = (255, 255, 255)

# Other formats are refused: some start programs (EPS), most are rare and little tested. HEIF works
# only where a plug-in such as pillow-heif is registered.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "HEIF")

_SIXTEEN_BIT = ("PNG", "PPM")  # in these formats, Pillow's 32-bit mode "I" holds 16-bit values

_MAX_PASSES = 20  # over the allowed number of pixels; ordinary progressive JPEG files need 10
_LEAST_PASS = 2**20  # a pass counts as at least this many pixels, as starting it takes time
_PYTHON_PASSES = 2**8  # a pass of one of Pillow's pure Python decoders counts as this many

_JPEG_SCAN = b"\xff\xda"
# A marker that begins a segment: not a stuffed byte, filler or restart marker.
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")

_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(
    source: Source,
    *,
    orientation: bool = True,
    background: Color | None = WHITE,
    value_range: tuple[float, float] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Image.Image:
    """Decode one picture to RGB; of an animation, the first frame.

    Args:
        source: A path, an http(s) URL, the encoded bytes, a binary file object, a PIL image, or an
            array `[height, width]` or `[height, width, 1, 3 or 4]`.
        orientation: Turn the picture upright as its EXIF data says. The published accuracies were
            measured without. (Pillow always turns TIFF files.)
        background: Colour behind transparent parts. White by default, as most transparent pictures
            are made for white pages and their hidden pixels are black or random. `None` drops
            transparency, as timm and torchvision do.
        value_range: The values of black and white, such as `(0, 1)`. Required for arrays that are
            not uint8, as their range is never guessed. Values are rounded to 8 bits.
        limits: Limits on bytes, pixels and time.

    Returns:
        A loaded picture in mode `"RGB"`; the given one itself if nothing had to be done. Decoding
        it again does not change it.

    Raises:
        ImageError: The picture cannot be read, or is over a limit.
        ArgumentError: `background` is not a colour, or `value_range` not two numbers.
        ArgumentTypeError: The source has the wrong type.

    Example:
        >>> decode(np.zeros((2, 3), np.uint8)).size
        (3, 2)
    """
    _check_arguments(background, value_range)
    if isinstance(source, np.ndarray):
        return _to_rgb(_from_array(source, value_range, limits), background, value_range)
    given = source if isinstance(source, Image.Image) else read_bytes(source, limits)
    name = str(source) if isinstance(source, str | os.PathLike) else "The given picture"
    with _PILLOW_QUIET, _only_image_errors(name):
        image = given if isinstance(given, Image.Image) else _open(given, name, limits)
        _check_size(name, image.width, image.height, limits)
        image.load()
        turn = _turn_upright(image) if orientation else None
        rgb = _to_rgb(image, background, value_range)
        return _settled(rgb if turn is None else rgb.transpose(turn))


def _check_arguments(background: Color | None, value_range: tuple[float, float] | None) -> None:
    if background is not None and not (
        _are_numbers(background, 3, Integral) and all(0 <= channel <= 255 for channel in background)
    ):
        raise ArgumentError(
            f"background must be (red, green, blue), 0 to 255 each; got {background}."
        )
    if value_range is not None and not (
        _are_numbers(value_range, 2, Real)
        and -math.inf < value_range[0] < value_range[1] < math.inf
    ):
        raise ArgumentError(
            f"value_range must be (black, white), black < white; got {value_range}."
        )


def _are_numbers(given: object, count: int, kind: type) -> bool:
    return (
        isinstance(given, Sequence | np.ndarray)
        and len(given) == count
        and all(isinstance(number, kind) for number in given)
    )


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@contextlib.contextmanager
def _only_image_errors(name: str) -> Iterator[None]:
    try:
        yield
    except ConvNeXtError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not a picture in a supported format ({', '.join(_formats())}), or its "
            "header is damaged."
        ) from error
    except Exception as error:  # damaged files make decoders raise many kinds of errors
        raise ImageError(f"{name} cannot be decoded: {type(error).__name__}: {error}") from error


def _open(data: bytes, name: str, limits: Limits) -> Image.Image:
    """Read the header, and refuse files that would take the decoder minutes."""
    image = Image.open(io.BytesIO(data), formats=_formats())
    _check_size(name, image.width, image.height, limits)
    passes, pixels = 1, image.width * image.height
    if image.tile and image.tile[0][0] in Image.DECODERS:
        passes = _PYTHON_PASSES
    elif image.format in ("JPEG", "MPO") and data.count(_JPEG_SCAN) > _MAX_PASSES:
        passes = _jpeg_scans(data)  # less than the count, which includes embedded pictures
    allowed = _MAX_PASSES * max(limits.pixels, DEFAULT_LIMITS.pixels)
    if passes * max(pixels, _LEAST_PASS) > allowed:
        raise ImageError(
            f"{name} needs too many decoding passes: {passes} over {image.width} x "
            f"{image.height} pixels ({image.format}). Save it again with an image editor."
        )
    return image


def _jpeg_scans(data: bytes) -> int:
    scans, position = 0, 2
    while (marker := _JPEG_MARKER.search(data, position)) and marker[1] != b"\xd9":
        scans += marker[0].endswith(_JPEG_SCAN)
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return scans


def _check_size(name: str, width: int, height: int, limits: Limits) -> None:
    if not 0 < width * height <= limits.pixels:
        raise ImageError(
            f"{name} has {width} x {height} pixels; at least one and at most {limits.pixels:,} "
            "are allowed. If you trust it, allow more with Limits(pixels=...)."
        )


def _turn_upright(image: Image.Image) -> Image.Transpose | None:
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # with damaged EXIF data, the picture itself is readable
        return None


def _to_rgb(
    image: Image.Image, background: Color | None, value_range: tuple[float, float] | None
) -> Image.Image:
    clear = image.info.get("transparency")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SIXTEEN_BIT):
        # Pillow's own conversion clips at 255; of 16-bit colour it takes the high byte.
        values = np.asarray(image)
        image = Image.fromarray((values >> 8).astype(np.uint8))
        if clear is not None:
            image.putalpha(Image.fromarray(np.uint8(255) * (values != clear)))
    elif image.mode in ("I", "F"):
        image = Image.fromarray(_to_uint8(np.asarray(image), value_range))
    elif image.mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:
        # Pillow reduces 16-bit pixels to their high bytes, but not the transparent colour.
        image = image.copy()
        image.info["transparency"] = tuple(channel >> 8 for channel in clear)
    if image.has_transparency_data and background is not None:
        canvas = Image.new("RGB", image.size, background)
        image = image.convert("RGBA")
        canvas.paste(image, mask=image)
        return canvas
    return image if image.mode == "RGB" else image.convert("RGB")


def _settled(rgb: Image.Image) -> Image.Image:
    """Drop metadata that would make the next reader turn or composite the picture again."""
    if _turn_upright(rgb) is None and not rgb.has_transparency_data:
        return rgb
    settled = rgb.copy()
    settled.info = {}
    return settled


def _from_array(
    array: NDArray[Any], value_range: tuple[float, float] | None, limits: Limits
) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2 and (array.ndim != 3 or array.shape[-1] not in (3, 4)):
        raise ImageError(
            f"The given array has shape {array.shape}; a picture is [height, width] or "
            "[height, width, 1, 3 or 4]. Turn channels-first arrays with np.moveaxis(array, 0, -1)."
        )
    _check_size("The given array", array.shape[1], array.shape[0], limits)
    return Image.fromarray(_to_uint8(array, value_range))


def _to_uint8(array: NDArray[Any], value_range: tuple[float, float] | None) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if value_range is None:
        raise ImageError(
            f"The given picture holds {array.dtype} numbers of unknown range. Give their range, as "
            "in value_range=(0, 1), or uint8 from 0 to 255."
        )
    if array.dtype.kind not in "biuf":
        raise ImageError(f"The given picture holds {array.dtype}; numbers are needed.")
    low, high = value_range
    if not (low <= array.min() and array.max() <= high):  # true for NaN as well
        raise ImageError(
            f"The given picture holds numbers from {array.min()} to {array.max()}, outside "
            f"value_range={value_range}. Give the range of the numbers."
        )
    scaled: NDArray[np.float32] = (array.astype(np.float32) - low) * (255 / (high - low))
    return np.rint(scaled).astype(np.uint8)


class _PillowQuiet:
    """A thread-safe context that ignores Pillow's warnings.

    `warnings.catch_warnings` restores all filters when it ends, so overlapping threads would undo
    each other's changes. This adds and removes one filter only.
    """

    _RULE = ("ignore", None, Warning, re.compile(r"PIL\."), 0)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._RULE not in warnings.filters:
                cast("list[object]", warnings.filters).insert(0, self._RULE)

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                with contextlib.suppress(ValueError):  # others may have reset the filters
                    cast("list[object]", warnings.filters).remove(self._RULE)


_PILLOW_QUIET = _PillowQuiet()
