"""One model, ready to answer: opened and warmed, and what its answers to HTTP are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.classifier import ClassScore
from convnext.classifier.explain import heat_of, over
from convnext.classifier.heatmap import shown
from convnext.classifier.results import class_score
from convnext.engines import Engine
from convnext.errors import ArgumentError, WeightsError
from convnext.images.decode import decode
from convnext.images.labels import find_class
from convnext.images.read import Limits
from convnext.images.recipe import Preprocess
from convnext.images.transform import pixels
from convnext.serve.settings import ModelSpec, Settings
from convnext.session import Session

__all__ = ["OUTPUTS", "Seen", "explained", "load", "see"]

OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "classify": ("logits",),
    "embed": ("embedding",),
    "explain": ("logits", "stage_3"),
}
"""What each kind of answer is made of; each has a graph of its own, the one `Classifier` runs."""


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


def see(data: bytes, preprocess: Preprocess, limits: Limits, side: int | None = None) -> Seen:
    """Decode a picture exactly as `Classifier` does.

    Args:
        data: The encoded picture.
        preprocess: The model's recipe.
        limits: What it may cost.
        side: The longer side of the picture for drawing, if it is wanted.

    Raises:
        ImageError: It cannot be read.
    """
    image = decode(data, limits=limits)
    small = None if side is None else shown(image, side)
    return Seen(pixels(image, preprocess), image.size, small)


def explained(
    session: Session, seen: Seen, outputs: Mapping[str, NDArray[Any]], target: str | None
) -> tuple[ClassScore, Image.Image]:
    """The class, and the picture under the heat that speaks for it.

    Raises:
        ArgumentError: There is no such class.
    """
    assert seen.small is not None
    logits = outputs["logits"]
    index = int(logits.argmax()) if target is None else find_class(target, session.labels)
    heat, region = heat_of(session, outputs["stage_3"], index, seen.size)
    score = class_score(logits, index, session.labels)
    return score, over(seen.small, seen.size, heat, region)


def load(spec: ModelSpec, settings: Settings, threads: int | None) -> Session:
    """Open a model and have it answer once, so that the first request does not wait.

    Its file is let go of: it has an engine for each kind of answer that it is to give and can.

    Raises:
        ConvNeXtError: It cannot be loaded, or answers with numbers that are none.
    """
    with Session.open(
        spec.source,
        engine=settings.engine,
        precision=settings.precision,
        threads=threads,
        labels=settings.labels,
    ) as session:
        _ = session.labels  # so that wrong ones show now
        there = set(session.network.outputs) - (set() if session.num_classes else {"logits"})
        kinds = [kind for kind in settings.answers if there.issuperset(OUTPUTS[kind])]
        if not kinds:
            raise ArgumentError(
                f"{spec.name} cannot {' or '.join(settings.answers)}: its weights have no "
                "classifier, or no norm before one."
            )
        engines = [session.engine(*OUTPUTS[kind]) for kind in kinds]
        if "explain" in kinds:
            _ = session.head  # it is read now or never
    for engine in engines:
        _warm(engine, settings.max_batch, spec)
    return session


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
