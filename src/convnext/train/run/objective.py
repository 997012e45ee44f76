"""Base class of what a run trains: a classifier, a segmentation model, and so on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from convnext.data.examples import Examples
from convnext.errors import TrainingError
from convnext.images.recipe import Preprocess
from convnext.train.augment.mixing import Mixer
from convnext.train.augment.transforms import Transform
from convnext.train.input.loader import TrainingBatch, evaluation_batches
from convnext.train.input.order import Order
from convnext.train.input.taught import Teacher
from convnext.train.recipe import AnyRun
from convnext.train.run.learner import Learner
from convnext.train.team.base import Team

__all__ = ["Numbers", "Objective", "Validation"]

Numbers = Mapping[str, float]
Settings = TypeVar("Settings", bound=AnyRun)
Data = TypeVar("Data", bound=Examples)


class Validation(NamedTuple):
    """The result of a validation.

    Attributes:
        numbers: Metrics by name.
        score: The number by which models are compared; higher is better.
        message: The metrics as text.
    """

    numbers: Numbers
    score: float
    message: str


class Objective(ABC, Generic[Settings, Data]):
    """A model in training, with what its run needs besides.

    A subclass sets `learner`, `transform` and `about`, and `mixer` and `teacher` if it has them.

    Args:
        recipe: With the actual precision.
        examples: The training data.
        validated: The validation data, if there is any.
        out: Folder of the run.
        team: The hosts and devices of the run.

    Attributes:
        learner: The model and its optimizer.
        classes: Names of the classes; empty without labels.
        transform: Augments the pictures, with their masks if they have any.
        mixer: Mixes the pictures of a batch, if any.
        order: The order of the examples.
        about: A few words on the data or the task, for the first message.
        teacher: A model whose answers this one learns, if there is one.
    """

    validation_batch = 256  # pictures at most

    learner: Learner
    transform: Transform
    about: str
    mixer: Mixer | None = None
    teacher: Teacher | None = None

    def __init__(
        self, recipe: Settings, examples: Data, validated: Data | None, out: Path, team: Team
    ) -> None:
        self.recipe = recipe
        self.classes = examples.classes
        self.order = Order(examples.labels, seed=recipe.run.seed, balanced=recipe.data.balanced)
        self.validated = validated.cached() if validated else None
        self.out = out
        self.team = team

    @abstractmethod
    def step(self, batch: TrainingBatch, learning_rate: float) -> Numbers:
        """Update the weights once; returns the `loss` and other numbers."""

    @abstractmethod
    def validate(self) -> Validation | None:
        """Validate the model; None without validation data."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the model as a model directory; only the first host calls it."""

    def state(self) -> Mapping[str, Any]:
        """Copy every array that the next step depends on."""
        return self.learner.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the arrays that `state` returned."""
        self.learner.restore(state)

    def own_rows(self) -> NDArray[np.int64]:
        """Numbers of the validation pictures that this host measures."""
        assert self.validated is not None
        return self.team.share(len(self.validated), self._batch())

    def batches(
        self, own: Examples, preprocess: Preprocess
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64], int]]:
        """Iterate over this host's validation pictures; see `evaluation_batches`."""
        return evaluation_batches(own, preprocess, self._batch())

    def summed(self, *sums: float, seen: int) -> list[float]:
        """Sum numbers over all hosts, the last of them the pictures seen.

        Raises:
            TrainingError: No host has seen one.
        """
        found = self.team.sum([*sums, seen])
        self.check_seen(found[-1])
        return found

    def check_seen(self, count: float) -> None:
        """Check that validation pictures were read.

        Raises:
            TrainingError: The count is 0.
        """
        if not count:
            raise TrainingError("No picture of the validation data can be read. Repair the data.")

    def _batch(self) -> int:
        assert self.validated is not None
        return min(self.validation_batch, self.recipe.run.batch_size, len(self.validated))
