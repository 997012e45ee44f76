"""The configuration and the processor of a published checkpoint, from the catalogue."""

from __future__ import annotations

from typing import Any

from PIL import Image

from convnext.architecture import VARIANTS
from convnext.errors import ArgumentError
from convnext.images.labels import labels_for
from convnext.images.recipe import Preprocess
from convnext.weights.canonical import parameter_shapes
from convnext.weights.catalog import get_checkpoint
from convnext.weights.layouts import foreign_rows

__all__ = ["AUTHORS_EPSILON", "processor_settings", "published_config", "published_processor"]

AUTHORS_EPSILON = 1e-6  # of the norm after pooling; the default of transformers is 1e-12


def published_config(name: str) -> dict[str, Any]:
    """The content of config.json for a published checkpoint.

    Raises:
        ArgumentError: transformers lacks this network, or computes it differently.

    Example:
        >>> published_config("convnextv2_atto")["hidden_sizes"]
        [40, 80, 160, 320]
    """
    checkpoint = get_checkpoint(name)
    if checkpoint.segmentation:
        raise ArgumentError(
            f"{name} is a segmentation model, which the classes of convnext.hf are not. Use "
            "convnext.Segmenter, or write a folder for transformers' own with `convnext convert "
            "--to huggingface`."
        )
    variant = VARIANTS[checkpoint.variant]
    foreign_rows(parameter_shapes(variant, 0), "huggingface", variant)
    labels = labels_for(checkpoint.labels).names if checkpoint.labels else ("LABEL_0", "LABEL_1")
    return {
        "model_type": "convnextv2" if variant.has_grn else "convnext",
        "hidden_sizes": list(variant.dims),
        "depths": list(variant.depths),
        "layer_norm_eps": AUTHORS_EPSILON,
        "image_size": checkpoint.preprocess.size,
        "id2label": dict(enumerate(labels)),
    }


def published_processor(name: str) -> dict[str, Any]:
    """The content of preprocessor_config.json for a published checkpoint.

    Raises:
        ArgumentError: transformers' processor cannot do the checkpoint's preprocessing.
    """
    recipe = get_checkpoint(name).preprocess
    if (recipe.mode == "squash") != (recipe.size >= 384):
        what = "squashes" if recipe.mode == "squash" else "crops"
        raise ArgumentError(
            f"{name} {what} pictures at {recipe.size} pixels, which transformers' processor cannot "
            "do. Use convnext.Classifier."
        )
    return processor_settings(recipe)


def processor_settings(recipe: Preprocess) -> dict[str, Any]:
    """The content of preprocessor_config.json for a preprocessing recipe.

    Example:
        >>> processor_settings(Preprocess(size=32))["size"]
        {'shortest_edge': 32}
    """
    return {
        "size": {"shortest_edge": recipe.size},
        "crop_pct": recipe.crop_fraction,
        "resample": int(Image.Resampling[recipe.interpolation.upper()]),
        "rescale_factor": recipe.rescale,
        "image_mean": list(recipe.mean),
        "image_std": list(recipe.std),
    }
