"""The sections of recipes: settings with a default, a range and a line of help each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from convnext.architecture import VARIANTS, Strides, adapted_strides, checked_strides
from convnext.data.segmented import MaskReading
from convnext.errors import ArgumentError, UnknownNameError
from convnext.images.recipe import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from convnext.segmentation import SegmentationHead, SegmentationHeadKind
from convnext.train.settings import check, setting

__all__ = [
    "MOST_WEIGHT",
    "Data",
    "Distill",
    "Head",
    "LabelSettings",
    "MaskSettings",
    "Masking",
    "Model",
    "Optimizer",
    "Precision",
    "Run",
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
