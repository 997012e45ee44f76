"""`train`: trains a classifier or a segmentation model with a recipe; runs can be resumed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from convnext.data.examples import Examples, open_data
from convnext.errors import ArgumentError
from convnext.train.augment.mixing import Mixer
from convnext.train.augment.transforms import Augmentation
from convnext.train.distillation.choice import distilled, teacher_of
from convnext.train.distillation.encoder import train_encoder
from convnext.train.distillation.student import student, taught_targets
from convnext.train.input.loader import TrainingBatch
from convnext.train.input.order import class_weights
from convnext.train.multi_label import train_multi_label
from convnext.train.optim.precision import with_actual_precision
from convnext.train.recipe import Recipe, SegmentationRecipe, load_recipe, recipe_kind
from convnext.train.run.learner import classifier
from convnext.train.run.loop import RunResult, Say
from convnext.train.run.model_folder import write_model
from convnext.train.run.objective import Numbers, Objective, Validation
from convnext.train.run.running import RunOptions, run_objective
from convnext.train.segmentation.training import train_segmenter
from convnext.train.team.base import Team

__all__ = ["RunResult", "train"]


def train(  # noqa: PLR0913
    recipe: str | Path | Recipe | SegmentationRecipe,
    data: str | Path,
    out: str | Path,
    *,
    validation: str | Path | None = None,
    changes: Iterable[str] = (),
    init: str | Path | None = None,
    teacher: str | Path | None = None,
    store_answers: str | Path | None = None,
    resume: bool = False,
    workers: int | None = None,
    devices: int | None = None,
    hosts: str | None = None,
    tensorboard: bool = False,
    progress: bool = True,
    say: Say = print,
) -> RunResult:
    """Train a classifier, a multi-label model or, with a segmentation recipe, a segmentation model.

    Args:
        recipe: One of `published_recipes`, a TOML file, a `Recipe` or a `SegmentationRecipe`.
        data: Labelled pictures: a folder with a folder for each class, an archive, a data set with
            splits, arrays, or a table; see docs/data.md. To train a multi-label model, a table
            (docs/multi_label.md); a segmentation model, pictures and masks
            (docs/segmentation_training.md).
        out: Folder of the run; a new one, or with `resume` that of an interrupted run.
        validation: Validation data; by default the data's own split, or a fraction held out.
        changes: Changes of settings: `"optimizer.learning_rate=1e-3"`.
        init: Weights to start from: a published checkpoint's name, a file, a model directory or a
            run. A classifier of other classes starts from random weights, and so does a
            segmentation head that the weights lack.
        teacher: A classifier whose answers this one learns as well: a published checkpoint's name,
            a file, a model directory, a run, or an ONNX file; or its stored answers. See
            docs/distillation.md.
        store_answers: File, ending in `.answers`, to store the teacher's answers in. What it holds
            already is not computed again; as `teacher`, it stands for it in the same run.
        resume: Whether to resume a run; if there is none, one starts.
        workers: Processes that read pictures; by default one for each processor.
        devices: Number of this host's devices to use, on JAX; by default one, or with `hosts` all.
            See docs/scale_training.md.
        hosts: Address of the first host, rank of this one, and count, as `host:port,rank,count`.
            Not needed under torchrun.
        tensorboard: Whether to write for TensorBoard as well.
        progress: Whether to show a bar if there is a terminal.
        say: Called with each message.

    Returns:
        The result of the run.

    Raises:
        ArgumentError: An argument is not allowed, or the data cannot be read.
        TrainingError: The run cannot continue; its last run state is intact.

    Example:
        result = train("cifar10", "cifar10/", "runs/first", changes=["run.epochs=5"])
        print(result.accuracy, result.model)
    """
    if not isinstance(recipe, Recipe | SegmentationRecipe):
        recipe = load_recipe(recipe, changes, recipe_kind(recipe))
    elif list(changes):
        raise ArgumentError("changes go with a recipe's name or file; replace the Recipe's own.")
    shared = (Path(out), init, resume, workers, devices, hosts, tensorboard, progress, say)
    options = RunOptions(*shared)
    recipe = with_actual_precision(recipe)
    if isinstance(recipe, SegmentationRecipe):
        if teacher is not None or store_answers is not None:
            raise ArgumentError("A teacher is for classifiers. Leave out --teacher.")
        return train_segmenter(recipe, data, validation, options)
    if teacher is not None and (recipe.labels.multi or recipe.labels.binary):
        raise ArgumentError(
            "A teacher's answers are compared as probabilities of classes that exclude each other. "
            "Leave out --teacher, or labels.multi and labels.binary."
        )
    if recipe.labels.multi:
        return train_multi_label(recipe, data, validation, options)
    kept = distilled(recipe, teacher, store_answers)
    if teacher is not None and not kept.distill.has_labels:
        return train_encoder(kept, data, validation, teacher, options)

    def opened() -> tuple[Examples, Examples | None]:
        settings, seed = kept.data, kept.run.seed
        return open_data(
            data, validation, limit=settings.limit, held_out=settings.hold_out, seed=seed
        )

    def objective(examples: Examples, validated: Examples | None, team: Team) -> _Classification:
        return _Classification(kept, examples, validated, options.out, team, teacher, store_answers)

    return run_objective(kept, opened, objective, options)


class _Classification(Objective[Recipe, Examples]):
    """Objective of classifying pictures."""

    def __init__(
        self,
        recipe: Recipe,
        examples: Examples,
        validated: Examples | None,
        out: Path,
        team: Team,
        teacher: str | Path | None,
        store_answers: str | Path | None,
    ) -> None:
        super().__init__(recipe, examples, validated, out, team)
        kind = recipe.data.class_weights
        self.weights = None
        if kind != "none":
            self.weights = class_weights(examples.labels, kind, len(examples.classes))
        self.transform = Augmentation(recipe.augment, recipe.model.preprocess)
        self.mixer = mixer = Mixer(recipe.mixing, len(examples.classes))
        self.about = f"{len(examples.classes)} classes"
        if teacher is None:
            self.learner = classifier(recipe, len(examples.classes), team)
        else:
            self.teacher = teacher_of(
                teacher, recipe, examples, self.order, mixer, team, store_answers
            )
            self.learner = student(recipe, len(examples.classes), self.teacher.width, team)

    def step(self, batch: TrainingBatch, learning_rate: float) -> Numbers:
        weights = None if self.weights is None else batch.targets @ self.weights
        targets = batch.targets if self.teacher is None else taught_targets(batch)
        return self.learner.step([batch.pictures], targets, learning_rate, weights)

    def validate(self) -> Validation | None:
        if self.validated is None:
            return None
        numbers = self._measure(self.validated, "")
        message = f"validation {numbers['accuracy']:.2%}, loss {numbers['loss']:.3f}"
        score = numbers["accuracy"]
        if self.learner.optimizer.averages:
            with self.learner.averaged():
                numbers |= self._measure(self.validated, "average_")
            score = numbers["average_accuracy"]
            message += f"; averaged weights {score:.2%}, loss {numbers['average_loss']:.3f}"
        return Validation(numbers, score, message)

    def _measure(self, validated: Examples, prefix: str) -> dict[str, float]:
        """Accuracy and loss over all readable pictures, which the hosts share."""
        seen = right = 0
        loss = 0.0
        own = validated.subset(self.own_rows())
        for pictures, labels, count in self.batches(own, self.recipe.model.preprocess):
            logits = self.learner.answers(pictures)[:count].astype(np.float64)
            labels = labels[:count]
            top = logits.max(axis=1, keepdims=True)
            logs = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
            loss -= float(logs[np.arange(count), labels].sum())
            right += int((logits.argmax(axis=1) == labels).sum())
            seen += count
        loss, all_right, all_seen = self.summed(loss, right, seen=seen)
        return {
            f"{prefix}loss": round(loss / all_seen, 6),
            f"{prefix}accuracy": all_right / all_seen,
        }

    def write(self, folder: Path) -> None:
        """Write the averaged weights if there are any, and the plain ones in a second file."""
        weights = self.learner.weights(averaged=True)
        unaveraged = self.learner.weights() if self.learner.optimizer.averages else None
        write_model(
            folder, weights, self.recipe, self.classes, self.out.name, unaveraged=unaveraged
        )
