"""`Classifier`: from pictures to classes, vectors and maps, on any engine.

It joins what others do: weights say what is done to a picture and what classes are called,
`images.batches` reads ahead of the model, an engine computes. It knows nothing of file formats or
runtimes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.classifier.explain import Explanation, grad_cam, seen_region
from convnext.classifier.names import Names, choose_labels, find_class, numbered
from convnext.classifier.results import Answer, Embedding, Prediction, best_classes, class_score
from convnext.engines import Engine, open_engine
from convnext.engines.base import Array, Precision
from convnext.engines.quantizing import calibration_of
from convnext.errors import ArgumentError, ArgumentTypeError, ImageError
from convnext.graphs.network import Network
from convnext.images.batches import batches
from convnext.images.decode import Source, decode
from convnext.images.labels import Labels, labels_for
from convnext.images.read import is_url
from convnext.images.recipe import Preprocess
from convnext.images.sources import Named, Sources
from convnext.images.transform import normalise, pixels
from convnext.int8.calibration import Calibration
from convnext.weights.load import read_weights

__all__ = ["Classifier"]

FEATURES = ("stage_0", "stage_1", "stage_2", "stage_3")


class Classifier:
    """Says what pictures show.

    Weights and runtime are loaded when something is first asked; what classes are called and how
    pictures are prepared come with the weights. Pictures are turned upright as their EXIF data says
    and transparent parts become white; to have it otherwise, give what
    `convnext.images.decode.decode` returns. Safe to call from several threads.

    Args:
        model: The name of a published checkpoint, a weights file in any layout, or a Keras model of
            this package.
        engine: What computes, see `convnext.engines.open_engine`.
        precision: What it computes in.
        calibration: What `"int8"` needs, see `convnext.engines.open_engine`.
        device: The runtime's name of a device.
        threads: How many; by default as many processors as this process may use.
        size: Side of the pictures, if not that of the weights.
        labels: What the classes are called, if the weights do not say or say it otherwise: names, a
            file of them (see `read_labels`), or one of `IMAGENET_SETS`. Classes without a name are
            called "class 0" and so on.
        preprocess: What is done to pictures, if not what the weights say.

    Attributes:
        info: What is known about the weights, such as their licence.
        variant: The architecture.
        preprocess: What is done to pictures.
        labels: What the classes are called.
        has_names: Whether anybody said what the classes are called.

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
        preprocess: Preprocess | None = None,
    ) -> None:
        self._model = Path(model) if isinstance(model, os.PathLike) else model
        self._engine_name = engine
        self._options: dict[str, Any] = {
            "precision": precision,
            "calibration": calibration,
            "device": device,
            "threads": threads,
        }
        with _network(self._model) as network:
            self.info = network.weights.info
            self.preprocess = _recipe(preprocess or network.preprocess, size)
            network = _at(network, self.preprocess.size, fixed=not self._is_file)
            self.variant = network.variant
            self._source = network.weights.source
            self._num_classes = network.num_classes
            self._strides = network.strides
        self.has_names = labels is not None or self.info.labels is not None
        self.labels = self._choose_labels(labels)
        self._engines: dict[tuple[str, ...], Engine] = {}
        self._head: tuple[Array, Array] | None = None
        self._lock = threading.RLock()

    def __call__(self, picture: Source | Named, top: int = 5) -> Prediction:
        """The most probable classes of one picture.

        Args:
            picture: A path, URL, bytes, binary file object, PIL image or array.
            top: How many classes.

        Raises:
            ImageError: The picture cannot be read.
            ArgumentError: The weights have no classifier.
        """
        [prediction] = self.stream([_named(picture)], top, batch_size=1)
        if prediction.error is not None:
            raise prediction.error
        return prediction

    def stream(self, sources: Sources, top: int = 5, batch_size: int = 32) -> Iterator[Prediction]:
        """The most probable classes of many pictures, in order, as they are ready.

        A picture that cannot be read gives a prediction that holds the error. Memory does not grow
        with the number of pictures.

        Args:
            sources: Pictures, folders, patterns, archives, or an iterable of them: whatever
                `convnext.images.sources.iterate` takes.
            top: How many classes each.
            batch_size: How many pictures the engine is given at once.

        Example:
            for prediction in classifier.stream("photos/", top=1):
                print(prediction.id, prediction.error or prediction.best.label)
        """
        self._check_classes()
        if not isinstance(top, int) or top < 1:
            raise ArgumentError(f"top must be 1 or more classes; got {top!r}.")
        answers = self.run(sources, ("logits",), batch_size)
        return (self._prediction(answer, top) for answer in answers)

    def embed(self, picture: Source | Named) -> NDArray[np.float32]:
        """One picture as a vector: what the classifier sees, the normalised mean of the last map.

        Returns:
            `[width of the last stage]`, float32.

        Raises:
            ImageError: The picture cannot be read.
        """
        vector: NDArray[np.float32] = self._one(picture, ("embedding",))["embedding"]
        return vector

    def embed_stream(self, sources: Sources, batch_size: int = 32) -> Iterator[Embedding]:
        """Many pictures as vectors, see `stream`."""
        answers = self.run(sources, ("embedding",), batch_size)
        return (Embedding(a.id, a.outputs.get("embedding"), a.error) for a in answers)

    def features(self, picture: Source | Named) -> tuple[NDArray[np.float32], ...]:
        """The feature maps of the four stages, each `[height, width, channels]`, float32.

        Raises:
            ImageError: The picture cannot be read.
        """
        outputs = self._one(picture, FEATURES)
        return tuple(outputs[name] for name in FEATURES)

    def explain(self, picture: Source | Named, target: int | str | None = None) -> Explanation:
        """Where in a picture a class was seen: exact Grad-CAM, on every engine.

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
        named = _named(picture)
        if isinstance(named.source, ImageError):
            raise named.source
        image = decode(named.source)
        engine = self._engine(("logits", "stage_3"))
        results = self._results(engine, pixels(image, self.preprocess)[None])
        logits, features = results["logits"][0], results["stage_3"][0]
        index = int(logits.argmax()) if index is None else index
        gamma, kernel = self._head_weights()
        cells = (features.shape[0], features.shape[1])
        return Explanation(
            id=named.id,
            target=class_score(logits, index, self.labels),
            heat=grad_cam(features, gamma, kernel[:, index]),
            region=seen_region(*image.size, self.preprocess, cells, self._strides),
            picture=image,
        )

    def run(
        self, sources: Sources, outputs: Sequence[str], batch_size: int = 32
    ) -> Iterator[Answer]:
        """Whatever the model can give for many pictures, see `stream`.

        Args:
            sources: Pictures.
            outputs: Some of `convnext.graphs.network.OUTPUTS`. Each set of outputs that is asked
                for holds the weights in memory once more.
            batch_size: How many pictures the engine is given at once.
        """
        ahead = batches(sources, self.preprocess, batch_size)
        engine = self._engine(tuple(outputs))

        def answers() -> Iterator[Answer]:
            for batch in ahead:
                results = self._results(engine, batch.pixels) if len(batch.pixels) else {}
                rows = [
                    {name: result[row] for name, result in results.items()}
                    for row in range(len(batch.pixels))
                ]
                for name, outcome in batch.outcomes(rows):
                    if isinstance(outcome, ImageError):
                        yield Answer(name, error=outcome)
                    else:
                        yield Answer(name, outcome)

        return answers()

    def __repr__(self) -> str:
        name = self.info.name or self._source
        licence = self.info.licence or "licence unknown"
        classes = f"{self._num_classes} classes" if self._num_classes else "no classifier"
        opened = next(iter(self._engines.values()), None)
        engine = f"{opened.name} {opened.precision}" if opened else f"{self._engine_name}, not open"
        size = self.preprocess.size
        return f"<Classifier {name}, {licence}, {classes}, {size}x{size} px, engine {engine}>"

    @property
    def _is_file(self) -> bool:
        return isinstance(self._model, str | Path)

    def _choose_labels(self, given: Names | None) -> Labels:
        stored = self.info.labels
        if given is not None:
            labels = choose_labels(given)
        elif isinstance(stored, str):  # never a path: a file must not make its reader open another
            labels = labels_for(stored)
        else:
            labels = Labels(stored) if stored else numbered(self._num_classes)
        if self._num_classes and len(labels) != self._num_classes:
            raise ArgumentError(
                f"{self._source} has {self._num_classes} classes, and there are {len(labels)} "
                "names for them. Give one name for each class, in order."
            )
        return labels

    def _check_classes(self) -> None:
        if not self._num_classes:
            raise ArgumentError(
                f"{self._source} has no classifier and cannot say what a picture shows. Take "
                "fine-tuned weights, such as those of a recipe that ends in in1k (`convnext list` "
                "has them), or use these for embeddings or features."
            )

    def _one(self, picture: Source | Named, outputs: tuple[str, ...]) -> dict[str, Array]:
        [answer] = self.run([_named(picture)], outputs, batch_size=1)
        if answer.error is not None:
            raise answer.error
        return dict(answer.outputs)

    def _prediction(self, answer: Answer, top: int) -> Prediction:
        if answer.error is not None:
            return Prediction(answer.id, error=answer.error)
        return Prediction(answer.id, best_classes(answer.outputs["logits"], self.labels, top))

    def _results(self, engine: Engine, batch: NDArray[np.uint8]) -> dict[str, Array]:
        if engine.input.dtype == "float32":
            return engine.predict_all(normalise(batch, self.preprocess))
        return engine.predict_all(batch)

    def _engine(self, outputs: tuple[str, ...]) -> Engine:
        with self._lock:
            if outputs not in self._engines:
                self._calibrate()
                self._engines[outputs] = self._open(outputs)
            return self._engines[outputs]

    def _calibrate(self) -> None:
        """Once, however many engines are opened."""
        if self._options["calibration"] is not None:
            with _network(self._model) as network:
                network = _at(network, self.preprocess.size, fixed=not self._is_file)
                network = replace(network, preprocess=self.preprocess)
                found = calibration_of(network, self._options["calibration"])
            self._options["calibration"] = found

    def _open(self, outputs: tuple[str, ...]) -> Engine:
        options = {**self._options, "outputs": outputs}
        if not self._is_file:  # such a model has no place for a recipe: it is followed here
            return open_engine(self._model, self._engine_name, input="float32", **options)
        with read_weights(self._model) as weights:
            info = replace(weights.info, preprocess=self.preprocess)
            return open_engine(replace(weights, info=info), self._engine_name, **options)

    def _head_weights(self) -> tuple[Array, Array]:
        """The scale of the head's norm, and the classifier's kernel."""
        with self._lock:
            if self._head is None:
                with _network(self._model) as network:
                    names = ("head_norm.gamma", "head.kernel")
                    gamma, kernel = (np.array(network.values(name)) for name in names)
                    self._head = gamma, kernel
            return self._head


@contextmanager
def _network(model: Any) -> Iterator[Network]:
    """The model's weights, readable inside."""
    if isinstance(model, str | Path):
        with read_weights(model) as weights:
            yield Network.of_weights(weights)
    elif hasattr(model, "get_layer"):
        yield Network.of_model(model)
    else:
        raise ArgumentTypeError(
            "A classifier takes a published checkpoint's name, a weights file or a Keras model of "
            f"this package, not {type(model).__name__}."
        )


def _recipe(preprocess: Preprocess, size: int | None) -> Preprocess:
    if not isinstance(preprocess, Preprocess):
        raise ArgumentTypeError(
            f"preprocess is a convnext.images.recipe.Preprocess, not {type(preprocess).__name__}."
        )
    if size is None:
        return preprocess
    if not isinstance(size, int):
        raise ArgumentTypeError(f"size is the side of the pictures in pixels, not {size!r}.")
    return replace(preprocess, size=size)


def _at(network: Network, size: int, fixed: bool) -> Network:
    """The network for pictures of this size; that of a Keras model cannot be changed."""
    if network.channels != 3:
        raise ArgumentError(
            f"{network.weights.source} takes {network.channels} channels, and pictures have 3. "
            "Prepare the arrays yourself and use open_engine(..., input='float32')."
        )
    if not fixed:
        return Network.of_weights(network.weights, size)
    if network.sides not in (None, (size, size)):
        raise ArgumentError(
            f"{network.weights.source} takes pictures of {network.sides}, and pictures are made "
            f"{size} x {size}. Save its weights to a file, which runs at every size."
        )
    return network


def _named(picture: Source | Named) -> Named:
    """A picture with a name, which is not looked into: a folder stays a folder."""
    if isinstance(picture, Named):
        return picture
    if isinstance(picture, list | tuple | Generator):
        raise ArgumentTypeError(
            "This is about one picture, and several were given. For many, use stream, embed_stream "
            "or run."
        )
    if isinstance(picture, str) and is_url(picture):
        return Named(picture, picture)
    if isinstance(picture, str | os.PathLike):
        return Named(Path(picture).as_posix(), picture)
    return Named("#0", picture)
