"""The class of each pixel of a picture: areas, drawings, files."""

from __future__ import annotations

import base64
import functools
import html
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.atomic import replaced
from convnext.errors import ArgumentError, ImageError, UnknownNameError
from convnext.images.class_maps import Numbers
from convnext.images.masks import mask_image
from convnext.images.sheets import contact_sheet, legend, shown
from convnext.segmenter.run_lengths import run_lengths

__all__ = ["FORMATS", "Area", "Segmentation"]

FORMATS = {"png": ".png", "overlay": ".jpg", "json": ".json", "rle": ".rle.json"}
"""What a segmentation can be written as, and the suffix of such files."""

SIDE = 480  # of drawings
LISTED = 12  # classes in a legend
OPACITY = 0.6
QUALITY = 90  # of overlays as JPEG


@dataclass(frozen=True)
class Area:
    """A class and how much of a picture it covers.

    Attributes:
        label: Its name.
        index: Its number.
        pixels: Number of pixels.
        share: Of all pixels, from 0 to 1.
    """

    label: str
    index: int
    pixels: int
    share: float


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The class of each pixel of a picture.

    It keeps its picture, to draw over it: of many results, keep what is needed of each.

    Attributes:
        id: Name of the picture, see `convnext.images.sources.Named`.
        class_map: `(height, width)` of the picture, the number of each pixel's class.
        names: Name of each class.
        palette: Colour of each class, `(classes, 3)`, uint8.
        confidence: Probability of each pixel's class, half precision; None if not asked for.
        picture: The picture, in mode RGB.
        error: The error if the picture could not be read; then it has no class map.
    """

    id: str
    class_map: Numbers | None = field(default=None, repr=False)
    names: tuple[str, ...] = field(default=(), repr=False)
    palette: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 3), "u1"), repr=False)
    confidence: NDArray[np.float16] | None = field(default=None, repr=False)
    picture: Image.Image | None = field(default=None, repr=False)
    error: ImageError | None = None

    @functools.cached_property
    def areas(self) -> tuple[Area, ...]:
        """The classes in the picture, by the pixels that they cover, largest first.

        Raises:
            ImageError: The picture could not be read.
        """
        numbers = self._numbers()
        counts = np.bincount(numbers.ravel(), minlength=len(self.names))
        order = np.argsort(-counts, kind="stable")
        return tuple(
            Area(
                self.names[index],
                int(index),
                int(counts[index]),
                float(counts[index] / numbers.size),
            )
            for index in order
            if counts[index]
        )

    def mask(self) -> Image.Image:
        """The class map as a picture with a palette, or of more than 256 classes in grey.

        Raises:
            ImageError: The picture could not be read.
        """
        return mask_image(self._numbers(), self.palette)

    def overlay(self, opacity: float = OPACITY) -> Image.Image:
        """Draw the classes' colours over the picture.

        Args:
            opacity: From 0, only the picture, to 1, only the colours.

        Raises:
            ImageError: The picture could not be read.
        """
        numbers = self._numbers()
        assert self.picture is not None
        return Image.blend(self.picture, Image.fromarray(self.palette[numbers]), opacity)

    def plot(self) -> Image.Image:
        """Draw the picture, the overlay, and a legend of the largest areas.

        Raises:
            ImageError: The picture could not be read.
        """
        overlay = shown(self.overlay(), SIDE)
        assert self.picture is not None
        entries = [
            (self._colour(area), f"{self._short(area)} {area.share:.1%}")
            for area in self.areas[:LISTED]
        ]
        panels = [shown(self.picture, SIDE), overlay, legend(entries, SIDE // 2)]
        return contact_sheet(panels, len(panels))

    def record(self) -> dict[str, Any]:
        """Name, size and areas, as of a JSON file; of an unreadable picture, name and error."""
        if self.error is not None:
            return {"id": self.id, "error": str(self.error)}
        height, width = self._numbers().shape
        areas = [
            {
                "label": area.label,
                "index": area.index,
                "colour": "#{:02x}{:02x}{:02x}".format(*self._colour(area)),
                "pixels": area.pixels,
                "share": float(f"{area.share:.6g}"),
            }
            for area in self.areas
        ]
        return {"id": self.id, "width": width, "height": height, "areas": areas}

    def rle(self) -> dict[str, Any]:
        """Name, size, and each class as COCO's compressed run lengths."""
        numbers = self._numbers()
        height, width = numbers.shape
        encoded = run_lengths(numbers)
        annotations = [
            {
                "category_id": area.index,
                "label": area.label,
                "area": area.pixels,
                "segmentation": {"size": [height, width], "counts": encoded[area.index]},
            }
            for area in self.areas
        ]
        return {"id": self.id, "width": width, "height": height, "annotations": annotations}

    def encoded(self, form: str = "png") -> bytes:
        """The content of a file.

        Args:
            form: One of `FORMATS`: `"png"` for the class map as PNG with a palette, `"overlay"` for
                the colours over the picture as JPEG, `"json"` for the areas, `"rle"` for COCO's run
                lengths.

        Raises:
            ImageError: The picture could not be read.
            UnknownNameError: There is no such format.
        """
        if form not in FORMATS:
            raise UnknownNameError("format", form, FORMATS)
        if form in ("json", "rle"):
            self._numbers()
            record = self.record() if form == "json" else self.rle()
            return f"{json.dumps(record, ensure_ascii=False)}\n".encode()
        stream = io.BytesIO()
        if form == "png":
            self.mask().save(stream, "PNG")
        else:
            self.overlay().save(stream, "JPEG", quality=QUALITY)
        return stream.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write a file atomically; its suffix determines the format.

        Args:
            path: `.png` for the class map with a palette, `.jpg` for the overlay, `.json` for the
                areas.

        Raises:
            ImageError: The picture could not be read.
            ArgumentError: The suffix is none of these.
        """
        path = Path(path)
        forms = {suffix: form for form, suffix in FORMATS.items() if form != "rle"}
        if path.suffix.lower() not in forms:
            raise ArgumentError(
                f"A segmentation has no format with the suffix {path.suffix!r}. "
                f"Allowed: {', '.join(forms)}."
            )
        content = self.encoded(forms[path.suffix.lower()])
        with replaced(path) as draft:
            draft.write_bytes(content)
        return path

    def _repr_html_(self) -> str:
        name = html.escape(self.id)
        if self.error is not None:
            return f"<p>{name}: {html.escape(str(self.error))}</p>"
        stream = io.BytesIO()
        shown(self.overlay(), SIDE).save(stream, "PNG")
        data = base64.b64encode(stream.getvalue()).decode()
        rows = "".join(
            f'<tr><td style="background:rgb{self._colour(area)};width:1em"></td>'
            f"<td>{html.escape(self._short(area))}</td><td>{area.share:.1%}</td></tr>"
            for area in self.areas
        )
        return (
            f'<figure><img alt="{name}" src="data:image/png;base64,{data}">'
            f"<figcaption>{name}</figcaption></figure><table>{rows}</table>"
        )

    def _numbers(self) -> Numbers:
        if self.error is not None:
            raise self.error
        assert self.class_map is not None
        return self.class_map

    def _colour(self, area: Area) -> tuple[int, int, int]:
        red, green, blue = (int(part) for part in self.palette[area.index])
        return red, green, blue

    def _short(self, area: Area) -> str:
        return area.label.split(",")[0]
