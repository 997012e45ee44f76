"""The ConvNeXt classes of Hugging Face transformers, on any backend, without transformers.

A program changes only its imports. On PyTorch the models are `torch.nn.Module`s, on TensorFlow and
JAX `keras.Model`s. Configurations and the processor need no framework, so each name is imported on
first use.

    config, processor   config.json and preprocessor_config.json
    hub                 a model's files, from a folder or a repository
    outputs, losses     output classes and training losses
    network             layers from a configuration, and transformers' names for parameters
    files               weights files with those names
    pretrained          from_pretrained, save_pretrained, push_to_hub, for every backend
    modules             the models on PyTorch
    keras_models        the models on TensorFlow and JAX
    card                the README of a repository
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from convnext.errors import ArgumentError, MissingDependencyError

if TYPE_CHECKING:
    from convnext.hf.config import ConvNextConfig, ConvNextV2Config, DINOv3ConvNextConfig
    from convnext.hf.modules import (
        ConvNextBackbone,
        ConvNextForImageClassification,
        ConvNextModel,
        ConvNextV2Backbone,
        ConvNextV2ForImageClassification,
        ConvNextV2Model,
        DINOv3ConvNextBackbone,
        DINOv3ConvNextModel,
    )
    from convnext.hf.processor import ConvNextFeatureExtractor, ConvNextImageProcessor

__all__ = [
    "ConvNextBackbone",
    "ConvNextConfig",
    "ConvNextFeatureExtractor",
    "ConvNextForImageClassification",
    "ConvNextImageProcessor",
    "ConvNextModel",
    "ConvNextV2Backbone",
    "ConvNextV2Config",
    "ConvNextV2ForImageClassification",
    "ConvNextV2Model",
    "DINOv3ConvNextBackbone",
    "DINOv3ConvNextConfig",
    "DINOv3ConvNextModel",
]

_LIGHT = {
    "ConvNextConfig": "convnext.hf.config",
    "ConvNextFeatureExtractor": "convnext.hf.processor",
    "ConvNextImageProcessor": "convnext.hf.processor",
    "ConvNextV2Config": "convnext.hf.config",
    "DINOv3ConvNextConfig": "convnext.hf.config",
}
_MODELS = frozenset(__all__) - _LIGHT.keys()
# transformers' names for TensorFlow: not in `__all__`, as they raise on other backends.
_TENSORFLOW = {f"TF{name}": name for name in sorted(_MODELS) if name.startswith("ConvNext")}


def __getattr__(name: str) -> Any:
    if name in _LIGHT:
        return getattr(importlib.import_module(_LIGHT[name]), name)
    if name not in _MODELS and name not in _TENSORFLOW:
        raise AttributeError(f"module 'convnext.hf' has no attribute {name!r}")
    backend = _backend(name)
    if name in _TENSORFLOW and backend != "tensorflow":
        raise ArgumentError(
            f"{name} is the name for TensorFlow, and Keras runs on {backend}. Use "
            f"{_TENSORFLOW[name]}, which is the same on every backend, or set "
            "KERAS_BACKEND=tensorflow before Keras is imported."
        )
    module = "convnext.hf.modules" if backend == "torch" else "convnext.hf.keras_models"
    return getattr(importlib.import_module(module), _TENSORFLOW.get(name, name))


def _backend(name: str) -> str:
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name != "keras":
            raise
        raise MissingDependencyError(
            f"convnext.hf.{name} needs Keras with the backend of your choice. Keras",
            "tensorflow",
            "jax",
            "torch",
        ) from error
    return str(keras.backend.backend())


def __dir__() -> list[str]:
    return sorted([*__all__, *_TENSORFLOW])
