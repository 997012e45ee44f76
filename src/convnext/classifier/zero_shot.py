"""`ZeroShot`: classify pictures by any class names, with CLIP's ConvNeXts.

Names become vectors, which are the columns of a classifier's kernel. So `zero_shot_weights` are
those of an ordinary classifier, and `save_head` writes them into a file, for every engine, export
and server, without the text tower.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.classifier.classifier import Classifier
from convnext.classifier.results import Prediction, best_classes
from convnext.engines.base import Precision
from convnext.errors import WeightsMismatchError
from convnext.images.decode import Source
from convnext.images.labels import Labels
from convnext.images.recipe import Preprocess, stated_recipe
from convnext.images.sources import Named, Sources, one_named
from convnext.text import TextEncoder
from convnext.text.templates import SLOT, Templates, check_labels, class_vectors
from convnext.weights.files import LazyTensor
from convnext.weights.layouts import recognise
from convnext.weights.load import CanonicalWeights, read_weights
from convnext.weights.reports import SaveReport
from convnext.weights.save import save_weights

__all__ = ["ZeroShot", "save_head", "zero_shot_weights"]

HEAD = ("kernel", "bias")


class ZeroShot:
    """Classifies pictures by any class names; thread-safe.

    Args:
        model: A CLIP model with a text tower: the name of a published checkpoint, a repository on
            the Hugging Face Hub, or a file or folder in open_clip's layout.
        engine: The engine of both towers, see `convnext.engines.open_engine`.
        precision: Of the image tower; texts are computed in float32.
        device: The runtime's name of a device, for the image tower.
        threads: Number of threads; by default the available processors.
        preprocess: See `Classifier`.
        architecture: See `Classifier`.

    Attributes:
        texts: Computes vectors of texts.
        pictures: Computes vectors of pictures, as a `Classifier` without classes.

    Example:
        zero_shot = ZeroShot("laion/CLIP-convnext_base_w-laion2B-s13B-b82K")
        print(zero_shot("cat.jpg", ["a cat", "a dog"]).best.label)
    """

    def __init__(
        self,
        model: str | Path,
        engine: str = "auto",
        *,
        precision: Precision = "auto",
        device: str = "auto",
        threads: int | None = None,
        preprocess: Preprocess | str | None = None,
        architecture: object = None,
    ) -> None:
        # First the texts: their file has both towers, and is then the one in the cache.
        self.texts = TextEncoder(model, engine, threads=threads)
        self.pictures = Classifier(
            model,
            engine,
            precision=precision,
            device=device,
            threads=threads,
            preprocess=preprocess,
            architecture=architecture,
        )
        _check_width(self.pictures.vector_width, self.texts.width, model)
        self._last: tuple[object, NDArray[np.float32]] = (None, np.empty(0, np.float32))

    def __call__(
        self,
        picture: Source | Named,
        labels: Sequence[str],
        templates: Templates = SLOT,
        top: int = 5,
    ) -> Prediction:
        """Predict the most probable of some classes for one picture.

        Args:
            picture: A path, URL, bytes, binary file object, PIL image or array.
            labels: Names of classes, such as `["a cat", "a dog"]`.
            templates: Prompts for the names: `"a photo of a {}"`, or `"imagenet"` for CLIP's 80.
            top: Number of classes.

        Raises:
            ImageError: The picture cannot be read.
            ArgumentError: The labels are none, too many or not names.
        """
        [prediction] = self.stream(
            [one_named(picture, "stream")], labels, templates, top, batch_size=1
        )
        if prediction.error is not None:
            raise prediction.error
        return prediction

    def stream(
        self,
        sources: Sources,
        labels: Sequence[str],
        templates: Templates = SLOT,
        top: int = 5,
        batch_size: int = 32,
    ) -> Iterator[Prediction]:
        """Yield the most probable classes of many pictures, see `Classifier.stream`."""
        names, matrix = self._classes(labels, templates)
        for found in self.pictures.embed_stream(sources, batch_size):
            if found.vector is None:
                yield Prediction(found.id, error=found.error)
            else:
                scores = best_classes(self._logits(found.vector, matrix), names, top)
                yield Prediction(found.id, scores)

    def _classes(
        self, labels: Sequence[str], templates: Templates
    ) -> tuple[Labels, NDArray[np.float32]]:
        names = check_labels(labels)
        key = (names, templates if isinstance(templates, str) else tuple(templates))
        last, matrix = self._last
        if key != last:
            matrix = class_vectors(self.texts, names, templates)
            self._last = (key, matrix)
        return Labels(names), matrix

    def _logits(self, vector: NDArray[np.float32], matrix: NDArray[np.float32]) -> Any:
        return self.texts.scale * (matrix @ vector) + self.texts.bias


@contextmanager
def zero_shot_weights(
    model: str | Path,
    labels: Sequence[str],
    templates: Templates = SLOT,
    *,
    engine: str = "auto",
    threads: int | None = None,
    architecture: object = None,
) -> Iterator[CanonicalWeights]:
    """Open a CLIP model as a classifier of any classes, for `Classifier`, `Session` and engines.

    Args:
        model: As for `ZeroShot`.
        labels: Names of classes.
        templates: Prompts for the names, see `ZeroShot`.
        engine: The engine of the text tower.
        threads: Of the text tower.
        architecture: See `Classifier`.

    Example:
        with zero_shot_weights("clip/", ["a cat", "a dog"]) as weights:
            print(Classifier(weights)("cat.jpg").best.label)
    """
    names = check_labels(labels)
    encoder = TextEncoder(model, engine, threads=threads)
    vectors = class_vectors(encoder, names, templates)
    with read_weights(model, architecture=architecture) as weights:
        _check_width(weights.num_classes, encoder.width, model)
        tensors = dict(weights.tensors)
        for part in HEAD:
            tensors[f"head_projection.{part}"] = tensors.pop(f"head.{part}")
        bias = np.full(len(names), encoder.bias, np.float32)
        kernel = np.ascontiguousarray(vectors.T) * np.float32(encoder.scale)
        for part, values in zip(HEAD, (kernel, bias), strict=True):
            tensors[f"head.{part}"] = LazyTensor.from_array(values)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        architecture = replace(weights.architecture, projection=encoder.width)
        weights.found.check_arithmetic(weights.source)
        name = weights.info.name or Path(weights.source).name
        info = replace(weights.info, name=f"{name}, zero-shot", labels=names, task="classification")
        found = recognise(shapes, "convnext", architecture)
        yield replace(weights, tensors=tensors, found=found, info=info)


def save_head(  # noqa: PLR0913
    model: str | Path,
    labels: Sequence[str],
    path: str | Path,
    templates: Templates = SLOT,
    *,
    engine: str = "auto",
    threads: int | None = None,
    architecture: object = None,
    preprocess: Preprocess | str | None = None,
) -> SaveReport:
    """Write a CLIP model with these classes into a file, as an ordinary classifier.

    Args:
        model: As for `ZeroShot`.
        labels: Names of classes.
        path: A .safetensors file.
        templates: Prompts for the names, see `ZeroShot`.
        engine: The engine of the text tower.
        threads: Of the text tower.
        architecture: See `Classifier`.
        preprocess: See `Classifier`.

    Example:
        save_head("clip/", ["a cat", "a dog"], "pets.safetensors", "a photo of {}")
        Classifier("pets.safetensors")("cat.jpg")
    """
    with zero_shot_weights(
        model, labels, templates, engine=engine, threads=threads, architecture=architecture
    ) as weights:
        info = weights.info
        if preprocess is not None:
            info = replace(info, preprocess=stated_recipe(preprocess, weights.recipe))
        return save_weights(weights.tensors, path, info=info, architecture=weights.architecture)


def _check_width(pictures: int, texts: int, model: object) -> None:
    if pictures != texts:
        raise WeightsMismatchError(
            f"{model}: vectors of pictures have {pictures} numbers, and those of texts {texts}: "
            "its two towers are not of one model."
        )
