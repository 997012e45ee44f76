"""A network that learns: one step on one batch, and its whole state as arrays.

Why it exists: the run's loop should not know which backend computes, and a resumed run must go on
from every bit that the interrupted one had. It knows no pictures, and no file but the weights to
start from.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convnext.architecture import VARIANTS, Geometry, Strides, Variant
from convnext.errors import TrainingError
from convnext.images.labels import IMAGENET_SETS, labels_for
from convnext.nn.block import KERNEL_STDDEV
from convnext.nn.model import build_model
from convnext.train.groups import is_matrix, parameter_groups
from convnext.train.muon import Muon
from convnext.train.optimizer import AdamW
from convnext.train.precision import actual_precision
from convnext.train.recipe import Optimizer, Recipe, Run
from convnext.train.team import ALONE, Team
from convnext.weights.canonical import canonical_variables
from convnext.weights.info import WeightsInfo
from convnext.weights.load import load_weights, read_weights

__all__ = ["Learner", "as_recipe_says", "classifier", "initialise", "spread_by_fan_in"]

Array = NDArray[Any]

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


class Learner:
    """A network and its optimizer.

    Args:
        model: The network; layers that are not trainable stay as they are.
        variant: Its architecture.
        optimizer: How it learns.
        run: In how many parts a batch is computed.
        loss: What it is trained by; None if the network has a loss of its own.
        metrics: What else a step says.
        team: Who learns.

    Attributes:
        model: The network.
        optimizer: Its optimizer.
    """

    def __init__(
        self,
        model: keras.Model,
        variant: Variant,
        optimizer: Optimizer,
        run: Run,
        *,
        loss: Any = None,
        metrics: Sequence[Any] = (),
        team: Team = ALONE,
    ) -> None:
        self.model = model
        self.team = team
        self.parts = run.accumulate
        names = {id(variable): name for name, variable in canonical_variables(model).items()}
        trained = [names[id(variable)] for variable in model.trainable_variables]
        groups = parameter_groups(trained, variant, optimizer.layer_decay, optimizer.layer_groups)
        options: dict[str, Any] = {
            "weight_decay": optimizer.weight_decay,
            "beta_1": optimizer.beta_1,
            "beta_2": optimizer.beta_2,
            "epsilon": optimizer.epsilon,
            "ema": optimizer.ema,
            "accumulate": run.accumulate,
            "clip_norm": optimizer.clip_norm,
        }
        ordered = [groups[name] for name in trained]
        self.optimizer = (
            Muon(ordered, matrices=[is_matrix(name) for name in trained], **options)
            if optimizer.method == "muon"
            else AdamW(ordered, **options)
        )
        model.compile(optimizer=self.optimizer, loss=loss, metrics=list(metrics))
        self.optimizer.build(model.trainable_variables)
        team.equip(model, self.optimizer)
        team.differ(model)

    def step(
        self,
        inputs: Sequence[Array],
        targets: Array | None,
        learning_rate: float,
        weights: Array | None = None,
    ) -> dict[str, float]:
        """One update of the weights.

        Args:
            inputs: A batch for each of the network's inputs; of a team, this host's part.
            targets: What they should give; None if the network's own loss needs nothing else.
            learning_rate: Of this update.
            weights: How much each picture counts; None for all the same.

        Returns:
            The loss, before the update, and the metrics; on PyTorch, of this host's part.

        Raises:
            TrainingError: The batch does not fit into memory.
        """
        self.optimizer.learning_rate = self.team.value(learning_rate)
        count = len(inputs[0])
        sums: dict[str, float] = {}
        for part in range(self.parts):
            rows = slice(part * count // self.parts, (part + 1) * count // self.parts)
            given = [array[rows] for array in inputs]
            self.model.reset_metrics()
            with memory_errors(count // self.parts):
                said = self.model.train_on_batch(
                    given[0] if len(given) == 1 else given,
                    None if targets is None else targets[rows],
                    sample_weight=None if weights is None else weights[rows],
                    return_dict=True,
                )
            for name, value in said.items():
                sums[name] = sums.get(name, 0.0) + float(value) / self.parts
        return sums

    def answers(self, *inputs: Array) -> Array:
        """What the network answers, outside of training."""
        with memory_errors(len(inputs[0])):
            return self.team.predict(self.model, inputs)

    def loss(self, *inputs: Array) -> float:
        """The network's own loss, outside of training."""
        with memory_errors(len(inputs[0])):
            return self.team.loss(self.model, inputs)

    def adopt(self) -> None:
        """The moving average starts anew, at the weights as they are."""
        self.optimizer.adopt(self.model.trainable_variables)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The moving average takes the weights' place meanwhile; without one, nothing changes."""
        variables = self.model.trainable_variables[: len(self.optimizer.averages)]
        kept = [_array(variable) for variable in variables]
        for variable, average in zip(variables, self.optimizer.averages, strict=True):
            variable.assign(self.team.value(_array(average)))
        try:
            yield
        finally:
            for variable, value in zip(variables, kept, strict=True):
                variable.assign(self.team.value(value))

    def weights(self, *, averaged: bool = False) -> dict[str, Array]:
        """Every parameter by canonical name, as arrays of their own.

        Args:
            averaged: Whether the moving average stands for the parameters that have one.
        """
        found = dict(canonical_variables(self.model))
        if averaged and self.optimizer.averages:
            names = {id(variable): name for name, variable in found.items()}
            trained = [names[id(variable)] for variable in self.model.trainable_variables]
            found |= zip(trained, self.optimizer.averages, strict=True)
        return {name: _array(variable) for name, variable in found.items()}

    def check_same(self) -> None:
        """See that all hosts begin with the same weights.

        Raises:
            TrainingError: Some do not.
        """
        if self.team.count == 1:
            return
        digest = hashlib.sha256()
        for _, array in sorted(self.weights().items()):
            digest.update(array.tobytes())
        self.team.same(
            digest.hexdigest(),
            "they do not begin with the same weights. Give --init a file that is the same on all "
            "hosts, and see that all have the same versions of convnext and of the backend.",
        )

    def state(self) -> dict[str, Array]:
        """Everything that the next step depends on, as arrays of their own."""
        return {name: _array(variable) for name, variable in self._variables().items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go back to what `state` gave.

        Raises:
            TrainingError: The state is of another network or optimizer.
        """
        variables = self._variables()
        wrong = sorted(variables.keys() ^ state.keys()) or [
            name for name, v in variables.items() if tuple(v.shape) != state[name].shape
        ]
        if wrong:
            raise TrainingError(
                f"The checkpoint is of another network or optimizer: {', '.join(wrong[:3])} and "
                "so on do not fit. Resume with the recipe and backend that the run began with."
            )
        for name, variable in variables.items():
            variable.assign(self.team.value(state[name].astype(str(variable.dtype))))
        self.team.differ(self.model)

    def _variables(self) -> dict[str, Any]:
        names = {id(variable): name for name, variable in canonical_variables(self.model).items()}
        found = {}
        for number, variable in enumerate(self.model.variables):  # among them the seeds' states
            found[f"model.{names.get(id(variable), number)}"] = variable
        for number, variable in enumerate(self.optimizer.variables):
            found[f"optimizer.{number}"] = variable
        return found


def classifier(recipe: Recipe, num_classes: int, team: Team = ALONE) -> Learner:
    """A classifier as a recipe describes it, with random weights.

    Args:
        recipe: What to build and how it learns.
        num_classes: Width of the classifier.
        team: Who learns.
    """
    settings, variant = recipe.model, VARIANTS[recipe.model.variant]
    layer_scale = settings.layer_scale
    if layer_scale is None:
        layer_scale = variant.layer_scale_init_value
    with as_recipe_says(recipe.run):
        model = build_model(
            replace(variant, layer_scale=bool(layer_scale)),
            input_shape=(settings.resolution, settings.resolution, 3),
            geometry=Geometry(settings.actual_strides),
            num_classes=num_classes,
            drop_path_rate=settings.drop_path,
            layer_scale_init_value=layer_scale,
            classifier_activation=None,
            head_init_scale=settings.head_scale,
        )
    if settings.initial == "fan_in":
        spread_by_fan_in(model)
    if settings.train == "head":
        for layer in model.layers:
            layer.trainable = layer.name == "head"
    return Learner(
        model,
        variant,
        recipe.optimizer,
        recipe.run,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        team=team,
    )


def spread_by_fan_in(model: keras.Model) -> None:
    """Outputs of every kernel begin with the variance of its inputs; the classifier's stay small.

    0.02 suits the widths of ImageNet's models: at 40 channels it is an eighth of this.
    """
    for name, variable in canonical_variables(model).items():
        if len(variable.shape) > 1 and not name.startswith("head"):
            values = _array(variable)
            depthwise = values.ndim == 4 and values.shape[-1] == 1
            inputs = values.size / values.shape[-2 if depthwise else -1]
            variable.assign(values * np.float32(1 / (KERNEL_STDDEV * inputs**0.5)))


def initialise(
    learner: Learner, init: str | Path, classes: tuple[str, ...], strides: Strides
) -> str:
    """Fill a network with weights; its classifier as well if it is of the same classes.

    Args:
        learner: Whose network.
        init: A published checkpoint's name, a file, a model directory, or a run.
        classes: What the classes are called.
        strides: Of the network: weights that were trained with others are at a loss at first.

    Returns:
        What was loaded and what was not.
    """
    source: str | Path = init
    if Path(init).is_dir():
        model = Path(init) / "model"
        source = model if model.is_dir() else Path(init)
    with read_weights(source) as weights:
        info = weights.info
        same = _class_names(info) == classes and weights.num_classes == len(classes)
    said = str(load_weights(learner.model, source, head="keep" if same else "new"))
    if info.strides not in (None, strides):
        said += (
            f"\nThese weights were trained with model.strides = {list(info.strides)}, and this "
            f"run has {list(strides)}."
        )
    learner.adopt()
    return said


def _class_names(info: WeightsInfo) -> tuple[str, ...] | None:
    if isinstance(info.labels, str):
        return labels_for(info.labels).names if info.labels in IMAGENET_SETS else None
    return info.labels


def _array(variable: Any) -> Array:
    return np.array(keras.ops.convert_to_numpy(variable))


@contextmanager
def as_recipe_says(run: Run) -> Iterator[None]:
    """What is built meanwhile has a run's precision, and initial values from its seed.

    Initial values and the seeds of layers all come from Python's own generator;
    `keras.utils.set_random_seed` would import TensorFlow wherever it is installed, for 3 s.
    """
    policy, drawn = keras.config.dtype_policy(), random.getstate()
    keras.config.set_dtype_policy(POLICIES[actual_precision(run.precision)])
    random.seed(run.seed)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        random.setstate(drawn)


MEMORY_SIGNS = ("out of memory", "resource_exhausted", "resourceexhausted", "can't allocate memory")


@contextmanager
def memory_errors(pictures: int) -> Iterator[None]:
    """Every backend has its own words for a batch that is too large."""
    try:
        yield
    except (RuntimeError, MemoryError, ValueError) as error:
        said = f"{type(error).__name__} {error}".lower()
        if not isinstance(error, MemoryError) and not any(s in said for s in MEMORY_SIGNS):
            raise
        raise TrainingError(
            f"{pictures} pictures at once do not fit into memory. Compute batches in parts with "
            "run.accumulate, which changes no result, or make run.batch_size or model.resolution "
            "smaller."
        ) from error
