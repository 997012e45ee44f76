"""Writes a trained network as a model directory: weights, preprocessing and labels together.

The commands read the weights file, whose metadata has preprocessing, strides and labels; the
Hugging Face classes and transformers also read the two JSON files in the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convnext.architecture import VARIANTS
from convnext.atomic import replaced_folder
from convnext.hf.config import ConvNextConfig, ConvNextV2Config
from convnext.hf.processor import ConvNextImageProcessor
from convnext.hf.published import AUTHORS_EPSILON, processor_settings
from convnext.train.recipe import Recipe
from convnext.train.run.run_states import disk_errors
from convnext.weights.info import WeightsInfo
from convnext.weights.save import save_weights

__all__ = ["WEIGHTS", "write_model"]

WEIGHTS, UNAVERAGED = "model.safetensors", "unaveraged.safetensors"


def write_model(
    folder: Path,
    weights: Mapping[str, Any],
    recipe: Recipe,
    labels: tuple[str, ...],
    name: str,
    *,
    unaveraged: Mapping[str, Any] | None = None,
    thresholds: tuple[float, ...] | None = None,
) -> WeightsInfo:
    """Write a model directory atomically, replacing an earlier one.

    Args:
        folder: Its path.
        weights: Arrays by canonical name.
        recipe: The recipe of the training run.
        labels: Class names.
        name: Name of the model.
        unaveraged: If `weights` are a moving average, the plain weights, for a second file.
        thresholds: Of a multi-label model.

    Raises:
        TrainingError: It cannot be written; an earlier one is unchanged.
    """
    settings = recipe.model
    variant = VARIANTS[settings.variant]
    info = WeightsInfo(
        name=name,
        origin="trained with convnext",
        labels=labels,
        preprocess=settings.preprocess,
        strides=settings.actual_strides,
        thresholds=thresholds,
    )
    classes = ConvNextV2Config if variant.has_grn else ConvNextConfig
    relaxed: dict[str, Any] = {}
    if settings.actual_strides != (4, 2, 2, 2):
        relaxed = {"strides": list(settings.actual_strides)}
    if thresholds is not None:
        relaxed |= {"problem_type": "multi_label_classification", "thresholds": list(thresholds)}
    config = classes(
        hidden_sizes=list(variant.dims),
        depths=list(variant.depths),
        layer_norm_eps=AUTHORS_EPSILON,
        image_size=settings.resolution,
        id2label=dict(enumerate(labels)),
        architectures=[f"{classes.__name__.removesuffix('Config')}ForImageClassification"],
        **relaxed,
    )
    with disk_errors(folder), replaced_folder(folder) as temporary:
        save_weights(weights, temporary / WEIGHTS, layout="huggingface", info=info)
        if unaveraged is not None:
            save_weights(unaveraged, temporary / UNAVERAGED, layout="huggingface", info=info)
        config.save_pretrained(temporary)
        ConvNextImageProcessor(**processor_settings(settings.preprocess)).save_pretrained(temporary)
    return info
