"""What a model's classes are called.

Why it exists: a class is a number to the model and a name to everybody else. ImageNet's names are
built in; those of fine-tuned models come from a file.
"""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from convnext.errors import ArgumentError, UnknownNameError

__all__ = ["IMAGENET_SETS", "Labels", "class_number", "labels_for", "read_labels"]

IMAGENET_SETS = {"imagenet-1k": 1000, "imagenet-12k": 11821, "imagenet-22k": 21841}
MAX_DIGITS = 9  # what is longer numbers nothing, and Python refuses to read thousands of digits


@dataclass(frozen=True)
class Labels:
    """The names of all classes, in the order of the model's outputs.

    Attributes:
        names: One for each class. Not always different: ImageNet has two kinds of crane.
        wnids: WordNet ids, which are different; empty if the classes have none.
    """

    names: tuple[str, ...]
    wnids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def short(self, index: int) -> str:
        """The first of a class's synonyms.

        Example:
            >>> labels_for("imagenet-1k").short(0)
            'tench'
        """
        return self.names[index].split(", ")[0]


def class_number(text: str) -> int | None:
    """The number that a class is called by, if that is one.

    Example:
        >>> class_number("007"), class_number("007 spies")
        (7, None)
    """
    is_number = text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
    return int(text) if is_number else None


@functools.cache
def labels_for(dataset: str) -> Labels:
    """The classes of one of `IMAGENET_SETS`, named by WordNet's words.

    Example:
        >>> labels_for("imagenet-1k").names[0]
        'tench, Tinca tinca'
    """
    if dataset not in IMAGENET_SETS:
        raise UnknownNameError("set of classes", dataset, IMAGENET_SETS)
    member = dataset.removeprefix("imagenet-")
    text = resources.files("convnext.images").joinpath("imagenet_classes.tsv").read_text("utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    chosen = [(wnid, names) for wnid, sets, names in rows if member in sets.split()]
    wnids, names = zip(*chosen, strict=True)
    return Labels(names, wnids)


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """Read class names from a file.

    Args:
        path: A `.json` file, or a text file with one name in each line. JSON may hold a list of
            names, an object from index to name or from name to index, Keras' object from index to
            `[wnid, name]`, or a transformers `config.json`.

    Raises:
        ArgumentError: The file cannot be read or names not each class from 0 up exactly once.
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
    """The names as a list, whichever way round a JSON object gives them."""
    pairs = content.get("id2label", content) if isinstance(content, dict) else None
    if isinstance(pairs, dict):
        inverse = all(isinstance(value, int) for value in pairs.values())
        numbered = {str(v): k for k, v in pairs.items()} if inverse else pairs
        content = [numbered.get(str(index)) for index in range(len(pairs))]
    if not isinstance(content, list) or not content or None in content:
        raise ArgumentError(
            f"{path} must name each class from 0 up exactly once, as a list of names or as an "
            "object from index to name or from name to index."
        )
    return content


def _name(value: Any, path: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ArgumentError(f"{path} names a class {value!r}; a name is text that is not empty.")
    return value.strip()
