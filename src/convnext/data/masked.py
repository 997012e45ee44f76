"""Pictures with masks, read: the class of each pixel, and how many pixels each class has."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.data.labelled import Examples
from convnext.data.stores import EncodedStore
from convnext.errors import ArgumentError, ImageError
from convnext.images.labels import Labels
from convnext.images.masks import Numbers, read_mask
from convnext.processors import available_processors

__all__ = [
    "IGNORED",
    "LISTED",
    "MOST_CLASSES",
    "MaskReading",
    "Masks",
    "SegmentedExamples",
    "highest_class",
    "survey",
]

IGNORED = -1
"""Class of pixels that have none."""

MOST_CLASSES = 2**15
LISTED = 5  # masks or pictures that an error names

Classes = NDArray[np.int16]


@dataclass(frozen=True)
class MaskReading:
    """How the numbers in masks are read.

    Attributes:
        ignored: Number of pixels that have no class.
        reduce_zero_label: Whether 0 is another such number, and classes are counted from 1.
    """

    ignored: int = 255
    reduce_zero_label: bool = False

    def classes(self, numbers: Numbers) -> Classes:
        """The class of each pixel, or `IGNORED`."""
        found = numbers.astype(np.int32)
        without = found == self.ignored
        found -= self.reduce_zero_label  # 0 becomes -1, which is IGNORED
        found[without] = IGNORED
        return np.minimum(found, MOST_CLASSES - 1).astype(np.int16)


@dataclass(frozen=True)
class Masks:
    """The masks of a store's pictures.

    Attributes:
        store: Their files.
        rows: The row of each picture's mask.
        reading: How their numbers are read.
    """

    store: EncodedStore
    rows: NDArray[np.int64]
    reading: MaskReading


class SegmentedExamples(Examples):
    """Pictures with masks.

    Args:
        pictures: The pictures.
        masks: Their masks.
        naming: Class names.
        rows: The pictures' rows; by default all, in order.
    """

    def __init__(
        self,
        pictures: EncodedStore,
        masks: Masks,
        naming: Labels,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        count = len(pictures) if rows is None else len(rows)
        super().__init__(pictures, np.zeros(count, np.int64), naming, rows)
        self._files = pictures
        self._masks = masks

    def target_form(self, side: int) -> tuple[tuple[int, ...], type[np.generic]]:
        """Shape and type of a mask."""
        return (side, side), np.int16

    def example(
        self, number: int, transform: Any, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], Classes]:
        """Read a picture and its mask, and transform both alike.

        Args:
            number: Of the example.
            transform: Has a method `pair`, as `SegmentationAugmentation`.
            rng: The generator to draw from.
        """
        pair: tuple[NDArray[np.float32], Classes] = transform.pair(*self.pair(number), rng)
        return pair

    def pair(self, number: int) -> tuple[Image.Image, Classes]:
        """Read a picture and the class of each of its pixels.

        Raises:
            ImageError: One of them cannot be read.
            ArgumentError: They differ in size, or the mask has a class that there is not.
        """
        picture, classes = self.read(number), self.mask(number)
        self._check_size(number, picture.size, classes)
        return picture, classes

    def mask(self, number: int) -> Classes:
        """Read the class of each pixel of a picture, `IGNORED` where it has none.

        Raises:
            ImageError: It cannot be read.
            ArgumentError: It has a class that there is not.
        """
        row = int(self._masks.rows[self._rows[number]])
        try:
            numbers = read_mask(self._masks.store.content(row))
        except ImageError as error:
            text = str(error).replace("The given mask", "It").replace("The given data", "It")
            raise ImageError(f"{self.mask_name(number)}: {text}") from error
        found = self._masks.reading.classes(numbers)
        if found.max(initial=0) >= len(self.classes):
            self._refuse(number, numbers, found)
        return found

    def mask_name(self, number: int) -> str:
        """Path of a picture's mask, below the data's."""
        return self._masks.store.name(int(self._masks.rows[self._rows[number]]))

    def _refuse(self, number: int, numbers: Numbers, found: Classes) -> None:
        beyond = np.unique(numbers[found >= len(self.classes)])
        zero = " (0 has no class, as set)" if self._masks.reading.reduce_zero_label else ""
        raise ArgumentError(
            f"{self.mask_name(number)} has the numbers {_listed(beyond.tolist())}, and there are "
            f"{len(self.classes)} classes{zero}. Correct the mask; or set masks.classes, and "
            f"masks.ignore if a number other than {self._masks.reading.ignored} marks pixels "
            "without a class."
        )

    def _check_size(self, number: int, size: tuple[int, int], classes: Classes) -> None:
        if size != classes.shape[::-1]:
            raise ArgumentError(
                f"{self.mask_name(number)} has {classes.shape[1]} x {classes.shape[0]} pixels, and "
                f"its picture {self.name(number)} has {size[0]} x {size[1]}. A mask has the size "
                "of its picture: resize one of them, masks by the nearest pixel."
            )

    def check_sizes(self, number: int, classes: Classes) -> None:
        """Check that a mask has its picture's size, by the header of the picture's file."""
        content = self._files.content(int(self._rows[number]))
        try:
            file = io.BytesIO(content) if isinstance(content, bytes) else content
            with Image.open(file) as image:  # type: ignore[arg-type]
                size = image.size
        except Exception:  # reported when the picture is read
            return
        self._check_size(number, size, classes)


def survey(examples: SegmentedExamples) -> NDArray[np.int64]:
    """Read every mask once, and count the pixels of each class.

    Unreadable masks are skipped here, as they are reported and replaced in training.

    Raises:
        ArgumentError: Some masks have another size than their picture, or unknown classes.
    """
    count = len(examples.classes)

    def one(number: int) -> NDArray[np.int64] | ArgumentError:
        try:
            classes = examples.mask(number)
            examples.check_sizes(number, classes)
        except ArgumentError as error:
            return error
        except ImageError:
            return np.zeros(count, np.int64)
        return np.bincount(classes[classes >= 0], minlength=count)

    total, errors = np.zeros(count, np.int64), []
    for found in _in_threads(one, len(examples)):
        if isinstance(found, ArgumentError):
            errors.append(str(found))
        else:
            total += found
    if errors:
        more = f"\n... and {len(errors) - LISTED} more masks" if len(errors) > LISTED else ""
        raise ArgumentError("\n".join(errors[:LISTED]) + more)
    if not total.any():
        raise ArgumentError("No pixel of any mask has a class. Check masks.ignore.")
    return total


def highest_class(examples: SegmentedExamples) -> int:
    """The highest class in the masks; unreadable ones are skipped."""

    def one(number: int) -> int:
        try:
            return int(examples.mask(number).max(initial=0))
        except ImageError:
            return 0

    highest: int = max(_in_threads(one, len(examples)))
    return highest


def _in_threads(function: Callable[[int], Any], count: int) -> Iterator[Any]:
    with ThreadPoolExecutor(available_processors()) as threads:
        yield from threads.map(function, range(count))


def _listed(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - LISTED} more" if len(numbers) > LISTED else ""
    return ", ".join(map(str, numbers[:LISTED])) + more
