"""Checkpoints distilled from larger networks: DINOv3, EUPE, and VanillaKD's V2 Tiny.

References:
    DINOv3: https://github.com/facebookresearch/dinov3 (README, dinov3/hub/backbones.py)
    EUPE: https://github.com/facebookresearch/EUPE (README)
    VanillaKD: https://github.com/Hao840/vanillaKD (README)
    timm's names and inputs: https://github.com/huggingface/pytorch-image-models
        (timm/models/convnext.py)
"""

from __future__ import annotations

from collections.abc import Iterator

from convnext.images.recipe import Preprocess
from convnext.weights.catalog.checkpoint import Checkpoint, HubFile, Url
from convnext.weights.catalog.groups import CROP_224, timm_file

__all__ = ["distilled_rows"]

DINOV3 = "https://dl.fbaipublicfiles.com/dinov3/"

# timm's preprocessing. The authors resize pictures to 256 x 256 pixels, bilinearly.
_DINOV3_RECIPE = Preprocess(size=224, crop_fraction=1.0)
_EUPE_RECIPE = Preprocess(size=256, crop_fraction=1.0)

# Leading digits of the files' sha256, which end their names.
_DINOV3_DIGESTS = {
    "tiny": "21b726bb",
    "small": "296db49d",
    "base": "801f2ba9",
    "large": "61fa432d",
}
_EUPE_SIZES = {"tiny": "T", "small": "S", "base": "B"}


def distilled_rows() -> Iterator[Checkpoint]:
    """The rows of DINOv3, EUPE and VanillaKD."""
    for size, digest in _DINOV3_DIGESTS.items():
        model = f"dinov3_convnext_{size}"
        file = f"{model}_pretrain_lvd1689m"
        repo = f"facebook/dinov3-convnext-{size}-pretrain-lvd1689m"
        name = f"convnext_{size}.dinov3_lvd1689m"
        yield Checkpoint(
            name,
            f"convnext_{size}",
            None,
            _DINOV3_RECIPE,
            "DINOv3 License",
            "facebookresearch/dinov3",
            (
                timm_file(name),
                HubFile("dinov3", repo, "model.safetensors"),
                Url("dinov3_facebook", f"{DINOV3}{model}/{file}-{digest}.pth", digest),
            ),
            (model, file, f"{file}.pth"),
        )
    for size, letter in _EUPE_SIZES.items():
        name, file = f"convnext_{size}.eupe_lvd1689m", f"EUPE-ConvNeXt-{letter}"
        yield Checkpoint(
            name,
            f"convnext_{size}",
            None,
            _EUPE_RECIPE,
            "FAIR Noncommercial Research License",
            "facebookresearch/EUPE",
            (timm_file(name), HubFile("dinov3_facebook", f"facebook/{file}", f"{file}.pt")),
            (f"eupe_convnext_{size}", file, f"{file}.pt"),
        )
    yield Checkpoint(
        "convnextv2_tiny.vanillakd_in1k",
        "convnextv2_tiny",
        "imagenet-1k",
        CROP_224,
        "none stated",
        "Hao840/vanillaKD",
        (
            Url(
                "facebook",
                "https://github.com/Hao840/vanillaKD/releases/download/checkpoint/"
                "convnextv2_tiny-85.030.pth",
            ),
        ),
        top1=85.03,
    )
