"""One row of the catalogue: a published checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from convnext.architecture import ARCHITECTURES
from convnext.images.recipe import Preprocess
from convnext.segmentation import SegmentationHead
from convnext.steps import operations
from convnext.weights.catalog.licences import Licence

__all__ = [
    "LABEL_COUNTS",
    "TASKS",
    "Checkpoint",
    "CheckpointTask",
    "HubFile",
    "LabelSet",
    "Layout",
    "Source",
    "Url",
]

Layout = Literal[
    "timm",
    "huggingface",
    "facebook",
    "isotropic",
    "keras_applications",
    "torchvision",
    "mmpretrain",
    "open_clip",
    "dinov3",
    "dinov3_facebook",
]
LabelSet = Literal["imagenet-1k", "imagenet-12k", "imagenet-22k", "ade20k"]
CheckpointTask = Literal["classification", "segmentation", "embedding", "clip", "encoder"]

LABEL_COUNTS: dict[LabelSet, int] = {
    "imagenet-1k": 1_000,
    "imagenet-12k": 11_821,
    "imagenet-22k": 21_841,
    "ade20k": 150,
}
TASKS: dict[CheckpointTask, str] = {
    "classification": "give the class of a picture",
    "segmentation": "give the class of each pixel of a picture",
    "embedding": "give a vector for each picture, to search with or to train on",
    "clip": "give a vector for each picture that can be compared with those of texts",
    "encoder": "give feature maps, to begin a training with",
}
"""The uses of checkpoints, in words."""


@dataclass(frozen=True)
class HubFile:
    """A file of a repository on the Hugging Face Hub.

    Attributes:
        layout: How its tensors are named.
        repo: `"owner/name"`.
        filename: Path inside the repository.
        revision: Branch, tag or commit; the main branch by default.
    """

    layout: Layout
    repo: str
    filename: str
    revision: str | None = None

    def __str__(self) -> str:
        return (
            f"https://huggingface.co/{self.repo}/resolve/{self.revision or 'main'}/{self.filename}"
        )

    @property
    def known_as(self) -> tuple[str, ...]:
        """Names of the checkpoint that follow from this file."""
        return (self.repo,)


@dataclass(frozen=True)
class Url:
    """A file on a web server.

    Attributes:
        layout: How its tensors are named.
        url: The address.
        sha256: Its digest in hexadecimal, or as many of the leading digits as were published.
    """

    layout: Layout
    url: str
    sha256: str | None = None

    def __str__(self) -> str:
        return self.url

    @property
    def filename(self) -> str:
        """Last part of the address."""
        return self.url.rpartition("/")[2]

    @property
    def known_as(self) -> tuple[str, ...]:
        """Names of the checkpoint that follow from this file."""
        return (self.filename, self.url)


Source = HubFile | Url


@dataclass(frozen=True)
class Checkpoint:
    """One published set of weights.

    Attributes:
        name: `architecture.recipe`, as timm writes it.
        variant: The architecture, a key of `convnext.architecture.ARCHITECTURES`.
        labels: The label set of the classifier or segmentation head; None if there is neither.
        preprocess: Preprocessing of pictures.
        licence: Licence of the weights as their authors state it, which may differ from the code's.
        origin: The repository of those who trained the weights.
        sources: Files with the weights, in order of preference.
        aliases: Other names, besides those that follow from the sources.
        projection: Width of the vectors of a CLIP image tower's head, which are compared with those
            of texts; 0 for other checkpoints.
        head_norm: Whether the norm before the classifier is among the weights.
        segmentation: The head for semantic segmentation, in place of the classifier.
        card_licence: Licence on the card of a source, if it differs.
        top1: ImageNet-1k accuracy in percent, as published with the weights.
        timm_top1: ImageNet-1k accuracy in percent, as timm measured it with `preprocess`.
        timm_top5: Top-5 accuracy of that measurement.
        zero_shot_top1: ImageNet-1k accuracy in percent without training, with the text tower.
        miou: Mean intersection over union in percent, on the validation pictures of `labels`.
        miou_multi_scale: The same for the mean of several scales, each also flipped.
    """

    name: str
    variant: str
    labels: LabelSet | None
    preprocess: Preprocess
    licence: Licence
    origin: str
    sources: tuple[Source, ...]
    aliases: tuple[str, ...] = ()
    projection: int = 0
    head_norm: bool = True
    segmentation: SegmentationHead | None = None
    card_licence: Licence | None = None
    top1: float | None = None
    timm_top1: float | None = None
    timm_top5: float | None = None
    zero_shot_top1: float | None = None
    miou: float | None = None
    miou_multi_scale: float | None = None

    @property
    def task(self) -> CheckpointTask:
        """The use of the checkpoint, see `TASKS`."""
        if self.segmentation:
            return "segmentation"
        if self.labels:
            return "classification"
        if self.projection:
            return "clip"
        return "embedding" if self.head_norm else "encoder"

    @property
    def num_classes(self) -> int:
        """Number of classes, of the whole picture or of each pixel; 0 for none."""
        return LABEL_COUNTS[self.labels] if self.labels else 0

    @property
    def head_width(self) -> int:
        """Width of the classifier or of the CLIP projection; 0 for neither."""
        return self.num_classes or self.projection

    @property
    def resolution(self) -> int:
        """Side of the square pictures of `preprocess`."""
        return self.preprocess.size

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        architecture = ARCHITECTURES[self.variant]
        if self.segmentation:
            return self.segmentation.parameter_count(architecture, self.num_classes)
        missing = 0 if self.head_norm else 2 * architecture.dims[-1]
        return architecture.parameter_count(self.head_width) - missing

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one picture at `resolution`."""
        architecture, side = ARCHITECTURES[self.variant], self.resolution
        if self.segmentation:
            steps = self.segmentation.network_steps(architecture, self.num_classes)
            return operations(steps, side, side)
        return architecture.macs(side, num_classes=self.head_width)

    @property
    def all_names(self) -> tuple[str, ...]:
        """Every name of this checkpoint, its own first."""
        implied = (name for source in self.sources for name in source.known_as)
        return tuple(dict.fromkeys((self.name, *self.aliases, *implied)))
