"""Opens data sets of every form as labelled examples.

Class folders, archives, tables, arrays and ImageNet's layout are recognised by their files. Data
that is ambiguous is an error before the first picture is read, as wrong labels train silently.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from convnext.data.classes import Classes
from convnext.data.csv_tables import LABEL_SETS, SEPARATOR
from convnext.data.labelled import Examples, hold_out
from convnext.data.splits import FORMS, SPLIT_NAMES, Part, find_parts
from convnext.errors import ArgumentError, UnknownNameError, listed
from convnext.images.labels import IMAGENET_SETS, Labels, class_number, labels_for

__all__ = [
    "FORMS",
    "Examples",
    "Splits",
    "find_splits",
    "hold_out",
    "open_data",
    "open_examples",
    "open_pictures",
]

_WNID = re.compile(r"n\d{8}")
_LISTED = 5

_log = logging.getLogger("convnext")


class Splits(NamedTuple):
    """The splits of a data set.

    Attributes:
        train: Training examples.
        validation: Validation examples of the same classes; None if there are none.
    """

    train: Examples
    validation: Examples | None


def open_examples(
    path: str | Path,
    *,
    classes: Sequence[str] | Labels | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> Examples:
    """Open labelled pictures; files are listed, not decoded.

    Args:
        path: The data, in one of the forms listed in `FORMS`.
        classes: Class names in the order of their numbers. By default the data's own: folders
            sorted by name, with ImageNet's words for WordNet ids. If given, every class of the data
            must be one of them, by WordNet id, name or number.
        split: `"train"`, `"validation"` or `"test"`, of data with splits.
        limit: Maximum number of pictures, spread evenly over the data.

    Raises:
        ArgumentError: There is no such data, it is damaged, or its classes are ambiguous.

    Example:
        `open_examples("flowers", limit=1000).classes`
    """
    parts = find_parts(Path(path))
    part = _chosen(parts, split, Path(path))
    return _limited(_examples(part, _as_labels(classes)), limit)


def open_pictures(
    path: str | Path, *, split: str | None = None, limit: int | None = None
) -> Examples:
    """Open pictures without their classes, in folders of any depth.

    Args:
        path: As for `open_examples`, or a folder or table of pictures without labels.
        split: A split of the data; by default `"train"`.
        limit: Maximum number of pictures, spread evenly over the data.

    Returns:
        Examples without classes, whose labels are all 0.
    """
    parts = find_parts(Path(path))
    part = _chosen(parts, split or ("train" if "train" in parts else None), Path(path))
    examples = Examples(part.store, np.zeros(len(part.rows), np.int64), None, part.rows)
    return _limited(examples, limit)


def find_splits(
    path: str | Path, *, classes: Sequence[str] | Labels | None = None, limit: int | None = None
) -> Splits:
    """Open the training split of a data set and, if it has one, the validation split.

    Splits are folders named train and val, valid, validation or test, in a folder or an archive;
    archives of these names in one folder; the arrays of one file; or a column "split" of a table.
    A test split is used only if there is no validation split.

    Args:
        path: As for `open_examples`.
        classes: As for `open_examples`.
        limit: Maximum number of pictures of each split.

    Raises:
        ArgumentError: As for `open_examples`; or the validation split has a class that the training
            split lacks.
    """
    path = Path(path)
    parts = find_parts(path)
    if "" in parts:
        return Splits(_limited(_examples(parts[""], _as_labels(classes)), limit), None)
    train = _examples(_chosen(parts, "train", path), _as_labels(classes))
    name = next((name for name in ("validation", "test") if name in parts), None)
    if name is None:
        return Splits(_limited(train, limit), None)
    if name == "test" and parts[name].labels is None:
        _log.info("The test split of %s has no labels, and is not used.", path)
        return Splits(_limited(train, limit), None)
    validation = _examples(parts[name], train.naming)
    return Splits(_limited(train, limit), _limited(validation, limit))


def open_data(
    path: str | Path,
    validation: str | Path | None = None,
    *,
    limit: int | None = None,
    held_out: float = 0.0,
    seed: int = 0,
) -> Splits:
    """Open the training and validation examples of a classifier.

    Args:
        path: As for `open_examples`.
        validation: Validation data; by default the data's own split, or a fraction held out.
        limit: Maximum number of pictures of each split.
        held_out: Fraction of the training data to hold out if there is no validation data.
        seed: The run's seed, which selects the pictures to hold out.

    Raises:
        ArgumentError: As for `open_examples`; or there are fewer than two classes.
    """
    found = find_splits(path, limit=limit)
    classes = found.train.classes
    if not classes:
        raise ArgumentError(f"The pictures in {path} have no classes. A classifier needs two.")
    if len(classes) == 1:
        raise ArgumentError(
            f"All pictures in {path} are of one class, {classes[0]!r}. A classifier needs two at "
            "least: name the folder that contains the class folders."
        )
    if validation is not None:
        given = find_splits(validation, classes=found.train.naming)
        return Splits(found.train, given.validation or given.train)
    if found.validation is not None or not held_out:
        return found
    return Splits(*hold_out(found.train, held_out, seed))


def _as_labels(classes: Sequence[str] | Labels | None) -> Labels | None:
    return classes if classes is None or isinstance(classes, Labels) else Labels(tuple(classes))


def _limited(examples: Examples, limit: int | None) -> Examples:
    if limit is None or limit >= len(examples):
        return examples
    if limit < 1:
        raise ArgumentError(f"limit is a number of pictures, 1 or more; got {limit}.")
    return examples.subset(np.arange(limit) * len(examples) // limit)


def _chosen(parts: Mapping[str, Part], split: str | None, path: Path) -> Part:
    if split is None:
        if len(parts) > 1:
            raise ArgumentError(
                f"{path} has the splits {', '.join(sorted(parts))}. Choose one with split=."
            )
        return next(iter(parts.values()))
    wanted = SPLIT_NAMES.get(split)
    if wanted is None:
        raise UnknownNameError("split", split, sorted(set(SPLIT_NAMES.values())))
    if wanted not in parts:
        found = ", ".join(sorted(parts)) if "" not in parts else "no splits"
        raise ArgumentError(f"{path} has no split {wanted!r}; it has {found}.")
    return parts[wanted]


def _examples(part: Part, naming: Labels | None) -> Examples:
    """Examples of a split, with class names turned into numbers."""
    if part.labels is None:
        raise ArgumentError(
            part.problem
            or f"The pictures in {part.path} are not in class folders, and there is no file of "
            f"labels. Data is {FORMS}."
        )
    if part.empty and naming is None:
        raise ArgumentError(
            f"{len(part.empty)} class folders in {part.path} hold no picture: "
            f"{listed(list(map(repr, part.empty)))}. Remove them, fill them, or pass classes=."
        )
    if isinstance(part.labels, np.ndarray) and part.labels.dtype.kind in "iu":
        naming = naming or Labels(part.classes or _numbered(int(part.labels.max()) + 1))
        if part.labels.max() >= len(naming):
            raise ArgumentError(
                f"{part.path} has a class {part.labels.max()}, but only {len(naming)} class names."
            )
        return Examples(part.store, part.labels, naming, part.rows)
    texts = [str(text) for text in part.labels]
    if part.label_sets and any(not text or SEPARATOR in text for text in texts):
        raise ArgumentError(
            f"{part.path} has any number of labels for a picture: its column {LABEL_SETS!r} has "
            f"cells that are empty or have {SEPARATOR!r} between labels. Train with a multi-label "
            "recipe, such as multi_label; or name the class of each picture in a column 'label'."
        )
    if naming is None:
        names = _sorted(set(texts))
        numbers = {text: number for number, text in enumerate(names)}
        naming = _worded(names)
    else:
        numbers = dict(_understood(set(texts), naming, part.path))
    return Examples(part.store, [numbers[text] for text in texts], naming, part.rows)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def _sorted(names: Collection[str]) -> tuple[str, ...]:
    """Names sorted as numbers if all are numbers, else as strings."""
    numbers = {name: class_number(name) for name in names}
    if None in numbers.values():
        return tuple(sorted(names))
    return tuple(sorted(names, key=lambda name: (numbers[name], name)))


def _worded(names: Sequence[str]) -> Labels:
    """Labels of the names; WordNet ids of ImageNet get its class names."""
    if not all(_WNID.fullmatch(name) for name in names):
        return Labels(tuple(names))
    words: dict[str, str] = {}
    for known in map(labels_for, IMAGENET_SETS):
        words.update(zip(known.wnids, known.names, strict=True))
    if not words.keys() >= set(names):
        return Labels(tuple(names))
    return Labels(tuple(words[name] for name in names), tuple(names))


def _understood(texts: Collection[str], naming: Labels, path: Path) -> Mapping[str, int]:
    for names in (naming.wnids, naming.names):
        numbers = {name: number for number, name in enumerate(names)}
        if len(numbers) == len(names) and numbers.keys() >= set(texts):
            return numbers
    try:
        classes = Classes(len(naming), naming, "the training data")
        return classes.understand(texts, what="class").numbers
    except ArgumentError as error:
        known = {*naming.names, *naming.wnids}
        unknown = sorted(set(texts) - known) or sorted(texts)
        raise ArgumentError(
            f"{path} has classes that are not among the {len(naming)} of the training data: "
            f"{listed(list(map(repr, unknown)))}. Allowed are {listed(naming.names)}."
        ) from error
