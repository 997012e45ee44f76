"""Segmentation models: UPerNet on ADE20K, trained by the authors and by mmsegmentation.

The two trained the same networks and share nothing but the pretrained encoders. Hugging Face's
repositories hold mmsegmentation's weights.

References:
    The authors' files and their mIoU: https://github.com/facebookresearch/ConvNeXt
        (semantic_segmentation/README.md)
    mmsegmentation's: https://github.com/open-mmlab/mmsegmentation (configs/convnext/metafile.yaml)
    Hugging Face's: https://github.com/huggingface/transformers
        (src/transformers/models/upernet/convert_convnext_upernet_to_pytorch.py)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from convnext.images.recipe import SEGMENTATION
from convnext.segmentation import SegmentationHead
from convnext.weights.catalog.checkpoint import Checkpoint, HubFile, Source, Url
from convnext.weights.catalog.groups import FACEBOOK
from convnext.weights.catalog.licences import Licence

__all__ = ["segmenter_rows"]

OPENMMLAB = "https://download.openmmlab.com/mmsegmentation/v0.5/convnext/"
HEAD = SegmentationHead("upernet", width=512, auxiliary=256)


class _Trained(NamedTuple):
    """A size, what its encoder was pretrained on, the crop of training, mIoU and multi-scale mIoU.

    `stamp` is the end of the name of mmsegmentation's file: date, time and digits of its sha256.
    """

    size: str
    pretrained: str
    crop: int
    miou: float
    miou_multi_scale: float
    stamp: str = ""


_AUTHORS = (
    _Trained("tiny", "1k", 512, 46.0, 46.7),
    _Trained("small", "1k", 512, 48.7, 49.6),
    _Trained("base", "1k", 512, 49.1, 49.9),
    _Trained("base", "22k", 640, 52.6, 53.1),
    _Trained("large", "22k", 640, 53.2, 53.7),
    _Trained("xlarge", "22k", 640, 53.6, 54.0),
)
_MMSEG = (
    _Trained("tiny", "1k", 512, 46.11, 46.62, "20220227_124553-cad485de"),
    _Trained("small", "1k", 512, 48.56, 49.02, "20220227_131208-1b1e394f"),
    _Trained("base", "1k", 512, 48.71, 49.54, "20220227_181227-02a24fc6"),
    _Trained("base", "22k", 640, 52.13, 52.66, "20220227_182859-9280e39b"),
    _Trained("large", "22k", 640, 53.16, 53.38, "20220226_040532-e57aa54d"),
    _Trained("xlarge", "22k", 640, 53.58, 54.11, "20220226_080344-95fc38c2"),
)


def segmenter_rows() -> Iterator[Checkpoint]:
    """The rows of the segmentation models."""
    for row in _AUTHORS:
        file = f"ade20k/upernet_convnext_{row.size}_{row.pretrained}_{row.crop}x{row.crop}.pth"
        url = Url("facebook", FACEBOOK + file)
        yield _checkpoint(row, "fb", row.crop, (url,), "MIT", "facebookresearch/ConvNeXt")
    for row in _MMSEG:
        sides, repo = f"{row.crop}x{row.crop}", f"openmmlab/upernet-convnext-{row.size}"
        name = f"upernet_convnext_{row.size}_fp16_{sides}_160k_ade20k"
        digits = row.stamp.rpartition("-")[2]
        url = Url("mmpretrain", f"{OPENMMLAB}{name}/{name}_{row.stamp}.pth", digits)
        on_hub = (row.size, row.pretrained) != ("base", "22k")
        files = ("model.safetensors", "pytorch_model.bin") if on_hub else ()
        yield replace(
            _checkpoint(
                row,
                "mmseg",
                # The repositories' own preprocessing, also of those trained on crops of 640.
                SEGMENTATION.size if on_hub else row.crop,
                (*(HubFile("huggingface", repo, file) for file in files), url),
                "Apache-2.0",
                "open-mmlab/mmsegmentation",
            ),
            aliases=(f"convnext-{row.size}_upernet_8xb2-amp-160k_ade20k-{sides}", name),
            card_licence="MIT" if on_hub else None,
        )


def _checkpoint(
    row: _Trained,
    trainer: str,
    side: int,
    sources: tuple[Source, ...],
    licence: Licence,
    origin: str,
) -> Checkpoint:
    variant = f"convnext_{row.size}"
    suffix = "" if side == SEGMENTATION.size else f"_{side}"
    return Checkpoint(
        f"{variant}.{trainer}_in{row.pretrained}_upernet_ade20k{suffix}",
        variant,
        "ade20k",
        replace(SEGMENTATION, size=side),
        licence,
        origin,
        sources,
        head_norm=False,
        segmentation=HEAD,
        miou=row.miou,
        miou_multi_scale=row.miou_multi_scale,
    )
