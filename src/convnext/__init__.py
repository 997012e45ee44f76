"""ConvNeXt V1 and V2: every published size and checkpoint, on TensorFlow, JAX and PyTorch.

The names below are the public API. They are imported lazily, so that listing checkpoints,
converting weights and reading pictures do not import a framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from convnext.errors import ConvNeXtError, MissingDependencyError

if TYPE_CHECKING:
    from convnext import hub
    from convnext.architecture import VARIANTS, Variant
    from convnext.classifier import Classifier, ZeroShot
    from convnext.create import create_convnext_v1, create_convnext_v2
    from convnext.exports import export
    from convnext.nn.alterations import feature_maps, reset_classifier, set_grad_checkpointing
    from convnext.segmenter import Segmentation, Segmenter
    from convnext.weights.catalog import get_checkpoint, list_models
    from convnext.weights.load import load_weights
    from convnext.weights.save import convert, save_weights

__version__ = "0.1.0"

__all__ = [
    "VARIANTS",
    "Classifier",
    "ConvNeXtError",
    "MissingDependencyError",
    "Segmentation",
    "Segmenter",
    "Variant",
    "ZeroShot",
    "convert",
    "create_convnext_v1",
    "create_convnext_v2",
    "export",
    "feature_maps",
    "get_checkpoint",
    "hub",
    "list_models",
    "load_weights",
    "reset_classifier",
    "save_weights",
    "set_grad_checkpointing",
]

_LAZY = {
    "VARIANTS": "convnext.architecture",
    "Variant": "convnext.architecture",
    "Classifier": "convnext.classifier",
    "ZeroShot": "convnext.classifier",
    "convert": "convnext.weights.save",
    "create_convnext_v1": "convnext.create",
    "create_convnext_v2": "convnext.create",
    "export": "convnext.exports",
    "feature_maps": "convnext.nn.alterations",
    "get_checkpoint": "convnext.weights.catalog",
    "list_models": "convnext.weights.catalog",
    "load_weights": "convnext.weights.load",
    "reset_classifier": "convnext.nn.alterations",
    "save_weights": "convnext.weights.save",
    "Segmentation": "convnext.segmenter",
    "Segmenter": "convnext.segmenter",
    "set_grad_checkpointing": "convnext.nn.alterations",
}


def __getattr__(name: str) -> Any:
    if name == "hub":
        return importlib.import_module("convnext.hub")
    if name not in _LAZY:
        raise AttributeError(f"module 'convnext' has no attribute {name!r}")
    try:
        module = importlib.import_module(_LAZY[name])
    except ModuleNotFoundError as error:
        if error.name != "keras":
            raise
        raise MissingDependencyError(
            f"convnext.{name} needs Keras with the backend of your choice. Keras",
            "tensorflow",
            "jax",
            "torch",
        ) from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
