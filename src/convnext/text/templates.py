"""Prompts around class names, and the averages of their vectors."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from convnext.errors import ArgumentError, ArgumentTypeError
from convnext.text.encoder import TextEncoder

__all__ = [
    "IMAGENET",
    "MOST_LABELS",
    "Templates",
    "check_labels",
    "class_vectors",
    "imagenet_templates",
    "templates_of",
]

IMAGENET = "imagenet"
SLOT = "{}"
MOST_LABELS = 25_000  # as many as the largest published classifier has, and a few more
LONGEST = 1_000  # characters of a label or template; 77 tokens are about 300
CHUNK = 4_096  # texts in memory

Templates = str | Sequence[str]
"""A text such as `"a photo of a {}"`, several of them, or `"imagenet"` for CLIP's 80."""


@functools.cache
def imagenet_templates() -> tuple[str, ...]:
    """The 80 prompts with which CLIP's authors classify ImageNet.

    Example:
        >>> imagenet_templates()[0]
        'a bad photo of a {}.'
    """
    text = resources.files("convnext.text").joinpath("imagenet_templates.txt").read_text("utf-8")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))


def templates_of(given: Templates) -> tuple[str, ...]:
    """The prompts of an argument.

    Raises:
        ArgumentError: One does not have exactly one `{}`, or there is none.
    """
    if given == IMAGENET:
        return imagenet_templates()
    every = (given,) if isinstance(given, str) else tuple(given)
    for template in every:
        if not isinstance(template, str) or template.count(SLOT) != 1 or len(template) > LONGEST:
            raise ArgumentError(
                f"A template has {SLOT} once, where the name of the class goes, as in 'a photo of "
                f"a {SLOT}', and at most {LONGEST} characters; got {str(template)[:80]!r}. "
                f"{IMAGENET!r} means CLIP's 80."
            )
    if not every:
        raise ArgumentError(f"No template is given. {SLOT!r} means the names as they are.")
    return every


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Check names of classes, and remove space around them.

    Raises:
        ArgumentTypeError: They are no list of strings.
        ArgumentError: There are none or too many, or one is empty, too long or given twice.
    """
    if isinstance(labels, str):
        raise ArgumentTypeError("labels are a list of names, such as ['a cat', 'a dog'].")
    names = tuple(labels)
    if not 1 <= len(names) <= MOST_LABELS:
        raise ArgumentError(
            f"There can be 1 to {MOST_LABELS:,} labels, not {len(names):,}. For more, compare "
            "vectors, as `convnext search` does."
        )
    stripped = [name.strip() if isinstance(name, str) else name for name in names]
    for number, name in enumerate(stripped):
        if not isinstance(name, str):
            raise ArgumentTypeError(f"A label is a string, not {type(name).__name__}: {name!r}.")
        if not name or len(name) > LONGEST:
            what = "is empty" if not name else f"has {len(name):,} characters"
            raise ArgumentError(
                f"Label {number + 1} {what}; a label has 1 to {LONGEST:,} characters."
            )
    if len(set(stripped)) < len(stripped):
        twice = next(name for name in stripped if stripped.count(name) > 1)
        raise ArgumentError(f"The label {twice[:80]!r} is given twice. Leave out one.")
    return tuple(stripped)


def class_vectors(
    encoder: TextEncoder, labels: Sequence[str], templates: Templates = SLOT
) -> NDArray[np.float32]:
    """Compute a vector of length 1 for each class: the mean over the prompts.

    Returns:
        `[labels, width]`.
    """
    names, prompts = check_labels(labels), templates_of(templates)
    vectors = np.empty((len(names), encoder.width), np.float32)
    step = max(1, CHUNK // len(prompts))
    for begin in range(0, len(names), step):
        texts = [
            prompt.replace(SLOT, name) for name in names[begin : begin + step] for prompt in prompts
        ]
        means = encoder(texts).reshape(-1, len(prompts), encoder.width).mean(1)
        vectors[begin : begin + step] = means / np.linalg.norm(means, axis=1, keepdims=True)
    return vectors
