"""From a recipe and labelled pictures to a model, through any interruption: `train`.

Half of it is light: recipes, data, augmentation and the processes that read pictures import no
framework. The names below that need Keras are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convnext.train.recipe import Recipe, load_recipe, published_recipes

if TYPE_CHECKING:
    from convnext.train.training import Outcome, train

__all__ = ["Outcome", "Recipe", "load_recipe", "published_recipes", "train"]

_HEAVY = ("Outcome", "train")


def __getattr__(name: str) -> Any:
    if name not in _HEAVY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from convnext.train import training

    return getattr(training, name)
