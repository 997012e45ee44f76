"""Data sets as they lie about, to labelled examples.

Why it exists: pictures come as class folders, archives, tables, arrays and in ImageNet's own way,
divided or not, and training on labels that were understood wrongly shows no sign of it. So every
form is recognised by what is there, and what can be understood in no way or in two is an error
before the first picture is read. It knows nothing of what is done to pictures.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from convnext.errors import ArgumentError, UnknownNameError
from convnext.evaluate.classes import Classes
from convnext.images.labels import IMAGENET_SETS, Labels, class_number, labels_for
from convnext.train.labelled import Examples, hold_out
from convnext.train.parts import FORMS, SPLIT_NAMES, Part, find_parts

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
    """A data set's parts.

    Attributes:
        train: To train on.
        validation: To validate with, if the data set has such a part; its classes are the same.
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
    """Open labelled pictures, reading none.

    Args:
        path: `FORMS` says what it can be.
        classes: What the classes are called, in the order of their numbers. By default the data's
            own: folders sorted by name, and WordNet ids with ImageNet's words for them. If given,
            every class of the data has to be one of them, by WordNet id, name or number.
        split: `"train"`, `"validation"` or `"test"`, of data that is divided.
        limit: How many pictures at most, spread evenly over the data.

    Raises:
        ArgumentError: There is no such data, it is damaged, or its classes are not clear.

    Example:
        `open_examples("flowers", limit=1000).classes`
    """
    parts = find_parts(Path(path))
    part = _chosen(parts, split, Path(path))
    return _limited(_examples(part, _as_labels(classes)), limit)


def open_pictures(
    path: str | Path, *, split: str | None = None, limit: int | None = None
) -> Examples:
    """Open pictures without asking for their classes, however deep they lie.

    Args:
        path: As for `open_examples`, or a folder or table of pictures alone.
        split: Which part of data that is divided; by default `"train"`.
        limit: How many pictures at most, spread evenly over the data.

    Returns:
        Examples whose labels are all 0, and which have no classes.
    """
    parts = find_parts(Path(path))
    part = _chosen(parts, split or ("train" if "train" in parts else None), Path(path))
    examples = Examples(part.store, np.zeros(len(part.rows), np.int64), None, part.rows)
    return _limited(examples, limit)


def find_splits(
    path: str | Path, *, classes: Sequence[str] | Labels | None = None, limit: int | None = None
) -> Splits:
    """Open a data set with the part to train on and, if it has one, the part to validate with.

    Parts are folders called train and val, valid, validation or test, in a folder or an archive;
    archives of these names beside each other; the arrays of one file; or a column of a table that
    is called split. Where there are both a validation and a test part, the test part is left alone.

    Args:
        path: As for `open_examples`.
        classes: As for `open_examples`.
        limit: How many pictures of each part at most.

    Raises:
        ArgumentError: As for `open_examples`; or the validation part has a class that the training
            part has not.
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
        _log.info("The test part of %s has no labels, and is not used.", path)
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
    """Open what a classifier is trained on and validated with.

    Args:
        path: As for `open_examples`.
        validation: Pictures to validate with; by default the data's own, or a part held out.
        limit: How many pictures of each part at most.
        held_out: The part that is held out where there is nothing else to validate with.
        seed: Of the run: which pictures are held out.

    Raises:
        ArgumentError: As for `open_examples`; or there are no classes to be told apart.
    """
    found = find_splits(path, limit=limit)
    classes = found.train.classes
    if not classes:
        raise ArgumentError(f"The pictures in {path} have no classes, and a classifier needs them.")
    if len(classes) == 1:
        raise ArgumentError(
            f"All pictures in {path} are of one class, {classes[0]!r}, and a classifier tells two "
            "apart at least. Is it the folder above the classes that is meant?"
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
        raise ArgumentError(f"The limit is a number of pictures, 1 or more; got {limit}.")
    return examples.subset(np.arange(limit) * len(examples) // limit)


def _chosen(parts: Mapping[str, Part], split: str | None, path: Path) -> Part:
    if split is None:
        if len(parts) > 1:
            raise ArgumentError(
                f"{path} is divided into {', '.join(sorted(parts))}: say which with split=."
            )
        return next(iter(parts.values()))
    wanted = SPLIT_NAMES.get(split)
    if wanted is None:
        raise UnknownNameError("split", split, sorted(set(SPLIT_NAMES.values())))
    if wanted not in parts:
        found = ", ".join(sorted(parts)) if "" not in parts else "undivided"
        raise ArgumentError(f"{path} has no part {wanted!r}; it is {found}.")
    return parts[wanted]


def _examples(part: Part, naming: Labels | None) -> Examples:
    """The classes as numbers."""
    if part.labels is None:
        raise ArgumentError(
            part.problem
            or f"The pictures in {part.path} lie in no class folders, and nothing else says what "
            f"they show. Data is {FORMS}."
        )
    if part.empty and naming is None:
        listed = ", ".join(map(repr, part.empty[:_LISTED]))
        raise ArgumentError(
            f"{len(part.empty)} class folders in {part.path} hold no picture: {listed}. Remove "
            "them, fill them, or say which classes there are."
        )
    if isinstance(part.labels, np.ndarray) and part.labels.dtype.kind in "iu":
        naming = naming or Labels(part.classes or _numbered(int(part.labels.max()) + 1))
        if part.labels.max() >= len(naming):
            raise ArgumentError(
                f"{part.path} has a class {part.labels.max()}, and {len(naming)} classes are named."
            )
        return Examples(part.store, part.labels, naming, part.rows)
    texts = [str(text) for text in part.labels]
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
    """Names in the order of their numbers, if they are numbers; else as strings are sorted."""
    numbers = {name: class_number(name) for name in names}
    if None in numbers.values():
        return tuple(sorted(names))
    return tuple(sorted(names, key=lambda name: (numbers[name], name)))


def _worded(names: Sequence[str]) -> Labels:
    """WordNet ids with the words they stand for, if that is what the names are."""
    if not all(_WNID.fullmatch(name) for name in names):
        return Labels(tuple(names))
    words: dict[str, str] = {}
    for known in map(labels_for, IMAGENET_SETS):
        words.update(zip(known.wnids, known.names, strict=True))
    if not words.keys() >= set(names):
        return Labels(tuple(names))
    return Labels(tuple(words[name] for name in names), tuple(names))


def _understood(texts: Collection[str], naming: Labels, path: Path) -> Mapping[str, int]:
    """The number of each class name."""
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
        more = f" and {len(unknown) - _LISTED} more" if len(unknown) > _LISTED else ""
        raise ArgumentError(
            f"{path} has classes that are none of the {len(naming)} to be told apart: "
            f"{', '.join(map(repr, unknown[:_LISTED]))}{more}. These are "
            f"{', '.join(naming.names[:_LISTED])}{' ...' if len(naming) > _LISTED else ''}."
        ) from error
