"""One model, ready to answer: opened, warmed, with all that its answers need.

Each kind of answer has a graph of its own, the very one that `Classifier` would run: a graph that
also gave what another kind needs would be fused differently and, in bfloat16, answer differently.
It knows nothing of HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.architecture import Strides, Variant
from convnext.classifier import Classifier, ClassScore
from convnext.classifier.explain import grad_cam, seen_region
from convnext.classifier.heatmap import Box, overlay, shown
from convnext.classifier.names import find_class
from convnext.classifier.results import best_classes, class_score
from convnext.engines import Engine, open_engine
from convnext.errors import ArgumentError, WeightsError
from convnext.graphs.network import Network
from convnext.images.decode import decode
from convnext.images.labels import Labels
from convnext.images.read import Limits
from convnext.images.recipe import Preprocess
from convnext.images.transform import pixels
from convnext.serve.settings import Answers, ModelSpec, Settings
from convnext.weights.info import WeightsInfo
from convnext.weights.load import read_weights

__all__ = ["Loaded", "Seen", "load"]

Array = NDArray[Any]

OUTPUTS: Mapping[Answers, tuple[str, ...]] = {
    "classify": ("logits",),
    "embed": ("embedding",),
    "explain": ("logits", "stage_3"),
}


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture, decoded.

    Attributes:
        pixels: What the model sees, `[size, size, 3]`.
        size: Width and height of the picture.
        small: The picture for drawing, if it was asked for.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    small: Image.Image | None = None


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model that answers.

    Attributes:
        info: What is known about the weights.
        variant: The architecture.
        preprocess: What is done to pictures.
        labels: What the classes are called.
        has_names: Whether anybody said so.
        engines: What computes, for each kind of answer that is served.
        strides: Of the architecture at this size.
        head: The scale of the head's norm and the classifier's kernel; None without a classifier.
        seconds: What loading and warming took.
    """

    info: WeightsInfo
    variant: Variant
    preprocess: Preprocess
    labels: Labels
    has_names: bool
    engines: Mapping[str, Engine]
    strides: Strides
    head: tuple[Array, Array] | None
    seconds: float

    @property
    def num_classes(self) -> int:
        """0 where there is no classifier."""
        return len(self.labels) if self.head is not None else 0

    @property
    def engine(self) -> Engine:
        """One of them, to be described."""
        return next(iter(self.engines.values()))

    def run(self, kind: str, batch: Array) -> Mapping[str, Array]:
        """Every output that a kind of answer needs."""
        return self.engines[kind].predict_all(batch)

    def see(self, data: bytes, limits: Limits, side: int | None = None) -> Seen:
        """Decode a picture exactly as `Classifier` does.

        Args:
            data: The encoded picture.
            limits: What it may cost.
            side: The longer side of the picture for drawing, if it is wanted.

        Raises:
            ImageError: It cannot be read.
        """
        image = decode(data, limits=limits)
        small = None if side is None else shown(image, side)
        return Seen(pixels(image, self.preprocess), image.size, small)

    def best(self, outputs: Mapping[str, Array], top: int) -> tuple[ClassScore, ...]:
        """The most probable classes of one picture."""
        return best_classes(outputs["logits"], self.labels, top)

    def explain(
        self, seen: Seen, outputs: Mapping[str, Array], target: str | None
    ) -> tuple[ClassScore, Image.Image]:
        """The class, and the picture under the heat that speaks for it.

        Raises:
            ArgumentError: There is no such class.
        """
        assert self.head is not None
        assert seen.small is not None
        logits, features = outputs["logits"], outputs["stage_3"]
        index = int(logits.argmax()) if target is None else find_class(target, self.labels)
        gamma, kernel = self.head
        heat = grad_cam(features, gamma, kernel[:, index])
        cells = (features.shape[0], features.shape[1])
        region = seen_region(*seen.size, self.preprocess, cells, self.strides)
        across = seen.small.width / seen.size[0]
        down = seen.small.height / seen.size[1]
        box: Box = (region[0] * across, region[1] * down, region[2] * across, region[3] * down)
        return class_score(logits, index, self.labels), overlay(seen.small, heat, box)


def load(spec: ModelSpec, settings: Settings, threads: int | None) -> Loaded:
    """Open a model and have it answer once, so that the first request does not wait.

    Raises:
        ConvNeXtError: It cannot be loaded, or answers with numbers that are none.
    """
    begun = time.monotonic()
    source: str | Path = Path(spec.source) if Path(spec.source).exists() else spec.source
    classifier = Classifier(source, labels=settings.labels)
    with read_weights(source) as weights:
        info = replace(weights.info, preprocess=classifier.preprocess)
        weights = replace(weights, info=info)
        network = Network.of_weights(weights)
        has_classes = bool(network.num_classes)
        able = {"classify": has_classes, "embed": weights.found.head_norm, "explain": has_classes}
        engines: dict[str, Engine] = {
            kind: open_engine(
                weights,
                settings.engine,
                precision=settings.precision,
                threads=threads,
                outputs=OUTPUTS[kind],
            )
            for kind in settings.answers
            if able[kind]
        }
        if not engines:
            raise ArgumentError(
                f"{spec.name} cannot {' or '.join(settings.answers)}: its weights have no "
                "classifier, or no norm before one."
            )
        names = ("head_norm.gamma", "head.kernel")
        head = tuple(np.array(network.values(name)) for name in names) if has_classes else None
    for engine in engines.values():
        _warm(engine, settings.max_batch, spec)
    return Loaded(
        info=info,
        variant=classifier.variant,
        preprocess=classifier.preprocess,
        labels=classifier.labels,
        has_names=classifier.has_names,
        engines=engines,
        strides=network.strides,
        head=(head[0], head[1]) if head else None,
        seconds=time.monotonic() - begun,
    )


def _warm(engine: Engine, max_batch: int, spec: ModelSpec) -> None:
    """Make every graph that batches will need, and look at an answer."""
    height, width, channels = engine.input.shape
    assert height is not None
    assert width is not None
    rng = np.random.default_rng(0)
    for pictures in sorted({1, max_batch}):
        batch = rng.integers(0, 256, (pictures, height, width, channels), np.uint8)
        for name, output in engine.predict_all(batch).items():
            if not np.isfinite(output).all():
                raise WeightsError(
                    f"{spec.name} answers with numbers that are none (NaN or infinity) in {name}. "
                    "Its weights are damaged, or too large for the precision: try "
                    "--precision float32."
                )
