"""The JSON files with which transformers reads a UPerNet: what `beside` reads, written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from convnext.architecture import Architecture
from convnext.images.labels import resolve_labels
from convnext.images.recipe import SEGMENTATION, Preprocess
from convnext.segmentation import AUXILIARY_STAGE, SegmentationHead
from convnext.weights.beside import CONFIG, GELUS, PROCESSOR, RESAMPLING, UPERNET
from convnext.weights.info import WeightsInfo
from convnext.weights.layouts import Recognised

__all__ = ["write_configs"]

ACTIVATIONS = {ours: theirs for theirs, ours in GELUS.items()}  # what transformers does not have
FILTERS = {name: number for number, name in RESAMPLING.items()}  # Pillow's numbers


def write_configs(folder: Path, found: Recognised, info: WeightsInfo, dtype: str) -> None:
    """Write config.json and preprocessor_config.json of a UPerNet into a folder.

    Args:
        folder: The folder with its weights.
        found: The network.
        info: Its labels and preprocessing.
        dtype: Float type of the weights.
    """
    assert found.segmentation is not None
    labels = resolve_labels(None, info.labels, found.num_classes, folder).names
    config = {
        "architectures": ["UperNetForSemanticSegmentation"],
        "model_type": UPERNET,
        "dtype": dtype,
        "backbone_config": _backbone(found.architecture, found.channels),
        **_head(found.architecture, found.segmentation),
        "id2label": {str(number): name for number, name in enumerate(labels)},
        "label2id": {name: number for number, name in enumerate(labels)},
    }
    processor = _processor(info.preprocess or SEGMENTATION)
    for name, content in ((CONFIG, config), (PROCESSOR, processor)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _backbone(architecture: Architecture, channels: int) -> dict[str, Any]:
    stages = [f"stage{number}" for number in range(1, len(architecture.depths) + 1)]
    backbone: dict[str, Any] = {
        "model_type": "convnextv2" if architecture.grn else "convnext",
        "num_channels": channels,
        "depths": list(architecture.depths),
        "hidden_sizes": list(architecture.dims),
        "hidden_act": ACTIVATIONS.get(architecture.activation, architecture.activation),
        "out_features": stages,
        "patch_size": architecture.patch,
    }
    if not architecture.grn:
        backbone["layer_scale_init_value"] = architecture.layer_scale_init_value or 0
    return backbone


def _head(architecture: Architecture, head: SegmentationHead) -> dict[str, Any]:
    return {
        "hidden_size": head.width,
        "pool_scales": list(head.bins),
        "use_auxiliary_head": head.auxiliary > 0,
        "auxiliary_in_channels": architecture.dims[AUXILIARY_STAGE],
        "auxiliary_channels": head.auxiliary or architecture.dims[AUXILIARY_STAGE],
    }


def _processor(recipe: Preprocess) -> dict[str, Any]:
    return {
        "image_processor_type": "SegformerImageProcessor",
        "do_resize": True,
        "size": {"height": recipe.size, "width": recipe.size},
        "resample": FILTERS[recipe.interpolation],
        "do_rescale": True,
        "rescale_factor": recipe.rescale,
        "do_normalize": True,
        "image_mean": list(recipe.mean),
        "image_std": list(recipe.std),
        "do_reduce_labels": False,
    }
