"""Segment a picture by overlapping windows, whose scores are averaged, in bounded memory.

Windows, their overlap and the averages are mmsegmentation's `slide_inference`. Averages, resizing
and cropping are one product with a sparse matrix for each axis, so no scores of pixels are kept:
only those of the windows, and of these one or two across the shorter side of the picture.

Reference: mmsegmentation 1.x, models/segmentors/encoder_decoder.py and seg_tta.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.images.class_maps import Classes, Scores, View, classify
from convnext.images.mixing import Mixing

__all__ = ["Compute", "segment_windows", "window_starts"]

Colour = tuple[int, int, int]
Compute = Callable[[NDArray[np.uint8]], Scores]
"""Computes the scores `(n, positions, positions, classes)` of windows `(n, side, side, 3)`."""


def window_starts(length: int, window: int, stride: int) -> tuple[int, ...]:
    """Where the windows along an axis start; the last is moved inward to end with the axis.

    Example:
        >>> window_starts(1000, 512, 341)
        (0, 341, 488)
    """
    count = max(length - window + stride - 1, 0) // stride + 1
    return tuple(max(min(number * stride, length - window), 0) for number in range(count))


def segment_windows(  # noqa: PLR0913
    picture: Image.Image,
    sides: tuple[int, int],
    window: int,
    stride: int,
    compute: Compute,
    shape: tuple[int, int],
    *,
    batch: int = 1,
    flip: bool = False,
    confidence: bool = False,
    fill: Colour = (0, 0, 0),
) -> Classes:
    """Compute the class of each pixel.

    Args:
        picture: The picture, in the size in which the model sees it.
        sides: Height and width of the result, to which the averaged scores are resized.
        window: Side of the windows.
        stride: Distance between windows.
        compute: The model.
        shape: Positions along a side of a window's scores, and classes.
        batch: Windows computed at once.
        flip: Whether to average the probabilities with those of the mirrored picture.
        confidence: Whether to return the probability of each pixel's class.
        fill: Colour outside of the picture, which a window may exceed where it is smaller.
    """
    classes = Classes.empty(sides, shape[1], confidence=confidence)
    turned = sides[1] > sides[0]  # the windows across the shorter side are kept at once
    passes = [
        _Pass(picture, sides, window, stride, shape, turned=turned, mirrored=mirrored)
        for mirrored in ((False, True) if flip else (False,))
    ]
    into = classes.transposed() if turned else classes
    done = 0
    for number in range(len(passes[0].starts[0])):
        for each in passes:
            each.add(number, compute, batch, fill)
        ready = min(each.ready(number) for each in passes)
        rows = slice(done, ready)
        classify([each.view(rows) for each in passes], into.rows(rows))
        for each in passes:
            each.drop(ready)
        done = ready
    return classes


class _Pass:
    """The windows of a picture or of its mirror image; rows of them are added one by one.

    Rows are columns where the axes are turned.

    Attributes:
        starts: Where windows start, along both axes.
    """

    def __init__(
        self,
        picture: Image.Image,
        sides: tuple[int, int],
        window: int,
        stride: int,
        shape: tuple[int, int],
        *,
        turned: bool,
        mirrored: bool,
    ) -> None:
        positions, classes = shape
        self._picture, self._window, self._positions = picture, window, positions
        self._turned, self._mirrored = turned, mirrored
        lengths = (picture.height, picture.width)
        starts = [window_starts(length, window, stride) for length in lengths]
        if mirrored:  # windows of the mirror image, in places of the picture
            starts[1] = tuple(picture.width - window - start for start in reversed(starts[1]))
        axes: Sequence[Any] = list(zip(starts, lengths, sides, strict=True))
        if turned:
            axes = axes[::-1]
        self.starts = [start for start, _, _ in axes]
        self._down, self._across = (
            Mixing.windows(start, window, positions, length).then(Mixing.enlarging(length, side))
            for start, length, side in axes
        )
        self._last = np.maximum.accumulate(self._down.positions.max(axis=1))  # that rows need
        rows = min(-(-window // stride) + 1, len(self.starts[0]))  # that are needed at once
        self._held = np.empty((rows * positions, len(self.starts[1]) * positions, classes), "f4")
        self._rows = range(0)  # the rows of windows in it

    def add(self, number: int, compute: Compute, batch: int, fill: Colour) -> None:
        """Compute the windows of a row, a batch at a time."""
        top = (number - self._rows.start) * self._positions
        self._rows = range(self._rows.start, number + 1)
        for first in range(0, len(self.starts[1]), batch):
            starts = self.starts[1][first : first + batch]
            down = self.starts[0][number]
            windows = [self._cut(down, across, fill) for across in starts]
            for place, scores in enumerate(compute(np.stack(windows)), first):
                upright = scores[:, ::-1] if self._mirrored else scores
                left = place * self._positions
                self._held[top : top + self._positions, left : left + self._positions] = (
                    upright.swapaxes(0, 1) if self._turned else upright
                )

    def ready(self, number: int) -> int:
        """Rows of pixels that need no window beyond this row of windows."""
        return int(np.searchsorted(self._last, (number + 1) * self._positions))

    def view(self, rows: slice) -> View:
        """The scores for some rows of pixels."""
        down = self._down.rows(rows)
        shifted = Mixing(down.positions - self._rows.start * self._positions, down.weights)
        return View(self._held[: len(self._rows) * self._positions], shifted, self._across)

    def drop(self, ready: int) -> None:
        """Forget the rows of windows that only rows of pixels before this one need."""
        rest = self._down.positions[ready:]
        first = int(rest.min()) // self._positions if len(rest) else self._rows.stop
        kept = range(first, self._rows.stop)
        end = len(self._rows) * self._positions
        start = end - len(kept) * self._positions
        self._held[: end - start] = self._held[start:end]
        self._rows = kept

    def _cut(self, down: int, across: int, fill: Colour) -> NDArray[np.uint8]:
        top, left = (across, down) if self._turned else (down, across)
        side = self._window
        box = (left, top, left + side, top + side)
        right, bottom = (
            min(end, most) for end, most in zip(box[2:], self._picture.size, strict=True)
        )
        inner = (max(left, 0), max(top, 0), right, bottom)
        part = self._picture.crop(inner)
        if part.size != (side, side):
            canvas = Image.new("RGB", (side, side), fill)
            canvas.paste(part, (inner[0] - left, inner[1] - top))
            part = canvas
        pixels = np.asarray(part)
        return pixels[:, ::-1] if self._mirrored else pixels
