"""The teacher of a run, by its recipe and by its caller."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from convnext.data.labelled import Examples
from convnext.errors import ArgumentError
from convnext.train.augment.mixing import Mixer
from convnext.train.distillation.fixed import FixedAnswers, are_fixed
from convnext.train.distillation.stored import SUFFIX, StoredAnswers, views_of
from convnext.train.distillation.teacher import open_teacher
from convnext.train.input.order import Order
from convnext.train.input.taught import Teacher
from convnext.train.optim.schedule import Schedule
from convnext.train.recipe import Recipe
from convnext.train.sections import Distill
from convnext.train.team.base import Team

__all__ = ["distilled", "teacher_of"]


def distilled(
    recipe: Recipe, teacher: str | Path | None, store_answers: str | Path | None = None
) -> Recipe:
    """The recipe of a run with this teacher: its loss is soft targets unless it has another one.

    Raises:
        ArgumentError: The recipe needs a teacher, or has settings of one, and there is none; or
            there are no answers to store.
    """
    if teacher is None:
        if recipe.distill != Distill():
            raise ArgumentError(
                "The recipe's section [distill] is for a run with a teacher. Name one with "
                "--teacher (teacher=), or leave out the section."
            )
        if store_answers is not None:
            raise ArgumentError("--store-answers is for the answers of a teacher: give --teacher.")
        return recipe
    fixed = are_fixed(teacher)
    if store_answers is not None and (fixed or Path(teacher).suffix == SUFFIX):
        raise ArgumentError(f"{teacher} holds answers already. Leave out --store-answers.")
    is_stored = fixed or store_answers is not None or Path(teacher).suffix == SUFFIX
    if is_stored and not recipe.distill.has_labels:
        raise ArgumentError(
            "A run without labels validates by its teacher, so that stored answers do not suffice. "
            "Give the teacher itself, without --store-answers, or set distill.hard above 0."
        )
    if recipe.distill.fixed and not fixed:
        raise ArgumentError(
            f"distill.fixed is for a file of `convnext predict --logits`, and {teacher} is none. "
            "Leave it out."
        )
    if recipe.distill.loss != "none":
        return recipe
    return replace(recipe, distill=replace(recipe.distill, loss="kd"))


def teacher_of(
    source: str | Path,
    recipe: Recipe,
    examples: Examples,
    order: Order,
    mixer: Mixer,
    team: Team,
    store_answers: str | Path | None = None,
) -> Teacher:
    """Open the teacher of a run, or its stored answers.

    Args:
        source: As for `open_teacher`, or a file of `--store-answers` or `predict --logits`.
        recipe: Of the run.
        examples: Its data.
        order: Their order.
        mixer: Mixes the batches.
        team: The hosts.
        store_answers: File to store the answers in; those that it has are not computed again.

    Raises:
        ConvNeXtError: It cannot be read, or does not fit this run.
    """
    path, host = Path(source), (team.rank, team.count)
    if are_fixed(path):
        return FixedAnswers(path, recipe, examples, order, mixer, host)
    if path.suffix == SUFFIX:
        answers = StoredAnswers(path, views_of(recipe, examples), host=host)
        answers.check_steps(Schedule.of(recipe.run, recipe.optimizer, len(examples)).total)
        return answers
    teacher = open_teacher(source, recipe, examples.classes, team)
    if store_answers is None:
        return teacher
    views = views_of(recipe, examples)
    return StoredAnswers(Path(store_answers), views, teacher, recipe.distill, host)
