"""Which class a name means. It knows nothing of models."""

from __future__ import annotations

import difflib
import itertools

from convnext.errors import ArgumentError, ArgumentTypeError
from convnext.images.labels import Labels, class_number

__all__ = ["find_class"]


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
