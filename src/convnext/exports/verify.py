"""Does an artefact answer as its model? The same pictures for both, and how far they are apart.

The judge is another runtime than the artefact's own, where one is installed: the same mistake is
not made twice. It knows no format's files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convnext.engines.base import EngineOptions
from convnext.engines.opening import ENGINES
from convnext.errors import ArgumentError, ExportError
from convnext.exports.formats import DECIBELS, Format
from convnext.exports.job import Answer, Array, Job
from convnext.graphs.agreement import Agreement, agreement
from convnext.graphs.network import Network
from convnext.images.batches import batches
from convnext.images.generated import generated_pictures
from convnext.images.transform import normalise

__all__ = [
    "Material",
    "Verdict",
    "answers_of",
    "compare",
    "read_pixels",
    "reference",
    "verification_pictures",
]

GENERATED = 4
MOST = 32
ANY_SIDE = 96  # of pictures for a network that takes every size


@dataclass(frozen=True, eq=False)
class Material:
    """Pictures to compare on.

    Attributes:
        pixels: `(n, height, width, channels)`; uint8 for three channels.
        normalised: The same as the network sees them, float32.
        said: What they are.
    """

    pixels: Array
    normalised: Array
    said: str


@dataclass(frozen=True)
class Verdict:
    """How far an artefact is from its model.

    Attributes:
        agreement: The comparison.
        allowed: The largest difference that is allowed; None where the noise counts.
    """

    agreement: Agreement
    allowed: float | None

    @property
    def good(self) -> bool:
        """Whether it may be called done."""
        if self.allowed is None:
            return self.agreement.decibels >= DECIBELS
        return self.agreement.max_difference <= self.allowed

    def __str__(self) -> str:
        found = self.agreement
        if self.allowed is None:
            return (
                f"noise is {found.decibels:.1f} dB below the signal (allowed {DECIBELS:g}), the "
                f"strongest output is the same for {found.top1:.0%}"
            )
        return (
            f"the largest difference is {found.max_difference:.2g} (allowed {self.allowed:.2g}), "
            f"the strongest output is the same for {found.top1:.0%}"
        )


def verification_pictures(network: Network, pictures: object = None) -> Material:
    """The caller's pictures, or generated ones.

    Args:
        network: Whose recipe is followed.
        pictures: What `convnext.images.sources.iterate` takes, or a batch of pixels; None for
            generated ones.

    Raises:
        ArgumentError: No picture can be read.
    """
    height, width = network.sides or (ANY_SIDE, ANY_SIDE)
    if network.channels != 3:
        if pictures is not None:
            raise ArgumentError(
                f"{network.weights.source} takes {network.channels} channels, and pictures have 3. "
                "Leave the pictures out: the result is compared on random numbers."
            )
        shape = (GENERATED, height, width, network.channels)
        values = np.random.default_rng(0).standard_normal(shape, np.float32)
        return Material(values, values, f"{GENERATED} inputs of random numbers")
    if pictures is None:
        pixels = generated_pictures(GENERATED, max(height, width))[:, :height, :width]
        said = f"{GENERATED} generated pictures"
    else:
        pixels = read_pixels(network, pictures, MOST)
        said = f"{len(pixels)} pictures"
    pixels = np.ascontiguousarray(pixels)
    return Material(pixels, normalise(pixels, network.preprocess), said)


def read_pixels(network: Network, pictures: object, most: int) -> Array:
    """The first pictures as the network's recipe makes them.

    Raises:
        ArgumentError: None can be read, or they have another size than the network takes.
    """
    if isinstance(pictures, np.ndarray) and pictures.ndim == 4:
        pixels = pictures[:most]
    else:
        found: list[Array] = []
        for batch in batches(pictures, network.preprocess):  # type: ignore[arg-type]
            found.extend(batch.pixels)
            if len(found) >= most:
                break
        pixels = np.stack(found[:most]) if found else np.empty((0, 0, 0, 3), np.uint8)
    if not len(pixels):
        raise ArgumentError(
            f"No picture can be read from {pictures!r}. Give a folder, or anything else, of "
            "pictures such as the model will see."
        )
    if network.sides not in (None, pixels.shape[1:3]):
        raise ArgumentError(
            f"The pictures are {pixels.shape[1]} x {pixels.shape[2]}, and the network takes "
            f"{network.sides}. Give an array of such pictures."
        )
    return pixels


def reference(job: Job, material: Material) -> tuple[str, Array]:
    """Who judges, and what it answers in float32."""
    name = _judge(job.kind)
    options = EngineOptions((job.output,), "float32", "float32")
    return name, ENGINES[name].open(job.network, options).predict(material.normalised)


def _judge(kind: Format) -> str:
    installed = [name for name, runtime in ENGINES.items() if runtime.installed()]
    others = [name for name in installed if name != kind.runtime]
    if not installed:
        raise ArgumentError(
            "Nothing is installed that the result could be compared with. Install an engine: "
            "pip install 'convnext[openvino]'"
        )
    return (others or installed)[0]


def answers_of(answer: Answer, job: Job, material: Material) -> Array:
    """The artefact's answers, for a batch of one and for the rest where it takes any number."""
    pictures = (material.pixels if job.pixels else material.normalised).astype(job.dtype)
    size = job.batch or len(pictures) - 1 or 1
    starts = range(0, len(pictures), size) if job.batch else (0, *range(1, len(pictures), size))
    answers = []
    for index, start in enumerate(starts):
        count = 1 if not job.batch and index == 0 else size
        part = pictures[start : start + count]
        missing = job.batch - len(part) if job.batch else 0
        padded = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
        answers.append(answer(padded)[: len(part)])
    return np.concatenate(answers).astype(np.float32, copy=False)


def compare(job: Job, answers: Array, expected: Array, *, is_softmax: bool = False) -> Verdict:
    """Hold answers against those of the model.

    Args:
        job: The export.
        answers: The artefact's.
        expected: The model's.
        is_softmax: Whether the model's are probabilities.
    """
    if job.softmax and not is_softmax:
        expected = _softmax(expected)
    elif is_softmax and not job.softmax:
        answers = _softmax(answers)
    if answers.shape != expected.shape:
        raise ExportError(
            f"The {job.format} file gives {answers.shape} where the model gives {expected.shape}. "
            "Nothing was kept."
        )
    rows = (len(expected), -1)
    share = job.kind.precisions[job.precision]
    allowed = None if share is None else share * float(np.abs(expected).max())
    return Verdict(agreement(answers.reshape(rows), expected.reshape(rows)), allowed)


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares
