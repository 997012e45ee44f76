"""From the class scores of a segmentation model to the class of each pixel of a picture.

Scores are resized bilinearly, first to the size of the model's input and then to the picture's, as
transformers and mmsegmentation do. A pixel whose scores are mixed from positions with one winner
has that class, so scores are computed only where the winners differ, a few rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convnext.images.mixing import Mixing

__all__ = ["Classes", "Numbers", "Scores", "View", "class_map", "classify", "pixel_scores"]

Scores = NDArray[np.float32]
Numbers = NDArray[np.uint8] | NDArray[np.uint16]
ROWS = 16  # of the picture, at a time: a few megabytes for 150 classes
PIXELS = 2**14  # at a time, where all their scores may be needed


class Classes(NamedTuple):
    """The class of each pixel.

    Attributes:
        numbers: `(height, width)`, uint8 or, for more than 256 classes, uint16.
        confidence: Probability of that class, in half precision; None if not asked for.
    """

    numbers: Numbers
    confidence: NDArray[np.float16] | None = None

    @classmethod
    def empty(cls, sides: tuple[int, int], classes: int, *, confidence: bool) -> Classes:
        """Arrays to be filled by `classify`."""
        few = classes <= 256
        numbers: Numbers = np.empty(sides, np.uint8) if few else np.empty(sides, np.uint16)
        return cls(numbers, np.empty(sides, np.float16) if confidence else None)

    def transposed(self) -> Classes:
        """Views of the arrays, with rows as columns."""
        return Classes(self.numbers.T, None if self.confidence is None else self.confidence.T)

    def rows(self, chosen: slice) -> Classes:
        """Views of some rows of the arrays."""
        sure = self.confidence
        return Classes(self.numbers[chosen], None if sure is None else sure[chosen])


class View(NamedTuple):
    """Scores of a picture, and how those of its pixels are mixed from them.

    Attributes:
        scores: Logits `(height, width, classes)`.
        down: Mixing of the first axis, for each row of pixels.
        across: Mixing of the second axis, for each column.
    """

    scores: Scores
    down: Mixing
    across: Mixing

    @classmethod
    def resized(
        cls, scores: Scores, sides: tuple[int, int], through: tuple[int, int] | None = None
    ) -> View:
        """Scores that are resized to a picture, by way of the size `through` if there is one."""
        axes = zip(scores.shape, through or (None, None), sides, strict=False)
        return cls(scores, *(_resizing(*axis) for axis in axes))


def class_map(
    scores: Scores,
    sides: tuple[int, int],
    through: tuple[int, int] | None = None,
    *,
    confidence: bool = False,
) -> Classes:
    """Compute the class of each pixel.

    Args:
        scores: Logits `(height, width, classes)`, of the first feature map for example.
        sides: Height and width of the picture.
        through: Size of the model's input, to which the scores are resized first; None to resize
            them once.
        confidence: Whether to compute the probability of each pixel's class, which needs the scores
            of all pixels.
    """
    classes = Classes.empty(sides, scores.shape[-1], confidence=confidence)
    classify([View.resized(scores, sides, through)], classes)
    return classes


def classify(views: Sequence[View], into: Classes) -> None:
    """Fill in the class of each pixel, and its probability if `into` has an array for it.

    Args:
        views: Scores of the same pixels. The probabilities of several are averaged.
        into: The arrays to fill.
    """
    numbers, confidence = into
    winners = [view.scores.argmax(axis=-1).astype(numbers.dtype) for view in views]
    step = max(1, PIXELS // numbers.shape[1])
    for start in range(0, len(numbers), step):
        rows = slice(start, start + step)
        downs = [view.down.rows(rows) for view in views]
        mixed = [down.apply(view.scores) for down, view in zip(downs, views, strict=True)]
        if confidence is not None:
            pairs = zip(mixed, views, strict=True)
            every = [view.across.apply(row.swapaxes(0, 1)).swapaxes(0, 1) for row, view in pairs]
            shares = _mean_probability(every)
            numbers[rows] = (every[0] if len(views) == 1 else shares).argmax(axis=-1)
            confidence[rows] = shares.max(axis=-1)
            continue
        corners = np.concatenate(
            [
                won[down.positions[:, None, :, None], view.across.positions[None, :, None]].reshape(
                    len(down.positions), numbers.shape[1], -1
                )
                for won, down, view in zip(winners, downs, views, strict=True)
            ],
            axis=-1,
        )
        first = corners[..., 0]
        numbers[rows] = first
        y, x = np.nonzero((corners != first[..., None]).any(axis=-1))
        found = [_at(row, view.across.rows(x), y) for row, view in zip(mixed, views, strict=True)]
        values = found[0] if len(views) == 1 else _mean_probability(found)
        numbers[start + y, x] = values.argmax(axis=-1)


def pixel_scores(
    scores: Scores, sides: tuple[int, int], through: tuple[int, int] | None = None
) -> Iterator[tuple[slice, Scores]]:
    """Yield rows of the picture, and the scores `(rows, width, classes)` of their pixels.

    Args:
        scores: See `class_map`.
        sides: See `class_map`.
        through: See `class_map`.
    """
    view = View.resized(scores, sides, through)
    for start in range(0, sides[0], ROWS):
        rows = slice(start, min(start + ROWS, sides[0]))
        mixed = view.down.rows(rows).apply(scores)
        yield rows, view.across.apply(mixed.swapaxes(0, 1)).swapaxes(0, 1)


def _resizing(inputs: int, middle: int | None, outputs: int) -> Mixing:
    if middle is None:
        return Mixing.enlarging(inputs, outputs)
    return Mixing.enlarging(inputs, middle).then(Mixing.enlarging(middle, outputs))


def _at(scores: Scores, columns: Mixing, rows: NDArray[np.int64]) -> Scores:
    """The scores `(pixels, classes)` of a mixed column in each given row."""
    taken = scores[rows[:, None], columns.positions]  # (pixels, mixed, classes)
    mixed: Scores = np.einsum("pkc,pk->pc", taken, columns.weights)
    return mixed


def _mean_probability(views: Sequence[Scores]) -> Scores:
    total = np.zeros_like(views[0])
    for scores in views:
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        total += powers / powers.sum(axis=-1, keepdims=True)
    return total / np.float32(len(views))
