"""The published checkpoints, as their authors' tables give them.

Checkpoints that differ in size only share a group, so each fact is typed once and reads like the
row of the table it comes from.

References:
    V1 and its accuracies: https://github.com/facebookresearch/ConvNeXt (README)
    V2 and its accuracies: https://github.com/facebookresearch/ConvNeXt-V2 (README)
    timm's names, inputs and accuracies: https://github.com/huggingface/pytorch-image-models
        (timm/models/convnext.py, results/results-imagenet.csv)
    TF-Hub collection: https://tfhub.dev/sayakpaul/collections/convnext/1
    Digests of the Keras files: keras/src/applications/convnext.py
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType

from convnext.architecture import VARIANTS
from convnext.images.recipe import Preprocess
from convnext.weights.catalog.checkpoint import (
    Checkpoint,
    HubFile,
    LabelSet,
    Licence,
    Source,
    Url,
)

__all__ = ["CHECKPOINTS", "DEFAULT_RECIPES"]

_FACEBOOK = "https://dl.fbaipublicfiles.com/convnext/"
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/convnext/"
_TIMM_RELEASE = (
    "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-rsb-weights/"
)

_CROP_224 = Preprocess()
_CROP_224_WIDE = Preprocess(crop_fraction=0.95)
_CROP_384 = Preprocess(size=384, crop_fraction=1.0)
_SQUASH_384 = Preprocess(size=384, crop_fraction=1.0, mode="squash")
_SQUASH_512 = Preprocess(size=512, crop_fraction=1.0, mode="squash")

_Accuracy = tuple[float | None, float | None, float | None]  # authors' top-1, timm's top-1, top-5


@dataclass(frozen=True)
class _Publisher:
    """What all groups of one publisher have in common."""

    prefix: str
    origin: str
    licence: Licence


@dataclass(frozen=True)
class _Group:
    """Checkpoints of one recipe that differ in size only; `{size}` stands for it in every name.

    `facebook` and `huggingface` are the authors' file and the Hub repository below theirs;
    `aliases` are names that no source implies.
    """

    recipe: str
    sizes: dict[str, _Accuracy]
    preprocess: Preprocess = _CROP_224
    labels: LabelSet | None = "imagenet-1k"
    head_norm: bool = True
    facebook: str | None = None
    huggingface: str | None = None
    in_timm: bool = True
    timm_release: tuple[str, str] | None = None  # file name, leading digits of its sha256
    aliases: tuple[str, ...] = ()


def _unmeasured(*sizes: str) -> dict[str, _Accuracy]:
    return dict.fromkeys(sizes, (None, None, None))


def _tf_hub(name: str) -> tuple[str, ...]:
    """The names of a classifier and its feature extractor: the short one, the path, the handle."""
    names = (name, f"{name}_fe")
    return tuple(
        form
        for n in names
        for form in (n, f"sayakpaul/{n}/1", f"https://tfhub.dev/sayakpaul/{n}/1")
    )


# Tiny and Small of the 22k recipes came two months after the others, when Hugging Face and TF-Hub
# had been filled: they have groups of their own.
_V1 = _Publisher("convnext", "facebookresearch/ConvNeXt", "MIT")
_V1_GROUPS = (
    _Group(
        "fb_in1k",
        {
            "tiny": (82.1, 82.066, 95.854),
            "small": (83.1, 83.144, 96.432),
            "base": (83.8, 83.838, 96.746),
            "large": (84.3, 84.304, 96.892),
        },
        facebook="convnext_{size}_1k_224_ema.pth",
        huggingface="convnext-{size}-224",
        aliases=_tf_hub("convnext_{size}_1k_224"),
    ),
    _Group(
        "fb_in1k_384",
        {"base": (85.1, None, None), "large": (85.5, None, None)},
        _SQUASH_384,
        facebook="convnext_{size}_1k_384.pth",
        huggingface="convnext-{size}-384",
        in_timm=False,
        aliases=_tf_hub("convnext_{size}_1k_384"),
    ),
    _Group(
        "fb_in22k",
        _unmeasured("tiny", "small"),
        labels="imagenet-22k",
        facebook="convnext_{size}_22k_224.pth",
        aliases=("convnext_{size}_in22k",),
    ),
    _Group(
        "fb_in22k",
        _unmeasured("base", "large", "xlarge"),
        labels="imagenet-22k",
        facebook="convnext_{size}_22k_224.pth",
        huggingface="convnext-{size}-224-22k",
        aliases=("convnext_{size}_in22k", *_tf_hub("convnext_{size}_21k_224")),
    ),
    _Group(
        "fb_in22k_ft_in1k",
        {"tiny": (82.9, 82.900, 96.616), "small": (84.6, 84.582, 97.414)},
        facebook="convnext_{size}_22k_1k_224.pth",
        aliases=("convnext_{size}_in22ft1k",),
    ),
    _Group(
        "fb_in22k_ft_in1k",
        {"base": (85.8, 85.814, 97.856), "large": (86.6, 86.612, 98.036)},
        facebook="convnext_{size}_22k_1k_224.pth",
        huggingface="convnext-{size}-224-22k-1k",
        aliases=("convnext_{size}_in22ft1k", *_tf_hub("convnext_{size}_21k_1k_224")),
    ),
    _Group(
        "fb_in22k_ft_in1k",
        {"xlarge": (87.0, 86.970, 98.204)},
        facebook="convnext_{size}_22k_1k_224_ema.pth",
        huggingface="convnext-{size}-224-22k-1k",
        aliases=("convnext_{size}_in22ft1k", *_tf_hub("convnext_{size}_21k_1k_224")),
    ),
    _Group(
        "fb_in22k_ft_in1k_384",
        {"tiny": (84.1, 84.098, 97.138), "small": (85.8, 85.752, 97.878)},
        _SQUASH_384,
        facebook="convnext_{size}_22k_1k_384.pth",
        aliases=("convnext_{size}_384_in22ft1k",),
    ),
    _Group(
        "fb_in22k_ft_in1k_384",
        {"base": (86.8, 86.826, 98.244), "large": (87.5, 87.456, 98.380)},
        _SQUASH_384,
        facebook="convnext_{size}_22k_1k_384.pth",
        huggingface="convnext-{size}-384-22k-1k",
        aliases=("convnext_{size}_384_in22ft1k", *_tf_hub("convnext_{size}_21k_1k_384")),
    ),
    _Group(
        "fb_in22k_ft_in1k_384",
        {"xlarge": (87.8, 87.764, 98.552)},
        _SQUASH_384,
        facebook="convnext_{size}_22k_1k_384_ema.pth",
        huggingface="convnext-{size}-384-22k-1k",
        aliases=("convnext_{size}_384_in22ft1k", *_tf_hub("convnext_{size}_21k_1k_384")),
    ),
)

_V2 = _Publisher("convnextv2", "facebookresearch/ConvNeXt-V2", "CC-BY-NC-4.0")
_V2_GROUPS = (
    _Group(
        "fcmae_ft_in1k",
        {
            "atto": (76.7, 76.644, 93.042),
            "femto": (78.5, 78.476, 93.984),
            "pico": (80.3, 80.304, 95.082),
            "nano": (81.9, 81.856, 95.740),
            "tiny": (83.0, 82.948, 96.286),
            "base": (84.9, 84.890, 97.088),
            "large": (85.8, 85.762, 97.574),
            "huge": (86.3, 86.260, 97.752),
        },
        facebook="convnextv2/im1k/convnextv2_{size}_1k_224_ema.pt",
        huggingface="convnextv2-{size}-1k-224",
    ),
    # In spite of their names, the files under im22k classify ImageNet-1k: they were fine-tuned.
    _Group(
        "fcmae_ft_in22k_in1k",
        {
            "nano": (82.1, 82.038, 96.174),
            "tiny": (83.9, 83.904, 96.964),
            "base": (86.8, 86.752, 98.020),
            "large": (87.3, 87.266, 98.240),
        },
        facebook="convnextv2/im22k/convnextv2_{size}_22k_224_ema.pt",
        huggingface="convnextv2-{size}-22k-224",
    ),
    _Group(
        "fcmae_ft_in22k_in1k_384",
        {
            "nano": (83.4, 83.366, 96.740),
            "tiny": (85.1, 85.098, 97.632),
            "base": (87.7, 87.638, 98.416),
            "large": (88.2, 88.180, 98.520),
            "huge": (88.7, 88.666, 98.734),
        },
        _SQUASH_384,
        facebook="convnextv2/im22k/convnextv2_{size}_22k_384_ema.pt",
        huggingface="convnextv2-{size}-22k-384",
    ),
    _Group(
        "fcmae_ft_in22k_in1k_512",
        {"huge": (88.9, 88.860, 98.740)},
        _SQUASH_512,
        facebook="convnextv2/im22k/convnextv2_{size}_22k_512_ema.pt",
        huggingface="convnextv2-{size}-22k-512",
    ),
    _Group(
        "fcmae",
        _unmeasured("atto", "femto", "pico", "nano", "tiny", "base", "large", "huge"),
        labels=None,
        head_norm=False,  # masked pretraining trains an encoder that ends before it
        facebook="convnextv2/pt_only/convnextv2_{size}_1k_224_fcmae.pt",
    ),
)

_TIMM = _Publisher("convnext", "huggingface/pytorch-image-models", "Apache-2.0")
_TIMM_GROUPS = (
    _Group(
        "d2_in1k",
        {"atto": (None, 75.672, 92.914)},
        timm_release=("convnext_atto_d2-01bb0f51.pth", "01bb0f51"),
    ),
    _Group(
        "d1_in1k",
        {"femto": (None, 77.498, 93.678)},
        timm_release=("convnext_femto_d1-d71d5b4c.pth", "d71d5b4c"),
    ),
    _Group(
        "d1_in1k",
        {"pico": (None, 79.516, 94.554)},
        timm_release=("convnext_pico_d1-10ad7f0d.pth", "10ad7f0d"),
    ),
    _Group(
        "d1h_in1k",
        {"nano": (None, 80.762, 95.332)},
        _CROP_224_WIDE,
        timm_release=("convnext_nano_d1h-7eb4bdea.pth", "7eb4bdea"),
    ),
    _Group("in12k", _unmeasured("nano", "tiny", "small"), _CROP_224_WIDE, "imagenet-12k"),
    _Group(
        "in12k_ft_in1k",
        {
            "nano": (None, 82.306, 96.338),
            "tiny": (None, 84.192, 97.132),
            "small": (None, 85.164, 97.502),
        },
        _CROP_224_WIDE,
    ),
    _Group(
        "in12k_ft_in1k_384",
        {"tiny": (None, 85.154, 97.634), "small": (None, 86.186, 97.920)},
        _SQUASH_384,
    ),
    _Group("r384_in12k", _unmeasured("nano"), _CROP_384, "imagenet-12k"),
    _Group("r384_ad_in12k", _unmeasured("nano"), _CROP_384, "imagenet-12k"),
    _Group("r384_in12k_ft_in1k", {"nano": (None, 83.334, 96.624)}, _CROP_384),
)

# size -> sha256 of the file with the classifier, and of the one without
_KERAS_DIGESTS = {
    "tiny": (
        "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
        "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    ),
    "small": (
        "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c",
        "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
    ),
    "base": (
        "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6",
        "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
    ),
    "large": (
        "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6",
        "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
    ),
    "xlarge": (
        "c1f5ccab661354fc3a79a10fa99af82f0fbf10ec65cb894a3ae0815f17a889ee",
        "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
    ),
}

DEFAULT_RECIPES = MappingProxyType(
    {
        "convnext_atto": "d2_in1k",
        "convnext_femto": "d1_in1k",
        "convnext_pico": "d1_in1k",
        "convnext_nano": "d1h_in1k",
        "convnext_tiny": "fb_in1k",
        "convnext_small": "fb_in1k",
        "convnext_base": "fb_in22k_ft_in1k",
        "convnext_large": "fb_in22k_ft_in1k",
        "convnext_xlarge": "fb_in22k_ft_in1k",
        "convnextv2_atto": "fcmae_ft_in1k",
        "convnextv2_femto": "fcmae_ft_in1k",
        "convnextv2_pico": "fcmae_ft_in1k",
        "convnextv2_nano": "fcmae_ft_in1k",
        "convnextv2_tiny": "fcmae_ft_in1k",
        "convnextv2_base": "fcmae_ft_in1k",
        "convnextv2_large": "fcmae_ft_in1k",
        "convnextv2_huge": "fcmae_ft_in1k",
    }
)
"""Variant -> the recipe that a bare `weights="imagenet"` means.

Always 1000 classes at 224 pixels, trained on ImageNet-1k alone; except Base, Large and XLarge of
V1, where it is what `keras.applications` serves: trained on 22k classes first.
"""


def _sources(group: _Group, size: str, name: str) -> Iterator[Source]:
    """Where a checkpoint is: safetensors first, then the authors' file, then older copies."""
    if group.in_timm:
        yield HubFile("timm", f"timm/{name}", "model.safetensors")
    if group.huggingface:
        repo = "facebook/" + group.huggingface.format(size=size)
        yield HubFile("huggingface", repo, "model.safetensors")
    if group.facebook:
        yield Url("facebook", _FACEBOOK + group.facebook.format(size=size))
    if group.timm_release:
        filename, digest = group.timm_release
        yield Url("timm", _TIMM_RELEASE + filename, digest)
    if group.huggingface:
        yield HubFile("huggingface", repo, "pytorch_model.bin")


def _rows(publisher: _Publisher, groups: tuple[_Group, ...]) -> Iterator[Checkpoint]:
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
                top1=top1,
                timm_top1=timm_top1,
                timm_top5=timm_top5,
            )


def _keras_rows(rows: list[Checkpoint]) -> Iterator[Checkpoint]:
    """The files of `keras.applications`: conversions of the default checkpoints."""
    by_name = {row.name: row for row in rows}
    for size, digests in _KERAS_DIGESTS.items():
        variant = f"convnext_{size}"
        original = by_name[f"{variant}.{DEFAULT_RECIPES[variant]}"]
        converted = replace(original, timm_top1=None, timm_top5=None)
        bare = replace(converted, labels=None, top1=None)
        for row, suffix, digest in zip((converted, bare), ("", "_notop"), digests, strict=True):
            yield replace(
                row,
                name=f"{variant}.keras{suffix}",
                sources=(Url("keras_applications", f"{_KERAS}{variant}{suffix}.h5", digest),),
                aliases=(f"keras/{variant}{suffix}",),
            )


def _catalogue() -> dict[str, Checkpoint]:
    rows = [*_rows(_V1, _V1_GROUPS), *_rows(_V2, _V2_GROUPS), *_rows(_TIMM, _TIMM_GROUPS)]
    rows.extend(_keras_rows(rows))
    order = list(VARIANTS)
    rows.sort(key=lambda row: order.index(row.variant))
    return {row.name: row for row in rows}


CHECKPOINTS = MappingProxyType(_catalogue())
"""Every published checkpoint by its name: V1 then V2, small to large."""
