"""The authors' checkpoints, V1, V2 and isotropic, and Keras's copies of them.

References:
    V1 and its accuracies: https://github.com/facebookresearch/ConvNeXt (README)
    V2 and its accuracies: https://github.com/facebookresearch/ConvNeXt-V2 (README)
    timm's names, inputs and accuracies: https://github.com/huggingface/pytorch-image-models
        (timm/models/convnext.py, results/results-imagenet.csv)
    TF-Hub collection: https://tfhub.dev/sayakpaul/collections/convnext/1
    Digests of the Keras files: keras/src/applications/convnext.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from convnext.weights.catalog.checkpoint import Checkpoint, Url
from convnext.weights.catalog.groups import (
    CROP_224,
    FACEBOOK,
    SQUASH_384,
    SQUASH_512,
    Group,
    Publisher,
    rows,
    unmeasured,
)

__all__ = ["authors_rows", "keras_rows"]

KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/convnext/"


def _tf_hub(name: str) -> tuple[str, ...]:
    """The names of a classifier and its feature extractor: the short one, the path, the handle."""
    names = (name, f"{name}_fe")
    return tuple(
        form
        for n in names
        for form in (n, f"sayakpaul/{n}/1", f"https://tfhub.dev/sayakpaul/{n}/1")
    )


# Tiny and Small of the 22k recipes have groups of their own: they lack Hugging Face and TF-Hub.
_V1 = Publisher("convnext", "facebookresearch/ConvNeXt", "MIT", card_licence="Apache-2.0")
_V1_GROUPS = (
    Group(
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
    Group(
        "fb_in1k_384",
        {"base": (85.1, None, None), "large": (85.5, None, None)},
        SQUASH_384,
        facebook="convnext_{size}_1k_384.pth",
        huggingface="convnext-{size}-384",
        in_timm=False,
        aliases=_tf_hub("convnext_{size}_1k_384"),
    ),
    Group(
        "fb_in22k",
        unmeasured("tiny", "small"),
        labels="imagenet-22k",
        facebook="convnext_{size}_22k_224.pth",
        aliases=("convnext_{size}_in22k",),
    ),
    Group(
        "fb_in22k",
        unmeasured("base", "large", "xlarge"),
        labels="imagenet-22k",
        facebook="convnext_{size}_22k_224.pth",
        huggingface="convnext-{size}-224-22k",
        aliases=("convnext_{size}_in22k", *_tf_hub("convnext_{size}_21k_224")),
    ),
    Group(
        "fb_in22k_ft_in1k",
        {"tiny": (82.9, 82.900, 96.616), "small": (84.6, 84.582, 97.414)},
        facebook="convnext_{size}_22k_1k_224.pth",
        aliases=("convnext_{size}_in22ft1k",),
    ),
    Group(
        "fb_in22k_ft_in1k",
        {"base": (85.8, 85.814, 97.856), "large": (86.6, 86.612, 98.036)},
        facebook="convnext_{size}_22k_1k_224.pth",
        huggingface="convnext-{size}-224-22k-1k",
        aliases=("convnext_{size}_in22ft1k", *_tf_hub("convnext_{size}_21k_1k_224")),
    ),
    Group(
        "fb_in22k_ft_in1k",
        {"xlarge": (87.0, 86.970, 98.204)},
        facebook="convnext_{size}_22k_1k_224_ema.pth",
        huggingface="convnext-{size}-224-22k-1k",
        aliases=("convnext_{size}_in22ft1k", *_tf_hub("convnext_{size}_21k_1k_224")),
    ),
    Group(
        "fb_in22k_ft_in1k_384",
        {"tiny": (84.1, 84.098, 97.138), "small": (85.8, 85.752, 97.878)},
        SQUASH_384,
        facebook="convnext_{size}_22k_1k_384.pth",
        aliases=("convnext_{size}_384_in22ft1k",),
    ),
    Group(
        "fb_in22k_ft_in1k_384",
        {"base": (86.8, 86.826, 98.244), "large": (87.5, 87.456, 98.380)},
        SQUASH_384,
        facebook="convnext_{size}_22k_1k_384.pth",
        huggingface="convnext-{size}-384-22k-1k",
        aliases=("convnext_{size}_384_in22ft1k", *_tf_hub("convnext_{size}_21k_1k_384")),
    ),
    Group(
        "fb_in22k_ft_in1k_384",
        {"xlarge": (87.8, 87.764, 98.552)},
        SQUASH_384,
        facebook="convnext_{size}_22k_1k_384_ema.pth",
        huggingface="convnext-{size}-384-22k-1k",
        aliases=("convnext_{size}_384_in22ft1k", *_tf_hub("convnext_{size}_21k_1k_384")),
    ),
)

_V2 = Publisher(
    "convnextv2", "facebookresearch/ConvNeXt-V2", "CC-BY-NC-4.0", card_licence="Apache-2.0"
)
_V2_GROUPS = (
    Group(
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
    # In spite of their names, the files under im22k are fine-tuned classifiers of ImageNet-1k.
    Group(
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
    Group(
        "fcmae_ft_in22k_in1k_384",
        {
            "nano": (83.4, 83.366, 96.740),
            "tiny": (85.1, 85.098, 97.632),
            "base": (87.7, 87.638, 98.416),
            "large": (88.2, 88.180, 98.520),
            "huge": (88.7, 88.666, 98.734),
        },
        SQUASH_384,
        facebook="convnextv2/im22k/convnextv2_{size}_22k_384_ema.pt",
        huggingface="convnextv2-{size}-22k-384",
    ),
    Group(
        "fcmae_ft_in22k_in1k_512",
        {"huge": (88.9, 88.860, 98.740)},
        SQUASH_512,
        facebook="convnextv2/im22k/convnextv2_{size}_22k_512_ema.pt",
        huggingface="convnextv2-{size}-22k-512",
    ),
)

# Only timm has cards for it, and they state the authors' licence.
_V2_PRETRAINED = _V2._replace(card_licence=None)
_V2_PRETRAINED_GROUP = Group(
    "fcmae",
    unmeasured("atto", "femto", "pico", "nano", "tiny", "base", "large", "huge"),
    labels=None,
    head_norm=False,  # masked pretraining trains an encoder that ends before it
    facebook="convnextv2/pt_only/convnextv2_{size}_1k_224_fcmae.pt",
)

_ISOTROPIC_TOP1 = {"small": 78.7, "base": 82.0, "large": 82.6}

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


def authors_rows() -> Iterator[Checkpoint]:
    """The rows of the authors' checkpoints."""
    yield from rows(_V1, _V1_GROUPS)
    yield from _isotropic_rows()
    yield from rows(_V2, _V2_GROUPS)
    yield from rows(_V2_PRETRAINED, [_V2_PRETRAINED_GROUP])


def _isotropic_rows() -> Iterator[Checkpoint]:
    for size, top1 in _ISOTROPIC_TOP1.items():
        variant = f"{_V1.prefix}_isotropic_{size}"
        file = Url("isotropic", f"{FACEBOOK}convnext_iso_{size}_1k_224_ema.pth")
        name = f"{variant}.fb_in1k"
        yield Checkpoint(
            name, variant, "imagenet-1k", CROP_224, _V1.licence, _V1.origin, (file,), top1=top1
        )


def keras_rows(rows: Mapping[str, Checkpoint], recipes: Mapping[str, str]) -> Iterator[Checkpoint]:
    """The files of `keras.applications`: conversions of the default checkpoints.

    Args:
        rows: The authors' rows by name.
        recipes: Recipe of the default checkpoint of each architecture.
    """
    for size, digests in _KERAS_DIGESTS.items():
        variant = f"convnext_{size}"
        original = rows[f"{variant}.{recipes[variant]}"]
        converted = replace(original, card_licence=None, timm_top1=None, timm_top5=None)
        bare = replace(converted, labels=None, top1=None)
        for row, suffix, digest in zip((converted, bare), ("", "_notop"), digests, strict=True):
            yield replace(
                row,
                name=f"{variant}.keras{suffix}",
                sources=(Url("keras_applications", f"{KERAS}{variant}{suffix}.h5", digest),),
                aliases=(f"keras/{variant}{suffix}",),
            )
