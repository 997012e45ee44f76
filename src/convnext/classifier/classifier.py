"""`Classifier`: compute classes, embeddings and feature maps of pictures, on any engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.classifier.explain import EXPLAINED, Explanation, heat_of
from convnext.classifier.gallery import THUMBNAILS, Results, thumbnail
from convnext.classifier.results import Answer, Embedding, Prediction, best_classes, class_score
from convnext.engines.base import Array, Precision
from convnext.errors import ArgumentError, ImageError
from convnext.images.batches import batches
from convnext.images.decode import Source, decode
from convnext.images.labels import Names, find_class
from convnext.images.recipe import Preprocess
from convnext.images.sources import Named, Sources, one_named
from convnext.images.thresholds import Thresholds
from convnext.images.transform import pixels
from convnext.int8.calibration import Calibration
from convnext.session import Session

__all__ = ["Classifier"]

SEVERAL = "stream, embed_stream or run"
FEATURES = ("stage_0", "stage_1", "stage_2", "stage_3")


class Classifier:
    """Classifies pictures, and computes their embeddings and feature maps; thread-safe.

    The engine is opened on first use. Class names and preprocessing come with the weights. Pictures
    are rotated by their EXIF orientation, and transparent parts become white; to avoid this, pass
    the result of `convnext.images.decode.decode`.

    Args:
        model: The name of a published checkpoint or of a repository on the Hugging Face Hub, a
            weights file in any layout, or a Keras model of this package.
        engine: The engine, see `convnext.engines.open_engine`.
        precision: The precision, see `convnext.engines.open_engine`.
        calibration: For `"int8"`, see `convnext.engines.open_engine`.
        device: The runtime's name of a device.
        threads: Number of threads; by default the number of processors this process may use.
        size: Side of the pictures, to replace that of the weights.
        labels: Class names, to replace those of the weights: names, a file of them (see
            `read_labels`), or one of `IMAGENET_SETS`. Classes without names are "class 0" and so
            on.
        preprocess: Replaces the weights' preprocessing: a `Preprocess`, or one of
            `convnext.images.recipe.NORMALISATIONS`.
        architecture: Traits that a weights file does not state, see
            `convnext.weights.load.read_weights`.
        output_stride: 8 or 16 for larger feature maps by dilation.
        thresholds: Of a multi-label model, to replace those of the weights: one number for all
            labels, one for each, or a file, see `convnext.images.thresholds.with_thresholds`.

    Attributes:
        info: Metadata of the weights, such as their licence.
        variant: The architecture.
        preprocess: The preprocessing of pictures.
        labels: The class names, of a multi-label model with its thresholds.
        has_names: Whether the class names are known.
        vector_width: Numbers in an embedding.

    Example:
        classifier = Classifier("convnext_tiny.fb_in1k")
        for score in classifier("cat.jpg", top=3).classes:
            print(f"{score.probability:.1%} {score.label}")
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
        thresholds: Thresholds | None = None,
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
            thresholds=thresholds,
        )
        session.check_task(segmentation=False)
        session.check_pictures()
        self.info = session.info
        self.variant = session.variant
        self.preprocess = session.preprocess
        self.labels = session.labels
        self.has_names = session.has_names
        self.vector_width = session.vector_width

    @property
    def facts(self) -> dict[str, str]:
        """Name, licence and fingerprint of the model, see `convnext.session.Session.facts`."""
        return self._session.facts

    def __call__(self, picture: Source | Named, top: int | None = None) -> Prediction:
        """Predict the most probable classes of one picture, or the labels it has.

        Args:
            picture: A path, URL, bytes, binary file object, PIL image or array.
            top: Largest number of classes; by default 5, or of a multi-label model all labels that
                reach their thresholds.

        Raises:
            ImageError: The picture cannot be read.
            ArgumentError: The weights have no classifier.
        """
        [prediction] = self.stream([one_named(picture, SEVERAL)], top, batch_size=1)
        if prediction.error is not None:
            raise prediction.error
        return prediction

    def stream(
        self, sources: Sources, top: int | None = None, batch_size: int = 32
    ) -> Iterator[Prediction]:
        """Yield the most probable classes of many pictures, in order, as they are ready.

        A picture that cannot be read gives a prediction that holds the error. Memory does not grow
        with the number of pictures.

        Args:
            sources: Pictures, folders, patterns, archives, or an iterable of them, see
                `convnext.images.sources.iterate`.
            top: Largest number of classes of each picture, as for one.
            batch_size: Pictures in a batch.

        Example:
            for prediction in classifier.stream("photos/", top=1):
                print(prediction.id, prediction.error or prediction.best.label)
        """
        self._check_classes()
        _check_top(top)
        answers = self.run(sources, ("logits",), batch_size)
        return (self._prediction(answer, top) for answer in answers)

    def predict(self, sources: Sources, top: int | None = None, batch_size: int = 32) -> Results:
        """Predict the most probable classes of many pictures; see `stream` for the arguments.

        A picture that cannot be read gives a prediction that holds the error.

        Returns:
            The predictions; a notebook shows them with thumbnails.

        Example:
            classifier.predict("photos/").save("photos.csv")
        """
        self._check_classes()
        _check_top(top)
        predictions: list[Prediction] = []
        thumbnails: list[Image.Image | None] = []
        for answer, seen in self._answers(sources, ("logits",), batch_size):
            if len(thumbnails) < THUMBNAILS:
                thumbnails.append(None if seen is None else thumbnail(seen))
            predictions.append(self._prediction(answer, top))
        return Results(predictions, thumbnails)

    def embed(self, picture: Source | Named) -> NDArray[np.float32]:
        """Compute the embedding of one picture: the normalised mean of the last feature map.

        For CLIP's image towers it is the projection at length 1, to compare with text vectors, as
        by open_clip's `encode_image(normalize=True)`.

        Returns:
            `[vector_width]`, float32.

        Raises:
            ImageError: The picture cannot be read.
        """
        vector: NDArray[np.float32] = self._one(picture, ("embedding",))["embedding"]
        return vector

    def embed_stream(self, sources: Sources, batch_size: int = 32) -> Iterator[Embedding]:
        """Yield the embeddings of many pictures, see `stream`."""
        answers = self.run(sources, ("embedding",), batch_size)
        return (Embedding(a.id, a.outputs.get("embedding"), a.error) for a in answers)

    def features(self, picture: Source | Named) -> tuple[NDArray[np.float32], ...]:
        """Compute the feature maps of the four stages, each `[height, width, channels]`, float32.

        Raises:
            ImageError: The picture cannot be read.
        """
        outputs = self._one(picture, FEATURES)
        return tuple(outputs[name] for name in FEATURES)

    def tokens(self, picture: Source | Named) -> NDArray[np.float32]:
        """Compute the last feature map with each position normalised, for dense tasks.

        With DINOv3's weights, these are its patch tokens.

        Returns:
            `[height, width, channels]`, float32.

        Raises:
            ImageError: The picture cannot be read.
            ArgumentError: The weights have no norm after the last map.
        """
        tokens: NDArray[np.float32] = self._one(picture, ("tokens",))["tokens"]
        return tokens

    def explain(self, picture: Source | Named, target: int | str | None = None) -> Explanation:
        """Compute a heat map of a class by exact Grad-CAM, on any engine.

        Args:
            picture: As for calling the classifier.
            target: The class: its number, WordNet id or name; by default the most probable one.

        Raises:
            ImageError: The picture cannot be read.
            ArgumentError: There is no such class, or the weights have no classifier.

        Example:
            classifier.explain("cat.jpg", "tabby").draw().save("heat.png")
        """
        self._check_classes()
        index = None if target is None else find_class(target, self.labels)
        named = one_named(picture, SEVERAL)
        if isinstance(named.source, ImageError):
            raise named.source
        image = decode(named.source)
        results = self._session.run(pixels(image, self.preprocess)[None], EXPLAINED)
        logits, features = results["logits"][0], results["stage_3"][0]
        index = int(logits.argmax()) if index is None else index
        heat, region = heat_of(self._session, features, index, image.size)
        target_score = class_score(logits, index, self.labels)
        return Explanation(named.id, target_score, heat, region, image)

    def run(
        self, sources: Sources, outputs: Sequence[str], batch_size: int = 32
    ) -> Iterator[Answer]:
        """Yield any outputs of many pictures, see `stream`.

        Args:
            sources: Pictures.
            outputs: Some of `convnext.graphs.network.OUTPUTS`. Each combination of outputs opens
                another engine, with its own copy of the weights in memory.
            batch_size: Pictures in a batch.
        """
        return (answer for answer, _ in self._answers(sources, tuple(outputs), batch_size))

    def _answers(
        self, sources: Sources, outputs: tuple[str, ...], batch_size: int
    ) -> Iterator[tuple[Answer, NDArray[np.uint8] | None]]:
        """Answers, each with the pixels that the engine was given for it."""
        ahead = batches(sources, self.preprocess, batch_size)
        self._session.engine(*outputs)

        def answers() -> Iterator[tuple[Answer, NDArray[np.uint8] | None]]:
            for batch in ahead:
                results = self._session.run(batch.pixels, outputs) if len(batch.pixels) else {}
                rows = [
                    ({name: result[row] for name, result in results.items()}, seen)
                    for row, seen in enumerate(batch.pixels)
                ]
                for name, outcome in batch.outcomes(rows):
                    if isinstance(outcome, ImageError):
                        yield Answer(name, error=outcome), None
                    else:
                        yield Answer(name, outcome[0]), outcome[1]

        return answers()

    def __repr__(self) -> str:
        session = self._session
        name = self.info.name or session.source
        licence = self.info.licence or "licence unknown"
        classes = f"{session.num_classes} classes" if session.num_classes else "no classifier"
        opened = next(iter(session.engines.values()), None)
        engine = (
            f"{opened.name} {opened.precision}" if opened else f"{session.engine_name}, not open"
        )
        size = self.preprocess.size
        return f"<Classifier {name}, {licence}, {classes}, {size}x{size} px, engine {engine}>"

    def _check_classes(self) -> None:
        session = self._session
        if not session.num_classes:
            raise ArgumentError(
                f"{session.source} has no classifier. Use fine-tuned weights, such as those of "
                "a recipe that ends in in1k (see `convnext list`), or use these for embeddings or "
                "features."
            )

    def _one(self, picture: Source | Named, outputs: tuple[str, ...]) -> dict[str, Array]:
        [answer] = self.run([one_named(picture, SEVERAL)], outputs, batch_size=1)
        if answer.error is not None:
            raise answer.error
        return dict(answer.outputs)

    def _prediction(self, answer: Answer, top: int | None) -> Prediction:
        if answer.error is not None:
            return Prediction(answer.id, error=answer.error)
        return Prediction(answer.id, best_classes(answer.outputs["logits"], self.labels, top))


def _check_top(top: int | None) -> None:
    if top is not None and (not isinstance(top, int) or top < 1):
        raise ArgumentError(f"top must be 1 or more classes; got {top!r}.")
