"""A network with its optimizer: one update on a batch, and the complete state as arrays.

It hides the backend from the loop, and its state is complete to the bit, so that a resumed run
continues exactly like an uninterrupted one.
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
from convnext.images.labels import LABEL_SETS, labels_for
from convnext.nn.block import KERNEL_STDDEV
from convnext.nn.model import build_model
from convnext.train.losses import BinaryCrossEntropy
from convnext.train.optim.adamw import AdamW
from convnext.train.optim.groups import is_matrix, parameter_groups
from convnext.train.optim.muon import Muon
from convnext.train.optim.precision import actual_precision
from convnext.train.recipe import Recipe
from convnext.train.sections import Optimizer, Run
from convnext.train.team.base import ALONE, Team
from convnext.weights.canonical import canonical_variables
from convnext.weights.info import WeightsInfo
from convnext.weights.load import load_weights, read_weights

__all__ = [
    "Learner",
    "as_recipe_says",
    "build_classifier",
    "classifier",
    "initialise",
    "spread_by_fan_in",
]

Array = NDArray[Any]

HEADS = ("head", "segment_", "auxiliary_")
SEGMENTS = "segment_classify.kernel"  # the classifier of a segmentation model

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


class Learner:
    """A network and its optimizer.

    Args:
        model: The network; layers that are not trainable stay as they are.
        variant: Its architecture.
        optimizer: The recipe's section on the optimizer.
        run: The recipe's section on the run.
        loss: The loss function; None if the network has its own.
        metrics: Metrics that a step returns beside the loss.
        team: The hosts and devices of the run.
        network: The result of the run, if it has fewer layers or outputs than the model in
            training.
    """

    def __init__(  # noqa: PLR0913
        self,
        model: keras.Model,
        variant: Variant,
        optimizer: Optimizer,
        run: Run,
        *,
        loss: Any = None,
        metrics: Sequence[Any] = (),
        team: Team = ALONE,
        network: keras.Model | None = None,
    ) -> None:
        self.model = model
        self.network = network or model
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
        """Update the weights once.

        Args:
            inputs: A batch for each of the network's inputs; with several hosts, this host's rows.
            targets: Target outputs; None if the network's own loss needs none.
            learning_rate: Of this update.
            weights: Weight of each picture in the loss; None if all are equal.

        Returns:
            The loss before the update, and the metrics; on PyTorch, those of this host's rows.

        Raises:
            TrainingError: The batch does not fit into memory.
        """
        self.optimizer.learning_rate = self.team.value(learning_rate)
        count = len(inputs[0])
        sums: dict[str, float] = {}
        for part in range(self.parts):
            rows = slice(part * count // self.parts, (part + 1) * count // self.parts)
            arrays = [array[rows] for array in inputs]
            self.model.reset_metrics()
            with memory_errors(count // self.parts):
                numbers = self.model.train_on_batch(
                    arrays[0] if len(arrays) == 1 else arrays,
                    None if targets is None else targets[rows],
                    sample_weight=None if weights is None else weights[rows],
                    return_dict=True,
                )
            for name, value in numbers.items():
                sums[name] = sums.get(name, 0.0) + float(value) / self.parts
        return sums

    def answers(self, *inputs: Array) -> Array:
        """Compute the network's outputs in inference mode."""
        with memory_errors(len(inputs[0])):
            return self.team.predict(self.network, inputs)

    def loss(self, *inputs: Array) -> float:
        """Compute the network's own loss in inference mode."""
        with memory_errors(len(inputs[0])):
            return self.team.loss(self.model, inputs)

    def adopt(self) -> None:
        """Restart the moving average at the present weights."""
        self.optimizer.adopt(self.model.trainable_variables)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Replace the weights by their moving average, if there is one, inside this context."""
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
        """Copy all parameters of the network, by canonical name.

        Args:
            averaged: Whether to use the moving average of parameters that have one.
        """
        found = dict(canonical_variables(self.model))
        if averaged and self.optimizer.averages:
            names = {id(variable): name for name, variable in found.items()}
            trained = [names[id(variable)] for variable in self.model.trainable_variables]
            found |= zip(trained, self.optimizer.averages, strict=True)
        return {name: _array(found[name]) for name in canonical_variables(self.network)}

    def check_same(self) -> None:
        """Check that all hosts start from the same weights.

        Raises:
            TrainingError: They do not.
        """
        if self.team.count == 1:
            return
        digest = hashlib.sha256()
        for _, array in sorted(self.weights().items()):
            digest.update(array.tobytes())
        self.team.same(
            digest.hexdigest(),
            "they start from different weights. Give --init a file that is the same on all hosts, "
            "and install the same versions of convnext and of the backend on all.",
        )

    def state(self) -> dict[str, Array]:
        """Copy every array that the next step depends on."""
        return {name: _array(variable) for name, variable in self._variables().items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Restore the arrays that `state` returned.

        Raises:
            TrainingError: The state is of another network or optimizer.
        """
        variables = self._variables()
        wrong = sorted(variables.keys() ^ state.keys()) or [
            name for name, v in variables.items() if tuple(v.shape) != state[name].shape
        ]
        if wrong:
            raise TrainingError(
                f"The run state is of another network or optimizer: {', '.join(wrong[:3])} and "
                "so on do not fit. Resume with the run's original recipe and backend."
            )
        for name, variable in variables.items():
            variable.assign(self.team.value(state[name].astype(str(variable.dtype))))
        self.team.differ(self.model)

    def _variables(self) -> dict[str, Any]:
        names = {id(variable): name for name, variable in canonical_variables(self.model).items()}
        found = {}
        for number, variable in enumerate(self.model.variables):  # including seed generators
            found[f"model.{names.get(id(variable), number)}"] = variable
        for number, variable in enumerate(self.optimizer.variables):
            found[f"optimizer.{number}"] = variable
        return found


def build_classifier(recipe: Recipe, num_classes: int) -> keras.Model:
    """Build the network of a recipe with random weights; without classes, up to its embedding."""
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
            include_top=num_classes > 0,
            pooling="avg",
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
    return model


def classifier(
    recipe: Recipe, num_classes: int, team: Team = ALONE, label_weights: Array | None = None
) -> Learner:
    """Build the classifier of a recipe, with random weights.

    Args:
        recipe: The recipe.
        num_classes: Width of the classifier.
        team: The hosts and devices of the run.
        label_weights: Of a multi-label model, see `BinaryCrossEntropy`.
    """
    labels = recipe.labels
    return Learner(
        build_classifier(recipe, num_classes),
        VARIANTS[recipe.model.variant],
        recipe.optimizer,
        recipe.run,
        loss=(
            BinaryCrossEntropy(label_weights)
            if labels.multi or labels.binary
            else keras.losses.CategoricalCrossentropy(from_logits=True)
        ),
        metrics=[] if labels.multi else [keras.metrics.CategoricalAccuracy(name="accuracy")],
        team=team,
    )


def spread_by_fan_in(model: keras.Model) -> None:
    """Rescale initial kernels so that outputs have their inputs' variance, except of the head.

    The published deviation of 0.02 suits the widths of ImageNet's models: at 40 channels it is an
    eighth of this.
    """
    for name, variable in canonical_variables(model).items():
        if len(variable.shape) > 1 and not name.startswith(HEADS):
            values = _array(variable)
            depthwise = values.ndim == 4 and values.shape[-1] == 1
            inputs = values.size / values.shape[-2 if depthwise else -1]
            variable.assign(values * np.float32(1 / (KERNEL_STDDEV * inputs**0.5)))


def initialise(
    learner: Learner, init: str | Path, classes: tuple[str, ...], strides: Strides
) -> str:
    """Load weights into a learner's network, with the classifier if its classes are the same.

    Args:
        learner: The learner.
        init: A published checkpoint's name, a file, a model directory, or a run.
        classes: Class names of the run.
        strides: Of the network; the message points out weights that were trained with others.

    Returns:
        A message about what was loaded.
    """
    source: str | Path = init
    if Path(init).is_dir():
        model = Path(init) / "model"
        source = model if model.is_dir() else Path(init)
    with read_weights(source) as weights:
        info = weights.info
        same = (
            _class_names(info) == classes
            and weights.num_classes == len(classes)
            and (weights.found.segmentation is None) == (SEGMENTS not in learner.weights())
        )
    message = str(load_weights(learner.network, source, head="keep" if same else "new"))
    if info.strides not in (None, strides):
        message += (
            f"\nThese weights were trained with model.strides = {list(info.strides)}, and this "
            f"run has {list(strides)}."
        )
    learner.adopt()
    return message


def _class_names(info: WeightsInfo) -> tuple[str, ...] | None:
    if isinstance(info.labels, str):
        return labels_for(info.labels).names if info.labels in LABEL_SETS else None
    return info.labels


def _array(variable: Any) -> Array:
    return np.array(keras.ops.convert_to_numpy(variable))


@contextmanager
def as_recipe_says(run: Run) -> Iterator[None]:
    """Set the precision and the seed for models that are built inside this context.

    Initial values and seeds of layers come from Python's generator alone; unlike this,
    `keras.utils.set_random_seed` imports TensorFlow where it is installed, which takes 3 s.
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
    """Turn every backend's out-of-memory error into a `TrainingError`."""
    try:
        yield
    except (RuntimeError, MemoryError, ValueError) as error:
        text = f"{type(error).__name__} {error}".lower()
        if not isinstance(error, MemoryError) and not any(s in text for s in MEMORY_SIGNS):
            raise
        raise TrainingError(
            f"{pictures} pictures at once do not fit into memory. Compute batches in parts with "
            "run.accumulate (same result), or reduce run.batch_size or model.resolution."
        ) from error
