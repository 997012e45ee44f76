"""Checkpoints of torchvision and mmpretrain, and mmpretrain's copies of the authors' files.

References:
    torchvision: https://github.com/pytorch/vision (torchvision/models/convnext.py)
    mmpretrain: https://github.com/open-mmlab/mmpretrain (configs/convnext/metafile.yml,
        configs/convnext_v2/metafile.yml, configs/spark/metafile.yml)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from convnext.images.recipe import Preprocess
from convnext.weights.catalog.checkpoint import Checkpoint, FileSource, Url
from convnext.weights.catalog.groups import CROP_224, FACEBOOK
from convnext.weights.catalog.licences import Licence

__all__ = ["library_rows", "with_copies"]

PYTORCH = "https://download.pytorch.org/models/"
MMPRETRAIN = "open-mmlab/mmpretrain"
OPENMMLAB = "https://download.openmmlab.com/"

# size -> leading digits of the file's sha256, short side after resizing, top-1
_TORCHVISION = {
    "tiny": ("983f1562", 236, 82.520),
    "small": ("0c510722", 230, 83.616),
    "base": ("6075fbad", 232, 84.062),
    "large": ("ea097f82", 232, 84.414),
}

# size -> averaged over training, and not: date and leading digits of the file's sha256, top-1
_MMPRETRAIN = {
    "tiny": (("20221207-998cf3e9", 82.14), ("20221208-5d4509c7", 81.95)),
    "small": (("20221207-4ab7052c", 83.16), ("20221208-4a618995", 83.21)),
    "base": (("20221207-fbdb5eb9", 83.66), ("20221208-f8182678", 83.64)),
}
_SPARK = (
    f"{OPENMMLAB}mmpretrain/v1.0/spark//spark_sparse-convnextv2-tiny_16xb256-amp-coslr-800e_in1k/"
    "convnextv2-tiny_8xb256-coslr-300e_in1k/"
    "convnextv2-tiny_8xb256-coslr-300e_in1k_20230612-ffc78743.pth"
)

# The authors' weights without averaging over training, with mmpretrain's accuracies.
_NO_AVERAGE = {
    "tiny": ("20220222-2908964a", 81.81),
    "small": ("20220222-fa001ca5", 83.11),
    "base": ("20220222-dba4f95f", 83.71),
}


# checkpoint -> mmpretrain's file, which ends in a date and the leading digits of its sha256
_COPIES = {
    "convnext_tiny.fb_in1k": "convnext-tiny_3rdparty_32xb128_in1k_20220124-18abde00",
    "convnext_tiny.fb_in22k_ft_in1k": "convnext-tiny_in21k-pre_3rdparty_in1k_20221219-7501e534",
    "convnext_tiny.fb_in22k_ft_in1k_384": (
        "convnext-tiny_in21k-pre_3rdparty_in1k-384px_20221219-c1182362"
    ),
    "convnext_small.fb_in1k": "convnext-small_3rdparty_32xb128_in1k_20220124-d39b5192",
    "convnext_small.fb_in22k_ft_in1k": "convnext-small_in21k-pre_3rdparty_in1k_20221219-aeca4c93",
    "convnext_small.fb_in22k_ft_in1k_384": (
        "convnext-small_in21k-pre_3rdparty_in1k-384px_20221219-96f0bb87"
    ),
    "convnext_base.fb_in1k": "convnext-base_3rdparty_32xb128_in1k_20220124-d0915162",
    "convnext_base.fb_in1k_384": "convnext-base_3rdparty_in1k-384px_20221219-c8f1dc2b",
    "convnext_base.fb_in22k": "convnext-base_3rdparty_in21k_20220124-13b83eec",
    "convnext_base.fb_in22k_ft_in1k": (
        "convnext-base_in21k-pre-3rdparty_32xb128_in1k_20220124-eb2d6ada"
    ),
    "convnext_base.fb_in22k_ft_in1k_384": (
        "convnext-base_in21k-pre-3rdparty_in1k-384px_20221219-4570f792"
    ),
    "convnext_large.fb_in1k": "convnext-large_3rdparty_64xb64_in1k_20220124-f8a0ded0",
    "convnext_large.fb_in1k_384": "convnext-large_3rdparty_in1k-384px_20221219-6dd29d10",
    "convnext_large.fb_in22k": "convnext-large_3rdparty_in21k_20220124-41b5a79f",
    "convnext_large.fb_in22k_ft_in1k": (
        "convnext-large_in21k-pre-3rdparty_64xb64_in1k_20220124-2412403d"
    ),
    "convnext_large.fb_in22k_ft_in1k_384": (
        "convnext-large_in21k-pre-3rdparty_in1k-384px_20221219-6d38dd66"
    ),
    "convnext_xlarge.fb_in22k": "convnext-xlarge_3rdparty_in21k_20220124-f909bad7",
    "convnext_xlarge.fb_in22k_ft_in1k": (
        "convnext-xlarge_in21k-pre-3rdparty_64xb64_in1k_20220124-76b6863d"
    ),
    "convnext_xlarge.fb_in22k_ft_in1k_384": (
        "convnext-xlarge_in21k-pre-3rdparty_in1k-384px_20221219-b161bc14"
    ),
}
# V2: recipe -> the part of mmpretrain's name after the size, and leading sha256 digits.
_V2_COPIES = {
    "fcmae": (
        "3rdparty-fcmae_in1k",
        {
            "atto": "07514db4",
            "femto": "adbe2082",
            "pico": "147b1b59",
            "nano": "3dd1f29e",
            "tiny": "80513adc",
            "base": "8a798eaf",
            "large": "bf38df92",
            "huge": "fe43ae6c",
        },
    ),
    "fcmae_ft_in1k": (
        "fcmae-pre_3rdparty_in1k",
        {
            "atto": "23765f83",
            "femto": "92a75d75",
            "pico": "d20263ca",
            "nano": "fe1aaaf2",
            "tiny": "471a86de",
            "base": "00a70fa4",
            "large": "ef393013",
            "huge": "f795e5b8",
        },
    ),
    "fcmae_ft_in22k_in1k": (
        "fcmae-in21k-pre_3rdparty_in1k",
        {"nano": "91fa8ae2", "tiny": "8cc8b8f2", "base": "c48d16a5", "large": "d9c4dc0c"},
    ),
    "fcmae_ft_in22k_in1k_384": (
        "fcmae-in21k-pre_3rdparty_in1k-384px",
        {
            "nano": "f951ae87",
            "tiny": "d8579f84",
            "base": "379425cc",
            "large": "9139a1f3",
            "huge": "02a4eb35",
        },
    ),
    "fcmae_ft_in22k_in1k_512": ("fcmae-in21k-pre_3rdparty_in1k-512px", {"huge": "ce32e63c"}),
}
# Names of files in later versions of mmpretrain, where they differ.
_LATER_NAMES = {
    "convnext-base_3rdparty_32xb128_in1k": "convnext-base_3rdparty_in1k",
    "convnext-base_3rdparty_32xb128-noema_in1k": "convnext-base_3rdparty-noema_in1k",
    "convnext-base_in21k-pre-3rdparty_32xb128_in1k": "convnext-base_in21k-pre_3rdparty_in1k",
    "convnext-large_3rdparty_64xb64_in1k": "convnext-large_3rdparty_in1k",
    "convnext-large_in21k-pre-3rdparty_64xb64_in1k": "convnext-large_in21k-pre_3rdparty_in1k",
    "convnext-xlarge_in21k-pre-3rdparty_64xb64_in1k": "convnext-xlarge_in21k-pre_3rdparty_in1k",
}


def library_rows() -> Iterator[Checkpoint]:
    """The rows of both libraries, and of the authors' weights that mmpretrain measured."""
    for size, (digest, side, top1) in _TORCHVISION.items():
        variant = f"convnext_{size}"
        url = Url("torchvision", f"{PYTORCH}{variant}-{digest}.pth", digest)
        name, recipe = f"{variant}.tv_in1k", Preprocess(224, 224 / side, interpolation="bilinear")
        alias = f"ConvNeXt_{size.capitalize()}_Weights.IMAGENET1K_V1"
        yield _classifier(name, recipe, "BSD-3-Clause", "pytorch/vision", url, top1, alias)
    for size, files in _MMPRETRAIN.items():
        for (stamp, top1), kind in zip(files, ("", "-noema"), strict=True):
            name = f"convnext_{size}.mm_in1k{kind.replace('-', '_')}"
            model = f"convnext-{size}_32xb128{kind}_in1k"
            url = _openmmlab("convnext", f"{model}_{stamp}")
            yield _classifier(name, CROP_224, "Apache-2.0", MMPRETRAIN, url, top1, model)
    url, model = Url("mmpretrain", _SPARK, "ffc78743"), "convnextv2-tiny_spark-pre_300e_in1k"
    name = "convnextv2_tiny.spark_ft_in1k"
    yield _classifier(name, CROP_224, "Apache-2.0", MMPRETRAIN, url, 82.8, model)
    for size, (stamp, top1) in _NO_AVERAGE.items():
        name = f"convnext_{size}.fb_in1k_noema"
        url = Url("facebook", f"{FACEBOOK}convnext_{size}_1k_224.pth")
        row = _classifier(name, CROP_224, "MIT", "facebookresearch/ConvNeXt", url, top1)
        yield _with_copy(row, "convnext", f"convnext-{size}_3rdparty_32xb128-noema_in1k_{stamp}")


def with_copies(rows: Iterable[Checkpoint]) -> Iterator[Checkpoint]:
    """The rows, with mmpretrain's copies as further sources."""
    files = {name: ("convnext", file) for name, file in _COPIES.items()}
    for recipe, (kind, digests) in _V2_COPIES.items():
        for size, digest in digests.items():
            file = f"convnext-v2-{size}_{kind}_20230104-{digest}"
            files[f"convnextv2_{size}.{recipe}"] = ("convnext-v2", file)
    for row in rows:
        yield _with_copy(row, *files[row.name]) if row.name in files else row


def _with_copy(row: Checkpoint, folder: str, file: str) -> Checkpoint:
    model = file.rpartition("_")[0]
    names = (model, _LATER_NAMES[model]) if model in _LATER_NAMES else (model,)
    sources = (*row.sources, _openmmlab(folder, file))
    return replace(row, sources=sources, aliases=(*row.aliases, *names))


def _openmmlab(folder: str, file: str) -> Url:
    digest = file.rpartition("-")[2]
    return Url("mmpretrain", f"{OPENMMLAB}mmclassification/v0/{folder}/{file}.pth", digest)


def _classifier(
    name: str,
    recipe: Preprocess,
    licence: Licence,
    origin: str,
    source: FileSource,
    top1: float,
    *aliases: str,
) -> Checkpoint:
    variant = name.partition(".")[0]
    return Checkpoint(
        name, variant, "imagenet-1k", recipe, licence, origin, (source,), aliases, top1=top1
    )
