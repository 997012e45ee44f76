"""Trains an encoder by a teacher's embeddings alone, on pictures without labels."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from convnext.atomic import replaced_folder
from convnext.data.examples import Examples, hold_out, open_pictures
from convnext.errors import ArgumentError
from convnext.train.augment.mixing import Mixer
from convnext.train.augment.transforms import Augmentation
from convnext.train.distillation.losses import features
from convnext.train.distillation.student import student, taught_targets
from convnext.train.distillation.teacher import open_teacher
from convnext.train.input.loader import TrainingBatch
from convnext.train.recipe import Recipe
from convnext.train.run.loop import RunResult
from convnext.train.run.model_folder import WEIGHTS
from convnext.train.run.objective import Numbers, Objective, Validation
from convnext.train.run.run_states import disk_errors
from convnext.train.run.running import RunOptions, run_objective
from convnext.train.sections import Data
from convnext.train.team.base import Team
from convnext.weights.info import WeightsInfo
from convnext.weights.save import save_weights

__all__ = ["train_encoder"]

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
        return _Encoding(recipe, examples, validated, options.out, team, teacher)

    if recipe.data.balanced or recipe.data.class_weights != Data().class_weights:
        raise ArgumentError(
            "data.balanced and data.class_weights have no effect without labels. Leave them out."
        )
    return run_objective(recipe, opened, objective, options)


class _Encoding(Objective[Recipe, Examples]):
    """Objective of having a teacher's embeddings, after a linear map."""

    def __init__(
        self,
        recipe: Recipe,
        examples: Examples,
        validated: Examples | None,
        out: Path,
        team: Team,
        teacher: str | Path,
    ) -> None:
        super().__init__(recipe, examples, validated, out, team)
        self.classes = ()
        self.transform = Augmentation(recipe.augment, recipe.model.preprocess)
        mixes = bool(recipe.mixing.mixup or recipe.mixing.cutmix)
        self.mixer = Mixer(recipe.mixing, 1) if mixes else None
        self.about = "no labels"
        self.teacher = self._teacher = open_teacher(teacher, recipe, (), team)
        self.learner = student(recipe, 0, self._teacher.width, team)

    def step(self, batch: TrainingBatch, learning_rate: float) -> Numbers:
        targets = taught_targets(batch, labels=False)
        return self.learner.step([batch.pictures], targets, learning_rate)

    def validate(self) -> Validation | None:
        if self.validated is None:
            return None
        with self.learner.averaged():
            loss = self._measure(self.validated)
        message = f"distance from the teacher {loss:.4f} on held-out pictures"
        return Validation({"loss": round(loss, 6)}, -loss, message)

    def _measure(self, validated: Examples) -> float:
        total, seen = 0.0, 0
        own = validated.subset(self.own_rows())
        for pictures, _, count in self.batches(own, self.recipe.model.preprocess):
            mapped = self.team.predict(self.learner.model, [pictures])[:count]
            answers = self._teacher.of_pictures(pictures[:count])
            losses = features(mapped, answers, self.recipe.distill.distance)
            total += float(np.sum(keras.ops.convert_to_numpy(losses)))
            seen += count
        total, all_seen = self.summed(total, seen=seen)
        return total / all_seen

    def write(self, folder: Path) -> None:
        """Write the encoder, with the moving average of its weights if there is one."""
        model = self.recipe.model
        info = WeightsInfo(
            name=self.out.name,
            origin="trained with convnext",
            preprocess=model.preprocess,
            strides=model.actual_strides,
        )
        weights = self.learner.weights(averaged=True)
        with disk_errors(folder), replaced_folder(folder) as temporary:
            save_weights(weights, temporary / WEIGHTS, info=info)
