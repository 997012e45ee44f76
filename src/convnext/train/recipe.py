"""A recipe: everything that decides what a training run does, typed, in one TOML file.

Why it exists: a run has to be repeatable from one small file, so nothing that changes its result
stands anywhere else, and a misspelt key is an error. Recipes that come with the package are called
by name. It knows nothing of how training is done.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, overload

from convnext.architecture import VARIANTS, Strides, adapted_strides, checked_strides
from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.images.recipe import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from convnext.train.augment import Augment
from convnext.train.mixing import Mixing
from convnext.train.settings import check, from_table, parse, setting, to_table

__all__ = [
    "Data",
    "Masking",
    "Model",
    "Optimizer",
    "Precision",
    "PretrainingRecipe",
    "Recipe",
    "Run",
    "load_recipe",
    "published_recipes",
    "recipe_header",
]

LARGEST_DECAY = 0.999999  # at 1, nothing would ever be seen

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Model:
    """What is trained, and what it sees."""

    variant: str = setting("convnextv2_atto", "the architecture, such as convnext_tiny")
    resolution: int = setting(224, "side of the pictures, in pixels", low=8, high=4096)
    strides: tuple[int, int, int, int] | None = setting(
        None, "of the stem and the downsamplings; none: what suits the resolution"
    )
    drop_path: float = setting(0.0, "stochastic depth of the last block", low=0, high=0.99)
    layer_scale: float | None = setting(
        None, "where layer scale starts; none: as published (V1 1e-6, V2 without)", low=0
    )
    head_scale: float = setting(1.0, "multiplies the classifier's initial weights", low=0)
    initial: Literal["published", "fan_in"] = setting(
        "published", 'spread of initial weights: 0.02, or "fan_in": by inputs, for narrow networks'
    )
    train: Literal["all", "head"] = setting("all", '"head" leaves all but the classifier as it is')
    crop_fraction: float = setting(
        0.875, "validation: the part of the shorter side that the crop keeps", low=0.1, high=1
    )
    mode: Literal["crop", "squash"] = setting("crop", 'validation: "squash" warps instead')
    mean: tuple[float, float, float] = setting(IMAGENET_MEAN, "subtracted from the colours")
    std: tuple[float, float, float] = setting(IMAGENET_STD, "what colours are divided by", low=1e-6)

    def __post_init__(self) -> None:
        check(self)
        if self.variant not in VARIANTS:
            raise UnknownNameError("variant", self.variant, VARIANTS)
        if self.strides is not None:
            checked_strides(self.strides)

    @property
    def actual_strides(self) -> Strides:
        """The strides that were given, or else those that suit the resolution."""
        if self.strides is not None:
            return checked_strides(self.strides)
        return adapted_strides(self.resolution, self.resolution)

    @property
    def preprocess(self) -> Preprocess:
        """What is done to pictures outside of training."""
        return Preprocess(
            size=self.resolution,
            crop_fraction=self.crop_fraction,
            mode=self.mode,
            mean=self.mean,
            std=self.std,
        )


@dataclass(frozen=True)
class Data:
    """Which pictures are trained on, and how often."""

    hold_out: float = setting(
        0.1, "part of the training data to validate with, if no other is given", low=0, high=0.9
    )
    balanced: bool = setting(False, "whether every class comes equally often")
    class_weights: Literal["none", "balanced"] = setting(
        "none", '"balanced": mistakes on rare classes count more'
    )
    limit: int | None = setting(None, "how many pictures of each part at most", low=1)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Optimizer:
    """How weights follow their gradients, and the learning rate over time."""

    method: Literal["adamw", "muon"] = setting(
        "adamw", '"muon": the matrices inside the blocks by Muon; learns faster from scratch'
    )
    learning_rate: float = setting(4e-3, "the highest, for batches of reference_batch", low=0)
    reference_batch: int = setting(
        4096, "the learning rate is scaled by batch_size over this", low=1
    )
    final_learning_rate: float = setting(1e-6, "at the end of the cosine", low=0)
    warmup_epochs: float = setting(0.0, "epochs of a learning rate that rises from 0", low=0)
    weight_decay: float = setting(0.05, "of kernels; biases, norms and scales have none", low=0)
    layer_decay: float = setting(
        1.0, "the learning rate falls by this factor from layer to layer, head to stem", low=0
    )
    layer_groups: Literal["single", "twelve"] = setting(
        "single", 'what a layer is: "single" each block, "twelve" as V1 groups them'
    )
    beta_1: float = setting(0.9, "decay of the gradients' mean", low=0, high=LARGEST_DECAY)
    beta_2: float = setting(0.999, "decay of the gradients' squares", low=0, high=LARGEST_DECAY)
    epsilon: float = setting(1e-8, "keeps the division finite", low=0)
    clip_norm: float = setting(0.0, "longest gradient; 0 for no limit", low=0)
    ema: float = setting(0.0, "decay of the weights' moving average; 0 for none", low=0, high=1)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Run:
    """How long, in which pieces, and what is kept."""

    epochs: float = setting(300.0, "how often every picture is seen", low=0)
    batch_size: int = setting(128, "pictures for one update of the weights", low=1)
    accumulate: int = setting(1, "parts that a batch is computed in, to save memory", low=1)
    precision: Precision = setting(
        "float32", 'what products are computed in; "auto": bfloat16 where that is faster'
    )
    seed: int = setting(0, "of everything random", low=0)
    validate_every: float = setting(1.0, "epochs between validations", low=0.01)
    log_every: int = setting(50, "steps between lines in the metrics", low=1)
    checkpoint_minutes: float = setting(10.0, "between checkpoints", low=0)
    keep: int = setting(2, "checkpoints to keep", low=1)

    def __post_init__(self) -> None:
        check(self)
        if self.batch_size % self.accumulate:
            raise ArgumentError(
                f"A batch of {self.batch_size} cannot be computed in {self.accumulate} equal parts."
            )


class _File:
    """What all kinds of recipes can do."""

    def to_toml(self) -> str:
        """The recipe with every setting spelled out, as a file."""
        lines = []
        for section, values in to_table(self).items():
            lines += [f"[{section}]", *(f"{k} = {_toml(v)}" for k, v in values.items()), ""]
        return "\n".join(lines)

    def differences(self, other: _File) -> list[str]:
        """The settings in which two recipes differ, for messages."""
        mine, theirs = to_table(self), to_table(other)
        return [
            f"{section}.{name} is {value!r} here and {theirs[section].get(name)!r} there"
            for section, values in mine.items()
            for name, value in (dict.fromkeys(theirs[section]) | values).items()
            if theirs[section].get(name) != value
        ]


@dataclass(frozen=True)
class Recipe(_File):
    """How a classifier is trained.

    Example:
        >>> recipe = load_recipe("cifar10", ["run.epochs=2"])
        >>> recipe.run.epochs, recipe.model.resolution
        (2.0, 32)
    """

    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    mixing: Mixing = field(default_factory=Mixing)
    optimizer: Optimizer = field(default_factory=Optimizer)
    run: Run = field(default_factory=Run)

    folder: ClassVar[str] = "recipes"


@dataclass(frozen=True)
class Masking:
    """What is hidden from the encoder, and what the decoder makes of the rest."""

    ratio: float = setting(0.6, "part of the patches that is hidden", low=0, high=0.95)
    decoder_width: int = setting(512, "channels of the decoder", low=1)
    decoder_depth: int = setting(1, "blocks of the decoder", low=0)
    normalise: bool = setting(True, "whether each patch's pixels are normalised by themselves")

    def __post_init__(self) -> None:
        check(self)


CLASSIFIERS_OWN = (
    *("model.layer_scale", "model.head_scale", "model.train"),
    *("data.balanced", "data.class_weights"),
)


@dataclass(frozen=True)
class PretrainingRecipe(_File):
    """How an encoder is pretrained on pictures without labels.

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
        for name in CLASSIFIERS_OWN:
            section, _, key = name.partition(".")
            settings = getattr(self, section)
            if getattr(settings, key) != getattr(type(settings)(), key):
                raise ArgumentError(f"{name} says nothing in pretraining. Leave it out.")


AnyRecipe = TypeVar("AnyRecipe", bound=_File)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def published_recipes(kind: type[Recipe | PretrainingRecipe] = Recipe) -> list[str]:
    """The names of the recipes that come with the package."""
    files = _folder(kind).iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


@overload
def load_recipe(source: str | Path, changes: Iterable[str] = ...) -> Recipe: ...


@overload
def load_recipe(
    source: str | Path, changes: Iterable[str] = ..., kind: type[AnyRecipe] = ...
) -> AnyRecipe: ...


def load_recipe(source: str | Path, changes: Iterable[str] = (), kind: type[Any] = Recipe) -> Any:
    """A recipe from a file, or one that comes with the package.

    Args:
        source: A TOML file, or one of `published_recipes`.
        changes: Settings to have another value: `"optimizer.learning_rate=1e-3"`.
        kind: What it is a recipe for.

    Raises:
        UnknownNameError: There is no such recipe or setting; the nearest is suggested.
        ArgumentError: The file is no TOML, or a value is not allowed.
    """
    try:
        table = tomllib.loads(_text(source, kind))
    except tomllib.TOMLDecodeError as error:
        raise ArgumentError(f"{source} is no TOML file: {error}") from error
    for change in changes:
        name, equals, value = change.partition("=")
        section, dot, key = name.strip().partition(".")
        if not (equals and dot):
            raise ArgumentError(f"A change reads section.setting=value, not {change!r}.")
        place = table.setdefault(section, {})
        if not isinstance(place, dict):
            raise ArgumentTypeError(f"[{section}] is a table of settings.")
        place[key] = parse(value.strip())
    return from_table(kind, table)


def recipe_header(source: str | Path, kind: type[Recipe | PretrainingRecipe] = Recipe) -> str:
    """What a recipe says about itself: the comment at its head."""
    lines = _text(source, kind).splitlines()
    head = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:head])


def _folder(kind: type[Recipe | PretrainingRecipe]) -> Any:
    return resources.files("convnext.train").joinpath(*kind.folder.split("/"))


def _text(source: str | Path, kind: type[Recipe | PretrainingRecipe]) -> str:
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
