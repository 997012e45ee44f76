"""Class names: ImageNet's and ADE20K's, built in, or from a file; and the class of a name."""

from __future__ import annotations

import difflib
import functools
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError

__all__ = [
    "IMAGENET_SETS",
    "LABEL_SETS",
    "Labels",
    "Names",
    "ade20k_classes",
    "class_number",
    "find_class",
    "labels_for",
    "read_labels",
    "resolve_labels",
]

IMAGENET_SETS = {"imagenet-1k": 1000, "imagenet-12k": 11821, "imagenet-22k": 21841}
LABEL_SETS = IMAGENET_SETS | {"ade20k": 150}
MAX_DIGITS = 9  # longer texts are not class numbers; Python refuses thousands of digits


@dataclass(frozen=True)
class Labels:
    """The names of all classes, in the order of the model's outputs.

    Attributes:
        names: One for each class. Not always unique: ImageNet has two classes "crane".
        wnids: WordNet ids, which are unique; empty if the classes have none.
        thresholds: For a multi-label model, whose classes have a probability each: from which
            probability on a picture has the label. None for classes that exclude one another.
    """

    names: tuple[str, ...]
    wnids: tuple[str, ...] = ()
    thresholds: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def short(self, index: int) -> str:
        """The first of a class's synonyms.

        Example:
            >>> labels_for("imagenet-1k").short(0)
            'tench'
        """
        return self.names[index].split(", ")[0]


Names = Labels | Sequence[str] | str | os.PathLike[str]
"""Types of a `labels` argument, see `resolve_labels`."""


def class_number(text: str) -> int | None:
    """Parse a class number; None if the text is not one.

    Example:
        >>> class_number("007"), class_number("007 spies")
        (7, None)
    """
    is_number = text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
    return int(text) if is_number else None


@functools.cache
def labels_for(dataset: str) -> Labels:
    """The classes of one of `LABEL_SETS`: ImageNet's with WordNet's names, or ADE20K's.

    Example:
        >>> labels_for("imagenet-1k").names[0]
        'tench, Tinca tinca'
    """
    if dataset not in LABEL_SETS:
        raise UnknownNameError("set of classes", dataset, LABEL_SETS)
    if dataset == "ade20k":
        return Labels(tuple(name for name, _ in ade20k_classes()))
    member = dataset.removeprefix("imagenet-")
    rows = _rows("imagenet_classes.tsv")
    chosen = [(wnid, names) for wnid, sets, names in rows if member in sets.split()]
    wnids, names = zip(*chosen, strict=True)
    return Labels(names, wnids)


def ade20k_classes() -> list[list[str]]:
    """Name and colour, in hexadecimal, of each of ADE20K's classes."""
    return _rows("ade20k_classes.tsv")


def _rows(table: str) -> list[list[str]]:
    """The lines of a table beside this module, without its comments."""
    text = resources.files("convnext.images").joinpath(table).read_text("utf-8")
    return [line.split("\t") for line in text.splitlines() if not line.startswith("#")]


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """Read class names from a file.

    Args:
        path: A `.json` file, or a text file with one name in each line. JSON may hold a list of
            names, an object from index to name or from name to index, Keras' object from index to
            `[wnid, name]`, or a transformers `config.json`.

    Raises:
        ArgumentError: The file cannot be read, or does not name each class from 0 up exactly once.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig")
        content = json.loads(text) if path.suffix.lower() == ".json" else text.splitlines()
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentError(f"The class names in {path} cannot be read: {error}") from error
    entries = _in_order(content, path)
    if all(isinstance(entry, list) and len(entry) == 2 for entry in entries):
        return Labels(
            names=tuple(_name(name, path) for _, name in entries),
            wnids=tuple(_name(wnid, path) for wnid, _ in entries),
        )
    return Labels(tuple(_name(entry, path) for entry in entries))


def _in_order(content: Any, path: Path) -> list[Any]:
    """The names as a list, from a list or an object in either direction."""
    pairs = content.get("id2label", content) if isinstance(content, dict) else None
    if isinstance(pairs, dict):
        inverse = all(isinstance(value, int) for value in pairs.values())
        by_number = {str(v): k for k, v in pairs.items()} if inverse else pairs
        content = [by_number.get(str(index)) for index in range(len(pairs))]
    if not isinstance(content, list) or not content or None in content:
        raise ArgumentError(
            f"{path} must name each class from 0 up exactly once, as a list of names or as an "
            "object from index to name or from name to index."
        )
    return content


def _name(value: Any, path: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ArgumentError(f"{path} names a class {value!r}; a name must be a non-empty string.")
    return value.strip()


def resolve_labels(
    given: Names | None, stored: str | tuple[str, ...] | None, num_classes: int, source: object
) -> Labels:
    """The class names of some weights; "class 0" and so on if none are known.

    Args:
        given: The user's choice, which has precedence: names, a file of names, or one of
            `LABEL_SETS`.
        stored: The names in the weights file, or one of `LABEL_SETS`. Never a path, so that a
            weights file cannot make the reader open other files.
        num_classes: Width of the classifier; 0 without one.
        source: Origin of the weights, for the error.

    Raises:
        ArgumentError: The number of names is not the number of classes, or `given` is neither a
            valid file nor one of the sets.
    """
    if given is not None:
        labels = _chosen(given)
    elif isinstance(stored, str):
        labels = labels_for(stored)
    else:
        labels = Labels(stored or tuple(f"class {index}" for index in range(num_classes)))
    if num_classes and len(labels) != num_classes:
        raise ArgumentError(
            f"{source} has {num_classes:,} classes, but {len(labels):,} names were given. Give one "
            "name for each class, in order."
        )
    return labels


def _chosen(names: Names) -> Labels:
    if isinstance(names, Labels):
        return names
    if isinstance(names, str) and names in LABEL_SETS:
        return labels_for(names)
    if not isinstance(names, str | os.PathLike):
        return Labels(tuple(names))
    if not Path(names).exists():
        raise ArgumentError(
            f"{str(names)!r} is neither a file with the names of the classes nor one of "
            f"{', '.join(LABEL_SETS)}."
        )
    return read_labels(names)


def find_class(target: int | str, labels: Labels) -> int:
    """The number of the class with this number, WordNet id or name.

    Raises:
        ArgumentError: No class matches, or more than one.

    Example:
        >>> find_class("Cat", Labels(("dog, hound", "cat, feline")))
        1
    """
    if isinstance(target, bool) or not isinstance(target, int | str):
        raise ArgumentTypeError(
            f"A class must be given by number or name, not {type(target).__name__}."
        )
    if isinstance(target, int):
        if not 0 <= target < len(labels):
            raise ArgumentError(
                f"There is no class {target}. Give one from 0 to {len(labels) - 1}."
            )
        return target
    wanted = target.strip().casefold()
    whole = [name.casefold() for name in labels.names]
    wnids = [wnid.casefold() for wnid in labels.wnids]
    synonyms = [name.split(", ") for name in whole]
    for found in (
        [index for index, wnid in enumerate(wnids) if wnid == wanted],
        [index for index, name in enumerate(whole) if name == wanted],
        [index for index, names in enumerate(synonyms) if wanted in names],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            listed = "; ".join(f"{index} ({labels.names[index]})" for index in found)
            raise ArgumentError(
                f"More than one class is called {target!r}. Give the number: {listed}."
            )
    if (number := class_number(wanted)) is not None:
        return find_class(number, labels)
    close = difflib.get_close_matches(wanted, itertools.chain(*synonyms), n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ArgumentError(
        f"No class is called {target!r}.{hint} Give a name, a WordNet id, or a number from 0 to "
        f"{len(labels) - 1}."
    )
