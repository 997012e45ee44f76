"""Recipes: all settings that determine the result of a training run, in one typed TOML file.

Misspelt keys are errors. Recipes of the package are loaded by name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, TypeVar, overload

from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.images.recipe import Preprocess
from convnext.train.augment.mixing import Mixing
from convnext.train.augment.pairs import SegmentationAugment
from convnext.train.augment.transforms import Augment
from convnext.train.sections import (
    Data,
    Distill,
    Head,
    LabelSettings,
    Masking,
    MaskSettings,
    Model,
    Optimizer,
    Run,
)
from convnext.train.settings import from_table, parse, to_table

__all__ = [
    "AnyRun",
    "PretrainingRecipe",
    "Recipe",
    "SegmentationRecipe",
    "load_recipe",
    "published_recipes",
    "recipe_header",
    "recipe_kind",
]


class _File:
    """Methods common to all kinds of recipes."""

    folder: ClassVar[str]

    def to_toml(self) -> str:
        """Write the recipe as TOML, with every setting."""
        lines = []
        for section, values in to_table(self).items():
            lines += [f"[{section}]", *(f"{k} = {_toml(v)}" for k, v in values.items()), ""]
        return "\n".join(lines)

    def differences(self, other: _File) -> list[str]:
        """Describe the settings in which two recipes differ."""
        mine, theirs = to_table(self), to_table(other)
        return [
            f"{section}.{name} is {value!r} here and {theirs[section].get(name)!r} there"
            for section, values in mine.items()
            for name, value in (dict.fromkeys(theirs[section]) | values).items()
            if theirs[section].get(name) != value
        ]


@dataclass(frozen=True)
class Recipe(_File):
    """The recipe of a classifier.

    Example:
        >>> recipe = load_recipe("cifar10", ["run.epochs=2"])
        >>> recipe.run.epochs, recipe.model.resolution
        (2.0, 32)
    """

    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    mixing: Mixing = field(default_factory=Mixing)
    distill: Distill = field(default_factory=Distill)
    labels: LabelSettings = field(default_factory=LabelSettings)
    optimizer: Optimizer = field(default_factory=Optimizer)
    run: Run = field(default_factory=Run)

    folder: ClassVar[str] = "recipes"

    def __post_init__(self) -> None:
        if self.labels.multi:
            names = ("data.balanced", "data.class_weights", "labels.binary")
            _refuse(self, names, "with labels.multi")
        else:
            _refuse(self, ("labels.balanced", "labels.weights"), "without labels.multi")


CLASSIFIERS_OWN = ("model.head_scale", "model.train", "data.balanced", "data.class_weights")


@dataclass(frozen=True)
class PretrainingRecipe(_File):
    """The recipe of an encoder that is pretrained on pictures without labels.

    Example:
        >>> load_recipe("fcmae_cifar10", kind=PretrainingRecipe).masking.ratio
        0.6
    """

    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    masking: Masking = field(default_factory=Masking)
    optimizer: Optimizer = field(default_factory=Optimizer)
    run: Run = field(default_factory=Run)

    folder: ClassVar[str] = "recipes/pretraining"

    def __post_init__(self) -> None:
        _refuse(self, ("model.layer_scale", *CLASSIFIERS_OWN), "in pretraining")


def _refuse(recipe: Any, names: Iterable[str], where: str) -> None:
    for name in names:
        section, _, key = name.partition(".")
        settings = getattr(recipe, section)
        if getattr(settings, key) != getattr(type(settings)(), key):
            raise ArgumentError(f"{name} has no effect {where}. Leave it out.")


@dataclass(frozen=True)
class SegmentationRecipe(_File):
    """The recipe of a segmentation model.

    Example:
        >>> load_recipe("segment_upernet", kind=SegmentationRecipe).head.width
        512
    """

    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    masks: MaskSettings = field(default_factory=MaskSettings)
    augment: SegmentationAugment = field(default_factory=SegmentationAugment)
    head: Head = field(default_factory=Head)
    optimizer: Optimizer = field(default_factory=Optimizer)
    run: Run = field(default_factory=Run)

    folder: ClassVar[str] = "recipes/segmentation"

    def __post_init__(self) -> None:
        crop = ("model.crop_fraction", "model.mode")  # all of a picture is segmented
        _refuse(self, (*crop, *CLASSIFIERS_OWN), "in segmentation")

    @property
    def preprocess(self) -> Preprocess:
        """Preprocessing of pictures in inference: resized to a square."""
        return replace(
            self.model.preprocess, mode="squash", crop_fraction=1.0, interpolation="bilinear"
        )


AnyRecipe = TypeVar("AnyRecipe", bound=_File)
AnyRun = Recipe | PretrainingRecipe | SegmentationRecipe


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def recipe_kind(source: str | Path) -> type[Recipe | SegmentationRecipe]:
    """The kind of recipe that `train` has at a name or in a file: a file's sections tell."""
    if str(source) in published_recipes(SegmentationRecipe):
        return SegmentationRecipe
    path = Path(source)
    if path.suffix == ".toml" or path.exists():
        try:
            table = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            return Recipe  # whose loading reports it
        if "head" in table or "masks" in table:
            return SegmentationRecipe
    return Recipe


def published_recipes(kind: type[_File] = Recipe) -> list[str]:
    """Names of the recipes of the package."""
    files = _folder(kind).iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


@overload
def load_recipe(source: str | Path, changes: Iterable[str] = ...) -> Recipe: ...


@overload
def load_recipe(
    source: str | Path, changes: Iterable[str] = ..., kind: type[AnyRecipe] = ...
) -> AnyRecipe: ...


def load_recipe(source: str | Path, changes: Iterable[str] = (), kind: type[Any] = Recipe) -> Any:
    """Load a recipe from a file, or a published one by name.

    Args:
        source: A TOML file, or one of `published_recipes`.
        changes: Changes of settings: `"optimizer.learning_rate=1e-3"`.
        kind: Class of the recipe.

    Raises:
        UnknownNameError: There is no such recipe or setting; the nearest name is suggested.
        ArgumentError: The file is not valid TOML, or a value is not allowed.
    """
    try:
        table = tomllib.loads(_text(source, kind))
    except tomllib.TOMLDecodeError as error:
        raise ArgumentError(f"{source} is not valid TOML: {error}") from error
    for change in changes:
        name, equals, value = change.partition("=")
        section, dot, key = name.strip().partition(".")
        if not (equals and dot):
            raise ArgumentError(f"A change reads section.setting=value, not {change!r}.")
        settings = table.setdefault(section, {})
        if not isinstance(settings, dict):
            raise ArgumentTypeError(f"[{section}] is a table of settings.")
        settings[key] = parse(value.strip())
    return from_table(kind, table)


def recipe_header(source: str | Path, kind: type[_File] = Recipe) -> str:
    """The comment at the head of a recipe's file."""
    lines = _text(source, kind).splitlines()
    head = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:head])


def _folder(kind: type[_File]) -> Any:
    return resources.files("convnext.train").joinpath(*kind.folder.split("/"))


def _text(source: str | Path, kind: type[_File]) -> str:
    path = Path(source)
    if path.suffix == ".toml" or path.exists():
        try:
            return path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ArgumentError(f"The recipe {path} cannot be read: {error}") from error
    if str(source) not in published_recipes(kind):
        raise UnknownNameError("recipe", source, published_recipes(kind))
    text: str = _folder(kind).joinpath(f"{source}.toml").read_text("utf-8")
    return text
