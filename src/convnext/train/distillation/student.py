"""A network with a teacher, and its loss."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from convnext.architecture import VARIANTS
from convnext.nn.initializers import Normal
from convnext.nn.layers import Linear
from convnext.nn.model import with_outputs
from convnext.train.distillation.losses import dist, features, soft_targets
from convnext.train.input.loader import TrainingBatch
from convnext.train.recipe import Recipe
from convnext.train.run.learner import Learner, build_classifier
from convnext.train.sections import Distill
from convnext.train.team.base import ALONE, Team

__all__ = ["Student", "student", "taught_targets"]

STDDEV = 0.02  # of the linear map's initial weights


class Student(keras.Model):  # type: ignore[misc]
    """A network whose targets are those of the labels, if any, and a teacher's answers after them.

    Its outputs are the logits, if there are classes, and the mapped embedding, if it has one.

    Attributes:
        distill: The recipe's section on the teacher.
        classes: Number of classes; 0 for pictures without labels.
    """

    distill: Distill
    classes: int

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The mean over the pictures of the labels' cross-entropy and the distance to the teacher.

        Args:
            x: Ignored.
            y: As `taught_targets` makes them.
            y_pred: The outputs.
            sample_weight: Weight of each picture; None if all are equal.
            training: Ignored.
        """
        del x, training
        settings = self.distill
        logits, mapped = _first_and_last(y_pred)  # the same where there is one
        targets, answers = y[:, : self.classes], y[:, self.classes :]
        if settings.loss == "features":
            loss = features(mapped, answers, settings.distance)
        elif settings.loss == "dist":
            loss = dist(logits, answers, settings.temperature, settings.between, settings.within)
        else:
            loss = soft_targets(logits, answers, settings.temperature)
        loss = (1 - settings.hard) * loss
        if settings.hard:
            logits = ops.cast(logits, "float32")
            labels = ops.categorical_crossentropy(targets, logits, from_logits=True)
            loss = loss + settings.hard * labels
        return ops.mean(loss if sample_weight is None else loss * sample_weight)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The metrics, of the logits and the targets of the labels."""
        if self.classes:
            y, y_pred = y[:, : self.classes], _first_and_last(y_pred)[0]
        return super().compute_metrics(x, y, y_pred, sample_weight)


def _first_and_last(outputs: Any) -> tuple[Any, Any]:
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return outputs[0], outputs[-1]


def taught_targets(batch: TrainingBatch, *, labels: bool = True) -> NDArray[np.float32]:
    """The targets of a `Student`: those of the labels, if it has any, and the teacher's answers."""
    assert batch.answers is not None
    parts = [batch.targets, batch.answers] if labels else [batch.answers]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def student(recipe: Recipe, num_classes: int, width: int, team: Team = ALONE) -> Learner:
    """Build the network of a recipe with a teacher, with random weights.

    Args:
        recipe: The recipe.
        num_classes: Number of classes; 0 for an encoder, whose output is its embedding.
        width: Numbers in an answer of the teacher.
        team: The hosts and devices of the run.
    """
    network = build_classifier(recipe, num_classes)
    outputs = [network.output] if num_classes else []
    if recipe.distill.loss == "features":
        embedding = with_outputs(network, "embedding").output if num_classes else network.output
        # A decoder, so that weights without it, and files with it, are none the worse.
        initial = Normal(STDDEV, recipe.run.seed)
        mapped = Linear(width, None, initial, name="decoder_features", dtype="float32")
        outputs.append(mapped(embedding))
    model = Student(network.input, outputs if len(outputs) > 1 else outputs[0])
    model.distill, model.classes = recipe.distill, num_classes
    return Learner(
        model,
        VARIANTS[recipe.model.variant],
        recipe.optimizer,
        recipe.run,
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")] if num_classes else [],
        team=team,
        network=network,
    )
