"""Any one picture, whatever it comes as, to RGB.

Why it exists: a picture from outside can be in any colour mode, turned on its side, transparent,
cut short, or built to exhaust memory, and a model must see either the right pixels or an error.
Colour profiles are not applied: the authors and timm apply none.
It knows nothing of what happens to the picture afterwards.
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

# Formats outside this list stay closed: some start other programs (EPS), most are rare and little
# tested. HEIF is there only where a plug-in such as pillow-heif has been registered.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "HEIF")

_SIXTEEN_BIT = ("PNG", "PPM")  # what Pillow opens in its 32-bit mode "I" holds 16 bits in these

_MAX_PASSES = 20  # over as many pixels as are allowed; ordinary progressive JPEG files need 10
_LEAST_PASS = 2**20  # pixels that a pass counts for at least: starting one takes time as well
_PYTHON_PASSES = 2**8  # what one pass of a decoder that Pillow has in Python only counts for

_JPEG_SCAN = b"\xff\xda"
# A marker that begins a segment: no stuffed byte, no filler, no restart marker.
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
    """Read one picture as RGB; of an animation, the first frame.

    Args:
        source: A path, an http(s) URL, the encoded bytes, a binary file object, a PIL image, or an
            array `[height, width]` or `[height, width, 1, 3 or 4]`.
        orientation: Turn the picture upright as its EXIF data says. The published accuracies were
            measured without. (A TIFF file is always turned: Pillow does so itself.)
        background: What shows through transparent parts. White by default, as transparent pictures
            are drawn for white pages and what hides under their transparency is mostly black or
            random. `None` drops transparency as timm and torchvision do.
        value_range: The numbers that mean black and white, such as `(0, 1)`. Needed for numbers
            other than uint8, which alone say what they mean: whether floats were divided by 255
            is never guessed. They are rounded to 8 bits.
        limits: What the picture may cost.

    Returns:
        A loaded picture in mode `"RGB"`: the given one itself where nothing had to be done. Given
        to `decode` again, or to a classifier, it stays as it is.

    Raises:
        ImageError: The picture cannot be read, or is over a limit.
        ArgumentError: The background is no colour, or the value range has not two ends.
        ArgumentTypeError: The source is nothing that could hold a picture.

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
        raise ArgumentError(f"background is (red, green, blue), 0 to 255 each; got {background}.")
    if value_range is not None and not (
        _are_numbers(value_range, 2, Real)
        and -math.inf < value_range[0] < value_range[1] < math.inf
    ):
        raise ArgumentError(f"value_range is (black, white), black < white; got {value_range}.")


def _are_numbers(given: object, count: int, kind: type) -> bool:
    return (
        isinstance(given, Sequence | np.ndarray)
        and len(given) == count
        and all(isinstance(number, kind) for number in given)
    )


@functools.cache
def _formats() -> tuple[str, ...]:
    """The formats of our list that this Pillow can read."""
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
            f"{name} is no picture in a format that is read here ({', '.join(_formats())}), or its "
            "header is damaged."
        ) from error
    except Exception as error:  # damaged files make decoders raise nearly anything
        raise ImageError(f"{name} cannot be decoded: {type(error).__name__}: {error}") from error


def _open(data: bytes, name: str, limits: Limits) -> Image.Image:
    """Read the header, and refuse small files that would keep the decoder busy for minutes."""
    image = Image.open(io.BytesIO(data), formats=_formats())
    _check_size(name, image.width, image.height, limits)
    passes, pixels = 1, image.width * image.height
    if image.tile and image.tile[0][0] in Image.DECODERS:
        passes = _PYTHON_PASSES
    elif image.format in ("JPEG", "MPO") and data.count(_JPEG_SCAN) > _MAX_PASSES:
        passes = _jpeg_scans(data)  # fewer than counted, where pictures hold others or a film
    allowed = _MAX_PASSES * max(limits.pixels, DEFAULT_LIMITS.pixels)
    if passes * max(pixels, _LEAST_PASS) > allowed:
        raise ImageError(
            f"{name} is built so that decoding it takes {passes} passes over "
            f"{image.width} x {image.height} pixels ({image.format}). Save it anew."
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
    except Exception:  # damaged EXIF data leaves the picture itself readable
        return None


def _to_rgb(
    image: Image.Image, background: Color | None, value_range: tuple[float, float] | None
) -> Image.Image:
    clear = image.info.get("transparency")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SIXTEEN_BIT):
        # Pillow's own conversion clips at 255. The high byte is what it takes of 16-bit colour.
        values = np.asarray(image)
        image = Image.fromarray((values >> 8).astype(np.uint8))
        if clear is not None:
            image.putalpha(Image.fromarray(np.uint8(255) * (values != clear)))
    elif image.mode in ("I", "F"):
        image = Image.fromarray(_to_uint8(np.asarray(image), value_range))
    elif image.mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:
        # Of 16-bit colour Pillow keeps the high bytes, but of the transparent one it keeps all.
        image = image.copy()
        image.info["transparency"] = tuple(channel >> 8 for channel in clear)
    if image.has_transparency_data and background is not None:
        canvas = Image.new("RGB", image.size, background)
        image = image.convert("RGBA")
        canvas.paste(image, mask=image)
        return canvas
    return image if image.mode == "RGB" else image.convert("RGB")


def _settled(rgb: Image.Image) -> Image.Image:
    """Without what would have it turned or composited by whoever reads it next."""
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
            f"The given picture holds {array.dtype} numbers, which do not say what is white. State "
            "it, as in value_range=(0, 1), or give uint8 from 0 to 255."
        )
    if array.dtype.kind not in "biuf":
        raise ImageError(f"The given picture holds {array.dtype}; numbers are needed.")
    low, high = value_range
    if not (low <= array.min() and array.max() <= high):  # true for NaN as well
        raise ImageError(
            f"The given picture holds numbers from {array.min()} to {array.max()}, outside "
            f"value_range={value_range}. Was it divided by 255 once too often, or not at all?"
        )
    scaled: NDArray[np.float32] = (array.astype(np.float32) - low) * (255 / (high - low))
    return np.rint(scaled).astype(np.uint8)


class _PillowQuiet:
    """Ignores Pillow's warnings while any thread is inside.

    `warnings.catch_warnings` puts back a copy of all filters when it ends, so that threads which
    overlap lose or keep each other's. This only ever adds and removes the one rule that is ours.
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
                with contextlib.suppress(ValueError):  # gone with filters that were put back
                    cast("list[object]", warnings.filters).remove(self._RULE)


_PILLOW_QUIET = _PillowQuiet()
