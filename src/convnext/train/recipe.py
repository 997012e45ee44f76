"""Recipes: all settings that determine the result of a training run, in one typed TOML file.

Misspelt keys are errors. Recipes of the package are loaded by name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, overload

from convnext.architecture import VARIANTS, Strides, adapted_strides, checked_strides
from convnext.data.segmented import MaskReading
from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.images.recipe import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from convnext.segmentation import SegmentationHead, SegmentationHeadKind
from convnext.train.augment.mixing import Mixing
from convnext.train.augment.pairs import SegmentationAugment
from convnext.train.augment.transforms import Augment
from convnext.train.settings import check, from_table, parse, setting, to_table

__all__ = [
    "MOST_WEIGHT",
    "AnyRun",
    "Data",
    "Distill",
    "LabelSettings",
    "Masking",
    "Model",
    "Optimizer",
    "Precision",
    "PretrainingRecipe",
    "Recipe",
    "Run",
    "SegmentationRecipe",
    "load_recipe",
    "published_recipes",
    "recipe_header",
    "recipe_kind",
]

MOST_WEIGHT = 100.0  # of a rare label
LARGEST_DECAY = 0.999999  # at 1, gradients would never enter the mean

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Model:
    """The network, and its preprocessing."""

    variant: str = setting("convnextv2_atto", "the architecture, such as convnext_tiny")
    resolution: int = setting(224, "side of the pictures, in pixels", low=8, high=4096)
    strides: tuple[int, int, int, int] | None = setting(
        None, "of the stem and the downsamplings; none: chosen by resolution"
    )
    drop_path: float = setting(0.0, "stochastic depth of the last block", low=0, high=0.99)
    layer_scale: float | None = setting(
        None, "initial value of layer scale; none: as published (V1 1e-6, V2 without)", low=0
    )
    head_scale: float = setting(1.0, "multiplies the classifier's initial weights", low=0)
    initial: Literal["published", "fan_in"] = setting(
        "published",
        'deviation of initial weights: 0.02, or "fan_in": by inputs, for narrow networks',
    )
    train: Literal["all", "head"] = setting("all", '"head" trains the classifier alone')
    crop_fraction: float = setting(
        0.875, "validation: crop size over the shorter side", low=0.1, high=1
    )
    mode: Literal["crop", "squash"] = setting(
        "crop", 'validation: "squash" resizes to a square instead of cropping'
    )
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
        """The strides, or if none are set, those chosen by resolution."""
        if self.strides is not None:
            return checked_strides(self.strides)
        return adapted_strides(self.resolution, self.resolution)

    @property
    def preprocess(self) -> Preprocess:
        """Preprocessing of pictures in inference."""
        return Preprocess(
            size=self.resolution,
            crop_fraction=self.crop_fraction,
            mode=self.mode,
            mean=self.mean,
            std=self.std,
        )


@dataclass(frozen=True)
class Data:
    """Selection and weights of the training data."""

    hold_out: float = setting(
        0.1,
        "fraction of the training data held out if there is no validation data",
        low=0,
        high=0.9,
    )
    balanced: bool = setting(False, "whether all classes are equally frequent")
    class_weights: Literal["none", "balanced"] = setting(
        "none", '"balanced": mistakes on rare classes count more'
    )
    limit: int | None = setting(None, "maximum number of pictures of each split", low=1)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class LabelSettings:
    """How many labels a picture has, and their loss."""

    multi: bool = setting(
        False, "whether a picture has any number of labels, each with a probability of its own"
    )
    binary: bool = setting(
        False,
        "one class a picture: binary cross-entropy of each class, as multi-label models have, "
        "instead of cross-entropy",
    )
    balanced: bool = setting(
        False,
        f"multi: pictures with a label count as much as those without, up to {MOST_WEIGHT:g} times",
    )
    weights: tuple[float, ...] = setting(
        (), "multi: how often each label a picture has counts, in order; none: once", low=0
    )

    def __post_init__(self) -> None:
        check(self)
        if self.balanced and self.weights:
            raise ArgumentError("labels.balanced computes labels.weights. Leave out one of them.")


@dataclass(frozen=True)
class Optimizer:
    """The optimizer, and its learning rate over time."""

    method: Literal["adamw", "muon"] = setting(
        "adamw", '"muon": the matrices inside the blocks by Muon; learns faster from scratch'
    )
    learning_rate: float = setting(4e-3, "the highest one, for batches of reference_batch", low=0)
    reference_batch: int = setting(
        4096, "the learning rate is multiplied by batch_size over this", low=1
    )
    schedule: Literal["cosine", "poly"] = setting(
        "cosine", 'how the learning rate falls: "cosine", or "poly": along a line'
    )
    final_learning_rate: float = setting(1e-6, "at the end of the run", low=0)
    warmup_epochs: float = setting(0.0, "epochs of a learning rate that rises from 0", low=0)
    weight_decay: float = setting(0.05, "of kernels; biases, norms and scales have none", low=0)
    layer_decay: float = setting(
        1.0, "the learning rate falls by this factor from layer to layer, head to stem", low=0
    )
    layer_groups: Literal["single", "twelve", "stages"] = setting(
        "single",
        'what a layer is: "single" each block, "twelve" as V1 groups them, "stages" each stage',
    )
    beta_1: float = setting(0.9, "decay of the gradients' mean", low=0, high=LARGEST_DECAY)
    beta_2: float = setting(0.999, "decay of the gradients' squares", low=0, high=LARGEST_DECAY)
    epsilon: float = setting(1e-8, "keeps the division finite", low=0)
    clip_norm: float = setting(0.0, "largest norm of the gradient; 0 for no limit", low=0)
    ema: float = setting(0.0, "decay of the weights' moving average; 0 for none", low=0, high=1)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Run:
    """Length of the run, batches, precision, and run states."""

    epochs: float = setting(300.0, "passes over the training data", low=0)
    batch_size: int = setting(128, "pictures for one update of the weights", low=1)
    accumulate: int = setting(1, "parts that a batch is computed in, to save memory", low=1)
    precision: Precision = setting(
        "float32", 'of products; "auto": bfloat16 if that is faster, else float32'
    )
    seed: int = setting(0, "of all random numbers", low=0)
    validate_every: float = setting(1.0, "epochs between validations", low=0.01)
    log_every: int = setting(50, "steps between lines in the metrics", low=1)
    checkpoint_minutes: float = setting(10.0, "minutes between run states", low=0)
    keep: int = setting(2, "number of run states to keep", low=1)

    def __post_init__(self) -> None:
        check(self)
        if self.batch_size % self.accumulate:
            raise ArgumentError(
                f"A batch of {self.batch_size} does not divide into {self.accumulate} equal parts. "
                "Set batch_size to a multiple of accumulate."
            )


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
class Distill:
    """The teacher's part in the loss, and what its file does not tell."""

    loss: Literal["none", "kd", "dist", "features"] = setting(
        "none",
        '"kd": soft targets, also that of --teacher alone; "dist": their correlations; "features": '
        "embeddings",
    )
    hard: float = setting(
        0.1, "share of the labels in the loss; with features 0 for pictures without", low=0, high=1
    )
    temperature: float = setting(
        2.0, "kd, dist: what logits are divided by before they are compared", low=0.01, high=1000
    )
    between: float = setting(1.0, "dist: weight of the correlation between classes", low=0)
    within: float = setting(1.0, "dist: weight of that within each class of a batch", low=0)
    distance: Literal["cosine", "smooth_l1"] = setting(
        "cosine", "features: of the embedding, after a linear map, from the teacher's"
    )
    engine: str = setting(
        "auto", "that computes the teacher, see open_engine; auto: the first that is installed"
    )
    precision: Precision = setting("auto", "of the teacher; auto: bfloat16 if it is faster")
    size: int | None = setting(
        None, "side of the teacher's pictures; none: its own", low=8, high=4096
    )
    mean: tuple[float, float, float] | None = setting(
        None, "subtracted from the teacher's colours; none: as its file says"
    )
    std: tuple[float, float, float] | None = setting(
        None, "what the teacher's colours are divided by; none: as its file says", low=1e-6
    )
    layout: Literal["nchw", "nhwc"] | None = setting(
        None, "axes of an ONNX file's pictures; none: as its input says"
    )
    output: str = setting("", "name of an ONNX file's output, of several")
    classes: str = setting(
        "",
        'the teacher\'s: a file, one a line, a set such as imagenet-1k, or "same", those of the '
        "run in their order; none: as its file says",
    )

    fixed: bool = setting(
        False, "whether stored answers to plain pictures stand for all views of them"
    )

    def __post_init__(self) -> None:
        check(self)
        losses = {
            "temperature": ("kd", "dist"),
            "between": ("dist",),
            "within": ("dist",),
            "distance": ("features",),
            "classes": ("kd", "dist"),
            "fixed": ("kd", "dist"),
        }
        loss = "kd" if self.loss == "none" else self.loss
        for name, having in losses.items():
            if loss not in having and getattr(self, name) != getattr(type(self), name):
                raise ArgumentError(f'{name} has no effect on the loss "{loss}". Leave it out.')
        if self.hard == 1:
            raise ArgumentError("hard = 1 leaves the teacher no part in the loss. Set less.")
        if (self.mean is None) != (self.std is None):
            raise ArgumentError("mean and std go together. Set both, or neither.")

    @property
    def has_labels(self) -> bool:
        """Whether the pictures need classes."""
        return self.loss != "features" or self.hard > 0


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


@dataclass(frozen=True)
class Masking:
    """Masking of patches, and the decoder."""

    ratio: float = setting(0.6, "fraction of patches that are hidden", low=0, high=0.95)
    decoder_width: int = setting(512, "channels of the decoder", low=1)
    decoder_depth: int = setting(1, "blocks of the decoder", low=0)
    normalise: bool = setting(
        True, "whether each target patch is normalised by its own mean and deviation"
    )

    def __post_init__(self) -> None:
        check(self)


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
class Head:
    """The segmentation head, and its loss."""

    kind: SegmentationHeadKind = setting(
        "upernet", '"upernet", the papers\', or "mlp", a light one for small models'
    )
    width: int = setting(512, "channels of its maps", low=1)
    auxiliary: int = setting(
        256, "channels of a second head in training, on the third stage; 0 for none", low=0
    )
    auxiliary_weight: float = setting(0.4, "of the second head's loss", low=0)
    dropout: float = setting(0.1, "of channels before the classifiers", low=0, high=0.99)
    pixels: Literal["all", "sampled"] = setting(
        "all",
        '"sampled": the loss of one pixel of each position of the first map, which is faster',
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def head(self) -> SegmentationHead:
        """The head as data."""
        return SegmentationHead(self.kind, self.width, auxiliary=self.auxiliary)


@dataclass(frozen=True)
class MaskSettings:
    """The meaning of numbers in masks."""

    classes: int | None = setting(
        None, "number of classes; none: of the names, or of the masks", low=2, high=2**15 - 1
    )
    names: str = setting(
        "", "file of class names, one a line, or ade20k; none: the data's classes.txt, or numbers"
    )
    ignore: int = setting(255, "number of pixels without a class", low=0, high=2**16 - 1)
    reduce_zero_label: bool = setting(
        False, "whether 0 is another such number, and classes are counted from 1"
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def reading(self) -> MaskReading:
        """How masks are read."""
        return MaskReading(self.ignore, self.reduce_zero_label)


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
