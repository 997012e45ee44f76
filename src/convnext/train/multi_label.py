"""Trains multi-label models: any number of labels a picture, each with a probability of its own.

The thresholds that have the best F1 on the validation data are stored with the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.classifier.results import sigmoid
from convnext.data.multi_label import MultiLabelExamples, open_multi_label_data
from convnext.errors import ArgumentError, listed
from convnext.evaluate.labelling import labelling
from convnext.images.thresholds import THRESHOLD
from convnext.train.augment.mixing import Mixer
from convnext.train.augment.transforms import Augmentation
from convnext.train.input.loader import TrainingBatch
from convnext.train.recipe import Recipe
from convnext.train.run.learner import classifier
from convnext.train.run.loop import RunResult
from convnext.train.run.model_folder import write_model
from convnext.train.run.objective import Numbers, Objective, Validation
from convnext.train.run.running import RunOptions, run_objective
from convnext.train.sections import MOST_WEIGHT, LabelSettings
from convnext.train.team.base import Team

__all__ = ["label_weights", "train_multi_label"]

THRESHOLDS = "thresholds"  # in the run state
NAMED = 5  # labels in the first message

Array = NDArray[Any]


def train_multi_label(
    recipe: Recipe, data: str | Path, validation: str | Path | None, options: RunOptions
) -> RunResult:
    """Train a multi-label model; see `convnext.train.train`."""

    def opened() -> tuple[MultiLabelExamples, MultiLabelExamples | None]:
        settings, seed = recipe.data, recipe.run.seed
        return open_multi_label_data(
            data, validation, limit=settings.limit, held_out=settings.hold_out, seed=seed
        )

    def objective(
        examples: MultiLabelExamples, validated: MultiLabelExamples | None, team: Team
    ) -> _MultiLabel:
        return _MultiLabel(recipe, examples, validated, options.out, team)

    return run_objective(recipe, opened, objective, options)


def label_weights(
    settings: LabelSettings, counts: Array, pictures: int, classes: tuple[str, ...]
) -> Array | None:
    """How often each label a picture has counts in the loss; None for once.

    Args:
        settings: The recipe's section on labels.
        counts: Pictures with each label.
        pictures: Number of pictures.
        classes: Names of the labels.

    Raises:
        ArgumentError: The recipe has weights of another number of labels.
    """
    if settings.balanced:
        ratios = (pictures - counts) / np.maximum(counts, 1)
        return np.clip(ratios, 1 / MOST_WEIGHT, MOST_WEIGHT).astype(np.float32)
    if not settings.weights:
        return None
    if len(settings.weights) != len(classes):
        raise ArgumentError(
            f"labels.weights has {len(settings.weights)} numbers, and the data {len(classes)} "
            f"labels: {listed(classes, 20)}. Give one for each, in this order."
        )
    return np.array(settings.weights, np.float32)


class _MultiLabel(Objective[Recipe, MultiLabelExamples]):
    """Objective of finding the labels of pictures."""

    def __init__(
        self,
        recipe: Recipe,
        examples: MultiLabelExamples,
        validated: MultiLabelExamples | None,
        out: Path,
        team: Team,
    ) -> None:
        super().__init__(recipe, examples, validated, out, team)
        self.thresholds = np.full(len(self.classes), THRESHOLD)
        self.transform = Augmentation(recipe.augment, recipe.model.preprocess)
        self.mixer = Mixer(recipe.mixing, len(self.classes))
        self.about = _about(examples)
        weights = label_weights(recipe.labels, examples.counts, len(examples), self.classes)
        self.learner = classifier(recipe, len(self.classes), team, weights)

    def step(self, batch: TrainingBatch, learning_rate: float) -> Numbers:
        return self.learner.step([batch.pictures], batch.targets, learning_rate)

    def state(self) -> Mapping[str, Any]:
        return {**self.learner.state(), THRESHOLDS: self.thresholds}

    def restore(self, state: Mapping[str, Any]) -> None:
        arrays = dict(state)
        self.thresholds = arrays.pop(THRESHOLDS, self.thresholds)
        self.learner.restore(arrays)

    def validate(self) -> Validation | None:
        if self.validated is None:
            return None
        with self.learner.averaged():
            logits, truth = self._answers(self.validated)
        losses = np.logaddexp(0, -logits) + (1 - truth) * logits
        found = labelling(sigmoid(logits), truth)
        self.thresholds = found.thresholds
        score = found.mean_average_precision
        numbers = {
            "loss": round(float(losses.mean()), 6),
            "mean_average_precision": score,
            "macro_f1": found.macro_f1,
            "micro_f1": found.micro_f1,
        }
        message = f"validation mAP {score:.2%}, F1 {found.macro_f1:.2%} at the best thresholds"
        return Validation(numbers, score, message)

    def _answers(self, validated: MultiLabelExamples) -> tuple[Array, Array]:
        """Logits and labels of all readable pictures, which the hosts share."""
        rows = self.own_rows()
        own = validated.subset(rows)
        own.labels = rows  # so that batches tell which pictures are theirs
        logits = np.zeros(validated.has.shape)
        seen = np.zeros(len(validated))
        for pictures, numbers, count in self.batches(own, self.recipe.model.preprocess):
            logits[numbers[:count]] = self.learner.answers(pictures)[:count]
            seen[numbers[:count]] = 1
        if self.team.count > 1:
            logits = np.array(self.team.sum(logits.ravel().tolist())).reshape(logits.shape)
            seen = np.array(self.team.sum(seen.tolist()))
        self.check_seen(seen.sum())
        return logits[seen > 0], validated.has[seen > 0]

    def write(self, folder: Path) -> None:
        """Write the averaged weights if there are any, and the plain ones in a second file."""
        weights = self.learner.weights(averaged=True)
        unaveraged = self.learner.weights() if self.learner.optimizer.averages else None
        write_model(
            folder,
            weights,
            self.recipe,
            self.classes,
            self.out.name,
            unaveraged=unaveraged,
            thresholds=tuple(self.thresholds.tolist()),
        )


def _about(examples: MultiLabelExamples) -> str:
    """A few words on the labels, with those that are rarest."""
    names = [examples.classes[number] for number in np.argsort(examples.counts)[:NAMED]]
    each = examples.has.sum() / max(len(examples), 1)
    return f"{len(examples.classes):,} labels, {each:.2g} a picture, the rarest {', '.join(names)}"
