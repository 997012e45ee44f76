"""What one row of the catalogue holds.

It knows the architecture table and the preprocessing recipe, and nothing of networks or files on
this machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from convnext.architecture import ARCHITECTURES
from convnext.images.recipe import Preprocess
from convnext.weights.catalog.licences import Licence

__all__ = [
    "LABEL_COUNTS",
    "TASKS",
    "Checkpoint",
    "HubFile",
    "LabelSet",
    "Layout",
    "Source",
    "Task",
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
LabelSet = Literal["imagenet-1k", "imagenet-12k", "imagenet-22k"]
Task = Literal["classification", "embedding", "clip", "encoder"]

LABEL_COUNTS: dict[LabelSet, int] = {
    "imagenet-1k": 1_000,
    "imagenet-12k": 11_821,
    "imagenet-22k": 21_841,
}
TASKS: dict[Task, str] = {
    "classification": "say what a picture shows",
    "embedding": "give a vector for each picture, to search with or to train on",
    "clip": "give a vector for each picture that can be compared with those of texts",
    "encoder": "answer nothing by themselves, but begin a training",
}
"""What checkpoints are good for."""


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
        """Names by which people call the checkpoint in this file."""
        return (self.repo,)


@dataclass(frozen=True)
class Url:
    """A file on a web server.

    Attributes:
        layout: How its tensors are named.
        url: Where it is.
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
        """Names by which people call the checkpoint in this file."""
        return (self.filename, self.url)


Source = HubFile | Url


@dataclass(frozen=True)
class Checkpoint:
    """One published set of weights.

    Attributes:
        name: `architecture.recipe`, as timm writes it.
        variant: The architecture, a key of `convnext.architecture.ARCHITECTURES`.
        labels: The label set of the classifier; None when there is no classifier.
        preprocess: What a picture goes through first.
        licence: That of the weights, which need not be the code's, as their authors state it.
        origin: Whose weights they are.
        sources: Where to get them, in order of preference.
        aliases: Other names people use; those that the sources imply are not repeated here.
        projection: Width of the vectors that CLIP compares with those of texts, which the head
            gives; 0 when it is no image tower of a CLIP model.
        head_norm: Whether the norm before the classifier is among the weights.
        card_licence: What the card of a repository among the sources says instead, if it does.
        top1: ImageNet-1k accuracy in percent as those who published the weights printed it.
        timm_top1: The same as timm measured it, with `preprocess`.
        timm_top5: Top-5 accuracy of that measurement.
        zero_shot_top1: ImageNet-1k accuracy in percent without training, with the text tower.
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
    card_licence: Licence | None = None
    top1: float | None = None
    timm_top1: float | None = None
    timm_top5: float | None = None
    zero_shot_top1: float | None = None

    @property
    def task(self) -> Task:
        """What it is good for, see `TASKS`."""
        if self.labels:
            return "classification"
        if self.projection:
            return "clip"
        return "embedding" if self.head_norm else "encoder"

    @property
    def num_classes(self) -> int:
        """Width of the classifier; 0 for none."""
        return LABEL_COUNTS[self.labels] if self.labels else 0

    @property
    def head_width(self) -> int:
        """Width of what the network ends in: classes, or a projection; 0 for neither."""
        return self.num_classes or self.projection

    @property
    def resolution(self) -> int:
        """Side of the square pictures the weights were made for."""
        return self.preprocess.size

    @property
    def parameters(self) -> int:
        """How many numbers the weights hold."""
        architecture = ARCHITECTURES[self.variant]
        missing = 0 if self.head_norm else 2 * architecture.dims[-1]
        return architecture.parameter_count(self.head_width) - missing

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one picture at `resolution`."""
        return ARCHITECTURES[self.variant].macs(self.resolution, num_classes=self.head_width)

    @property
    def all_names(self) -> tuple[str, ...]:
        """Every name that means this checkpoint, its own first."""
        implied = (name for source in self.sources for name in source.known_as)
        return tuple(dict.fromkeys((self.name, *self.aliases, *implied)))
