"""Load one model, decode pictures for it, and draw its explanations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.classifier import ClassScore
from convnext.classifier.explain import heat_of, over
from convnext.classifier.results import class_score
from convnext.engines import Engine
from convnext.errors import ArgumentError, WeightsError
from convnext.images.class_maps import class_map
from convnext.images.decode import decode
from convnext.images.labels import find_class
from convnext.images.palettes import palette
from convnext.images.read import Limits
from convnext.images.recipe import Preprocess
from convnext.images.sheets import shown
from convnext.images.transform import pixels
from convnext.segmenter import Segmentation
from convnext.serve.settings import ModelSpec, Settings
from convnext.session import Session

__all__ = ["OUTPUTS", "DecodedPicture", "decode_picture", "explained", "load", "segmented"]

OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "classify": ("logits",),
    "embed": ("embedding",),
    "explain": ("logits", "stage_3"),
    "segment": ("scores",),
}
"""Network outputs that each kind of answer needs; each has its own graph, as in `Classifier`.

A segmentation model has only the last, and a classifier all others.
"""


@dataclass(frozen=True, eq=False)
class DecodedPicture:
    """A decoded picture.

    Attributes:
        pixels: The model's input, `[size, size, 3]`.
        size: Width and height of the picture.
        small: A smaller copy to draw an explanation on, if requested.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    small: Image.Image | None = None


def decode_picture(
    data: bytes, preprocess: Preprocess, limits: Limits, side: int | None = None
) -> DecodedPicture:
    """Decode a picture as `Classifier` does; `side` is the longer side of a copy to draw on.

    Raises:
        ImageError: The picture cannot be read.
    """
    image = decode(data, limits=limits)
    small = None if side is None else shown(image, side)
    return DecodedPicture(pixels(image, preprocess), image.size, small)


def explained(
    session: Session,
    decoded: DecodedPicture,
    outputs: Mapping[str, NDArray[Any]],
    target: str | None,
) -> tuple[ClassScore, Image.Image]:
    """The score of the target class and its heat map drawn over the picture.

    Raises:
        ArgumentError: There is no such class.
    """
    assert decoded.small is not None
    logits = outputs["logits"]
    index = int(logits.argmax()) if target is None else find_class(target, session.labels)
    heat, region = heat_of(session, outputs["stage_3"], index, decoded.size)
    score = class_score(logits, index, session.labels)
    return score, over(decoded.small, decoded.size, heat, region)


def segmented(
    session: Session, name: str, decoded: DecodedPicture, outputs: Mapping[str, NDArray[Any]]
) -> Segmentation:
    """The class of each pixel of a picture, as `Segmenter` computes it from the whole picture."""
    width, height = decoded.size
    side = session.preprocess.size
    classes = class_map(outputs["scores"], (height, width), (side, side))
    labels = session.labels
    return Segmentation(name, classes.numbers, labels.names, palette(labels))


def load(spec: ModelSpec, settings: Settings, threads: int | None) -> Session:
    """Load a model with an engine for each kind of answer it can give, warm it, close its file.

    Raises:
        ConvNeXtError: The model cannot be loaded, or its answers are not finite.
    """
    with Session.open(
        spec.source,
        engine=settings.engine,
        precision=settings.precision,
        threads=threads,
        labels=settings.labels,
    ) as session:
        _ = session.labels  # raises now if they are wrong
        there = set(session.network.outputs) - (set() if session.num_classes else {"logits"})
        kinds = [kind for kind in settings.answers if there.issuperset(OUTPUTS[kind])]
        if not kinds:
            raise ArgumentError(
                f"{spec.name} cannot {' or '.join(settings.answers)}: its weights lack the "
                "classifier, the final norm or a head for segmentation. Choose other --answers, or "
                "whole weights."
            )
        engines = [session.engine(*OUTPUTS[kind]) for kind in kinds]
        if "explain" in kinds:
            _ = session.head  # read before the file is closed
    for engine in engines:
        _warm(engine, settings.max_batch, spec)
    return session


def _warm(engine: Engine, max_batch: int, spec: ModelSpec) -> None:
    """Compile the graphs for the smallest and the largest batch, and check their answers."""
    height, width, channels = engine.input.shape
    assert height is not None
    assert width is not None
    rng = np.random.default_rng(0)
    for pictures in sorted({1, max_batch}):
        batch = rng.integers(0, 256, (pictures, height, width, channels), np.uint8)
        for name, output in engine.predict_all(batch).items():
            if not np.isfinite(output).all():
                raise WeightsError(
                    f"{spec.name} computes NaN or infinity in {name}. Its weights are damaged, or "
                    "too large for the precision: try --precision float32."
                )
