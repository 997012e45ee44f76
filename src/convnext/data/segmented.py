"""Pictures with masks, to train and evaluate segmentation models on.

A picture and its mask have the same name in two folders, in a folder or an archive:

    street/pictures/train/0001.jpg   street/masks/train/0001.png    or
    street/train/pictures/0001.jpg   street/train/masks/0001.png    or train.zip and val.zip of it
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.data.labelled import Examples, hold_out
from convnext.data.splits import SPLIT_NAMES
from convnext.data.stores import EncodedStore, FileStore, TarStore, ZipStore
from convnext.errors import ArgumentError, ImageError
from convnext.images.labels import LABEL_SETS, Labels, labels_for, read_labels
from convnext.images.masks import Numbers, read_mask
from convnext.processors import available_processors

__all__ = [
    "IGNORED",
    "MaskReading",
    "Masks",
    "SegmentedExamples",
    "SegmentedSplits",
    "open_segmented",
    "survey",
]

IGNORED = -1
"""Class of pixels that have none."""

FORMS = (
    "pictures and masks of the same name in two folders, pictures/ and masks/ (or images/ and "
    "annotations/), or a zip archive of them"
)
NAMES_FILE = "classes.txt"
MOST_CLASSES = 2**15

_PICTURES = ("pictures", "images", "img_dir")
_MASKS = ("masks", "annotations", "ann_dir")
_ARCHIVES = (".zip", ".tar")
_LISTED = 5

_log = logging.getLogger("convnext")

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
        more = f"\n... and {len(errors) - _LISTED} more masks" if len(errors) > _LISTED else ""
        raise ArgumentError("\n".join(errors[:_LISTED]) + more)
    if not total.any():
        raise ArgumentError("No pixel of any mask has a class. Check masks.ignore.")
    return total


def _in_threads(function: Callable[[int], Any], count: int) -> Iterator[Any]:
    with ThreadPoolExecutor(available_processors()) as threads:
        yield from threads.map(function, range(count))


class SegmentedSplits(NamedTuple):
    """The splits of a data set.

    Attributes:
        train: Examples to train on; of data without splits, all.
        validation: Validation examples of the same classes; None if there are none.
    """

    train: SegmentedExamples
    validation: SegmentedExamples | None


def open_segmented(  # noqa: PLR0913
    path: str | Path,
    validation: str | Path | None = None,
    *,
    reading: MaskReading | None = None,
    classes: int | None = None,
    names: str | Path | Labels = "",
    limit: int | None = None,
    held_out: float = 0.0,
    seed: int = 0,
) -> SegmentedSplits:
    """Open pictures with masks; files are listed, not decoded.

    Args:
        path: See `FORMS`. Splits are folders named train and val, validation or test, or archives
            of these names.
        validation: Validation data; by default the data's own split, or a fraction held out.
        reading: How numbers in masks are read.
        classes: Number of classes; by default that of the names, or one more than the highest
            number in the masks, which are then all read.
        names: Class names; or a file with one in each line, or the name of a label set. By default
            the data's file `classes.txt`, or else the classes' numbers.
        limit: Maximum number of pictures of each split.
        held_out: Fraction of the data to hold out if there is no validation data.
        seed: The run's seed, which selects the pictures to hold out.

    Raises:
        ArgumentError: There is no such data, or pictures lack masks.
    """
    path = Path(path)
    found = _found(path)
    reading = reading or MaskReading()
    part = found.get("") or found.get("train") or next(iter(found.values()))
    naming = _naming(path, part, reading, classes, names)

    def examples(part: _Part) -> SegmentedExamples:
        masks = Masks(part.masks, part.mask_rows, reading)
        every = SegmentedExamples(part.pictures, masks, naming, part.rows)
        if limit is None or limit >= len(every):
            return every
        return every.subset(np.arange(limit) * len(every) // limit)

    train = examples(part)
    given = found if validation is None else _found(Path(validation))
    own = [given[name] for name in ("validation", "test") if name in given]
    if not own and validation is not None:
        own = [next(iter(given.values()))]
    if own and own[0] is not part:
        return SegmentedSplits(train, examples(own[0]))
    if held_out and len(train) > 1:
        return SegmentedSplits(*hold_out(train, held_out, seed))
    return SegmentedSplits(train, None)


@dataclass(frozen=True)
class _Part:
    """A split: rows of pictures, and for each row of the store that of its mask."""

    pictures: EncodedStore
    masks: EncodedStore
    rows: NDArray[np.int64]
    mask_rows: NDArray[np.int64]


def _found(path: Path) -> dict[str, _Part]:
    """The splits at a path, by name; `""` for data without splits."""
    if not path.exists():
        raise ArgumentError(f"There is no {path}. Data is {FORMS}.")
    if path.is_dir():
        archives = {
            SPLIT_NAMES[item.stem.lower()]: item
            for item in sorted(path.iterdir())
            if item.suffix.lower() in _ARCHIVES and item.stem.lower() in SPLIT_NAMES
        }
        if archives:
            return {name: _whole(file) for name, file in archives.items()}
        return _splits(path, FileStore.below(path))
    if path.suffix.lower() not in _ARCHIVES:
        raise ArgumentError(f"{path} is no such data. Data is {FORMS}.")
    return _splits(path, ZipStore(path) if path.suffix.lower() == ".zip" else TarStore(path))


def _whole(path: Path) -> _Part:
    parts = _found(path)
    if len(parts) > 1:
        raise ArgumentError(
            f"{path} contains splits itself: {', '.join(sorted(parts))}. Leave one split in it."
        )
    return next(iter(parts.values()))


def _splits(path: Path, store: EncodedStore) -> dict[str, _Part]:
    pictures, masks = _by_key(path, store)
    without = sorted(pictures.keys() - masks.keys())
    if without:
        files = [store.name(pictures[key]) for key in without[:_LISTED]]
        more = f" and {len(without) - _LISTED} more" if len(without) > _LISTED else ""
        raise ArgumentError(
            f"{len(without):,} of {len(pictures):,} pictures in {path} have no mask of the same "
            f"name: {', '.join(files)}{more}. Add the masks, or remove the pictures."
        )
    if len(masks) > len(pictures):
        _log.warning("%d masks in %s have no picture.", len(masks) - len(pictures), path)
    rows: dict[str, list[int]] = {}
    mask_rows = np.full(len(store), -1, np.int64)
    for key, row in sorted(pictures.items(), key=lambda item: item[1]):
        split = next((SPLIT_NAMES[p] for p in key.lower().split("/")[:-1] if p in SPLIT_NAMES), "")
        rows.setdefault(split, []).append(row)
        mask_rows[row] = masks[key]
    if len(rows) > 1 and "" in rows:
        raise ArgumentError(
            f"{path} has the splits {', '.join(sorted(set(rows) - {''}))}, and "
            f"{len(rows['']):,} pictures outside of them, such as {store.name(rows[''][0])}. Move "
            "those elsewhere."
        )
    return {s: _Part(store, store, np.array(chosen), mask_rows) for s, chosen in rows.items()}


def _by_key(path: Path, store: EncodedStore) -> tuple[dict[str, int], dict[str, int]]:
    """Rows of pictures and of masks, by their path without the folder that tells which they are."""
    pictures: dict[str, int] = {}
    masks: dict[str, int] = {}
    for row in range(len(store)):
        *folders, file = store.name(row).split("/")
        kinds = [folder.lower() for folder in folders]
        level = next((n for n, kind in enumerate(kinds) if kind in _PICTURES + _MASKS), None)
        if level is None:
            continue
        key = "/".join([*folders[:level], *folders[level + 1 :], os.path.splitext(file)[0]])  # noqa: PTH122
        kept = pictures if kinds[level] in _PICTURES else masks
        if key in kept:
            raise ArgumentError(
                f"{store.name(kept[key])} and {store.name(row)} in {path} have the same name but "
                "for the suffix. Rename one of them, and its mask."
            )
        kept[key] = row
    if not pictures or not masks:
        raise ArgumentError(
            f"{path} has {len(pictures):,} pictures and {len(masks):,} masks. Data is {FORMS}."
        )
    return pictures, masks


def _naming(
    path: Path, part: _Part, reading: MaskReading, classes: int | None, names: str | Path | Labels
) -> Labels:
    if isinstance(names, Labels):
        return names
    if names in LABEL_SETS:
        found = labels_for(str(names)).names
    elif names or (path / NAMES_FILE).is_file():
        found = read_labels(names or path / NAMES_FILE).names
    else:
        found = tuple(map(str, range(classes or _highest(part, reading) + 1)))
    if classes is not None and len(found) != classes:
        raise ArgumentError(
            f"There are {len(found)} class names, and masks.classes is {classes}. Correct one."
        )
    return Labels(found)


def _highest(part: _Part, reading: MaskReading) -> int:
    """The highest class in the masks."""
    every = Labels(tuple(map(str, range(MOST_CLASSES))))
    examples = SegmentedExamples(
        part.pictures, Masks(part.masks, part.mask_rows, reading), every, part.rows
    )

    def one(number: int) -> int:
        try:
            return int(examples.mask(number).max(initial=0))
        except ImageError:
            return 0

    highest: int = max(_in_threads(one, len(examples)))
    return highest


def _listed(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _LISTED} more" if len(numbers) > _LISTED else ""
    return ", ".join(map(str, numbers[:_LISTED])) + more
