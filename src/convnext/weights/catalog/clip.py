"""CLIP's image towers, and classifiers that were fine-tuned from them.

Towers were published twice: by LAION with their text towers, and by timm without.

References:
    Towers and their accuracies without training: https://github.com/mlfoundations/open_clip
        (src/open_clip/pretrained.py, docs/openclip_results.csv)
    timm's names, inputs and accuracies: https://github.com/huggingface/pytorch-image-models
        (timm/models/convnext.py, results/results-imagenet.csv)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from convnext.images.recipe import Preprocess
from convnext.weights.catalog.checkpoint import Checkpoint, HubFile, LabelSet
from convnext.weights.catalog.groups import timm_file

__all__ = ["clip_rows"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class _Tower(NamedTuple):
    """An image tower: our name (timm's, if it has one), open_clip's two, and LAION's repository."""

    recipe: str
    model: str
    pretrained: str
    repo: str
    zero_shot_top1: float
    in_timm: bool = True


class _Model(NamedTuple):
    """Properties of all open_clip models of one name."""

    variant: str
    size: int
    projection: int


_MODELS = {
    "convnext_base": _Model("convnext_base", 224, 512),
    "convnext_base_w": _Model("convnext_base", 256, 640),
    "convnext_base_w_320": _Model("convnext_base", 320, 640),
    "convnext_large_d": _Model("convnext_large_mlp", 256, 768),
    "convnext_large_d_320": _Model("convnext_large_mlp", 320, 768),
    "convnext_xxlarge": _Model("convnext_xxlarge", 256, 1024),
}
_TOWERS = (
    _Tower(
        "clip_laion400m",
        "convnext_base",
        "laion400m_s13b_b51k",
        "CLIP-convnext_base-laion400M-s13B-b51K",
        66.27,
        in_timm=False,
    ),
    _Tower(
        "clip_laion2b",
        "convnext_base_w",
        "laion2b_s13b_b82k",
        "CLIP-convnext_base_w-laion2B-s13B-b82K",
        70.78,
    ),
    _Tower(
        "clip_laion2b_augreg",
        "convnext_base_w",
        "laion2b_s13b_b82k_augreg",
        "CLIP-convnext_base_w-laion2B-s13B-b82K-augreg",
        71.47,
    ),
    _Tower(
        "clip_laiona",
        "convnext_base_w",
        "laion_aesthetic_s13b_b82k",
        "CLIP-convnext_base_w-laion_aesthetic-s13B-b82K",
        70.99,
    ),
    _Tower(
        "clip_laiona_320",
        "convnext_base_w_320",
        "laion_aesthetic_s13b_b82k",
        "CLIP-convnext_base_w_320-laion_aesthetic-s13B-b82K",
        71.67,
    ),
    _Tower(
        "clip_laiona_augreg_320",
        "convnext_base_w_320",
        "laion_aesthetic_s13b_b82k_augreg",
        "CLIP-convnext_base_w_320-laion_aesthetic-s13B-b82K-augreg",
        71.28,
    ),
    _Tower(
        "clip_laion2b_augreg",
        "convnext_large_d",
        "laion2b_s26b_b102k_augreg",
        "CLIP-convnext_large_d.laion2B-s26B-b102K-augreg",
        75.91,
    ),
    _Tower(
        "clip_laion2b_ft_320",
        "convnext_large_d_320",
        "laion2b_s29b_b131k_ft",
        "CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft",
        76.60,
    ),
    _Tower(
        "clip_laion2b_ft_soup_320",
        "convnext_large_d_320",
        "laion2b_s29b_b131k_ft_soup",
        "CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup",
        76.85,
    ),
    _Tower(
        "clip_laion2b_augreg",
        "convnext_xxlarge",
        "laion2b_s34b_b82k_augreg",
        "CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg",
        79.07,
        in_timm=False,
    ),
    _Tower(
        "clip_laion2b_rewind",
        "convnext_xxlarge",
        "laion2b_s34b_b82k_augreg_rewind",
        "CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg-rewind",
        79.31,
    ),
    _Tower(
        "clip_laion2b_soup",
        "convnext_xxlarge",
        "laion2b_s34b_b82k_augreg_soup",
        "CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg-soup",
        79.47,
    ),
)


class _Tuned(NamedTuple):
    """A classifier that was fine-tuned from a tower, with timm's accuracies."""

    name: str
    size: int
    top1: float | None = None
    top5: float | None = None
    squash: bool = False
    labels: LabelSet = "imagenet-1k"


_TUNED = (
    _Tuned("convnext_base.clip_laion2b_augreg_ft_in12k", 256, labels="imagenet-12k"),
    _Tuned("convnext_base.clip_laion2b_augreg_ft_in12k_in1k", 256, 86.378, 97.976),
    _Tuned("convnext_base.clip_laion2b_augreg_ft_in12k_in1k_384", 384, 87.144, 98.228, squash=True),
    _Tuned("convnext_base.clip_laion2b_augreg_ft_in1k", 256, 86.184, 97.674),
    _Tuned("convnext_base.clip_laiona_augreg_ft_in1k_384", 384, 86.490, 97.960),
    _Tuned("convnext_large_mlp.clip_laion2b_soup_ft_in12k_320", 320, labels="imagenet-12k"),
    _Tuned(
        "convnext_large_mlp.clip_laion2b_augreg_ft_in12k_384",
        384,
        squash=True,
        labels="imagenet-12k",
    ),
    _Tuned(
        "convnext_large_mlp.clip_laion2b_soup_ft_in12k_384",
        384,
        squash=True,
        labels="imagenet-12k",
    ),
    _Tuned("convnext_large_mlp.clip_laion2b_soup_ft_in12k_in1k_320", 320, 87.970, 98.474),
    _Tuned(
        "convnext_large_mlp.clip_laion2b_soup_ft_in12k_in1k_384", 384, 88.334, 98.574, squash=True
    ),
    _Tuned("convnext_large_mlp.clip_laion2b_augreg_ft_in1k", 256, 87.344, 98.222),
    _Tuned("convnext_large_mlp.clip_laion2b_augreg_ft_in1k_384", 384, 87.890, 98.448, squash=True),
    _Tuned("convnext_xxlarge.clip_laion2b_soup_ft_in12k", 256, labels="imagenet-12k"),
    _Tuned("convnext_xxlarge.clip_laion2b_soup_ft_in1k", 256, 88.622, 98.718),
)


def clip_rows() -> Iterator[Checkpoint]:
    """The rows of CLIP's towers and of classifiers fine-tuned from them."""
    for tuned in _TUNED:
        yield Checkpoint(
            tuned.name,
            tuned.name.partition(".")[0],
            tuned.labels,
            _recipe(tuned.size, squash=tuned.squash),
            "Apache-2.0",
            "huggingface/pytorch-image-models",
            (timm_file(tuned.name),),
            timm_top1=tuned.top1,
            timm_top5=tuned.top5,
        )
    for tower in _TOWERS:
        variant, size, projection = _MODELS[tower.model]
        name = f"{variant}.{tower.recipe}"
        files = tuple(
            HubFile("open_clip", f"laion/{tower.repo}", file)
            for file in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
        )
        yield Checkpoint(
            name,
            variant,
            None,
            _recipe(size),
            "MIT",
            "mlfoundations/open_clip",
            (timm_file(name), *files) if tower.in_timm else files,
            (f"{tower.model}/{tower.pretrained}", f"{tower.model}.{tower.pretrained}"),
            projection=projection,
            card_licence="Apache-2.0" if tower.in_timm else None,
            zero_shot_top1=tower.zero_shot_top1,
        )


def _recipe(size: int, *, squash: bool = False) -> Preprocess:
    return Preprocess(
        size,
        crop_fraction=1.0,
        mode="squash" if squash else "crop",
        mean=CLIP_MEAN,
        std=CLIP_STD,
    )
