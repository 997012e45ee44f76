"""Trains an encoder by a teacher's embeddings alone, on pictures without labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from convnext.atomic import replaced_folder
from convnext.data.examples import Examples, hold_out, open_pictures
from convnext.errors import ArgumentError, TrainingError
from convnext.train.augment.mixing import Mixer
from convnext.train.augment.transforms import Augmentation, Transform
from convnext.train.distillation.losses import features
from convnext.train.distillation.student import student, taught_targets
from convnext.train.distillation.teacher import open_teacher
from convnext.train.input.loader import TrainingBatch, evaluation_batches
from convnext.train.input.order import Order
from convnext.train.input.taught import Teacher
from convnext.train.recipe import Data, Recipe
from convnext.train.run.loop import Numbers, RunResult, Validation
from convnext.train.run.model_folder import WEIGHTS
from convnext.train.run.run_states import disk_errors
from convnext.train.run.running import RunOptions, run_objective
from convnext.train.team.base import Team
from convnext.weights.info import WeightsInfo
from convnext.weights.save import save_weights

__all__ = ["train_encoder"]

VALIDATION_BATCH = 256
HELD_OUT = 5000  # validation pictures at most, as in pretraining


def train_encoder(
    recipe: Recipe,
    data: str | Path,
    validation: str | Path | None,
    teacher: str | Path,
    options: RunOptions,
) -> RunResult:
    """Train an encoder by a teacher's embeddings, or resume its training.

    Args:
        recipe: With the actual precision.
        data: Pictures, in folders of any depth, or any data that `train` takes.
        validation: Validation pictures; by default a fraction held out.
        teacher: See `open_teacher`.
        options: Options of the run.
    """

    def opened() -> tuple[Examples, Examples | None]:
        examples = open_pictures(data, limit=recipe.data.limit)
        if validation is not None:
            return examples, open_pictures(validation, split=None)
        part = min(recipe.data.hold_out, HELD_OUT / len(examples))
        if part * len(examples) < 1:
            return examples, None
        return hold_out(examples, part, recipe.run.seed)

    def objective(examples: Examples, validated: Examples | None, team: Team) -> _Encoding:
        return _Encoding(recipe, examples, validated, Path(options.out).name, team, teacher)

    if recipe.data.balanced or recipe.data.class_weights != Data().class_weights:
        raise ArgumentError(
            "data.balanced and data.class_weights have no effect without labels. Leave them out."
        )
    return run_objective(recipe, opened, objective, options)


class _Encoding:
    """Objective of having a teacher's embeddings, after a linear map."""

    def __init__(
        self,
        recipe: Recipe,
        examples: Examples,
        validated: Examples | None,
        name: str,
        team: Team,
        teacher: str | Path,
    ) -> None:
        self.recipe = recipe
        self.classes: tuple[str, ...] = ()
        self.transform: Transform = Augmentation(recipe.augment, recipe.model.preprocess)
        mixes = bool(recipe.mixing.mixup or recipe.mixing.cutmix)
        self.mixer: Mixer | None = Mixer(recipe.mixing, 1) if mixes else None
        self.order = Order(examples.labels, seed=recipe.run.seed)
        self.about = "no labels"
        self.validated = validated.cached() if validated else None
        self.name = name
        self.team = team
        self._teacher = open_teacher(teacher, recipe, (), team)
        self.teacher: Teacher | None = self._teacher
        self.learner = student(recipe, 0, self._teacher.width, team)

    def step(self, batch: TrainingBatch, learning_rate: float) -> Numbers:
        targets = taught_targets(batch, labels=False)
        return self.learner.step([batch.pictures], targets, learning_rate)

    def state(self) -> Mapping[str, Any]:
        return self.learner.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.learner.restore(state)

    def validate(self) -> Validation | None:
        if self.validated is None:
            return None
        with self.learner.averaged():
            loss = self._measure(self.validated)
        message = f"distance from the teacher {loss:.4f} on held-out pictures"
        return Validation({"loss": round(loss, 6)}, -loss, message)

    def _measure(self, validated: Examples) -> float:
        batch = min(VALIDATION_BATCH, self.recipe.run.batch_size, len(validated))
        total, seen = 0.0, 0
        own = validated.subset(self.team.share(len(validated), batch))
        for pictures, _, count in evaluation_batches(own, self.recipe.model.preprocess, batch):
            mapped = self.team.predict(self.learner.model, [pictures])[:count]
            answers = self._teacher.of_pictures(pictures[:count])
            losses = features(mapped, answers, self.recipe.distill.distance)
            total += float(np.sum(keras.ops.convert_to_numpy(losses)))
            seen += count
        total, all_seen = self.team.sum([total, seen])
        if not all_seen:
            raise TrainingError("None of the held-out pictures can be read. Repair the data.")
        return total / all_seen

    def write(self, folder: Path) -> None:
        """Write the encoder, with the moving average of its weights if there is one."""
        model = self.recipe.model
        info = WeightsInfo(
            name=self.name,
            origin="trained with convnext",
            preprocess=model.preprocess,
            strides=model.actual_strides,
        )
        weights = self.learner.weights(averaged=True)
        with disk_errors(folder), replaced_folder(folder) as temporary:
            save_weights(weights, temporary / WEIGHTS, info=info)
