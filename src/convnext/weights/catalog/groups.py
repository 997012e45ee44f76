"""Groups of rows of the catalogue: checkpoints that differ in size only, written once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from convnext.images.recipe import Preprocess
from convnext.weights.catalog.checkpoint import Checkpoint, FileSource, HubFile, LabelSet, Url
from convnext.weights.catalog.licences import Licence

__all__ = [
    "CROP_224",
    "CROP_224_WIDE",
    "CROP_384",
    "FACEBOOK",
    "SQUASH_384",
    "SQUASH_512",
    "TIMM_RELEASE",
    "Accuracy",
    "Group",
    "Publisher",
    "rows",
    "timm_file",
    "unmeasured",
]

FACEBOOK = "https://dl.fbaipublicfiles.com/convnext/"
TIMM_RELEASE = (
    "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-rsb-weights/"
)

CROP_224 = Preprocess()
CROP_224_WIDE = Preprocess(crop_fraction=0.95)
CROP_384 = Preprocess(size=384, crop_fraction=1.0)
SQUASH_384 = Preprocess(size=384, crop_fraction=1.0, mode="squash")
SQUASH_512 = Preprocess(size=512, crop_fraction=1.0, mode="squash")

Accuracy = tuple[float | None, float | None, float | None]  # authors' top-1, timm's top-1, top-5


class Publisher(NamedTuple):
    """Fields of `Checkpoint` that all groups of a publisher share."""

    prefix: str
    origin: str
    licence: Licence
    card_licence: Licence | None = None


class Group(NamedTuple):
    """Checkpoints of one recipe that differ in size only; `{size}` stands for it in every name.

    `facebook` is the authors' file, below `FACEBOOK`, and `huggingface` their Hub repository;
    `aliases` are names that do not follow from these.
    """

    recipe: str
    sizes: dict[str, Accuracy]
    preprocess: Preprocess = CROP_224
    labels: LabelSet | None = "imagenet-1k"
    head_norm: bool = True
    facebook: str | None = None
    huggingface: str | None = None
    in_timm: bool = True
    timm_release: tuple[str, str] | None = None  # file name, leading digits of its sha256
    aliases: tuple[str, ...] = ()


def unmeasured(*sizes: str) -> dict[str, Accuracy]:
    """Sizes without a published accuracy."""
    return dict.fromkeys(sizes, (None, None, None))


def timm_file(name: str) -> HubFile:
    """Timm's file of the checkpoint of this name."""
    return HubFile("timm", f"timm/{name}", "model.safetensors")


def rows(publisher: Publisher, groups: Iterable[Group]) -> Iterator[Checkpoint]:
    """The rows of a publisher's groups."""
    for group in groups:
        for size, (top1, timm_top1, timm_top5) in group.sizes.items():
            variant = f"{publisher.prefix}_{size}"
            name = f"{variant}.{group.recipe}"
            yield Checkpoint(
                name,
                variant,
                group.labels,
                group.preprocess,
                publisher.licence,
                publisher.origin,
                tuple(_sources(group, size, name)),
                tuple(alias.format(size=size) for alias in group.aliases),
                head_norm=group.head_norm,
                card_licence=publisher.card_licence,
                top1=top1,
                timm_top1=timm_top1,
                timm_top5=timm_top5,
            )


def _sources(group: Group, size: str, name: str) -> Iterator[FileSource]:
    """Files with a checkpoint: safetensors first, then the authors' file, then older copies."""
    if group.in_timm:
        yield timm_file(name)
    if group.huggingface:
        repo = "facebook/" + group.huggingface.format(size=size)
        yield HubFile("huggingface", repo, "model.safetensors")
    if group.facebook:
        yield Url("facebook", FACEBOOK + group.facebook.format(size=size))
    if group.timm_release:
        filename, digest = group.timm_release
        yield Url("timm", TIMM_RELEASE + filename, digest)
    if group.huggingface:
        yield HubFile("huggingface", repo, "pytorch_model.bin")
