"""`Segmenter`: compute the class of each pixel of pictures, on any engine."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.engines.base import Precision
from convnext.errors import ArgumentError, ImageError, UnknownNameError
from convnext.images.batches import prepared
from convnext.images.class_maps import Classes, Scores
from convnext.images.decode import Source, decode
from convnext.images.labels import Names
from convnext.images.palettes import palette
from convnext.images.read import DEFAULT_LIMITS, Limits
from convnext.images.recipe import Preprocess
from convnext.images.sources import Named, Sources, iterate, one_named
from convnext.images.transform import resize
from convnext.int8.calibration import Calibration
from convnext.segmenter.results import Segmentation
from convnext.segmenter.windows import Compute, segment_windows
from convnext.session import Session

__all__ = ["LIMITS", "Inference", "Segmenter"]

Inference = Literal["whole", "slide", "tiles"]

LIMITS = replace(DEFAULT_LIMITS, pixels=10_000 * 10_000)
LONGEST = 4  # times the short side: mmsegmentation resizes into (2048, 512)


class Segmenter:
    """Computes the class of each pixel of pictures; thread-safe.

    The engine is opened on first use. Class names and preprocessing come with the weights. Pictures
    are rotated by their EXIF orientation, and transparent parts become white.

    Args:
        model: The name of a published checkpoint or of a repository on the Hugging Face Hub, a
            weights file in any layout, or a Keras model of this package.
        engine: The engine, see `convnext.engines.open_engine`.
        precision: The precision, see `convnext.engines.open_engine`.
        calibration: For `"int8"`, see `convnext.engines.open_engine`.
        device: The runtime's name of a device.
        threads: Number of threads; by default the number of processors this process may use.
        size: Side of the model's input, to replace that of the weights.
        labels: Class names, to replace those of the weights: names, a file of them (see
            `read_labels`), or one of `convnext.images.labels.LABEL_SETS`.
        preprocess: Replaces the weights' preprocessing: a `Preprocess`, or one of
            `convnext.images.recipe.NORMALISATIONS`.
        architecture: Traits that a weights file does not state, see
            `convnext.weights.load.read_weights`.
        output_stride: 8 or 16 for larger feature maps by dilation.
        inference: `"whole"` resizes pictures to the square that the model takes, as transformers
            does. `"slide"` keeps their proportions: the short side is resized to the model's, and
            the scores of overlapping windows are averaged, as mmsegmentation does. `"tiles"` does
            this at the pictures' own scale, for large ones.
        stride: Distance between windows in pixels; by default two thirds of their side.
        flip: Whether to average the probabilities with those of the mirrored picture, as
            mmsegmentation's test-time augmentation.
        limits: Limits on pictures.

    Attributes:
        info: Metadata of the weights, such as their licence.
        variant: The architecture of the encoder.
        preprocess: The preprocessing of pictures.
        labels: The class names.
        has_names: Whether the class names are known.
        palette: Colour of each class, `(classes, 3)`, uint8.
        inference: How pictures are cut.

    Example:
        segmenter = Segmenter("openmmlab/upernet-convnext-small")
        for area in segmenter("street.jpg").areas:
            print(f"{area.share:.1%} {area.label}")
    """

    def __init__(  # noqa: PLR0913
        self,
        model: Any,
        engine: str = "auto",
        *,
        precision: Precision = "auto",
        calibration: Calibration | Sources | None = None,
        device: str = "auto",
        threads: int | None = None,
        size: int | None = None,
        labels: Names | None = None,
        preprocess: Preprocess | str | None = None,
        architecture: object = None,
        output_stride: int | None = None,
        inference: Inference = "whole",
        stride: int | None = None,
        flip: bool = False,
        limits: Limits = LIMITS,
    ) -> None:
        self._session = session = Session.open(
            model,
            engine=engine,
            precision=precision,
            calibration=calibration,
            device=device,
            threads=threads,
            size=size,
            preprocess=preprocess,
            architecture=architecture,
            output_stride=output_stride,
            labels=labels,
        )
        session.check_task(segmentation=True)
        session.check_pictures()
        self.info = session.info
        self.variant = session.variant
        self.preprocess = session.preprocess
        self.labels = session.labels
        self.has_names = session.has_names
        self.palette = palette(session.labels)
        self.inference = inference
        self._flip = flip
        self._limits = limits
        self._side = side = session.preprocess.size
        self._stride = max(1, side * 2 // 3) if stride is None else stride
        if inference not in get_args(Inference):
            raise UnknownNameError("inference", str(inference), get_args(Inference))
        if not isinstance(self._stride, int) or not 1 <= self._stride <= side:
            raise ArgumentError(
                f"stride must be from 1 to {side} pixels, the side of a window; got {stride!r}."
            )

    def __call__(self, picture: Source | Named, *, confidence: bool = False) -> Segmentation:
        """Compute the class of each pixel of one picture.

        Args:
            picture: A path, URL, bytes, binary file object, PIL image or array.
            confidence: Whether to compute the probability of each pixel's class, which is slower.

        Raises:
            ImageError: The picture cannot be read.
        """
        one = one_named(picture, "predict")
        [segmentation] = self.predict(one, confidence=confidence, batch_size=1)
        if segmentation.error is not None:
            raise segmentation.error
        return segmentation

    def predict(
        self, sources: Sources, *, confidence: bool = False, batch_size: int = 4
    ) -> Iterator[Segmentation]:
        """Yield the class maps of many pictures, in order, as they are ready.

        A picture that cannot be read gives a segmentation that holds the error. Memory does not
        grow with the number of pictures.

        Args:
            sources: Pictures, folders, patterns, archives, or an iterable of them, see
                `convnext.images.sources.iterate`.
            confidence: Whether to compute the probability of each pixel's class.
            batch_size: Pictures in a batch, or windows of one picture.

        Example:
            for segmentation in segmenter.predict("photos/"):
                print(segmentation.id, segmentation.error or segmentation.areas[0].label)
        """
        if batch_size < 1:
            raise ArgumentError(f"batch_size must be 1 or more; got {batch_size}.")
        outcomes = prepared(iterate(sources, self._limits), self._prepare, batch_size)
        self._session.engine("scores")
        return self._results(outcomes, confidence, batch_size)

    def _results(self, outcomes: Any, confidence: bool, batch_size: int) -> Iterator[Segmentation]:
        whole = self.inference == "whole"
        with closing(outcomes):
            while group := tuple(itertools.islice(outcomes, batch_size if whole else 1)):
                ready = [each for _, each in group if not isinstance(each, ImageError)]
                compute = self._computed(ready) if whole and ready else self._scores
                for name, each in group:
                    if isinstance(each, ImageError):
                        yield Segmentation(name, error=each)
                    else:
                        yield self._result(name, each, compute, confidence, batch_size)

    def _result(
        self, name: str, given: _Prepared, compute: Compute, confidence: bool, batch_size: int
    ) -> Segmentation:
        classes: Classes = segment_windows(
            given.seen,
            (given.picture.height, given.picture.width),
            self._side,
            self._stride,
            compute,
            self._shape,
            batch=batch_size,
            flip=self._flip,
            confidence=confidence,
            fill=self._fill,
        )
        return Segmentation(
            name,
            classes.numbers,
            self.labels.names,
            self.palette,
            classes.confidence,
            given.picture,
        )

    def _prepare(self, source: Source) -> _Prepared:
        picture = decode(source, limits=self._limits)
        side = self._side
        width, height = picture.size
        if self.inference == "whole":
            width = height = side
        elif self.inference == "slide":
            scale = min(side / min(picture.size), LONGEST * side / max(picture.size))
            width, height = (max(1, int(length * scale + 0.5)) for length in picture.size)
        if (width, height) == picture.size:
            return _Prepared(picture, picture)
        return _Prepared(picture, resize(picture, width, height, self.preprocess.interpolation))

    @functools.cached_property
    def _shape(self) -> tuple[int, int]:
        sizes = self._session.network.feature_sizes()
        assert sizes is not None
        return sizes[0][0], self._session.num_classes

    @functools.cached_property
    def _fill(self) -> tuple[int, int, int]:
        """The mean of the recipe, which is zero after normalisation."""
        recipe = self.preprocess
        red, green, blue = (round(mean / recipe.rescale) for mean in recipe.mean)
        return red, green, blue

    def _computed(self, pictures: list[_Prepared]) -> Compute:
        """Compute the scores of whole pictures at once, to be taken in order."""
        pixels = [np.asarray(each.seen) for each in pictures]
        if self._flip:
            pixels = [view for each in pixels for view in (each, each[:, ::-1])]
        scores = iter(self._scores(np.stack(pixels)))
        return lambda windows: np.stack([next(scores) for _ in windows])

    def _scores(self, windows: NDArray[np.uint8]) -> Scores:
        scores: Scores = self._session.run(windows, ("scores",))["scores"]
        return scores

    @property
    def session(self) -> Session:
        """The opened model."""
        return self._session

    def __repr__(self) -> str:
        name = self.info.name or self._session.source
        licence = self.info.licence or "licence unknown"
        return (
            f"<Segmenter {name}, {licence}, {len(self.labels)} classes, {self._side}x{self._side} "
            f"px, {self.inference}>"
        )


class _Prepared(NamedTuple):
    """A picture, and how the model sees it."""

    picture: Image.Image
    seen: Image.Image
