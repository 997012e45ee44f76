"""From a recipe and pictures to a model, through any interruption: `train`, `pretrain`.

Half of it is light: recipes, data, augmentation and the processes that read pictures import no
framework. The names below that need Keras are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from convnext.train.recipe import Recipe, load_recipe, published_recipes

if TYPE_CHECKING:
    from convnext.train.pretraining import pretrain, reconstruct
    from convnext.train.training import Outcome, train

__all__ = [
    "Outcome",
    "Recipe",
    "load_recipe",
    "pretrain",
    "published_recipes",
    "reconstruct",
    "train",
]

_HEAVY = {
    "Outcome": "training",
    "pretrain": "pretraining",
    "reconstruct": "pretraining",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name not in _HEAVY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HEAVY[name]}"), name)
