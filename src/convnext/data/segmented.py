"""Pictures with masks, to train and evaluate segmentation models on.

A picture and its mask have the same name in two folders, in a folder or an archive:

    street/pictures/train/0001.jpg   street/masks/train/0001.png    or
    street/train/pictures/0001.jpg   street/train/masks/0001.png    or train.zip and val.zip of it
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convnext.data.labelled import hold_out
from convnext.data.masked import (
    LISTED,
    MOST_CLASSES,
    MaskReading,
    Masks,
    SegmentedExamples,
    highest_class,
    survey,
)
from convnext.data.splits import SPLIT_NAMES
from convnext.data.stores import EncodedStore, FileStore, TarStore, ZipStore
from convnext.errors import ArgumentError
from convnext.images.labels import LABEL_SETS, Labels, labels_for, read_labels

__all__ = [
    "MaskReading",
    "SegmentedExamples",
    "SegmentedSplits",
    "open_segmented",
    "survey",
]

FORMS = (
    "pictures and masks of the same name in two folders, pictures/ and masks/ (or images/ and "
    "annotations/), or a zip archive of them"
)
NAMES_FILE = "classes.txt"

_PICTURES = ("pictures", "images", "img_dir")
_MASKS = ("masks", "annotations", "ann_dir")
_ARCHIVES = (".zip", ".tar")

_log = logging.getLogger("convnext")


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
        every = part.examples(naming, reading)
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

    def examples(self, naming: Labels, reading: MaskReading) -> SegmentedExamples:
        """The pictures with their masks."""
        masks = Masks(self.masks, self.mask_rows, reading)
        return SegmentedExamples(self.pictures, masks, naming, self.rows)


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
        files = [store.name(pictures[key]) for key in without[:LISTED]]
        more = f" and {len(without) - LISTED} more" if len(without) > LISTED else ""
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
        every = Labels(tuple(map(str, range(MOST_CLASSES))))
        count = classes or highest_class(part.examples(every, reading)) + 1
        found = tuple(map(str, range(count)))
    if classes is not None and len(found) != classes:
        raise ArgumentError(
            f"There are {len(found)} class names, and masks.classes is {classes}. Correct one."
        )
    return Labels(found)
