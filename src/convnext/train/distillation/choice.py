"""Whether a run has a teacher: by its recipe, and by its caller."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from convnext.errors import ArgumentError
from convnext.train.recipe import Distill, Recipe

__all__ = ["distilled"]


def distilled(recipe: Recipe, teacher: str | Path | None) -> Recipe:
    """The recipe of a run with this teacher: its loss is soft targets unless it has another one.

    Raises:
        ArgumentError: The recipe needs a teacher, or has settings of one, and there is none.
    """
    if teacher is None:
        if recipe.distill != Distill():
            raise ArgumentError(
                "The recipe's section [distill] is for a run with a teacher. Name one with "
                "--teacher (teacher=), or leave out the section."
            )
        return recipe
    if recipe.distill.loss != "none":
        return recipe
    return replace(recipe, distill=replace(recipe.distill, loss="kd"))
