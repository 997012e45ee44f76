"""Metadata of weights: preprocessing, labels, licence, and their annotations in a weights file.

.safetensors and .h5 files have text annotations; ours begin with `convnext.`.
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
from convnext.images.thresholds import checked_thresholds
from convnext.segmentation import checked_bins
from convnext.weights.catalog import CHECKPOINTS, TASKS, Checkpoint, licence_notice

__all__ = ["WeightsInfo", "annotation", "checked_preprocess", "stated_in"]

PREFIX = "convnext."
ARCHITECTURE = f"{PREFIX}architecture"
MAX_SIZE = 4096  # so that a file cannot make its reader enlarge pictures without bound
MIN_CROP_FRACTION = 0.1


@dataclass(frozen=True)
class WeightsInfo:
    """Metadata of weights; None for unknown values.

    Attributes:
        name: Name of the weights, such as `"convnext_tiny.fb_in1k"`.
        origin: Who trained or published them.
        licence: SPDX identifier of the weights' licence, or its name.
        labels: Name of the label set, or one name for each class.
        preprocess: Preprocessing of pictures.
        strides: Strides of the stem and the downsamplings in training, if they were chosen and do
            not follow from the size of the pictures.
        task: One of `convnext.weights.catalog.TASKS`. The head of `"clip"` weights returns vectors
            to compare with those of texts, not classes.
        bins: Grids of UPerNet's pooled context, if they are not the published ones, which shapes do
            not show.
        thresholds: For a multi-label model: the probability from which on a picture has a label,
            for each label. None for classes that exclude one another.

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
    bins: tuple[int, ...] | None = None
    thresholds: tuple[float, ...] | None = None

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint) -> WeightsInfo:
        """The metadata of published weights, from the catalogue."""
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
        """One line on the licence, to show whenever the weights are used; None if unknown."""
        published = CHECKPOINTS.get(self.name or "")
        if published and published.licence == self.licence:
            return licence_notice(published)
        return self.licence and f"Licence of the weights: {self.licence}."

    def to_metadata(self) -> dict[str, str]:
        """The annotations of a file."""
        known = {name: value for name, value in asdict(self).items() if value is not None}
        return {f"{PREFIX}{name}": json.dumps(value) for name, value in known.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> WeightsInfo:
        """Read the annotations of a file; those of others are ignored.

        Raises:
            WeightsFileError: One of ours is invalid.
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
        if name == "bins":
            return checked_bins(value)
        if name == "thresholds":
            return checked_thresholds(value)
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
    """A preprocessing recipe from a dictionary of its fields.

    Raises:
        TypeError: The value is no dictionary of these fields.
        ValueError: A field is invalid.
    """
    if not isinstance(value, dict):
        raise TypeError(f"a recipe was expected, not {type(value).__name__}")
    values: dict[str, Any] = {
        name: tuple(part) if isinstance(part, list) else part for name, part in value.items()
    }
    recipe = Preprocess(**values)
    numbers = (recipe.size, recipe.crop_fraction, recipe.rescale, *recipe.mean, *recipe.std)
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise ValueError("size, crop_fraction, rescale, mean and std are finite numbers")
    types = get_type_hints(Preprocess)
    for name in ("mode", "interpolation"):
        if getattr(recipe, name) not in get_args(types[name]):
            raise ValueError(f"{name} is one of {get_args(types[name])}")
    if not (1 <= recipe.size <= MAX_SIZE and MIN_CROP_FRACTION <= recipe.crop_fraction <= 1):
        raise ValueError(f"size is 1 to {MAX_SIZE}, and crop_fraction {MIN_CROP_FRACTION} to 1")
    if len(recipe.mean) != 3 or len(recipe.std) != 3 or min(recipe.std) <= 0:
        raise ValueError("mean and std are three numbers each, and std is positive")
    return recipe


def annotation(architecture: Architecture) -> dict[str, str]:
    """An architecture's name and arithmetic, which shapes do not show, as an annotation."""
    values = {"name": architecture.name, **architecture.arithmetic._asdict()}
    return {ARCHITECTURE: json.dumps(values)}


def stated_in(metadata: Mapping[str, str]) -> Arithmetic | None:
    """The arithmetic (epsilons, norms, activation) in a file's annotations; None if absent.

    Raises:
        WeightsFileError: The annotation is invalid.
    """
    text = metadata.get(ARCHITECTURE)
    if text is None:
        return None
    try:
        values = json.loads(text)
        values.pop("name", None)
        return checked_arithmetic(values)
    except (ArgumentError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise WeightsFileError(
            f"The file's annotation {ARCHITECTURE!r} cannot be understood ({error}): {text[:80]}. "
            "A newer version of this package may have written it."
        ) from error
