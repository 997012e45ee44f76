"""What the classes of some weights are called, and which class a name means.

It knows nothing of models.
"""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from convnext.errors import ArgumentError, ArgumentTypeError
from convnext.images.labels import IMAGENET_SETS, Labels, class_number, labels_for, read_labels

__all__ = ["Names", "choose_labels", "find_class", "numbered"]

Names = Labels | Sequence[str] | str | os.PathLike[str]


def choose_labels(names: Names) -> Labels:
    """Class names from whatever a user gives: names, a file of them, or one of `IMAGENET_SETS`.

    Raises:
        ArgumentError: A text is neither a file nor one of the sets, or the file is wrong.
    """
    if isinstance(names, Labels):
        return names
    if isinstance(names, str) and names in IMAGENET_SETS:
        return labels_for(names)
    if not isinstance(names, str | os.PathLike):
        return Labels(tuple(names))
    if not Path(names).exists():
        raise ArgumentError(
            f"{str(names)!r} is neither a file with the names of the classes nor one of "
            f"{', '.join(IMAGENET_SETS)}."
        )
    return read_labels(names)


def numbered(num_classes: int) -> Labels:
    """Stand-ins for names that nobody told.

    Example:
        >>> numbered(2).names
        ('class 0', 'class 1')
    """
    return Labels(tuple(f"class {index}" for index in range(num_classes)))


def find_class(target: int | str, labels: Labels) -> int:
    """The number of a class that is given by its number, its WordNet id or any of its names.

    Raises:
        ArgumentError: There is no such class, or more than one.

    Example:
        >>> find_class("Cat", Labels(("dog, hound", "cat, feline")))
        1
    """
    if isinstance(target, bool) or not isinstance(target, int | str):
        raise ArgumentTypeError(f"A class is a number or a name, not {type(target).__name__}.")
    if isinstance(target, int):
        if not 0 <= target < len(labels):
            raise ArgumentError(f"There is no class {target}: they go from 0 to {len(labels) - 1}.")
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
            raise ArgumentError(f"More than one class is called {target!r}. Give one of: {listed}.")
    if (number := class_number(wanted)) is not None:
        return find_class(number, labels)
    close = difflib.get_close_matches(wanted, itertools.chain(*synonyms), n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ArgumentError(
        f"No class is called {target!r}.{hint} Give a name, a WordNet id, or a number from 0 to "
        f"{len(labels) - 1}."
    )
