"""Trains segmentation models; see `convnext.train.train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from convnext.architecture import VARIANTS
from convnext.atomic import replaced_folder
from convnext.data.segmented import SegmentedExamples, SegmentedSplits, open_segmented, survey
from convnext.errors import ArgumentError
from convnext.evaluate.segmentation import PixelTally
from convnext.images.class_maps import class_map
from convnext.train.augment.pairs import SegmentationAugmentation
from convnext.train.input.loader import TrainingBatch
from convnext.train.recipe import SegmentationRecipe
from convnext.train.run.learner import Learner, as_recipe_says, spread_by_fan_in
from convnext.train.run.loop import RunResult
from convnext.train.run.model_folder import WEIGHTS
from convnext.train.run.objective import Numbers, Objective, Validation
from convnext.train.run.run_states import disk_errors
from convnext.train.run.running import RunOptions, run_objective
from convnext.train.segmentation.model import segmenter
from convnext.train.team.base import ALONE, Team
from convnext.weights.info import WeightsInfo
from convnext.weights.save import save_weights

__all__ = ["segmentation_learner", "train_segmenter"]

RAREST = 3  # classes that the message on the data names


def train_segmenter(
    recipe: SegmentationRecipe,
    data: str | Path,
    validation: str | Path | None,
    options: RunOptions,
) -> RunResult:
    """Train a segmentation model, or resume its training.

    Args:
        recipe: With the actual precision.
        data: Pictures and masks, see `open_segmented`.
        validation: Validation data.
        options: Options of the run.
    """

    def opened() -> SegmentedSplits:
        found = open_segmented(
            data,
            validation,
            reading=recipe.masks.reading,
            classes=recipe.masks.classes,
            names=recipe.masks.names,
            limit=recipe.data.limit,
            held_out=recipe.data.hold_out,
            seed=recipe.run.seed,
        )
        if len(found.train.classes) < 2:
            raise ArgumentError(f"The masks in {data} have one class. A model needs two at least.")
        return found

    def objective(
        examples: SegmentedExamples, validated: SegmentedExamples | None, team: Team
    ) -> _Segmentation:
        return _Segmentation(recipe, examples, validated, options.out, team)

    return run_objective(recipe, opened, objective, options)


def segmentation_learner(
    recipe: SegmentationRecipe, num_classes: int, team: Team = ALONE
) -> Learner:
    """Build the segmentation model of a recipe, with random weights."""
    settings, variant = recipe.model, VARIANTS[recipe.model.variant]
    scale = settings.layer_scale
    scale = variant.layer_scale_init_value if scale is None else scale
    with as_recipe_says(recipe.run):
        model = segmenter(
            recipe, replace(variant, layer_scale=bool(scale)), num_classes, scale or 0.0
        )
    if settings.initial == "fan_in":
        spread_by_fan_in(model)
    return Learner(model, variant, recipe.optimizer, recipe.run, team=team)


class _Segmentation(Objective[SegmentationRecipe, SegmentedExamples]):
    """Objective of finding the class of each pixel."""

    validation_batch = 16

    def __init__(
        self,
        recipe: SegmentationRecipe,
        examples: SegmentedExamples,
        validated: SegmentedExamples | None,
        out: Path,
        team: Team,
    ) -> None:
        super().__init__(recipe, examples, validated, out, team)
        self.transform = SegmentationAugmentation(recipe.augment, recipe.preprocess)
        self.about = _about(survey(examples), self.classes)
        if validated:
            survey(validated)
        self.learner = segmentation_learner(recipe, len(self.classes), team)
        model = self.learner.model
        self.scores = keras.Model(model.input, model.get_layer("scores").output)
        self.step_between = recipe.model.actual_strides[0] if recipe.head.pixels == "sampled" else 1

    def step(self, batch: TrainingBatch, learning_rate: float) -> Numbers:
        every = slice(self.step_between // 2, None, self.step_between)
        masks = np.ascontiguousarray(batch.targets[:, every, every])
        return self.learner.step([batch.pictures], masks, learning_rate)

    def validate(self) -> Validation | None:
        if self.validated is None:
            return None
        with self.learner.averaged():
            found = self._measure(self.validated).result()
        numbers = {"mean_iou": found.mean_iou, "accuracy": found.accuracy}
        message = f"validation mIoU {found.mean_iou:.2%}, pixels right {found.accuracy:.2%}"
        return Validation(numbers, found.mean_iou, message)

    def _measure(self, validated: SegmentedExamples) -> PixelTally:
        """Count the pixels of all readable pictures, which the hosts share."""
        own = validated.subset(self.own_rows())
        own.labels = np.arange(len(own))  # so that batches tell which masks are theirs
        tally = PixelTally(len(self.classes))
        preprocess = self.recipe.preprocess
        for pictures, numbers, count in self.batches(own, preprocess):
            scores = self.team.predict(self.scores, [pictures])[:count]
            for number, found in zip(numbers[:count].tolist(), scores, strict=True):
                mask = own.mask(number)
                sides = (preprocess.size, preprocess.size)
                tally.add(mask, class_map(found, mask.shape, sides).numbers)
        counts = self.team.sum(tally.counts.reshape(-1).tolist())
        tally.counts[:] = np.array(counts, np.int64).reshape(tally.counts.shape)
        self.check_seen(tally.counts.sum())
        return tally

    def write(self, folder: Path) -> None:
        """Write the model, with the moving average of its weights if there is one.

        transformers reads a UPerNet; for the light head it has no class.
        """
        info = WeightsInfo(
            name=self.out.name,
            origin="trained with convnext",
            labels=self.classes,
            preprocess=self.recipe.preprocess,
            strides=self.recipe.model.actual_strides,
            task="segmentation",
        )
        weights = self.learner.weights(averaged=True)
        with disk_errors(folder), replaced_folder(folder) as temporary:
            if self.recipe.head.kind == "upernet":
                files = temporary / "files"
                save_weights(weights, files, layout="huggingface", info=info)
                for file in list(files.iterdir()):
                    file.rename(temporary / file.name)
                files.rmdir()
            else:
                save_weights(weights, temporary / WEIGHTS, info=info)


def _about(pixels: Any, classes: tuple[str, ...]) -> str:
    """A few words on the classes; those without a pixel are mistakes more often than not."""
    absent = [name for name, count in zip(classes, pixels, strict=True) if not count]
    more = " and so on" if len(absent) > RAREST else ""
    without = f", without a pixel of {', '.join(absent[:RAREST])}{more}" if absent else ""
    return f"{len(classes)} classes{without}"
