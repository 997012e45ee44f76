"""Training with recipes, resumable at any step: `train`, `pretrain`.

Recipes, data, augmentation and the processes that read pictures import no framework. Names below
that need Keras are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from convnext.train.recipe import Recipe, SegmentationRecipe, load_recipe, published_recipes

if TYPE_CHECKING:
    from convnext.train.fcmae.pretraining import pretrain, reconstruct
    from convnext.train.training import RunResult, train

__all__ = [
    "Recipe",
    "RunResult",
    "SegmentationRecipe",
    "load_recipe",
    "pretrain",
    "published_recipes",
    "reconstruct",
    "train",
]

_HEAVY = {
    "RunResult": "training",
    "pretrain": "fcmae.pretraining",
    "reconstruct": "fcmae.pretraining",
    "train": "training",
}


_RENAMED = {"Outcome": "RunResult"}  # until the next release


def __getattr__(name: str) -> Any:
    name = _RENAMED.get(name, name)
    if name not in _HEAVY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HEAVY[name]}"), name)
