"""What a weights file says about itself besides its numbers, and how that travels in a file.

Whoever loads weights needs to know what was done to the pictures they were trained on, what the
outputs mean, and on what terms they may be used. A safetensors file carries text annotations; these
are ours. It knows no tensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args, get_type_hints

from convnext.architecture import (
    Architecture,
    Arithmetic,
    Strides,
    checked_arithmetic,
    checked_strides,
)
from convnext.errors import ArgumentError, WeightsFileError
from convnext.images.recipe import Preprocess
from convnext.weights.catalog import CHECKPOINTS, TASKS, Checkpoint, licence_notice

__all__ = ["WeightsInfo", "annotation", "checked_preprocess", "stated_in"]

PREFIX = "convnext."
ARCHITECTURE = f"{PREFIX}architecture"
MAX_SIZE = 4096  # a file may not make its reader enlarge pictures without bound
MIN_CROP_FRACTION = 0.1


@dataclass(frozen=True)
class WeightsInfo:
    """Facts that ride along with weights; None where nobody said.

    Attributes:
        name: What these weights are called, such as `"convnext_tiny.fb_in1k"`.
        origin: Whose weights they are.
        licence: SPDX identifier of the weights' licence, or its name.
        labels: Name of the label set, or one name for each class.
        preprocess: What a picture goes through first.
        strides: Of the stem and the downsamplings in training, where these were chosen; otherwise
            they follow from the size of the pictures.
        task: What they are good for, one of `convnext.weights.catalog.TASKS`. The head of weights
            for `"clip"` gives no classes, but vectors to be compared with those of texts.

    Example:
        >>> info = WeightsInfo(licence="MIT", labels=("cat", "dog"))
        >>> WeightsInfo.from_metadata(info.to_metadata()) == info
        True
    """

    name: str | None = None
    origin: str | None = None
    licence: str | None = None
    labels: str | tuple[str, ...] | None = None
    preprocess: Preprocess | None = None
    strides: Strides | None = None
    task: str | None = None

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint) -> WeightsInfo:
        """What the catalogue knows about published weights."""
        return cls(
            name=checkpoint.name,
            origin=checkpoint.origin,
            licence=checkpoint.licence,
            labels=checkpoint.labels,
            task=checkpoint.task,
            preprocess=checkpoint.preprocess,
        )

    @property
    def notice(self) -> str | None:
        """On what terms the weights may be used, to be shown whenever they are; None if unknown."""
        published = CHECKPOINTS.get(self.name or "")
        if published and published.licence == self.licence:
            return licence_notice(published)
        return self.licence and f"Licence of the weights: {self.licence}."

    def to_metadata(self) -> dict[str, str]:
        """As annotations of a file."""
        known = {name: value for name, value in asdict(self).items() if value is not None}
        return {f"{PREFIX}{name}": json.dumps(value) for name, value in known.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> WeightsInfo:
        """From the annotations of a file; those that are not ours are passed over.

        Raises:
            WeightsFileError: One of ours cannot be understood.
        """
        values: dict[str, Any] = {}
        for field in fields(cls):
            text = metadata.get(PREFIX + field.name)
            if text is not None:
                values[field.name] = _understood(field.name, text)
        return cls(**values)


def _understood(name: str, text: str) -> object:
    try:
        value = json.loads(text)
        if name == "preprocess":
            return checked_preprocess(value)
        if name == "strides":
            return checked_strides(value)
        if name == "labels" and isinstance(value, list):
            return tuple(map(_string, value))
        if name == "task" and _string(value) not in TASKS:
            raise ValueError(f"it is one of {', '.join(TASKS)}")
        return _string(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsFileError(
            f"The file's annotation {PREFIX + name!r} cannot be understood ({error}): {text[:80]}. "
            "Convert the original file again with `convnext convert`."
        ) from error


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text was expected, not {type(value).__name__}")
    return value


def checked_preprocess(value: object) -> Preprocess:
    """A recipe from its parts by name.

    Raises:
        TypeError: It is no mapping of such parts.
        ValueError: A part cannot be.
    """
    if not isinstance(value, dict):
        raise TypeError(f"a recipe was expected, not {type(value).__name__}")
    values: dict[str, Any] = {
        name: tuple(part) if isinstance(part, list) else part for name, part in value.items()
    }
    recipe = Preprocess(**values)
    numbers = (recipe.size, recipe.crop_fraction, recipe.rescale, *recipe.mean, *recipe.std)
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise ValueError("a number of the recipe is none")
    types = get_type_hints(Preprocess)
    for name in ("mode", "interpolation"):
        if getattr(recipe, name) not in get_args(types[name]):
            raise ValueError(f"{name} is one of {get_args(types[name])}")
    if not (1 <= recipe.size <= MAX_SIZE and MIN_CROP_FRACTION <= recipe.crop_fraction <= 1):
        raise ValueError("no picture has that size")
    if len(recipe.mean) != 3 or len(recipe.std) != 3 or min(recipe.std) <= 0:
        raise ValueError("mean and std are three numbers each, and std is positive")
    return recipe


def annotation(architecture: Architecture) -> dict[str, str]:
    """What names and shapes do not tell of an architecture, as an annotation of a file."""
    said = {"name": architecture.name, **architecture.arithmetic._asdict()}
    return {ARCHITECTURE: json.dumps(said)}


def stated_in(metadata: Mapping[str, str]) -> Arithmetic | None:
    """What a file's annotations say of how its network computes; None if nothing.

    Raises:
        WeightsFileError: They cannot be understood.
    """
    text = metadata.get(ARCHITECTURE)
    if text is None:
        return None
    try:
        said = json.loads(text)
        said.pop("name", None)
        return checked_arithmetic(said)
    except (ArgumentError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise WeightsFileError(
            f"The file's annotation {ARCHITECTURE!r} cannot be understood ({error}): {text[:80]}. "
            "A newer version of this package may have written it."
        ) from error
